"""Scores of rows under a model: the E-step as expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polars_gmm._checks import boolean
from polars_gmm._plugin import call_with_model

if TYPE_CHECKING:
    import polars as pl


def responsibilities(rows: pl.Expr, model: bytes | pl.Expr, *, log: bool = False) -> pl.Expr:
    """r_ik = w_k N(x_i | mu_k, Sigma_k) / sum_j w_j N(x_i | mu_j, Sigma_j), or its logarithm."""
    return _score("responsibilities", rows, model, log=boolean("log", log))


def predict(rows: pl.Expr, model: bytes | pl.Expr) -> pl.Expr:
    """argmax_k r_ik."""
    return _score("predict", rows, model)


def log_density(rows: pl.Expr, model: bytes | pl.Expr) -> pl.Expr:
    """Log p(x_i) = log sum_k w_k N(x_i | mu_k, Sigma_k)."""
    return _score("log_density", rows, model)


def _score(function: str, rows: pl.Expr, model: bytes | pl.Expr, **options: bool) -> pl.Expr:
    return call_with_model(
        function, rows, model, kwargs={"extras": [], **options}, elementwise=True
    )
