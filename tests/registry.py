"""One row per public expression: how to call it, on what, and what comes out.

A new expression gets a row here, and with it every test of `test_contracts.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import polars as pl

import oracle
import polars_gmm as pg
from datasets import array_column
from support import as_model

VECTOR = pl.List(pl.Float64)
MATRIX = pl.List(VECTOR)
CUBE = pl.List(MATRIX)

MODEL = pl.Struct(
    {
        "version": pl.UInt8,
        "features": pl.List(pl.String),
        "covariance_type": pl.String,
        "weights": VECTOR,
        "means": MATRIX,
        "covariances": CUBE,
        "log_likelihood": pl.Float64,
        "entropy": pl.Float64,
        "n_rows": pl.UInt64,
        "total_weight": pl.Float64,
        "n_iter": pl.UInt32,
        "converged": pl.Boolean,
    }
)
STATISTICS = pl.Struct(
    {
        "version": pl.UInt8,
        "features": pl.List(pl.String),
        "weight": VECTOR,
        "mean": MATRIX,
        "scatter": CUBE,
        "log_likelihood": pl.Float64,
        "entropy": pl.Float64,
        "n_rows": pl.UInt64,
        "total_weight": pl.Float64,
    }
)

Input = Literal["rows", "statistics", "models"]
Shape = Literal["rowwise", "column", "aggregate"]


@dataclass(frozen=True)
class Expression:
    """A public expression.

    `shape` is "rowwise" (a row in, a row out, each on its own), "column" (as many rows out as in)
    or "aggregate" (one row out). `nothing` is what an aggregate makes of no rows at all.
    """

    method: str
    reads: Input
    shape: Shape
    call: Callable[[Any, Any], pl.Expr]
    dtype: pl.DataType | type[pl.DataType]
    dtype_of_model_column: pl.DataType | type[pl.DataType] | None = None
    variant: str = ""
    takes_model: bool = False
    on_null: Literal["null", "left out", "error"] = "error"
    nothing: Literal["null", "zeros"] = "null"

    def __str__(self) -> str:
        return f"{self.method}-{self.variant}" if self.variant else self.method

    def expr(self, model: Any = None, rows: pl.Expr | None = None) -> pl.Expr:
        """The expression, named `out`, on the usual input and model unless others are given."""
        column = INPUTS[self.reads] if rows is None else rows
        return self.call(column.gmm, the_model() if model is None else model).alias("out")

    def frame(self) -> pl.DataFrame:
        """The frame it is tested on, with groups in `g`."""
        return {"rows": rows_frame, "statistics": statistics_frame, "models": models_frame}[
            self.reads
        ]()

    def expected_dtype(self, model_is_column: bool = False) -> pl.DataType | type[pl.DataType]:
        return (self.dtype_of_model_column if model_is_column else None) or self.dtype


INPUTS: dict[Input, pl.Expr] = {
    "rows": pl.struct("x", "y"),
    "statistics": pl.col("s"),
    "models": pl.col("m"),
}


@cache
def parameters() -> oracle.Parameters:
    return oracle.Parameters(
        np.array([0.5, 0.3, 0.2]),
        np.array([[-2.0, 0.0], [1.0, 2.5], [3.0, -1.0]]),
        np.array([[[1.0, 0.3], [0.3, 0.8]], [[0.7, -0.2], [-0.2, 1.2]], [[1.5, 0.0], [0.0, 0.6]]]),
    )


@cache
def the_model() -> pg.GaussianMixture:
    return as_model(parameters(), ["x", "y"])


@cache
def rows_frame(n: int = 240) -> pl.DataFrame:
    """Three groups, features x and y, weights w, responsibilities r, labels z, batches h."""
    rng = np.random.default_rng(42)
    rows, labels = oracle.draw(rng, parameters(), n)
    return pl.DataFrame(
        {
            "g": np.array(["a", "b", "c"])[np.arange(n) % 3],
            "h": np.arange(n) % 12,
            "x": rows[:, 0],
            "y": rows[:, 1],
            "w": rng.choice([0.0, 0.5, 1.0, 3.0], size=n),
            "z": labels.astype(np.uint32),
        }
    ).with_columns(array_column("r", rng.dirichlet(np.ones(3), size=n)))


@cache
def statistics_frame() -> pl.DataFrame:
    """Statistics of twelve batches, four in each group."""
    return (
        rows_frame()
        .group_by("h", maintain_order=True)
        .agg(g=pl.col("g").first(), s=INPUTS["rows"].gmm.statistics(the_model()))
    )


@cache
def models_frame() -> pl.DataFrame:
    """Models of twelve batches, four in each group."""
    fitted = INPUTS["rows"].gmm.fit(3, init=the_model(), **FIT)
    return rows_frame().group_by("h", maintain_order=True).agg(g=pl.col("g").first(), m=fitted)


FIT: dict[str, Any] = {"max_iter": 5, "tol": 0}

EXPRESSIONS = [
    Expression(
        "responsibilities",
        "rows",
        "rowwise",
        lambda x, model: x.responsibilities(model),
        dtype=pl.Array(pl.Float64, 3),
        dtype_of_model_column=VECTOR,
        takes_model=True,
        on_null="null",
    ),
    Expression(
        "responsibilities",
        "rows",
        "rowwise",
        lambda x, model: x.responsibilities(model, log=True),
        variant="log",
        dtype=pl.Array(pl.Float64, 3),
        dtype_of_model_column=VECTOR,
        takes_model=True,
        on_null="null",
    ),
    Expression(
        "predict",
        "rows",
        "rowwise",
        lambda x, model: x.predict(model),
        dtype=pl.UInt32,
        takes_model=True,
        on_null="null",
    ),
    Expression(
        "log_density",
        "rows",
        "rowwise",
        lambda x, model: x.log_density(model),
        dtype=pl.Float64,
        takes_model=True,
        on_null="null",
    ),
    Expression(
        "statistics",
        "rows",
        "aggregate",
        lambda x, model: x.statistics(model),
        dtype=STATISTICS,
        takes_model=True,
        on_null="left out",
        nothing="zeros",
    ),
    Expression(
        "statistics",
        "rows",
        "aggregate",
        lambda x, model: x.statistics(model, weights="w"),
        variant="weighted",
        dtype=STATISTICS,
        takes_model=True,
        on_null="left out",
        nothing="zeros",
    ),
    Expression(
        "em_step",
        "rows",
        "aggregate",
        lambda x, model: x.em_step(model),
        dtype=MODEL,
        takes_model=True,
        on_null="left out",
    ),
    Expression(
        "em_step",
        "rows",
        "aggregate",
        lambda x, model: x.em_step(model, weights=pl.col("w")),
        variant="weighted",
        dtype=MODEL,
        takes_model=True,
        on_null="left out",
    ),
    Expression(
        "m_step",
        "rows",
        "aggregate",
        lambda x, _: x.m_step("r"),
        dtype=MODEL,
    ),
    Expression(
        "m_step",
        "rows",
        "aggregate",
        lambda x, _: x.m_step("r", weights="w", covariance_type="diag"),
        variant="weighted",
        dtype=MODEL,
    ),
    Expression(
        "fit",
        "rows",
        "aggregate",
        lambda x, _: x.fit(3, **FIT),
        dtype=MODEL,
    ),
    Expression(
        "fit",
        "rows",
        "aggregate",
        lambda x, _: x.fit(3, weights="w", init="random", covariance_type="tied", **FIT),
        variant="weighted",
        dtype=MODEL,
    ),
    Expression(
        "fit",
        "rows",
        "aggregate",
        lambda x, _: x.fit(3, init=pl.col("z"), **FIT),
        variant="labels",
        dtype=MODEL,
    ),
    Expression(
        "fit",
        "rows",
        "aggregate",
        lambda x, _: x.fit([3, 2], criterion="aic", **FIT),
        variant="best",
        dtype=MODEL,
    ),
    Expression(
        "fit_predict",
        "rows",
        "column",
        lambda x, _: x.fit_predict(3, **FIT),
        dtype=pl.UInt32,
    ),
    Expression(
        "fit_predict",
        "rows",
        "column",
        lambda x, _: x.fit_predict(3, weights="w", init=pl.col("r"), **FIT),
        variant="weighted",
        dtype=pl.UInt32,
    ),
    Expression(
        "merge",
        "statistics",
        "aggregate",
        lambda x, _: x.merge(),
        dtype=STATISTICS,
    ),
    Expression(
        "maximize",
        "statistics",
        "rowwise",
        lambda x, _: x.maximize(),
        dtype=MODEL,
        on_null="null",
    ),
    Expression(
        "maximize",
        "statistics",
        "rowwise",
        lambda x, _: x.maximize(covariance_type="spherical", covariance_floor=0.5),
        variant="spherical",
        dtype=MODEL,
        on_null="null",
    ),
    Expression(
        "pack",
        "models",
        "rowwise",
        lambda x, _: x.pack(),
        dtype=pl.Binary,
        on_null="null",
    ),
]

ON_MODELS: dict[str, Any] = {
    "unpack": MODEL,
    "components": pl.List(
        pl.Struct(
            {"component": pl.UInt32, "weight": pl.Float64, "mean": VECTOR, "covariance": MATRIX}
        )
    ),
    "bic": pl.Float64,
    "aic": pl.Float64,
    "icl": pl.Float64,
}
EXPRESSIONS += [
    Expression(
        method,
        "models",
        "rowwise",
        lambda x, _, method=method: getattr(x, method)(),  # type: ignore[misc]
        dtype=dtype,
        on_null="null",
    )
    for method, dtype in ON_MODELS.items()
]

ON_ROWS = [e for e in EXPRESSIONS if e.reads == "rows"]
SCORING = [e for e in ON_ROWS if e.shape == "rowwise"]
ROWWISE = [e for e in EXPRESSIONS if e.shape == "rowwise"]
AGGREGATES = [e for e in EXPRESSIONS if e.shape == "aggregate"]
TAKING_A_MODEL = [e for e in EXPRESSIONS if e.takes_model]
