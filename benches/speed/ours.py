"""What this package is asked to do, by its public expressions and calls, Polars' share included."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import polars as pl

import polars_gmm as pg
from data import Data

# More than the package keeps factorised.
MODELS = 10


def em_step(data: Data) -> Callable[[], pl.DataFrame]:
    """One E-step and M-step, each time from a model not seen before, as in a fit."""
    expressions = cycle([data.features.gmm.em_step(m) for m in data.models(MODELS)])
    return lambda: data.frame.select(next(expressions))


def em_step_called(data: Data) -> Callable[[], pg.GaussianMixture]:
    """The same by the method of the frame, which makes no query."""
    models = cycle(data.models(MODELS))
    return lambda: data.frame.gmm.em_step(next(models))


def m_step(data: Data) -> tuple[Callable[[], pl.DataFrame], pl.Series]:
    """The M-step from a column of responsibilities, and that column."""
    column = data.frame.select(data.features.gmm.responsibilities(data.model)).to_series()
    rows = data.frame.with_columns(r=column)
    expression = data.features.gmm.m_step("r")
    return lambda: rows.select(expression), column


def m_step_called(data: Data, column: pl.Series) -> Callable[[], pg.GaussianMixture]:
    """The same by the method of the frame, which makes no query."""
    rows, names = data.frame.with_columns(r=column), data.model.features
    return lambda: rows.gmm.m_step(*names, responsibilities="r")
