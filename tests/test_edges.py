"""Indices, bounds and offsets that larger tests pass over: each fails for one of them wrong."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import numpy as np
import polars as pl
import pytest

import polars_gmm as pg
from polars_gmm import GmmError, _lib
from polars_gmm._options import fit_options
from support import ComputeError, in_chunks, says, the_value

# More rows than the checks look at together.
N = 5000


def standard(features: list[str], means: Any = ((0.0, 1.0),), structure: str = "full") -> Any:
    k, d = np.shape(means)
    covariances = np.stack([np.diag(np.arange(1.0, d + 1))] * k)
    weights = np.full(k, 1 / k)
    if structure == "spherical":
        covariances = np.stack([np.eye(d)] * k)
    return pg.GaussianMixture(
        weights, means, covariances, features=features, covariance_type=structure
    )


def numbers(n: int = N) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    return pl.DataFrame({"x": rng.standard_normal(n), "y": rng.standard_normal(n)})


@pytest.mark.parametrize("cuts", [[], [1], [2, 3]])
def test_null_lists_have_no_length(cuts: list[int]) -> None:
    lists = pl.Series("v", [None, [1.0, 2.0], None, [3.0, 4.0]], dtype=pl.List(pl.Float64))
    df = pl.DataFrame([in_chunks(lists, cuts)])
    model = standard(["v[0]", "v[1]"])
    scores = df.select(model.log_density()).to_series()
    plain = pl.DataFrame({"v[0]": [1.0, 3.0], "v[1]": [2.0, 4.0]})
    assert scores.is_null().to_list() == [True, False, True, False]
    expected = plain.select(pl.struct(pl.all()).gmm.log_density(model)).to_series()
    assert scores.drop_nulls().to_list() == expected.to_list()
    assert the_value(df.select(pl.col("v").gmm.statistics(model)))["n_rows"] == 2


def test_the_row_of_another_length_is_counted_through_all_chunks() -> None:
    lists = [[1.0, 2.0]] * 70
    lists[66] = [1.0]
    df = pl.DataFrame([in_chunks(pl.Series("v", lists), [30, 60])])
    with says(ComputeError, r"width 1 in row 66\b"):
        df.select(pl.col("v").gmm.fit(1))


def test_labels_of_many_rows_belong_to_their_rows() -> None:
    df = numbers().with_columns(z=pl.int_range(pl.len()) // 2100)
    model = df.gmm.fit("x", "y", k=3, init=pl.col("z"), max_iter=0)
    means = df.group_by("z").agg(pl.col("x", "y").mean()).sort("z").select("x", "y").to_numpy()
    assert np.allclose(model.means, means, atol=1e-12)


@pytest.mark.parametrize("init", ["model", "labels"])
def test_rows_of_no_weight_are_no_rows_for_k_components(init: str) -> None:
    """However the fit begins."""
    df = numbers(6).with_columns(
        w=pl.Series([1.0, 0.0, 2.0, 0.0, 0.0, 0.0]), z=pl.Series([0, 2, 1] * 2)
    )
    start = standard(["x", "y"], [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    options: dict[str, Any] = {"init": start if init == "model" else pl.col("z")}
    with says(GmmError, "k=3", r"\b2\b"):
        df.gmm.fit("x", "y", k=3, weights="w", **options)
    assert the_value(df.select(pl.struct("x", "y").gmm.fit(3, weights="w", **options))) is None


def test_models_that_differ_in_their_names_alone() -> None:
    df = pl.DataFrame({"x": [1.0, 1.0], "y": [5.0, 5.0]})
    models = [standard(["x", "y"]), standard(["y", "x"])]
    column = pl.concat([model.to_struct() for model in models])
    xy = pl.struct("x", "y")
    scores = df.with_columns(m=column).select(xy.gmm.log_density("m")).to_series()
    expected = [df[:1].select(xy.gmm.log_density(model)).item() for model in models]
    assert scores.to_list() == expected
    assert expected[0] != expected[1]


def test_models_that_differ_in_their_type_alone() -> None:
    """The numbers are the same, the next models are not."""
    df = pl.DataFrame({"x": [1.0, 2.0], "y": [5.0, 7.0]})
    models = [standard(["x"], [[0.0]], structure) for structure in ("full", "spherical")]
    column = pl.concat([model.to_struct() for model in models])
    with says(ComputeError, "several"):
        df.with_columns(m=column).select(pl.struct("x").gmm.em_step("m"))


@pytest.mark.parametrize("field", ["means", "covariances"])
def test_ragged_lists_of_the_right_total(field: str) -> None:
    """As many numbers as there should be, in rows of other lengths."""
    model = standard(["x", "y"], [[0.0, 1.0], [2.0, 3.0]])
    value = model.to_struct().to_list()[0]
    rows = value[field] if field == "means" else value[field][1]
    rows[0], rows[1] = rows[0][:1], rows[0][1:] + rows[1]
    ragged = pl.Series("m", [value], dtype=model.to_struct().dtype).to_frame()
    with says(ComputeError, f"{field} are ragged"):
        ragged.select(pl.col("m").gmm.pack())


def test_statistics_of_other_features_do_not_merge() -> None:
    """Nor do those of the same features in another order."""
    df, xy = numbers(20), pl.struct("x", "y")
    parts = [df.select(s=xy.gmm.statistics(standard(names))) for names in (["x", "y"], ["y", "x"])]
    with says(ComputeError, r"merged only if", r'\["x", "y"\]', r'\["y", "x"\]'):
        pl.concat(parts).select(pl.col("s").gmm.merge())


def test_statistics_of_no_weight_have_no_maximum() -> None:
    df, model = numbers(20), standard(["x", "y"])
    nothing = df.clear().select(s=pl.struct("x", "y").gmm.statistics(model))
    something = df.select(s=pl.struct("x", "y").gmm.statistics(model))
    models = pl.concat([nothing, something, nothing]).select(pl.col("s").gmm.maximize())
    assert models.to_series().is_null().to_list() == [True, False, True]


def test_a_row_with_null_is_left_out_whatever_else_it_holds() -> None:
    df = numbers(20).with_columns(
        pl.when(pl.int_range(pl.len()) != 4).then("x").alias("x"),
        pl.when(pl.int_range(pl.len()) != 4).then("y").otherwise(float("nan")).alias("y"),
    )
    xy = pl.struct("x", "y")
    statistics = the_value(df.select(xy.gmm.statistics(standard(["x", "y"]))))
    without = the_value(df.drop_nulls().select(xy.gmm.statistics(standard(["x", "y"]))))
    assert statistics["n_rows"] == without["n_rows"] == 19
    assert np.allclose(statistics["scatter"], without["scatter"])
    assert df.gmm.fit(k=1, nulls="drop").n_rows == 19


def test_a_component_without_rows_stays_where_it_was() -> None:
    df = numbers(50)
    model = pg.GaussianMixture(
        [1.0, 0.0], [[0.0, 0.0], [70.0, -8.0]], np.stack([np.eye(2)] * 2), features=["x", "y"]
    )
    step = the_value(df.select(pl.struct("x", "y").gmm.em_step(model)))
    assert step["weights"] == [1.0, 0.0]
    assert step["means"][1] == [70.0, -8.0]
    assert np.allclose(step["means"][0], df.mean().row(0))


@pytest.mark.parametrize("order", [["b", "c", "a"], ["c", "a", "b"], ["b", "a", "c"]])
def test_a_start_has_its_features_by_name(order: list[str]) -> None:
    """In cycles of three, the way there is not the way back."""
    means = {"a": 0.0, "b": 100.0, "c": -3000.0}
    df = numbers(30).select(
        pl.col("x").alias("a"), (pl.col("y") + 100).alias("b"), (pl.col("x") * 2 - 3000).alias("c")
    )
    start = standard(order, [[means[name] for name in order]])
    model = df.gmm.fit(k=1, init=start, max_iter=0)
    assert model.features == ["a", "b", "c"]
    assert model.means.tolist() == [[0.0, 100.0, -3000.0]]
    variances = {name: float(j + 1) for j, name in enumerate(order)}
    assert np.diag(model.covariances[0]).tolist() == [variances[name] for name in "abc"]


@pytest.mark.parametrize("bad", [None, float("nan")])
def test_weights_of_many_rows_belong_to_their_rows(bad: float | None) -> None:
    row = pl.int_range(pl.len())
    df = numbers().with_columns(
        pl.when(row != 4000).then("x").otherwise(pl.lit(bad)).alias("x"),
        w=pl.when(row == 4000).then(0.0).otherwise(1.0),
        v=pl.when(row == 4000 - 2048).then(0.0).otherwise(1.0),
    )
    assert df.gmm.fit("x", "y", k=1, weights="w").n_rows == N - 1
    with says(GmmError, r"feature \"x\"", r"row 4000\b"):
        df.gmm.fit("x", "y", k=1, weights="v")


@pytest.mark.parametrize("k", [0, -1])
def test_the_compiled_code_counts_components_itself(k: int) -> None:
    options, _ = fit_options(1)
    with says(GmmError, f"k must be an integer >= 1, got {k}"):
        _lib.check_options(pickle.dumps({**options, "k": k}))


def test_a_given_start_is_tried_once() -> None:
    df, start = numbers(20), standard(["x", "y"])
    for init in (start, pl.lit(0)):
        with says(GmmError, "n_init=3 has no effect"):
            df.gmm.fit("x", "y", k=1, init=init, n_init=3)


def test_a_null_among_many_rows_is_named() -> None:
    df = numbers().with_columns(pl.when(pl.int_range(pl.len()) < 4321).then("y").alias("y"))
    with says(GmmError, r"feature \"y\" is null in 679 rows, the first is row 4321\b"):
        df.gmm.fit("x", "y", k=1)


def test_several_columns_are_no_features_beside_weights() -> None:
    """They would be features and weights of each other."""
    df = numbers(9).with_columns(w=1.0)
    with says(ComputeError, "selects 2 columns", r"pl\.struct"):
        df.select(pl.col("x", "y").gmm.fit(1, weights="w"))


def test_responsibilities_of_no_component() -> None:
    df = numbers(9).with_columns(r=pl.Series([[]] * 9, dtype=pl.Array(pl.Float64, 0)))
    with says(ComputeError, "must be a List or Array"):
        df.lazy().select(pl.struct("x", "y").gmm.m_step("r")).collect_schema()


# Memory


@pytest.mark.parametrize(
    ("make", "use"),
    [
        (lambda: pl.DataFrame({"x": [1.0, 2.0, 4.0]}), lambda df: df.gmm.fit(k=1)),
        (lambda: pl.LazyFrame({"x": [1.0, 2.0, 4.0]}), lambda lf: lf.gmm.fit(k=1)),
        (lambda: pl.col("x"), lambda x: x.gmm.fit(1)),
    ],
    ids=["DataFrame", "LazyFrame", "Expr"],
)
def test_what_has_a_namespace_is_freed_when_it_is_let_go(make: Any, use: Any) -> None:
    """Without waiting for Python to look for cycles."""
    gc.disable()
    try:
        thing = make()
        use(thing)
        alive = weakref.ref(thing)
        del thing
        assert alive() is None
    finally:
        gc.enable()
