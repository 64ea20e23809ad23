"""Every dtype, in every role: numbers of any width read alike to the bit, the rest refused.

A dtype that a compiled expression cannot hold may end the interpreter. So what must be refused is
tried in one fresh interpreter for each engine, which says what it is about to try.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import polars_gmm as pg
from support import ComputeError, bits

ENGINES = ("in-memory", "streaming")
engines = pytest.mark.parametrize("engine", ENGINES)

# Numbers

INTEGERS = [
    getattr(pl, f"{sign}Int{width}") for sign in ("", "U") for width in (8, 16, 32, 64, 128)
]
FLOATS = [pl.Float16, pl.Float32, pl.Float64]
DECIMALS = [
    pl.Decimal(precision, scale)
    for precision, scale in [(3, 0), (9, 2), (18, 9), (18, 18), (38, 0), (38, 10), (38, 37)]
]
NUMBERS: list[Any] = [*INTEGERS, *FLOATS, pl.Boolean, *DECIMALS]
numbers = pytest.mark.parametrize("dtype", NUMBERS, ids=str)


def extremes(dtype: Any) -> list[Any]:
    """The largest and smallest numbers of a dtype, and some between that need all its digits."""
    if dtype == pl.Boolean:
        return [True, False]
    if dtype.is_integer():
        width = int(str(dtype).removeprefix("U").removeprefix("Int"))
        signed = dtype.is_signed_integer()
        largest = 2 ** (width - signed) - 1
        return [largest, largest // 3, largest // 7, -largest - 1 if signed else 0]
    if dtype.is_float():
        exact = {pl.Float16: np.float16, pl.Float32: np.float32, pl.Float64: np.float64}[dtype]
        return [float(exact(x)) for x in (0.1, -1 / 3, 60000.0, 1e-7)]
    digits = 10**dtype.precision - 1
    unscaled = [digits, -digits, digits // 3, digits // 7 + 2, min(digits, 2**54 + 3), 1]
    return [Decimal(f"{x}e-{dtype.scale}") for x in unscaled]


def small(dtype: Any) -> list[Any]:
    """Small numbers, the same in all dtypes that hold them."""
    halves = [1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1]
    if dtype == pl.Boolean:
        return [x == 1 for x in halves]
    if isinstance(dtype, pl.Decimal):
        whole = dtype.precision > dtype.scale
        return [Decimal(x) if whole else Decimal(x) / 2 for x in halves]
    return [3, 0, 1, 2, 7, 5, 1, 4, 2, 9, 6, 8]


def typed(name: str, values: list[Any], dtype: Any) -> pl.Series:
    series = pl.Series(name, values, dtype=dtype, strict=True)
    assert series.dtype == dtype
    return series


def both(values: dict[str, list[Any]], dtype: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Columns of a dtype, and the same values as Python rounds them to Float64."""
    narrow = pl.DataFrame([typed(name, column, dtype) for name, column in values.items()])
    wide = pl.DataFrame({name: [float(x) for x in column] for name, column in values.items()})
    return narrow, wide


def without_features(df: pl.DataFrame) -> str:
    """All bits but the names of features, which say whether a feature has a name or a position."""
    parts = [
        column.struct.unnest().drop("features") if isinstance(column.dtype, pl.Struct) else column
        for column in df
    ]
    return "\n".join(map(bits, parts))


def model(d: int) -> pg.GaussianMixture:
    return pg.GaussianMixture(
        [0.25, 0.75],
        np.arange(2.0 * d).reshape(2, d),
        [np.eye(d), 4 * np.eye(d)],
        features=["a", "b"][:d],
    )


def everything(rows: pl.Expr, d: int) -> list[pl.Expr]:
    x, it = rows.gmm, model(d)
    return [
        x.responsibilities(it).alias("r"),
        x.responsibilities(it, log=True).alias("l"),
        x.predict(it).alias("z"),
        x.log_density(it).alias("p"),
        x.statistics(it).alias("s"),
        x.em_step(it).alias("e"),
        x.fit(2, max_iter=3, tol=0).alias("f"),
        x.fit_predict(2, max_iter=3, tol=0).alias("y"),
    ]


