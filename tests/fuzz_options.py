"""Calls of the compiled functions with options of any kind, for an interpreter of its own."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from polars.plugins import register_plugin_function

import polars_gmm as pg
from polars_gmm import _lib

LIBRARY = Path(pg.__file__).parent
MODEL = pg.GaussianMixture([1.0], [[0.0, 1.0]], [[[1.0, 0.0], [0.0, 1.0]]], features=["x", "y"])
PACKED = MODEL.pack()
XY = pl.struct("x", "y")
FRAME = pl.DataFrame(
    {"x": [0.5, 1.0, 4.0, 3.0], "y": [1.0, 2.0, 0.0, 7.0], "w": [1.0, 2.0, 0.0, 1.0]}
).with_columns(m=pl.lit(PACKED), s=MODEL.to_struct().first(), r=pl.concat_list("x", "y"))
COLUMNS = [
    XY,
    pl.struct(XY, pl.col("w").alias("polars_gmm:weight")),
    *map(pl.col, ["x", "m", "s", "r"]),
    pl.lit(None),
    pl.lit("x"),
]

OPTIONS: dict[str, Any] = {
    "k": 1,
    "covariance_type": "full",
    "init": "k-means++",
    "start": None,
    "n_init": None,
    "max_iter": 3,
    "tol": 0.0,
    "covariance_floor": 1e-6,
    "nulls": "raise",
    "seed": 0,
}
SCORING: dict[str, Any] = {"extras": [], "model": PACKED}
STEPPING: dict[str, Any] = {"extras": [], "covariance_type": "full", "covariance_floor": 1e-6}
FITTING: dict[str, Any] = {"extras": [], "options": OPTIONS}
CALLS: dict[str, dict[str, Any]] = {
    "responsibilities": {**SCORING, "log": True},
    "predict": SCORING,
    "log_density": SCORING,
    "statistics": SCORING,
    "em_step": {**SCORING, "covariance_floor": 0.0},
    "m_step": STEPPING,
    "maximize": STEPPING,
    "fit": {**FITTING, "on_failure": "null"},
    "fit_predict": FITTING,
    "merge": {},
    "pack": {},
}


def deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def damaged(data: bytes) -> bytes:
    spoiled = bytearray(data)
    for _ in range(random.randint(1, 3)):
        at = random.randint(0, len(spoiled))
        cut = random.choice([0, 1, 1, 3, 500])
        spoiled[at : at + cut] = random.randbytes(random.randint(0, 6))
    return bytes(spoiled)


STRANGE: list[Any] = [
    *[None, True, -1, 0, 2, 10**6, 2**31, 2**62, 2**63, 2**64, -(10**40)],
    *[0.5, -0.0, math.nan, math.inf, 1e308],
    *["", "x", "full", "model", "column", "k-means", "null", "drop", b"", b"pgmm", PACKED],
    *[[], ["weight"], ["weight", "weight"], ["start"], ["\0"], [1], {}, {"x": 1}, (1, 2), {1}],
    deep(200),
]


def strange() -> Any:
    return damaged(PACKED) if random.random() < 0.1 else random.choice(STRANGE)


def changed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Options of which some are left out, added or replaced, also within options."""
    kwargs = {
        name: changed(value) if isinstance(value, dict) else value for name, value in kwargs.items()
    }
    for _ in range(random.choice([0, 1, 1, 2])):
        name = random.choice([*kwargs, "other"])
        if random.random() < 0.2:
            kwargs.pop(name, None)
        else:
            value = strange()
            # A fit that is asked for so many steps takes them.
            endless = name in {"max_iter", "n_init"} and value in [10**6, 2**31]
            kwargs[name] = 7 if endless else value
    return kwargs


def is_refused(work: Callable[[], Any]) -> bool:
    try:
        work()
    except (pg.GmmError, pl.exceptions.ComputeError) as error:
        if "panicked" in str(error):
            raise
        return True
    return False


def call(function: str, kwargs: dict[str, Any]) -> bool:
    """Call a function on any columns; whether that was refused."""
    weights = [5, 2] + [1] * (len(COLUMNS) - 2)
    expr = register_plugin_function(
        plugin_path=LIBRARY,
        function_name=function,
        args=random.choices(COLUMNS, weights=weights, k=random.choice([1, 1, 2, 3])),
        kwargs=changed(kwargs),
        is_elementwise=random.random() < 0.5,
        returns_scalar=random.random() < 0.2,
    )
    engine: Any = random.choice(["in-memory", "streaming"])
    return is_refused(lambda: FRAME.lazy().select(out=expr).collect(engine=engine))


def run(cases: int, seed: int) -> int:
    """Call everything so many times; how many calls were refused."""
    random.seed(seed)
    refused = 0
    for _ in range(cases):
        refused += sum(call(function, kwargs) for function, kwargs in CALLS.items())
        spoiled = [damaged(pickle.dumps(OPTIONS)), pickle.dumps(changed(OPTIONS))]
        for data in (*spoiled, random.randbytes(30)):
            refused += is_refused(lambda data=data: _lib.check_options(data))
        series = FRAME.select(random.choice(COLUMNS).alias("x")).to_series()
        for data in (damaged(pickle.dumps(FITTING)), pickle.dumps(changed(FITTING))):
            refused += is_refused(lambda s=series, data=data: _lib.Fitter(s, data).run(2))
    return refused
