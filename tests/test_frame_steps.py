"""`df.gmm.em_step` and `df.gmm.m_step`: the expressions of these names, without a query."""

from __future__ import annotations

import gc
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars import selectors as cs

import oracle
import polars_gmm as pg
from datasets import frame
from registry import rows_frame, the_model
from support import as_model, in_chunks, nulled, parameters_of, run_python, says
from test_dtypes import REFUSED, Thing

xy = pl.struct("x", "y")
STRUCTURES = ("full", "tied", "diag", "spherical")


def of(df: pl.DataFrame, expression: pl.Expr) -> pg.GaussianMixture:
    return pg.GaussianMixture.from_struct(df.select(expression).to_series())


# The expressions


def frames() -> dict[str, pl.DataFrame]:
    df = rows_frame()
    return {
        "as it is": df,
        "narrow": df.with_columns(pl.col("x").cast(pl.Float32), pl.col("w").cast(pl.Decimal(8, 2))),
        "whole": df.with_columns((pl.col("x", "y") * 10).cast(pl.Int16)),
        "chunks": df.with_columns(
            *[in_chunks(df[name], cuts) for name, cuts in {"x": [7, 100], "r": [64]}.items()]
        ),
        "slice": pl.concat([df, df], rechunk=True)[100:300],
        "lists": df.with_columns(pl.col("r").arr.to_list()),
        "nulls": df.with_columns(
            *[nulled(df[name], [3, 77]) for name in ("x", "r")], nulled(df["y"], [77])
        )[1:],
        "one row": df[:1],
    }


@pytest.mark.parametrize("name", frames())
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_they_give_the_bits_of_the_expressions(
    name: str, weights: str | None, structure: Any
) -> None:
    df = frames()[name].with_columns(w=pl.col("w").cast(pl.Float64) + 0.25)
    options: dict[str, Any] = {"weights": weights, "covariance_floor": 1e-4}
    kind: dict[str, Any] = {**options, "covariance_type": structure}
    called = df.gmm.m_step("x", "y", responsibilities="r", **kind)
    assert called == of(df, xy.gmm.m_step("r", **kind))
    assert (called.covariance_type, called.features) == (structure, ["x", "y"])
    assert (called.log_likelihood, called.n_iter, called.converged) == (None, None, None)
    next_of_all = rows_frame().gmm.m_step("x", "y", responsibilities="r", covariance_type=structure)
    assert df.gmm.em_step(next_of_all, **options) == of(df, xy.gmm.em_step(next_of_all, **options))


def test_a_loop_by_hand_is_a_fit() -> None:
    df = rows_frame()
    model = df.gmm.m_step("x", "y", responsibilities="r", weights="w")
    options: dict[str, Any] = {"max_iter": 30, "tol": 0, "acceleration": None, "init": model}
    fitted = df.gmm.fit("x", "y", k=3, weights="w", **options)
    for _ in range(30):
        model = df.gmm.em_step(model, weights="w")
    expected = df.select(xy.gmm.fit(3, weights="w", **options)).item()
    oracle.assert_same_parameters(parameters_of(model), parameters_of(fitted), 1e-12)
    oracle.assert_same_parameters(parameters_of(model), oracle.parameters(expected), 1e-12)


