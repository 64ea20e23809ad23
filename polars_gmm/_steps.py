"""One step of EM on the columns of a DataFrame; those that are named go over as they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

import polars as pl

from polars_gmm import _lib
from polars_gmm._checks import real, shown, text
from polars_gmm._errors import GmmError, frame_errors
from polars_gmm._features import FeatureSpec, columns_of, select_rows
from polars_gmm._model import GaussianMixture, compiled, wrap
from polars_gmm._options import column
from polars_gmm._plugin import in_role, role_name

# Those of the features, and others by their roles.
Columns: TypeAlias = tuple[list[pl.Series], list[tuple[str, pl.Series]]]
ColumnSpec: TypeAlias = str | pl.Expr


def em_step(
    frame: pl.DataFrame,
    model: GaussianMixture,
    *,
    weights: ColumnSpec | None,
    covariance_floor: float,
) -> GaussianMixture:
    """Give the model after an E-step under `model` and an M-step."""
    if not isinstance(model, GaussianMixture):
        raise GmmError(
            f"model must be a GaussianMixture; got {shown(model)}; a column of models is taken by "
            f"the expression em_step"
        )
    floor = real("covariance_floor", covariance_floor)
    features, extras = _columns(frame, columns_of(model.features), weights=weights)
    return wrap(_lib.em_step(features, extras, compiled(model), floor))


def m_step(
    frame: pl.DataFrame,
    features: Sequence[FeatureSpec],
    *,
    responsibilities: ColumnSpec,
    weights: ColumnSpec | None,
    covariance_type: str,
    covariance_floor: float,
) -> GaussianMixture:
    """Give the model of given responsibilities."""
    kind = text("covariance_type", covariance_type)
    floor = real("covariance_floor", covariance_floor)
    columns, extras = _columns(frame, features, weights=weights, responsibilities=responsibilities)
    return wrap(_lib.m_step(columns, extras, kind, floor))


_ROLES = {"weights": "weight", "responsibilities": "responsibility"}


def _columns(
    frame: pl.DataFrame, features: Sequence[FeatureSpec], **options: ColumnSpec | None
) -> Columns:
    given = {name: spec for name, spec in options.items() if spec is not None}
    # What there is not is said better by a query.
    with suppress(pl.exceptions.ColumnNotFoundError):
        found = _as_they_lie(frame, features, given)
        if found is not None:
            return found
    beside = {name: column(name, spec) for name, spec in given.items()}
    rows = select_rows(frame.lazy(), features, besides=beside)
    exprs = [rows, *(in_role(_ROLES[name], expr) for name, expr in beside.items())]
    with frame_errors(frame.schema, exprs):
        first, *others = frame.select(exprs).get_columns()
    return [first], [(_ROLES[name], series) for name, series in zip(beside, others, strict=True)]


def _as_they_lie(
    frame: pl.DataFrame, features: Sequence[FeatureSpec], given: Mapping[str, ColumnSpec]
) -> Columns | None:
    """Give columns that are all known by their names."""
    extras = []
    for option, name in given.items():
        if not isinstance(name, str):
            return None
        role = _ROLES[option]
        extras.append((role, frame.get_column(name).alias(role_name(role, name))))
    rows = [frame.get_column(name) for name in features if isinstance(name, str)]
    different = {series.name for series in rows}
    return (rows, extras) if rows and len(different) == len(features) else None