def as_array(*names: str) -> pl.Expr:
    """Columns side by side as an Array: `concat_arr` fails for Decimals before Polars 1.38."""
    return pl.concat_list(*names).list.to_array(len(names))


LAYOUTS: dict[str, tuple[int, Callable[[], pl.Expr]]] = {
    "struct": (2, lambda: pl.struct("a", "b")),
    "plain": (1, lambda: pl.col("a")),
    "Array": (2, lambda: as_array("a", "b")),
    "List": (2, lambda: pl.concat_list("a", "b")),
}


@numbers
@engines
@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_features_give_equal_bits(dtype: Any, engine: Any, layout: str) -> None:
    values = small(dtype)
    narrow, wide = both({"a": values, "b": values[::-1]}, dtype)
    d, rows = LAYOUTS[layout]
    of_narrow, of_wide = (
        df.lazy().select(everything(rows(), d)).collect(engine=engine) for df in (narrow, wide)
    )
    assert without_features(of_narrow) == without_features(of_wide)


@numbers
@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_number_is_rounded_once(dtype: Any, layout: str) -> None:
    values = extremes(dtype)
    narrow, wide = both({"a": values, "b": values[::-1]}, dtype)
    d, rows = LAYOUTS[layout]
    density = rows().gmm.log_density(model(d))
    assert bits(narrow.select(density)) == bits(wide.select(density))
    assert wide.select(density).to_series().is_finite().all()


@numbers
def test_weights_and_labels_of_any_number(dtype: Any) -> None:
    values = small(dtype)
    narrow, wide = both({"w": values}, dtype)
    holds_one = not isinstance(dtype, pl.Decimal) or dtype.precision > dtype.scale
    labels, wide_labels = both(
        {"z": [type(values[0])(i % 2) for i in range(12)]}, dtype if holds_one else pl.Decimal(1, 0)
    )
    narrow, wide = narrow.hstack(labels), wide.hstack(wide_labels)
    rows = pl.DataFrame({"a": np.sin(np.arange(12.0)), "b": np.cos(3 * np.arange(12.0))})
    x = pl.struct("a", "b").gmm
    exprs = [
        x.statistics(model(2), weights="w").alias("s"),
        x.em_step(model(2), weights="w").alias("e"),
        x.fit(2, weights="w", max_iter=3, tol=0).alias("f"),
        x.fit(2, init=pl.col("z"), max_iter=3, tol=0).alias("i"),
        x.fit_predict(2, init=pl.col("z"), weights="w", max_iter=3, tol=0).alias("y"),
    ]
    of_narrow, of_wide = (rows.hstack(df).select(exprs) for df in (narrow, wide))
    assert bits(of_narrow) == bits(of_wide)
    fitted = [
        rows.hstack(df).gmm.fit("a", "b", k=2, weights="w", init=pl.col("z"), max_iter=3, tol=0)
        for df in (narrow, wide)
    ]
    assert fitted[0] == fitted[1]
    counted = rows.with_columns(z=pl.Series([i % 2 for i in range(12)], dtype=pl.UInt32))
    again = counted.select(x.fit(2, init=pl.col("z"), max_iter=3, tol=0).alias("i"))
    assert bits(again) == bits(of_wide.select("i").head(1))


@numbers
@pytest.mark.parametrize("layout", ["Array", "List"])
def test_responsibilities_of_any_number(dtype: Any, layout: str) -> None:
    values = small(dtype)
    narrow, wide = both({"u": values, "v": values[::-1]}, dtype)
    pack = as_array if layout == "Array" else pl.concat_list
    rows = pl.DataFrame({"a": np.sin(np.arange(12.0)), "b": np.cos(3 * np.arange(12.0))})
    x = pl.struct("a", "b").gmm
    exprs = [x.m_step("r").alias("m"), x.fit(2, init=pl.col("r"), max_iter=3, tol=0).alias("f")]
    of_narrow, of_wide = (
        rows.with_columns(df.select(r=pack("u", "v"))["r"]).select(exprs) for df in (narrow, wide)
    )
    assert bits(of_narrow) == bits(of_wide)