@pytest.mark.parametrize(("n", "d"), [(70_000, 2), (300_000, 3)])
def test_many_rows_are_summed_up_by_threads(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    parameters = oracle.random_model(rng, 20, d, "full")
    df, model = frame(oracle.draw(rng, parameters, n)[0]), as_model(parameters)
    features = pl.struct(model.features)
    assert df.gmm.em_step(model) == of(df, features.gmm.em_step(model))
    df = df.with_columns(r=model.responsibilities())
    called = df.gmm.m_step(*model.features, responsibilities="r")
    assert called == of(df, features.gmm.m_step("r"))


# Features


@pytest.mark.parametrize(
    "features",
    [
        ("x", "y"),
        (["x", "y"],),
        (cs.by_name("x", "y"),),
        (pl.col("x"), "y"),
        (xy.alias("p"),),
        ("y", "x"),
        ("y",),
    ],
    ids=str,
)
def test_features_are_chosen_as_for_a_fit(features: Any) -> None:
    df = rows_frame()
    model = df.gmm.m_step(*features, responsibilities="r")
    fitted = df.gmm.fit(*features, k=3, init=pl.col("r"), max_iter=0)
    assert model.features == fitted.features
    oracle.assert_same_parameters(parameters_of(model), parameters_of(fitted), 1e-12)


def test_a_struct_column_has_its_fields_for_features() -> None:
    df = rows_frame().select("r", p=xy)
    assert df.gmm.m_step("p", responsibilities="r") == of(df, pl.col("p").gmm.m_step("r"))


def test_names_are_no_patterns() -> None:
    df = rows_frame().rename({"y": "^[xy]$", "w": "*"})
    model = df.gmm.m_step("^[xy]$", responsibilities="r", weights="*")
    expected = rows_frame().gmm.m_step("y", responsibilities="r", weights="w")
    assert model.features == ["^[xy]$"]
    assert model.means.tolist() == expected.means.tolist()
    again = df.gmm.em_step(model, weights="*")
    assert again.means.tolist() == rows_frame().gmm.em_step(expected, weights="w").means.tolist()


def test_every_numeric_column_is_a_feature_but_those_named() -> None:
    df = rows_frame().drop("h", "z")
    model = df.gmm.m_step(responsibilities="r", weights="w")
    assert model == df.gmm.m_step("x", "y", responsibilities="r", weights="w")
    assert df.gmm.m_step(responsibilities=pl.col("r")).features == ["x", "y", "w"]


@pytest.mark.parametrize("dtype", [pl.Array(pl.Float64, 2), pl.List(pl.Float32)])
def test_a_model_reads_the_columns_it_knows(dtype: Any) -> None:
    df = rows_frame().with_columns(p=pl.concat_list("x", "y").cast(dtype))
    model = df.gmm.m_step("p", responsibilities="r")
    assert model.features == ["p[0]", "p[1]"]
    assert df.gmm.em_step(model) == of(df, pl.col("p").gmm.em_step(model))
    one = df.gmm.m_step("y", responsibilities="r")
    assert df.select("p", "y").gmm.em_step(one) == of(df, pl.col("y").gmm.em_step(one))


def test_columns_beside_the_features_may_be_expressions() -> None:
    df = rows_frame()
    twice = df.gmm.m_step("x", "y", responsibilities="r", weights=pl.lit(2.0))
    assert twice.total_weight == 2 * len(df)
    halves = pl.col("r").arr.eval(pl.element() / 2)
    called = df.gmm.m_step("x", "y", responsibilities=halves, weights=pl.col("w") + 1)
    assert called == of(df, xy.gmm.m_step(halves, weights=pl.col("w") + 1))
    assert df.gmm.em_step(the_model(), weights=pl.col("w") + 1) == of(
        df, xy.gmm.em_step(the_model(), weights=pl.col("w") + 1)
    )


# Bad input

Step = Callable[[pl.DataFrame], Any]


def m_step(df: pl.DataFrame) -> Any:
    return df.gmm.m_step("x", "y", responsibilities="r", weights="w")


def em_step(df: pl.DataFrame) -> Any:
    return df.gmm.em_step(the_model(), weights="w")


both = pytest.mark.parametrize("step", [em_step, m_step])


@both
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        ({"x": np.nan}, 'feature "x" is NaN or infinite in 1 row, the first is row 7; filter or '),
        ({"y": np.inf}, 'feature "y" is NaN or infinite in 1 row, the first is row 7; filter or '),
        ({"w": -1.0}, 'weights "w" must be finite numbers >= 0 and not null, but in 1 row they '),
        ({"w": None}, 'weights "w" must be finite numbers >= 0 and not null, but in 1 row they '),
    ],
    ids=str,
)
def test_bad_rows_are_named(step: Step, spoil: dict[str, Any], sentence: str) -> None:
    at = pl.int_range(pl.len()) == 7
    bad = [pl.when(at).then(v).otherwise(pl.col(c)).alias(c) for c, v in spoil.items()]
    with says(pg.GmmError, sentence):
        step(rows_frame().with_columns(w=pl.lit(1.0)).with_columns(bad))


def test_nulls_of_a_row_agree() -> None:
    df = rows_frame().with_columns(w=pl.lit(1.0))
    with says(pg.GmmError, "must be null in the same rows, but in 1 row only one of them is null"):
        m_step(df.with_columns(nulled(df["r"], [4])))


@both
@pytest.mark.parametrize("missing", ["x", "w"])
def test_a_missing_column_is_named(step: Step, missing: str) -> None:
    with says(pg.GmmError, f"there is no column '{missing}': name columns of this frame"):
        step(rows_frame().drop(missing))


def test_missing_responsibilities_are_named() -> None:
    with says(pg.GmmError, "there is no column 'r': name columns"):
        m_step(rows_frame().drop("r"))
    with says(pg.GmmError, "responsibilities must be a column name or a Polars expression; got 3"):
        rows_frame().gmm.m_step("x", responsibilities=3)
    with says(pg.GmmError, r"m_step needs responsibilities: a List or Array column"):
        rows_frame().gmm.m_step("x", responsibilities=None)
    with says(pg.GmmError, 'responsibilities "w" must be a List or Array column of numbers'):
        rows_frame().gmm.m_step("x", responsibilities="w")


