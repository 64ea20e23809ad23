"""Bad input gets words, beyond the table of `test_error_table.py`: options, models, flat data."""

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
from support import ComputeError, as_model, says

xy = pl.struct("x0", "x1")
DRIVERS = ("eager", "lazy")
drivers = pytest.mark.parametrize("driver", DRIVERS)
structures = pytest.mark.parametrize("structure", STRUCTURES)


def good(n: int = 60) -> pl.DataFrame:
    return frame(blobs(n)[0])


def the_model(d: int = 2) -> pg.GaussianMixture:
    return as_model(oracle.random_model(np.random.default_rng(0), 3, d, "full"))


def spoiled(bad: float | None) -> pl.DataFrame:
    """Rows 17 and 41 of x1 are bad."""
    at = pl.int_range(pl.len()).is_in([17, 41])
    return good().with_columns(x1=pl.when(at).then(bad).otherwise("x1"))


def fit(driver: str, df: pl.DataFrame, *features: Any, **options: Any) -> pg.GaussianMixture:
    source = df.lazy() if driver == "lazy" else df
    return source.gmm.fit(*features, **{"k": 3, **options})


# One sentence for all


def test_an_expression_says_the_same_sentence() -> None:
    for bad in (None, float("nan")):
        with pytest.raises(GmmError) as from_frame:
            spoiled(bad).gmm.fit(k=3)
        with pytest.raises(ComputeError) as from_expression:
            spoiled(bad).select(xy.gmm.fit(3))
        assert str(from_frame.value) in str(from_expression.value)


def test_gmm_error_is_a_value_error() -> None:
    assert issubclass(GmmError, ValueError)


# Dtypes, names and models


def test_columns_that_are_no_numbers_are_no_features() -> None:
    df = good().with_columns(name=pl.lit("a"), day=pl.lit("2024-04-22").str.to_date())
    assert df.gmm.fit(k=3).features == ["x0", "x1"]
    assert df.gmm.fit(k=3) == good().gmm.fit(k=3)


@drivers
def test_no_feature_at_all(driver: str) -> None:
    with says(GmmError, "numeric|feature"):
        fit(driver, pl.DataFrame({"name": ["a", "b", "c"]}))


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