# What holds no numbers


class Thing:
    """A Python object."""


@cache
def extension() -> pl.Series:
    class Metres(pl.BaseExtension):
        def __init__(self) -> None:
            super().__init__("test.metres", pl.Float64, None)

        @classmethod
        def ext_from_params(cls, *_: Any) -> Any:
            return cls()

    pl.register_extension_type("test.metres", Metres)
    return pl.Series([1.0, 2.0, 3.0]).ext.to(Metres())


NOON = datetime(2024, 4, 22, 12)
# How each is made, and how a message writes its dtype.
REFUSED: dict[str, tuple[Callable[[], pl.Series], str]] = {
    "String": (lambda: pl.Series(["a", "b", "a"]), "str"),
    "Categorical": (lambda: pl.Series(["a", "b", "a"], dtype=pl.Categorical), "cat"),
    "Enum": (lambda: pl.Series(["a", "b", "a"], dtype=pl.Enum(["a", "b"])), "enum"),
    "Date": (lambda: pl.Series([date(2024, 4, 22)] * 3), "date"),
    "Datetime": (lambda: pl.Series([NOON] * 3), "datetime[μs]"),
    "Datetime with zone": (
        lambda: pl.Series([NOON.replace(tzinfo=timezone.utc)] * 3),
        "datetime[μs, UTC]",
    ),
    "Duration": (lambda: pl.Series([timedelta(days=1)] * 3), "duration[μs]"),
    "Time": (lambda: pl.Series([time(12)] * 3), "time"),
    "Binary": (lambda: pl.Series([b"a", b"b", b"a"]), "binary"),
    "Null": (lambda: pl.Series([None] * 3), "null"),
    "nested struct": (lambda: pl.Series([{"a": {"b": 1.0}}] * 3), "struct[1]"),
    "List of List": (lambda: pl.Series([[[1.0]], [[2.0]], [[3.0]]]), "list[list[f64]]"),
    "Array of Array": (
        lambda: pl.Series([[[1.0]]] * 3, dtype=pl.Array(pl.Array(pl.Float64, 1), 1)),
        "array[f64, (1, 1)]",
    ),
    "List of String": (lambda: pl.Series([["a"]] * 3), "list[str]"),
    "Array of Struct": (
        lambda: pl.Series([[{"a": 1.0}]] * 3, dtype=pl.Array(pl.Struct({"a": pl.Float64}), 1)),
        "array[struct[1], 1]",
    ),
    "Object": (lambda: pl.Series([Thing(), Thing(), Thing()], dtype=pl.Object), "Object"),
    "extension": (extension, "test.metres"),
}


def expressions(x: Any) -> dict[str, pl.Expr]:
    """Every expression of rows."""
    return {
        "responsibilities": x.responsibilities(model(1)),
        "predict": x.predict(model(1)),
        "log_density": x.log_density(model(1)),
        "statistics": x.statistics(model(1)),
        "em_step": x.em_step(model(1)),
        "m_step": x.m_step("r"),
        "fit": x.fit(2),
        "fit_predict": x.fit_predict(2, on_failure="null"),
    }


def uses(role: str) -> dict[str, pl.Expr]:
    """The expressions that meet the column `bad` in a role."""
    x, bad = pl.col("x").gmm, pl.col("bad")
    return {
        "a feature": lambda: expressions(bad.gmm),
        "a field": lambda: expressions(pl.struct(a="bad").gmm),
        "elements of a List": lambda: expressions(pl.concat_list("bad").gmm),
        "elements of an Array": lambda: expressions(as_array("bad").gmm),
        "weights": lambda: {
            "statistics": x.statistics(model(1), weights="bad"),
            "em_step": x.em_step(model(1), weights=bad),
            "m_step": x.m_step("r", weights="bad"),
            "fit": x.fit(2, weights="bad"),
            "fit_predict": x.fit_predict(2, weights="bad", on_failure="null"),
        },
        "responsibilities": lambda: {"m_step": x.m_step("bad")},
        "labels": lambda: {
            "fit": x.fit(2, init=bad),
            "fit_predict": x.fit_predict(2, init=bad, on_failure="null"),
        },
        "a model": lambda: {
            "predict": x.predict("bad"),
            "statistics": x.statistics(bad),
            "pack": bad.gmm.pack(),
        },
        "statistics": lambda: {"merge": bad.gmm.merge(), "maximize": bad.gmm.maximize()},
    }[role]()