@both
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("role", ["x", "w", "r"])
def test_what_holds_no_numbers_is_refused(step: Step, kind: str, role: str) -> None:
    make, _ = REFUSED[kind]
    df = pl.DataFrame({"x": [1.0, 2.0, 4.0], "y": [1.0, 3.0, 2.0], "w": [1.0, 1.0, 1.0]})
    df = df.with_columns(r=pl.lit([1.0])).with_columns(make().alias(role))
    if step is em_step and role == "r":
        step(df)
        return
    with says(pg.GmmError, f"[\"']{role}[\"']"):
        step(df)


@both
@pytest.mark.parametrize("weight", [0.0, None], ids=["weightless", "no rows"])
def test_no_model_is_made_of_nothing(step: Step, weight: float | None) -> None:
    df = rows_frame().with_columns(w=pl.lit(weight, dtype=pl.Float64))
    with says(pg.GmmError, "a step needs rows that weigh something, .*; give rows of weight > 0"):
        step(df if weight is not None else df.clear())


def test_options_are_checked() -> None:
    df: Any = rows_frame()
    step = df.gmm.m_step
    with says(pg.GmmError, 'covariance_type must be one of .* got "round"'):
        step("x", responsibilities="r", covariance_type="round")
    with says(pg.GmmError, "covariance_type must be a string; got None"):
        step("x", responsibilities="r", covariance_type=None)
    for floor, sentence in [(-1.0, "covariance_floor must be"), ("a", "must be a number; got 'a'")]:
        with says(pg.GmmError, sentence):
            step("x", responsibilities="r", covariance_floor=floor)
        with says(pg.GmmError, sentence):
            df.gmm.em_step(the_model(), covariance_floor=floor)
    with says(pg.GmmError, "model must be a GaussianMixture; got 'm' of type str; .*expression"):
        df.gmm.em_step("m")
    with says(pg.GmmError, "a feature must be a column name, an expression or a selector; got 3"):
        step(3, responsibilities="r")
    with says(pg.GmmError, "features must have different names"):
        step("x", "x", responsibilities="r")


def test_a_singular_model_is_refused() -> None:
    df = rows_frame().with_columns(x=pl.lit(1.0))
    with says(pg.GmmError, 'must be positive definite, but it is singular .* at feature "x"'):
        df.gmm.m_step("x", "y", responsibilities="r", covariance_floor=0)
    with says(pg.GmmError, 'must be positive definite, but it is singular .* at feature "x"'):
        df.gmm.em_step(the_model(), covariance_floor=0)
    model = df.gmm.m_step("x", "y", responsibilities="r")
    assert pickle.loads(pickle.dumps(model)) == model


@both
@pytest.mark.parametrize("role", ["x", "y", "w", "r"])
@pytest.mark.parametrize("inner", [pl.Float64, pl.Array(pl.Float64, 0)], ids=str)
def test_arrays_of_nothing_are_refused(step: Step, role: str, inner: Any) -> None:
    nothing = pl.Series(role, [None, None, None], dtype=pl.Array(inner, 0))
    df = pl.DataFrame({"x": [1.0, 2.0, 4.0], "y": [1.0, 3.0, 2.0], "w": [1.0] * 3})
    df = df.with_columns(r=pl.lit([1.0])).with_columns(nothing)
    if step is not em_step or role != "r":
        with says(pg.GmmError, role, "dtype array|no features"):
            step(df)
    with says(pg.GmmError, f'column "{role}" has no features|must be a struct of numeric'):
        df.gmm.m_step(role, responsibilities=pl.lit([1.0]))


def test_a_refused_column_is_let_go() -> None:
    thing = Thing()
    for step in (em_step, m_step):
        before = sys.getrefcount(thing)
        df = rows_frame().with_columns(pl.Series("y", [thing] * 240, dtype=pl.Object))
        with says(pg.GmmError, 'column "y" has dtype Object'):
            step(df)
        del df
        gc.collect()  # the traceback of the error has the frame
        assert sys.getrefcount(thing) == before


def test_a_long_step_can_be_stopped() -> None:
    code = """
import os, signal, threading, time
import numpy as np, polars as pl, polars_gmm as pg
rng = np.random.default_rng(0)
k, d, n = 64, 64, 400_000
names = [f"x{j}" for j in range(d)]
model = pg.GaussianMixture(np.full(k, 1 / k), rng.normal(size=(k, d)), np.stack([np.eye(d)] * k),
                           features=names)
df = pl.DataFrame(rng.normal(size=(n, d)), schema=names)
whole = time.perf_counter()
df[: n // 8].gmm.em_step(model)
whole = 8 * (time.perf_counter() - whole)
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
began = time.perf_counter()
try:
    df.gmm.em_step(model)
except KeyboardInterrupt:
    assert time.perf_counter() - began < 0.2 + max(0.3, whole / 4), (began, whole)
    print("stopped")
"""
    assert run_python(code) == "stopped\n"
