"""The course of a fit: a row per evaluation of the log-likelihood."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from polars_gmm._checks import shown
from polars_gmm._errors import GmmError

if TYPE_CHECKING:
    from collections.abc import Iterable

_SCHEMA = pl.Schema(
    {
        "iteration": pl.UInt32,
        "log_likelihood": pl.Float64,
        "change": pl.Float64,
        "seconds": pl.Float64,
    }
)


def history_frame(evaluations: Iterable[tuple[int, float, float, float]]) -> pl.DataFrame:
    """Tabulate evaluations; the start has no change."""
    rows = [
        (iteration, log_likelihood, change if math.isfinite(change) else None, seconds)
        for iteration, log_likelihood, change, seconds in evaluations
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def to_columns(history: pl.DataFrame) -> dict[str, list[Any]]:
    """Give the table as lists by column, for JSON."""
    return history.to_dict(as_series=False)


def from_columns(columns: Any) -> pl.DataFrame:
    """Read what `to_columns` wrote."""
    expected = f"the history in a model's JSON must be lists named {_SCHEMA.names()}"
    if not isinstance(columns, dict) or columns.keys() != _SCHEMA.keys():
        raise GmmError(f"{expected}; got {shown(columns)}")
    if not all(isinstance(column, list) for column in columns.values()):
        raise GmmError(f"{expected}; got {shown(columns)}")
    try:
        history = pl.DataFrame(columns, schema=_SCHEMA)
        _check(history)
        return history
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise GmmError(f"{expected}: {error}") from error


def _check(history: pl.DataFrame) -> None:
    """Refuse what no fit writes: only the change of the start is unknown, iterations go up."""
    iteration = history["iteration"].cast(pl.Int64)
    if any(history[name].has_nulls() for name in ("iteration", "log_likelihood", "seconds")):
        raise ValueError("only change may be null")
    if not all(history[name].drop_nulls().is_finite().all() for name in history.columns[1:]):
        raise ValueError("every figure must be finite")
    if not (iteration.diff().drop_nulls() > 0).all():
        raise ValueError("iteration must go up")
