"""Structs of models and statistics that no expression made: what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import polars_gmm as pg
from polars_gmm import GmmError
from registry import rows_frame, the_model
from support import ComputeError, bits, says, the_value

XY = pl.struct("x", "y")


def model_struct() -> pl.Series:
    return the_model().to_struct().alias("v")


def statistics_struct() -> pl.Series:
    return rows_frame().select(v=XY.gmm.statistics(the_model())).to_series()


def changed(struct: pl.Series, **fields: pl.Expr) -> pl.DataFrame:
    """A frame of the struct with some fields replaced."""
    return struct.to_frame().with_columns(pl.col("v").struct.with_fields(**fields))


def read_model(df: pl.DataFrame) -> Any:
    return df.select(pl.col("v").gmm.pack())


def read_statistics(df: pl.DataFrame) -> Any:
    return df.select(pl.col("v").gmm.merge())


READERS: list[tuple[Callable[[], pl.Series], Callable[[pl.DataFrame], Any]]] = [
    (model_struct, read_model),
    (statistics_struct, read_statistics),
]


# Dtypes of fields

WRONG_DTYPES = {
    "version": [pl.lit(1.0), pl.lit("1"), pl.lit(True)],
    "features": [pl.lit("x"), pl.concat_list(pl.lit(1), pl.lit(2))],
    "n_rows": [pl.lit(1.5), pl.lit("240")],
    "log_likelihood": [pl.lit("0.5"), pl.lit(1).cast(pl.Date), pl.lit(1).cast(pl.Duration("us"))],
    "total_weight": [pl.lit(True), pl.concat_list(pl.lit(1.0))],
}
OF_MODELS = {
    "covariance_type": [pl.lit(1), pl.concat_list(pl.lit("full"))],
    "weights": [
        pl.lit(1.0),
        pl.concat_list(pl.lit("1")),
        pl.lit(pl.Series([[[1.0]]])),
    ],
    "means": [pl.concat_list(pl.lit(1.0)), pl.lit("full")],
    "n_iter": [pl.lit(1.5)],
    "converged": [pl.lit(1), pl.lit("true")],
}
OF_STATISTICS = {
    "weight": [pl.lit(1.0), pl.concat_list(pl.lit("1"))],
    "scatter": [pl.concat_list(pl.lit(1.0))],
}


@pytest.mark.parametrize(
    ("of_model", "field"),
    [(True, name) for name in {**WRONG_DTYPES, **OF_MODELS}]
    + [(False, name) for name in {**WRONG_DTYPES, **OF_STATISTICS}],
)
def test_fields_of_other_dtypes_are_refused_by_the_schema(of_model: bool, field: str) -> None:
    make, read = READERS[not of_model]
    for wrong in {**WRONG_DTYPES, **OF_MODELS, **OF_STATISTICS}[field]:
        df = changed(make(), **{field: wrong})
        dtype = df.schema["v"].to_schema()[field]
        with says(
            ComputeError,
            rf"field \"{field}\" of (a model|statistics) must have dtype",
            r"column \"v\"",
            "made by",
        ):
            read(df)
        method = "pack" if of_model else "merge"
        with says(ComputeError, rf"field \"{field}\" of (a model|statistics) must have dtype"):
            df.lazy().select(getattr(pl.col("v").gmm, method)()).collect_schema()
        if of_model:
            with says(GmmError, rf"field \"{field}\""):
                pg.GaussianMixture.from_struct(df["v"])
        assert dtype != make().struct.schema[field]


def test_other_widths_of_numbers_are_read() -> None:
    fields = model_struct().struct.schema
    narrow = {
        "version": pl.col("v").struct.field("version").cast(pl.Int64),
        "weights": pl.col("v").struct.field("weights").cast(pl.Array(pl.Float64, 3)),
        "features": pl.col("v").struct.field("features").cast(pl.List(pl.Categorical)),
        "covariance_type": pl.col("v").struct.field("covariance_type").cast(pl.Categorical),
        "n_rows": pl.lit(240, dtype=pl.Int16),
        "entropy": pl.lit(None),
    }
    df = changed(model_struct(), **narrow)
    assert df["v"].struct.schema["n_rows"] != fields["n_rows"]
    packed = the_value(read_model(df))
    model = pg.GaussianMixture.unpack(packed)
    assert model.n_rows == 240
    assert bits(model.to_struct().struct.field("covariances")) == bits(
        model_struct().struct.field("covariances")
    )


# Nulls inside


def nulled_list(field: str, depth: int) -> pl.Expr:
    """The field with the first list at a depth, or the first number, null."""

    def null_first(value: pl.Expr, depth: int) -> pl.Expr:
        if depth == 0:
            return pl.when(pl.int_range(pl.len()) > 0).then(value)
        first = pl.int_range(pl.len()) == 0
        inner = value.list.eval(null_first(pl.element(), depth - 1))
        return pl.when(first).then(inner).otherwise(value)

    return null_first(pl.col("v").struct.field(field), depth)


DEPTHS = {"weights": 1, "means": 2, "covariances": 3}
STATISTICS_DEPTHS = {"weight": 1, "mean": 2, "scatter": 3}


@pytest.mark.parametrize(
    ("of_model", "field", "depth"),
    [(True, name, i) for name, depth in DEPTHS.items() for i in range(depth + 1)]
    + [(False, name, i) for name, depth in STATISTICS_DEPTHS.items() for i in range(depth + 1)],
)
def test_nulls_at_any_depth_are_refused(of_model: bool, field: str, depth: int) -> None:
    make, read = READERS[not of_model]
    df = changed(make(), **{field: nulled_list(field, depth)})
    with says(ComputeError, f"its {field} are ragged or have nulls|{field}.*nulls"):
        read(df)


@pytest.mark.parametrize(("make", "read"), READERS, ids=["model", "statistics"])
def test_names_that_are_null_are_refused(
    make: Callable[[], pl.Series], read: Callable[[pl.DataFrame], Any]
) -> None:
    for names in (
        pl.lit(None, dtype=pl.List(pl.String)),
        pl.concat_list(pl.lit("x"), pl.lit(None)),
    ):
        with says(ComputeError, "features have nulls"):
            read(changed(make(), features=names))


@pytest.mark.parametrize(("make", "read"), READERS, ids=["model", "statistics"])
def test_a_version_that_is_null_is_no_null_value(
    make: Callable[[], pl.Series], read: Callable[[pl.DataFrame], Any]
) -> None:
    with says(ComputeError, "version"):
        read(changed(make(), version=pl.lit(None, dtype=pl.UInt8)))
    nothing = make().to_frame().select(v=pl.when(False).then("v"))
    assert read(nothing).to_series().to_list() == [None]


def test_a_run_of_models_ends_at_one_that_has_nulls() -> None:
    """Equal models in a row are read once; one with a null among its lists is not equal to any."""
    good, bad = model_struct(), changed(model_struct(), means=nulled_list("means", 1))
    for order in ([good.to_frame(), bad], [bad, good.to_frame()]):
        df = pl.concat(order).with_columns(x=0.0, y=0.0)
        with says(ComputeError, "means are ragged or have nulls"):
            df.select(XY.gmm.log_density("v"))


# Figures of statistics


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["log_likelihood", "entropy", "total_weight"])
def test_figures_of_statistics_are_finite(field: str, value: float | None) -> None:
    df = changed(statistics_struct(), **{field: pl.lit(value, dtype=pl.Float64)})
    for read in (read_statistics, lambda df: df.select(pl.col("v").gmm.maximize())):
        with says(ComputeError, f"{field} that is null or not finite"):
            read(df)


def test_numbers_of_rows_and_weights_of_statistics() -> None:
    with says(ComputeError, "n_rows that is null"):
        read_statistics(changed(statistics_struct(), n_rows=pl.lit(None, dtype=pl.UInt64)))
    with says(ComputeError, "total_weight that is negative"):
        read_statistics(changed(statistics_struct(), total_weight=pl.lit(-1.0)))


def test_scatters_are_symmetric() -> None:
    """Only the lower triangle is kept, so that another upper one must not get lost."""
    scatter = statistics_struct().struct.field("scatter").to_list()[0]
    for c in range(3):
        for factor, symmetric in [(1 + 1e-12, True), (1 + 1e-3, False)]:
            other = [[list(row) for row in matrix] for matrix in scatter]
            other[c][0][1] *= factor
            df = changed(statistics_struct(), scatter=pl.lit(pl.Series([other])).first())
            if symmetric:
                merged = the_value(read_statistics(df))
                assert merged["scatter"][c][0][1] == scatter[c][1][0]
            else:
                with says(ComputeError, f"scatter of component {c}", r"\[0, 1\]"):
                    read_statistics(df)


def test_sums_that_overflow_are_an_error() -> None:
    """Two means 1e200 apart have a scatter beyond double precision."""
    df = pl.DataFrame({"x": [-1e200, 1e200], "y": [0.0, 1.0]})
    model = pg.GaussianMixture(
        [1.0], [[0.0, 0.0]], [[1e300, 1.0]], features=["x", "y"], covariance_type="diag"
    )
    with says(ComputeError, "overflow", "rescale"):
        df.select(XY.gmm.statistics(model))
    alone = df.select(XY.gmm.statistics(model).over(pl.int_range(pl.len())).alias("s"))
    assert alone["s"].struct.field("n_rows").to_list() == [1, 1]
    with says(ComputeError, "overflow", "rescale"):
        alone.select(pl.col("s").gmm.merge())


# Models


def test_covariances_are_symmetric_in_their_own_units() -> None:
    """The product of two variances under- and overflows where their roots do not."""
    for unit in (1e-180, 1e-150, 1.0, 1e100, 1e140):
        s = unit * unit if unit > 1e-160 else 1e-300

        def covariance(a: float, b: float, s: float = s) -> list[list[list[float]]]:
            return [[[s, a * s], [b * s, s]]]

        good = covariance(0.5, 0.5 * (1 + 1e-12))
        model = pg.GaussianMixture([1.0], [[0.0, 0.0]], good, features=["x", "y"])
        assert model.covariances[0, 0, 0] == s
        with says(GmmError, "symmetric"):
            pg.GaussianMixture([1.0], [[0, 0]], covariance(0.5, 0.4), features=["x", "y"])


def test_names_in_a_dict_are_strings() -> None:
    value = model_struct().to_list()[0]
    for names in ([0.0, 1.0], "xy", [None, "y"], None):
        with says(GmmError, "features"):
            pg.GaussianMixture.from_struct({**value, "features": names})
