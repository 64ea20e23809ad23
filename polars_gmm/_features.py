"""Feature names to expressions, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, TypeAlias

import polars as pl
from polars import selectors

from polars_gmm._errors import GmmError, abbreviated, frame_errors
from polars_gmm._versions import POLARS, SELECTS_EXACT_NAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FeatureSpec: TypeAlias = str | pl.Expr | Iterable[str | pl.Expr]


def named(name: str) -> pl.Expr:
    """Give the column of exactly this name, also where `pl.col` would read a pattern."""
    if name != "*" and not (name.startswith("^") and name.endswith("$")):
        return pl.col(name)
    if POLARS >= SELECTS_EXACT_NAMES:
        return selectors.by_name(name).as_expr()
    return pl.Expr.deserialize(StringIO(json.dumps({"Column": name})), format="json")


def rows_of(features: Sequence[str]) -> pl.Expr:
    """Give the column a model with these features reads.

    ``["emb[0]", "emb[1]"]`` are the positions of an Array or List column ``emb``; one name is a
    numeric column; several are the fields of a struct.
    """
    columns = [named(name) for name in columns_of(features)]
    return columns[0] if len(columns) == 1 else pl.struct(columns)


def columns_of(features: Sequence[str]) -> list[str]:
    """Give the names of the columns that `rows_of` reads."""
    name = _positional(features)
    return list(features) if name is None else [name]


def frame_of(features: Sequence[str], values: NDArray[np.float64]) -> pl.DataFrame:
    """Lay values of shape (n, d) out as the columns that `rows_of` reads."""
    name = _positional(features)
    if name is not None:
        return pl.DataFrame({name: pl.Series(values)})
    return pl.DataFrame(values, schema=list(features), orient="row")


def select_rows(
    frame: pl.LazyFrame, features: Sequence[FeatureSpec], *, besides: Mapping[str, pl.Expr]
) -> pl.Expr:
    """Resolve a user's choice of features to one feature column.

    Parameters
    ----------
    frame
        Frame the features are chosen from; only its schema is read.
    features
        Names, expressions, selectors, or iterables of them; none for every numeric column.
    besides
        Columns by the option that names them, which are left out of "every numeric column".

    Raises
    ------
    GmmError
        If a column is unknown, none is selected, two have the same name, or an option names
        another number of columns than one.
    """
    schema = frame.collect_schema()
    taken = {_one_name(frame, schema, option, expr) for option, expr in besides.items()}
    taken.update(name for expr in besides.values() for name in expr.meta.root_names())
    exprs = _flatten(features) if features else _numeric(schema, taken)
    with frame_errors(schema, exprs):
        selected = frame.select(exprs).collect_schema()
    if not selected:
        raise GmmError(
            f"a mixture needs at least one feature, but the selection matches no column of "
            f"{abbreviated(schema.names())}: name numeric columns"
        )
    return exprs[0] if len(exprs) == len(selected) == 1 else pl.struct(exprs)


def _positional(features: Sequence[str]) -> str | None:
    name = features[0].removesuffix("[0]")
    positions = [f"{name}[{index}]" for index in range(len(features))]
    return name if list(features) == positions else None


def _flatten(features: Iterable[object]) -> list[pl.Expr]:
    exprs: list[pl.Expr] = []
    for feature in features:
        if isinstance(feature, pl.Expr):
            exprs.append(feature)
        elif isinstance(feature, str):
            exprs.append(named(feature))
        elif isinstance(feature, Iterable):
            exprs.extend(_flatten(feature))
        else:
            raise GmmError(
                f"a feature must be a column name, an expression or a selector; "
                f"got {feature!r} of type {type(feature).__name__}"
            )
    return exprs


def _one_name(frame: pl.LazyFrame, schema: pl.Schema, option: str, expr: pl.Expr) -> str:
    with frame_errors(schema, [expr]):
        names = frame.select(expr).collect_schema().names()
    if len(names) != 1:
        raise GmmError(
            f"{option} must be one column, but the expression selects {len(names)}: "
            f"{abbreviated(names)}"
        )
    return names[0]


def _numeric(schema: pl.Schema, taken: set[str]) -> list[pl.Expr]:
    names = [name for name, dtype in schema.items() if dtype.is_numeric() and name not in taken]
    if not names:
        raise GmmError(
            f"a mixture needs at least one numeric column, but the columns are "
            f"{_described(schema)}: name the features, or cast them to numbers"
        )
    return [named(name) for name in names]


def _described(schema: pl.Schema) -> str:
    return abbreviated([f"{name}: {dtype}" for name, dtype in schema.items()])