ROLES = (
    "a feature",
    "a field",
    "elements of a List",
    "elements of an Array",
    "weights",
    "responsibilities",
    "labels",
    "a model",
    "statistics",
)
ELEMENTS = ("elements of a List", "elements of an Array")
OPAQUE = {
    "Object": 'column "bad" has dtype Object, which no mixture can read; '
    "cast it to numbers or leave it out",
    "extension": 'column "bad" has the extension dtype "test.metres", which no mixture can read; '
    "give what it stores, with .ext.storage(), or leave it out",
}


def sentence(role: str, name: str) -> str | None:
    """What is said of a dtype in a role; None where the dtype is right."""
    if name in OPAQUE:
        return OPAQUE[name].replace("bad", "a") if role == "a field" else OPAQUE[name]
    dtype = REFUSED[name][1]
    if role == "a field" or (role == "a feature" and name == "nested struct"):
        return (
            f'feature "a" must be numeric, but it has dtype {dtype}; '
            f"cast it to a number or leave it out"
        )
    if role == "a feature" or role in ELEMENTS:
        dtype = {ELEMENTS[0]: f"list[{dtype}]", ELEMENTS[1]: f"array[{dtype}, 1]"}.get(role, dtype)
        return (
            f"features must be a struct of numeric fields, an Array or List of numbers, or one "
            f'numeric column, but column "bad" has dtype {dtype}; '
            f"select or cast the numeric columns first"
        )
    if role == "weights":
        return (
            f'weights "bad" must be numeric, but their column has dtype {dtype}; '
            f"cast it to a number"
        )
    if role == "responsibilities":
        return (
            f'responsibilities "bad" must be a List or Array column of numbers, as '
            f"responsibilities(model) makes, but their column has dtype {dtype}; give such a column"
        )
    if role == "labels":
        return (
            f'init "bad" must be a column of integer labels or of responsibilities (List or Array '
            f"of k numbers), but it has dtype {dtype}; map it to labels 0 .. k-1"
        )
    if role == "statistics":
        return (
            f'statistics must be a struct with field "version", but column "bad" has dtype '
            f"{dtype}; it is made by statistics or merge"
        )
    if name in {"Null", "Binary"}:
        return None
    if name == "nested struct":
        return (
            f'a model must be a struct with field "version", but column "bad" has dtype {dtype}; '
            f"it is made by fit, m_step, em_step or maximize"
        )
    return (
        f"a model must be a struct made by fit, m_step or maximize, or its packed Binary, but "
        f'column "bad" has dtype {dtype}; give a GaussianMixture, such a column, or its name'
    )


def cases() -> list[tuple[str, str]]:
    """Roles and dtypes that do not go together. Polars makes no List of Object and extensions."""
    return [
        (role, name)
        for role in ROLES
        for name in REFUSED
        if sentence(role, name) is not None
        and not (role in ELEMENTS and (name in OPAQUE or " of " in name))
    ]


def outcome(run: Callable[[], Any]) -> str:
    """How a call ends: the kind of error and its first sentence."""
    try:
        run()
    except ComputeError as error:
        return (
            "ComputeError: "
            + str(error).removeprefix("the plugin failed with message: ").split("\n")[0]
        )
    except pg.GmmError as error:
        return f"GmmError: {error}"
    except BaseException as error:  # a panic is one
        return f"{type(error).__name__}: {error}"
    return "no error"


def frame_calls(frame: Any, role: str) -> dict[str, Callable[[], Any]]:
    fit = {
        "a feature": lambda: frame.gmm.fit("bad", k=2),
        "a field": lambda: frame.gmm.fit(pl.col("bad").alias("a"), "x", k=2),
        "weights": lambda: frame.gmm.fit("x", k=2, weights="bad"),
        "labels": lambda: frame.gmm.fit("x", k=2, init=pl.col("bad")),
    }.get(role)
    return {} if fit is None else {"frame": fit}


