"""Bad input gets words: what was expected, what came, what to do."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl
import pytest

import oracle
import polars_gmm as pg
from datasets import blobs, frame
from oracle import STRUCTURES
from polars_gmm import GmmError
from support import ComputeError, as_model, says, the_value

xy = pl.struct("x0", "x1")
DRIVERS = ("eager", "lazy")
drivers = pytest.mark.parametrize("driver", DRIVERS)
structures = pytest.mark.parametrize("structure", STRUCTURES)


def good(n: int = 60) -> pl.DataFrame:
    return frame(blobs(n)[0])


def the_model(d: int = 2) -> pg.GaussianMixture:
    return as_model(oracle.random_model(np.random.default_rng(0), 3, d, "full"))


def spoiled(bad: Any, column: str = "x1", df: pl.DataFrame | None = None) -> pl.DataFrame:
    """Rows 17 and 41 of a column are bad."""
    return (good() if df is None else df).with_columns(
        pl.when(pl.int_range(pl.len()).is_in([17, 41])).then(bad).otherwise(column).alias(column)
    )


def fit(driver: str, df: pl.DataFrame, *features: Any, **options: Any) -> pg.GaussianMixture:
    source = df.lazy() if driver == "lazy" else df
    return source.gmm.fit(*features, **{"k": 3, **options})


TWO_FROM_17 = (r"\bx1\b", r"\b2\b", r"\b17\b")


# Values that are no numbers


@drivers
def test_null_features(driver: str) -> None:
    with says(GmmError, "null", *TWO_FROM_17, r'nulls\s*=\s*.?"drop"'):
        fit(driver, spoiled(None))


@drivers
@pytest.mark.parametrize(
    ("bad", "word"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "inf")]
)
def test_features_that_are_not_finite(driver: str, bad: float, word: str) -> None:
    with says(GmmError, word, *TWO_FROM_17):
        fit(driver, spoiled(bad))


def test_an_expression_says_the_same_sentence() -> None:
    for bad in (None, float("nan")):
        with pytest.raises(GmmError) as from_frame:
            spoiled(bad).gmm.fit(k=3)
        with pytest.raises(ComputeError) as from_expression:
            spoiled(bad).select(xy.gmm.fit(3))
        assert str(from_frame.value) in str(from_expression.value)


def test_gmm_error_is_a_value_error() -> None:
    assert issubclass(GmmError, ValueError)


@drivers
def test_dropped_nulls_do_not_count(driver: str) -> None:
    df = spoiled(None)
    start = the_model()
    dropped = fit(driver, df, nulls="drop", init=start, max_iter=9, tol=0)
    without = fit(driver, df.drop_nulls(), init=start, max_iter=9, tol=0)
    assert dropped.n_rows == without.n_rows == df.height - 2
    assert dropped.total_weight == df.height - 2
    assert oracle.distance(dropped.means, without.means) <= 1e-10
    assert oracle.distance(dropped.covariances, without.covariances) <= 1e-10
    expression = df.select(xy.gmm.fit(3, nulls="drop", init=start, max_iter=9, tol=0))
    assert the_value(expression)["n_rows"] == df.height - 2


def test_dropped_nulls_have_no_label() -> None:
    labels = spoiled(None).select(xy.gmm.fit_predict(3, nulls="drop")).to_series()
    assert labels.is_null().arg_true().to_list() == [17, 41]


def test_dropping_nulls_does_not_drop_nan() -> None:
    with says(GmmError, "nan", *TWO_FROM_17):
        spoiled(float("nan")).gmm.fit(k=3, nulls="drop")


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_one_bad_group_harms_no_other(bad: float | None) -> None:
    df = spoiled(bad).with_columns(g=pl.int_range(pl.len()) // 20)
    fitted = df.group_by("g", maintain_order=True).agg(m=xy.gmm.fit(2, on_failure="null"))
    assert fitted["m"].is_null().to_list() == [True, False, True]
    alone = df.filter(g=1).select(xy.gmm.fit(2))
    assert the_value(alone) == fitted["m"][1]
    labels = df.select(z=xy.gmm.fit_predict(2, on_failure="null").over("g"), g="g")
    assert labels.group_by("g", maintain_order=True).agg(pl.col("z").null_count())[
        "z"
    ].to_list() == [20, 0, 20]
    with says(ComputeError):
        df.group_by("g").agg(xy.gmm.fit(2))


@pytest.mark.parametrize(
    ("bad", "word"), [(None, "null"), (float("nan"), "nan"), (float("inf"), "inf")]
)
def test_steps_take_no_half_empty_rows(bad: float | None, word: str) -> None:
    gamma = [[0.2, 0.3, 0.5]] * 60
    df = good().with_columns(pl.Series("r", gamma))
    what = "responsibilit" if bad is None else r"\bx1\b"
    with says(ComputeError, word, what, r"\b2\b", r"\b17\b"):
        spoiled(bad, df=df).select(xy.gmm.m_step("r"))
    gamma[17] = gamma[41] = None if bad is None else [0.2, 0.3, bad]
    with says(ComputeError, word, r"\b2\b", r"\b17\b", "responsibilit"):
        good().with_columns(pl.Series("r", gamma)).select(xy.gmm.m_step("r"))


@pytest.mark.parametrize(("bad", "word"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_statistics_take_only_finite_rows(bad: float, word: str) -> None:
    for step in (xy.gmm.em_step(the_model()), xy.gmm.statistics(the_model())):
        with says(ComputeError, word, *TWO_FROM_17):
            spoiled(bad).select(step)


def test_rows_null_in_features_and_responsibilities_are_left_out() -> None:
    rng = np.random.default_rng(0)
    gamma = pl.Series("r", rng.dirichlet(np.ones(3), size=60).tolist())
    df = good().with_columns(gamma)
    at = pl.int_range(pl.len()).is_in([17, 41])
    holes = df.with_columns(pl.when(~at).then(pl.col("x0", "r")))
    row = the_value(holes.select(xy.gmm.m_step("r")))
    assert row["n_rows"] == row["total_weight"] == 58
    expected = the_value(df.filter(~at).select(xy.gmm.m_step("r")))
    oracle.assert_same_parameters(oracle.parameters(row), oracle.parameters(expected), 1e-12)


# Too little


@drivers
@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_rows_than_components(driver: str, n: int) -> None:
    with says(GmmError, rf"\b{n}\b|no rows", r"\b3\b", "row"):
        fit(driver, good(60).head(n))


def test_a_small_group_gets_a_null_model_and_harms_no_other() -> None:
    df = good().with_columns(g=pl.when(pl.int_range(pl.len()) < 2).then(0).otherwise(1))
    fitted = df.group_by("g", maintain_order=True).agg(m=xy.gmm.fit(3))
    assert fitted["m"].is_null().to_list() == [True, False]
    labels = df.select(xy.gmm.fit_predict(3).over("g")).to_series()
    assert labels.is_null().arg_true().to_list() == [0, 1]


@drivers
def test_all_weights_zero(driver: str) -> None:
    df = good().with_columns(w=pl.lit(0.0))
    with says(GmmError, "weight", "zero|0"):
        fit(driver, df, weights="w")
    assert the_value(df.select(xy.gmm.fit(3, weights="w"))) is None


def test_rows_of_weight_zero_do_not_count() -> None:
    df = good().with_columns(w=pl.when(pl.int_range(pl.len()) < 2).then(1).otherwise(0))
    with says(GmmError, r"\b2\b", r"\b3\b", "row"):
        df.gmm.fit(k=3, weights="w")


# Weights


@drivers
@pytest.mark.parametrize(
    ("bad", "word"),
    [(-1.0, "negative|>= 0"), (float("nan"), "nan"), (float("inf"), "inf"), (None, "null")],
)
def test_bad_weights(driver: str, bad: float | None, word: str) -> None:
    df = spoiled(bad, "w", good().with_columns(w=pl.lit(1.0)))
    with says(GmmError, "weight", word, r"\b2\b", r"\b17\b"):
        fit(driver, df, weights="w")
    for step in (
        xy.gmm.statistics(the_model(), weights="w"),
        xy.gmm.em_step(the_model(), weights="w"),
        xy.gmm.fit(3, weights="w"),
        xy.gmm.fit_predict(3, weights="w"),
    ):
        with says(ComputeError, "weight", word, r"\b2\b", r"\b17\b"):
            df.select(step)


def test_weights_that_are_no_numbers() -> None:
    df = good().with_columns(w=pl.lit("heavy"))
    with says(GmmError, "weight", "String|str"):
        df.gmm.fit("x0", "x1", k=3, weights="w")
    with says(ComputeError, "weight", "String|str"):
        df.lazy().select(xy.gmm.fit(3, weights="w")).collect_schema()


# Dtypes, names and widths


WRONG = {
    "String|str": pl.lit("a"),
    "Date": pl.lit("2024-04-22").str.to_date(),
    "Datetime": pl.lit("2024-04-22").str.to_datetime(),
    "Duration": pl.duration(days=1),
    "Categorical|cat": pl.lit("a").cast(pl.Categorical),
    "Enum": pl.lit("a").cast(pl.Enum(["a"])),
    "Binary": pl.lit(b"a"),
    "List": pl.concat_list(pl.lit(1.0)),
    "Struct": pl.struct(a=pl.lit(1.0)),
}
wrong_dtypes = pytest.mark.parametrize("dtype", WRONG)


@wrong_dtypes
@drivers
def test_a_feature_of_the_wrong_dtype(driver: str, dtype: str) -> None:
    df = good().with_columns(bad=WRONG[dtype])
    with says(GmmError, r"\bbad\b", dtype):
        fit(driver, df, "x0", "bad")


@wrong_dtypes
def test_an_expression_knows_from_the_schema(dtype: str) -> None:
    lf = good().with_columns(bad=WRONG[dtype]).lazy()
    rows = pl.struct(x0="x0", x1="bad")
    for expr in (
        rows.gmm.fit(3),
        rows.gmm.fit_predict(3),
        rows.gmm.em_step(the_model()),
        rows.gmm.statistics(the_model()),
        rows.gmm.responsibilities(the_model()),
        rows.gmm.predict(the_model()),
        rows.gmm.log_density(the_model()),
    ):
        with says(ComputeError, r"\bx1\b", dtype):
            lf.select(expr).collect_schema()
        with says(ComputeError, r"\bx1\b", dtype):
            lf.select(expr).collect()


@pytest.mark.parametrize("rows", [pl.lit("a"), pl.concat_list(pl.lit("a"))])
def test_rows_that_are_no_numbers_at_all(rows: pl.Expr) -> None:
    with says(ComputeError, "String|str"):
        good().select(rows.gmm.log_density(the_model()))


def test_columns_that_are_no_numbers_are_no_features() -> None:
    df = good().with_columns(name=pl.lit("a"), day=pl.lit("2024-04-22").str.to_date())
    assert df.gmm.fit(k=3).features == ["x0", "x1"]
    assert df.gmm.fit(k=3) == good().gmm.fit(k=3)


@drivers
def test_no_feature_at_all(driver: str) -> None:
    with says(GmmError, "numeric|feature"):
        fit(driver, pl.DataFrame({"name": ["a", "b", "c"]}))


@drivers
def test_a_feature_that_is_not_there(driver: str) -> None:
    with says((GmmError, pl.exceptions.ColumnNotFoundError), "x7"):
        fit(driver, good(), "x0", "x7")


def test_a_field_the_model_needs_is_missing() -> None:
    df = good()
    for expr in (
        pl.struct("x0", y="x1").gmm.log_density(the_model()),
        pl.struct("x0").gmm.em_step(the_model()),
    ):
        with says(ComputeError, r"\bx1\b", r"\bx0\b"):
            df.lazy().select(expr).collect_schema()
        with says(ComputeError, r"\bx1\b", r"\bx0\b"):
            df.select(expr)


@pytest.mark.parametrize("as_list", [False, True])
def test_rows_of_another_width_than_the_model(as_list: bool) -> None:
    pack = pl.concat_list if as_list else pl.concat_arr
    lf = good().lazy().select(v=pack("x0", "x1", "x0"))
    expr = pl.col("v").gmm.predict(the_model())
    with says(ComputeError, r"\b2\b", r"\b3\b"):
        lf.select(expr).collect()
    if not as_list:
        with says(ComputeError, r"\b2\b", r"\b3\b"):
            lf.select(expr).collect_schema()


def test_a_plain_column_for_a_model_in_the_plane() -> None:
    with says(ComputeError, r"\b2\b", r"\b1\b"):
        good().select(pl.col("x0").gmm.log_density(the_model()))


def test_lists_of_different_lengths() -> None:
    df = good().select(
        v=pl.when(pl.int_range(pl.len()).is_in([17, 41]))
        .then(pl.concat_list("x0"))
        .otherwise(pl.concat_list("x0", "x1"))
    )
    for expr in (pl.col("v").gmm.fit(3), pl.col("v").gmm.predict(the_model())):
        with says(ComputeError, "length|width|values", r"\b17\b", r"\b1\b", r"\b2\b"):
            df.select(expr)


def test_responsibilities_of_different_lengths() -> None:
    gamma = [[0.2, 0.3, 0.5]] * 60
    gamma[17] = gamma[41] = [0.5, 0.5]
    with says(ComputeError, "responsibilit", r"\b17\b", r"\b2\b", r"\b3\b"):
        good().with_columns(pl.Series("r", gamma)).select(xy.gmm.m_step("r"))
    with says(ComputeError, "responsibilit", "String|str"):
        good().with_columns(r=pl.lit("r")).select(xy.gmm.m_step("r"))


@pytest.mark.parametrize("bad", [-1, 3, None])
def test_labels_out_of_range(bad: int | None) -> None:
    labels = pl.Series("z", blobs(60)[1], dtype=pl.Int64)
    df = spoiled(bad, "z", good().with_columns(labels))
    with says(GmmError, "label|z", r"\b17\b", "null" if bad is None else rf"{bad}"):
        df.gmm.fit(k=3, init=pl.col("z"))


def test_what_is_not_a_model() -> None:
    df = good().with_columns(m=pl.lit(1.0), b=pl.lit(b"nonsense"), s=pl.struct(a=pl.lit(1.0)))
    for name in ("m", "b", "s"):
        with says(ComputeError, "model"):
            df.select(xy.gmm.predict(name))
    for value in (3, {"weights": [1.0]}, None):
        with pytest.raises((GmmError, TypeError), match="model"):
            xy.gmm.predict(value)


def test_statistics_that_are_none() -> None:
    df = good().with_columns(s=pl.struct(a=pl.lit(1.0)))
    for expr in (pl.col("s").gmm.merge(), pl.col("s").gmm.maximize(), pl.col("x0").gmm.merge()):
        with says(ComputeError, "statistics"):
            df.select(expr)


def test_statistics_of_different_shapes_do_not_add_up() -> None:
    one = frame(blobs(30)[0]).select(s=xy.gmm.statistics(the_model()))
    other = oracle.random_model(np.random.default_rng(0), 2, 2, "full")
    two = good().select(s=xy.gmm.statistics(as_model(other)))
    with says(ComputeError, r"\b3\b", r"\b2\b", "component"):
        pl.concat([one, two]).select(pl.col("s").gmm.merge())


def test_diagonal_statistics_make_no_full_covariances() -> None:
    model = as_model(oracle.random_model(np.random.default_rng(0), 2, 2, "diag"), structure="diag")
    summed = good().select(s=xy.gmm.statistics(model))
    with says(ComputeError, "diag", "full"):
        summed.select(pl.col("s").gmm.maximize(covariance_type="full"))


# Options


BAD_OPTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"k": 0}, [r"\bk\b", "0", "1"]),
    ({"k": -2}, [r"\bk\b", "-2"]),
    ({"k": 2.5}, [r"\bk\b"]),
    (
        {"covariance_type": "ful"},
        ["covariance_type", "ful\\b", "full", "tied", "diag", "spherical"],
    ),
    ({"init": "kmeans"}, ["init", "kmeans", r"k-means\+\+", "random", r"pl\.col"]),
    ({"init": "z"}, ["init", r"pl\.col"]),
    ({"nulls": "skip"}, ["nulls", "skip", "raise", "drop"]),
    ({"tol": -1e-3}, ["tol"]),
    ({"tol": float("nan")}, ["tol"]),
    ({"tol": 10**400}, ["tol", "double"]),
    ({"max_iter": -1}, ["max_iter"]),
    ({"n_init": 0}, ["n_init"]),
    ({"covariance_floor": -1e-6}, ["covariance_floor"]),
    ({"covariance_floor": float("nan")}, ["covariance_floor"]),
    ({"seed": -1}, ["seed"]),
]
bad_options = pytest.mark.parametrize(
    ("options", "words"), BAD_OPTIONS, ids=[str(options) for options, _ in BAD_OPTIONS]
)


@bad_options
@drivers
def test_bad_options(driver: str, options: dict[str, Any], words: list[str]) -> None:
    with says(GmmError, *words):
        fit(driver, good(), **options)


@bad_options
def test_bad_options_are_found_when_an_expression_is_built(
    options: dict[str, Any], words: list[str]
) -> None:
    for build in (xy.gmm.fit, xy.gmm.fit_predict):
        with says(GmmError, *words):
            build(**{"k": 3, **options})


def test_bad_options_of_steps_and_failures() -> None:
    with says(GmmError, "covariance_type", "ful\\b", "full"):
        xy.gmm.m_step("r", covariance_type="ful")
    with says(GmmError, "covariance_type", "ful\\b", "full"):
        pl.col("s").gmm.maximize(covariance_type="ful")
    for build in (
        lambda: xy.gmm.m_step("r", covariance_floor=-1),
        lambda: xy.gmm.em_step(the_model(), covariance_floor=-1),
        lambda: pl.col("s").gmm.maximize(covariance_floor=-1),
    ):
        with says(GmmError, "covariance_floor"):
            build()
    with says(GmmError, "on_failure", "ignore", "raise", "null"):
        xy.gmm.fit(3, on_failure="ignore")


def test_options_are_keywords_with_known_names() -> None:
    with pytest.raises(TypeError, match="n_components"):
        good().gmm.fit(n_components=3)
    with pytest.raises(TypeError):
        xy.gmm.fit(3, "full")
    with pytest.raises(TypeError, match="k"):
        good().gmm.fit()


def test_a_start_that_does_not_fit() -> None:
    start = the_model()
    with says(GmmError, r"\b3\b", r"\b4\b"):
        good().gmm.fit(k=4, init=start)
    with says(GmmError, "x1"):
        good().rename({"x1": "y"}).gmm.fit(k=3, init=start)


# Data without spread


def degenerate(name: str) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    x = rng.normal(size=40)
    rows = {
        "constant column": np.column_stack([x, np.full(40, 7.0)]),
        "duplicate rows": np.repeat([[1.0, 2.0], [3.0, 1.0], [4.0, 4.0]], 12, axis=0),
        "one point": np.full((40, 2), 0.1),
        "collinear": np.column_stack([x, 2 * x - 1]),
        "nearly collinear": np.column_stack([x, 2 * x + 1e-13 * rng.normal(size=40)]),
        "more columns than rows": rng.normal(size=(8, 20)),
        "as many rows as components": rng.normal(size=(3, 2)),
        "one point far out": np.vstack([rng.normal(size=(39, 2)), [[1e9, -1e9]]]),
        "far from the origin": 1e9 + np.column_stack([x, rng.normal(size=40)]),
        "tiny": 1e-75 * np.column_stack([x, rng.normal(size=40)]),
        "huge": 1e75 * np.column_stack([x, rng.normal(size=40)]),
    }[name]
    return frame(rows)


DEGENERATE = [
    "constant column",
    "duplicate rows",
    "one point",
    "collinear",
    "nearly collinear",
    "more columns than rows",
    "as many rows as components",
    "one point far out",
    "far from the origin",
    "tiny",
    "huge",
]


@structures
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_data_fit_and_stay_finite(name: str, structure: str) -> None:
    df = degenerate(name)
    model = df.gmm.fit(k=3, covariance_type=structure)
    assert np.isfinite(model.log_likelihood)
    assert np.isfinite(model.means).all()
    assert np.isfinite(model.covariances).all()
    assert abs(model.weights.sum() - 1) < 1e-12
    rows = pl.struct(model.features)
    out = df.select(
        r=rows.gmm.responsibilities(model),
        l=rows.gmm.log_density(model),
        z=rows.gmm.predict(model),
        m=rows.gmm.em_step(model).struct.field("weights").list.sum(),
    )
    r = out["r"].to_numpy()
    assert np.abs(r.sum(axis=1) - 1).max() < 1e-12
    assert out["l"].is_finite().all()
    assert out["z"].null_count() == 0
    assert abs(out["m"][0] - 1) < 1e-12


@pytest.mark.parametrize("init", ["k-means++", "k-means", "random"])
@pytest.mark.parametrize("name", DEGENERATE)
def test_every_start_stands_degenerate_data(name: str, init: str) -> None:
    model = degenerate(name).gmm.fit(k=3, init=init)
    assert np.isfinite(model.log_likelihood)


@pytest.mark.parametrize("flat", [["x1"], ["x0", "x1"]])
def test_without_a_floor_singular_covariances_are_an_error(flat: list[str]) -> None:
    bad = good().with_columns(pl.lit(0.0).alias(name) for name in flat)
    with says(GmmError, "covariance_floor", "singular|positive definite"):
        bad.gmm.fit(k=3, covariance_floor=0)
    df = pl.concat([bad.with_columns(g=pl.lit("bad")), good().with_columns(g=pl.lit("good"))])
    fitted = df.group_by("g", maintain_order=True).agg(
        m=xy.gmm.fit(3, covariance_floor=0, on_failure="null")
    )
    assert fitted["m"].is_null().to_list() == [True, False]


@pytest.mark.parametrize("flag", ["yes", 1, None])
def test_flags_are_bools(flag: Any) -> None:
    with says(GmmError, "log", "True or False", re.escape(repr(flag))):
        xy.gmm.responsibilities(the_model(), log=flag)
    with says(GmmError, "log", "True or False"):
        the_model().responsibilities(log=flag)
    with says(GmmError, "progress", "True or False"):
        good().gmm.fit(k=2, progress=flag)


def test_flags_of_numpy() -> None:
    yes: Any = np.True_
    given = good().select(xy.gmm.responsibilities(the_model(), log=yes))
    assert given.equals(good().select(xy.gmm.responsibilities(the_model(), log=True)))
