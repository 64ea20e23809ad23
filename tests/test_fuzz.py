"""Hostile values, structs, bytes and texts: a result or a sentence, never a panic.

What is accepted is finite and keeps every bit. The environment variable FUZZ_CASES sets the number
of cases of each property.
"""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oracle
import polars_gmm as pg
from oracle import STRUCTURES
from support import ComputeError, as_model, run_python

CASES = int(os.environ.get("FUZZ_CASES", "100"))
fuzz = settings(
    max_examples=CASES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

K, D = 2, 2
XY = pl.struct("x", "y")
MODELS = [
    as_model(oracle.random_model(np.random.default_rng(5), K, D, structure), ["x", "y"], structure)
    for structure in STRUCTURES
]
EDGES = [0.0, -0.0, 5e-324, 1e-300, 1e-150, -1e-9, 0.5, 1.0, 1e8, 1e150, -1e200, 1e308, -1.7e308]

finite = (
    st.sampled_from(EDGES) | st.floats(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
)
number = st.one_of(finite, finite, finite, st.sampled_from([math.nan, math.inf, -math.inf]))


def rows(n: int = 3) -> pl.DataFrame:
    return pl.DataFrame({"x": [0.5 * i for i in range(n)], "y": [1.0 - i for i in range(n)]})


def outcome(work: Callable[[], Any]) -> Any:
    """What `work` gives; None where it is refused by a sentence."""
    try:
        return work()
    except (pg.GmmError, ComputeError) as error:
        sentence = str(error)
    assert "panicked" not in sentence, sentence
    assert len(sentence.split()) > 4, sentence
    return None


def leaves(value: Any) -> Iterator[Any]:
    """All numbers in nested lists and dicts."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    elif isinstance(value, float):
        yield value


def check_finite(value: Any) -> None:
    assert all(map(math.isfinite, leaves(value))), value


def check_model(model: pg.GaussianMixture | None) -> None:
    """A model that was accepted is finite and survives every format."""
    if model is None:
        return
    check_finite(model.to_struct().to_list())
    for copy in (
        pg.GaussianMixture.unpack(model.pack()),
        pg.GaussianMixture.from_json(model.to_json()),
        pg.GaussianMixture.from_struct(model.to_struct()),
        pg.GaussianMixture.from_struct(model.to_struct().to_list()[0]),
        pickle.loads(pickle.dumps(model)),
    ):
        assert copy == model
    if model.features == ["x", "y"]:
        assert rows().select(model.log_density()).to_series().is_finite().all()


def check_model_column(models: pl.Series, engine: Any) -> None:
    """Everything that takes a column of models takes this one, or says why not."""
    n = max(len(models), 1)
    df = rows(n).with_columns(models.alias("m")) if len(models) == n else rows(n)
    m = pl.col("m") if len(models) == n else pl.lit(models)

    def value(expr: pl.Expr) -> Any:
        result = outcome(lambda: df.lazy().select(out=expr).collect(engine=engine))
        return [] if result is None else result["out"].to_list()

    for packed in value(m.gmm.pack()):
        if packed is not None:
            outcome(lambda packed=packed: check_model(pg.GaussianMixture.unpack(packed)))
    for method in ("log_density", "predict", "responsibilities"):
        check_finite(value(getattr(XY.gmm, method)(m)))
    for method in ("statistics", "em_step"):
        value(getattr(XY.gmm, method)(m))
        value(getattr(XY.gmm, method)(m.first()))
    for i in range(len(models)):
        check_model(outcome(lambda i=i: pg.GaussianMixture.from_struct(models[i : i + 1])))


# -- structs -------------------------------------------------------------------------------------


def nested(depth: int, leaf: st.SearchStrategy[Any] = number) -> st.SearchStrategy[Any]:
    """Lists of lists of numbers, ragged and with nulls at every level."""
    values = leaf
    for _ in range(depth):
        rectangle = st.lists(values, min_size=D, max_size=D)
        values = st.one_of(rectangle, rectangle, st.lists(values, max_size=3), st.none())
    return values


def lists_of(depth: int) -> pl.DataType:
    dtype: Any = pl.Float64()
    for _ in range(depth):
        dtype = pl.List(dtype)
    return dtype


def strange_columns(n: int) -> st.SearchStrategy[pl.Series]:
    """Columns of dtypes that no field has, or that some fields almost have."""
    text = ["full", "1", "", "x"]
    made: list[tuple[list[Any], Any]] = [
        (text, pl.String),
        (["full", "diag"], pl.Categorical),
        (["full", "diag"], pl.Enum(["full", "diag"])),
        ([b"pgmm", b""], pl.Binary),
        ([True, False], pl.Boolean),
        ([0, 1, 255], pl.UInt8),
        ([-1, 2**31], pl.Int64),
        ([2**100, -(2**100)], pl.Int128),
        ([1.5, math.nan, 1e308], pl.Float32),
        ([1, 2], pl.Decimal(20, 3)),
        ([0, 1], pl.Date),
        ([0, 1], pl.Datetime("us")),
        ([0, 1], pl.Duration("us")),
        ([0, 1], pl.Time),
        ([None], pl.Null),
        ([["x", "y"], ["x", "x"], ["x"], [None, "y"], [], ["", "z"]], pl.List(pl.String)),
        ([["x", "y"]], pl.List(pl.Categorical)),
        ([[1, 2]], pl.List(pl.Date)),
        ([[True, False]], pl.List(pl.Boolean)),
        ([[1, 0]], pl.List(pl.Int8)),
        ([[0.5, 0.5], [1e308, 1e308]], pl.Array(pl.Float64, 2)),
        ([[[0.0, 1.0], [1.0, 0.0]]], pl.Array(pl.Float64, (2, 2))),
        ([[]], pl.List(pl.Null)),
        ([[{"a": 1.0}]], pl.List(pl.Struct({"a": pl.Float64}))),
        ([{"a": 1.0}], pl.Struct({"a": pl.Float64})),
        ([[[[[1.0]]]]], lists_of(4)),
        ([["0.5", "half"]], pl.List(pl.String)),
    ]

    def column(choice: tuple[list[Any], Any], picks: list[int]) -> pl.Series:
        values, dtype = choice
        return pl.Series([values[pick % len(values)] for pick in picks], dtype=dtype, strict=False)

    return st.builds(
        column,
        st.sampled_from(made),
        st.lists(st.integers(0, 5), min_size=n, max_size=n),
    )


DEPTHS = {"weights": 1, "means": 2, "covariances": 3, "weight": 1, "mean": 2, "scatter": 3}
INTEGERS = {"version": [0, 1, 2, 255], "n_rows": [0, 1, 2**64 - 1], "n_iter": [0, 2**32 - 1]}


def field(name: str, column: pl.Series) -> st.SearchStrategy[pl.Series]:
    """Other values of the field's own dtype, null among them."""
    if name in DEPTHS:
        value = nested(DEPTHS[name])
    elif name == "features":
        value = st.none() | st.lists(st.sampled_from(["x", "y", "", None, "\0"]), max_size=3)
    elif name == "covariance_type":
        value = st.none() | st.sampled_from([*STRUCTURES, "Full", ""])
    elif name == "converged":
        value = st.none() | st.booleans()
    elif name in INTEGERS:
        value = st.none() | st.sampled_from(INTEGERS[name])
    else:
        value = st.none() | number
    n = len(column)
    return st.lists(value, min_size=n, max_size=n).map(lambda v: pl.Series(v, dtype=column.dtype))


@st.composite
def hostile_structs(draw: st.DrawFn, good: list[pl.Series]) -> pl.Series:
    """Columns of some good structs with fields changed, nulled, left out, added and moved."""
    n = draw(st.sampled_from([0, 1, 1, 2, 3]))
    picks = draw(st.lists(st.sampled_from(good), min_size=n, max_size=n))
    column = pl.concat([good[0][:0], *picks])
    fields = {name: column.struct.field(name) for name in column.struct.fields}
    for name in draw(st.lists(st.sampled_from(list(fields)), min_size=1, max_size=2)):
        kind = draw(st.sampled_from(["values", "values", "values", "dtype", "null", "missing"]))
        if kind == "values":
            fields[name] = draw(field(name, column.struct.field(name)))
        elif kind == "dtype":
            fields[name] = draw(strange_columns(n))
        elif kind == "null":
            fields[name] = pl.Series([None] * n, dtype=column.struct.field(name).dtype)
        elif len(fields) > 1:
            fields.pop(name, None)
    if draw(st.booleans()):
        fields["extra"] = draw(strange_columns(n))
    order = draw(st.permutations(list(fields))) if draw(st.booleans()) else list(fields)
    series = pl.DataFrame([fields[name].alias(name) for name in order]).to_struct("m")
    if n and draw(st.sampled_from([False, False, True])):
        keep = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        masked = pl.DataFrame({"m": series, "keep": keep})
        series = masked.select(pl.when("keep").then("m").alias("m")).to_series()
    return series


engines = st.sampled_from(["in-memory", "streaming"])


@fuzz
@given(models=hostile_structs([model.to_struct() for model in MODELS]), engine=engines)
def test_model_structs(models: pl.Series, engine: str) -> None:
    check_model_column(models, engine)


@fuzz
@given(st.data())
def test_model_dicts(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from(MODELS)).to_struct().to_list()[0]
    for name in data.draw(st.lists(st.sampled_from([*good, "extra"]), min_size=1, max_size=2)):
        strange = st.sampled_from(
            [None, "x", 3, -1, 2**70, math.nan, [], [None], {}, object(), b"x"]
        )
        good[name] = data.draw(strange | nested(DEPTHS.get(name, 1)))
    check_model(outcome(lambda: pg.GaussianMixture.from_struct(good)))


def good_statistics() -> list[pl.Series]:
    df = rows(40).with_columns(x=pl.col("x").sin(), y=pl.col("y").cos())
    statistics = [XY.gmm.statistics(model).alias("m") for model in MODELS]
    return [df.select(expr).to_series() for expr in statistics]


@fuzz
@given(
    statistics=hostile_structs(good_statistics()),
    structure=st.sampled_from(STRUCTURES),
    floor=st.sampled_from([0, 1e-6, 0.9]),
    engine=engines,
)
def test_statistics_structs(
    statistics: pl.Series, structure: Any, floor: float, engine: Any
) -> None:
    s = pl.col("m").gmm
    lf = statistics.to_frame().lazy()
    merged = outcome(lambda: lf.select(s.merge()).collect(engine=engine))
    if merged is not None:
        check_finite(merged["m"].to_list())
        again = merged.select(s.merge())["m"]
        assert again.to_list() == merged["m"].to_list()
    next_model = s.maximize(covariance_type=structure, covariance_floor=floor)
    models = outcome(lambda: lf.select(next_model).collect(engine=engine))
    if models is not None:
        check_finite(models["m"].to_list())
        for value in models["m"].to_list():
            outcome(lambda value=value: check_model(pg.GaussianMixture.from_struct(value)))


# -- bytes and texts -----------------------------------------------------------------------------

# 2**e as the format writes a length.
giant = st.integers(20, 63).map(lambda e: b"\x80" * (e // 7) + bytes([1 << e % 7]))


@st.composite
def damaged(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """Bytes of which some pieces are cut, replaced, or claim to be very long."""
    data = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.sampled_from([0, 0, 1, 1, 2, 8, 1000]))
        data = data[:at] + draw(st.binary(max_size=9) | giant) + data[at + cut :]
    return data


@fuzz
@given(
    values=st.lists(damaged([model.pack() for model in MODELS]) | st.none(), max_size=3),
    engine=engines,
)
def test_packed_models(values: list[bytes | None], engine: str) -> None:
    check_model_column(pl.Series("m", values, dtype=pl.Binary), engine)
    for value in values:
        check_model(outcome(lambda value=value: pg.GaussianMixture.unpack(value)))


def documents() -> list[dict[str, Any]]:
    fitted = rows(30).with_columns(x=pl.col("x").sin()).gmm.fit(k=2, max_iter=3, tol=0)
    return [json.loads(model.to_json()) for model in [*MODELS, fitted]]


anything = st.recursive(
    st.none() | st.booleans() | number | st.integers() | st.sampled_from(["x", "full", "", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("x"), inner),
    max_leaves=8,
)


@fuzz
@given(st.data())
def test_json_of_other_values(data: st.DataObject) -> None:
    document = dict(data.draw(st.sampled_from(documents())))
    for name in data.draw(st.lists(st.sampled_from([*document, "history"]), max_size=2)):
        document[name] = data.draw(anything)
    check_model(outcome(lambda: pg.GaussianMixture.from_json(json.dumps(document))))


@fuzz
@given(text=damaged([json.dumps(document).encode() for document in documents()]))
def test_damaged_json(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(text)
    read = outcome(lambda: pg.GaussianMixture.read_json(path))
    check_model(read)
    assert read == outcome(lambda: pg.GaussianMixture.from_json(text))


class Pickled:
    """Pickles as a model would, with other arguments."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return pg.GaussianMixture.from_json, self.args


@fuzz
@given(state=anything | damaged([json.dumps(document).encode() for document in documents()]))
def test_pickles_of_other_states(state: Any) -> None:
    check_model(outcome(lambda: pickle.loads(pickle.dumps(Pickled(state)))))


# -- numbers -------------------------------------------------------------------------------------


@fuzz
@given(st.data())
def test_fits_of_hostile_numbers(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(0, 30)), data.draw(st.sampled_from([1, 2, 2, 3, 9]))
    edges = st.sampled_from(data.draw(st.lists(number, min_size=1, max_size=4)))
    column = st.lists(st.floats(-9, 9) | edges, min_size=n, max_size=n)
    df = pl.DataFrame({f"x{j}": data.draw(column) for j in range(d)}, schema_overrides={})
    df = df.with_columns(pl.all().cast(pl.Float64))
    weight = st.sampled_from([0.0, 1.0, 1.0, 1e-12, 1e12, 5e-324, 1e308])
    weights = data.draw(st.none() | st.lists(weight, min_size=n, max_size=n))
    options: dict[str, Any] = {
        "k": data.draw(st.integers(1, 4)),
        "covariance_type": data.draw(st.sampled_from(STRUCTURES)),
        "covariance_floor": data.draw(st.sampled_from([1e-6, 1e-6, 0.0])),
        "init": data.draw(st.sampled_from(["k-means++", "k-means", "random"])),
        "max_iter": 5,
        "tol": 0,
    }
    if weights is not None:
        df = df.with_columns(w=pl.Series(weights, dtype=pl.Float64))
        options["weights"] = "w"
    model = outcome(lambda: df.gmm.fit(*[f"x{j}" for j in range(d)], **options))
    if model is None:
        return
    check_finite(model.to_struct().to_list())
    assert pg.GaussianMixture.unpack(model.pack()) == model
    scored = outcome(lambda: df.select(r=model.responsibilities(), l=model.log_density()))
    assert scored is not None
    valid = df.select(pl.all_horizontal(pl.exclude("w").is_finite())).to_series()
    if df.height:
        r = scored["r"].to_numpy()[valid.to_numpy()]
        assert np.isfinite(r).all()
        assert np.allclose(r.sum(axis=1), 1, atol=1e-9)
        assert scored["l"].filter(valid).is_finite().all()
    step = outcome(lambda: df.select(m=pl.struct(*model.features).gmm.em_step(model)))
    if step is not None:
        check_finite(step["m"].to_list())


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_options_of_any_kind_and_bytes_of_none(seed: int) -> None:
    """In an interpreter of its own, which must survive it."""
    refused = run_python(
        "import sys, fuzz_options; print(fuzz_options.run(*map(int, sys.argv[1:])))",
        str(CASES),
        str(seed),
    )
    assert int(refused) > CASES