def try_everything(engine: Any) -> None:
    """Print each case before it is tried, and how it ends."""
    for role, name in cases():
        df = pl.DataFrame(
            {"x": [0.0, 1.0, 2.0], "r": pl.Series([[0.5, 0.5]] * 3, dtype=pl.Array(pl.Float64, 2))}
        ).with_columns(REFUSED[name][0]().alias("bad"))
        print(json.dumps([role, name]), flush=True)
        ends = {}
        for method, expr in uses(role).items():
            query = df.lazy().select(expr)
            if engine == "in-memory":
                ends[method] = outcome(lambda expr=expr, df=df: df.select(expr))
                ends[f"{method} of groups"] = outcome(
                    lambda expr=expr, df=df: df.group_by(pl.col("x") > 1).agg(expr)
                )
            ends[f"lazy {method}"] = outcome(lambda query=query: query.collect(engine=engine))
            ends[f"schema of {method}"] = outcome(query.collect_schema)
        frame = df if engine == "in-memory" else df.lazy()
        ends.update({method: outcome(call) for method, call in frame_calls(frame, role).items()})
        print(json.dumps(ends), flush=True)


@cache
def outcomes(engine: str) -> dict[tuple[str, str], dict[str, str]]:
    """What a fresh interpreter says of each case, or the exit code with which it ended there."""
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, test_dtypes; test_dtypes.try_everything(sys.argv[1])",
            engine,
        ],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    ends = {(role, name): end for (role, name), end in zip(lines[::2], lines[1::2], strict=False)}
    if run.returncode != 0:
        role, name = lines[-1] if len(lines) % 2 else ("", "")
        ends[role, name] = {"interpreter": f"exit code {run.returncode}: {run.stderr}"}
    return ends


@engines
@pytest.mark.parametrize(("role", "name"), cases(), ids=str)
def test_what_holds_no_numbers_is_refused_in_words(role: str, name: str, engine: str) -> None:
    ends = outcomes(engine)[role, name]
    assert ends
    expected = sentence(role, name)
    for method, end in ends.items():
        kind = "GmmError" if method == "frame" else "ComputeError"
        if method == "frame" and role == "a feature" and name == "nested struct":
            assert 'feature "a" must be numeric' in end
        else:
            assert end == f"{kind}: {expected}", method


@engines
def test_no_interpreter_ends_early(engine: str) -> None:
    assert set(outcomes(engine)) == set(cases())


def test_a_null_model_scores_null_and_bytes_are_read() -> None:
    df = pl.DataFrame({"x": [0.0, 1.0], "n": [None, None], "b": [b"a", b"b"]})
    assert df.select(pl.col("x").gmm.predict("n")).to_series().to_list() == [None, None]
    assert outcome(lambda: df.select(pl.col("x").gmm.predict("b"))) == (
        'ComputeError: column "b" in row 0 of a batch of 2 rows: this is not a Gaussian mixture: '
        "the bytes do not begin as a packed model does; "
        "give what GaussianMixture.pack, to_json or to_struct made"
    )


@pytest.mark.parametrize("name", REFUSED)
def test_no_other_dtype_is_a_model(name: str) -> None:
    for column in (REFUSED[name][0]().head(1), REFUSED[name][0]()):
        with pytest.raises(pg.GmmError) as refused:
            pg.GaussianMixture.from_struct(column)
        assert "panic" not in str(refused.value)
        assert "model" in str(refused.value) or "mixture" in str(refused.value)


@pytest.mark.parametrize("field", ["weights", "another"])
def test_no_extension_dtype_is_part_of_a_model(field: str) -> None:
    fields = model(1).to_struct().struct.unnest()
    value = fields.with_columns(extension().head(1).alias(field)).to_struct("model")
    with pytest.raises(pg.GmmError, match="must hold no extension dtype"):
        pg.GaussianMixture.from_struct(value)
