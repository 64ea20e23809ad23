"""The one door to the compiled expressions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from polars.plugins import register_plugin_function

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIBRARY = Path(__file__).parent


def call(
    function: str,
    inputs: Sequence[pl.Expr],
    *,
    kwargs: Mapping[str, Any],
    elementwise: bool = False,
    scalar: bool = False,
    shrinks: bool = False,
) -> pl.Expr:
    """Build the expression of a compiled function.

    Parameters
    ----------
    function
        Symbol in the compiled library.
    inputs
        Rows, and a column of models if there is one. Polars runs groups in parallel only where
        there is one input; see `pack`.
    kwargs
        Options, pickled into the plan.
    elementwise
        Row i of the output depends on row i of the inputs alone.
    scalar
        The output is one value for a whole column or group.
    shrinks
        With `elementwise`: the output is one value for each piece that the engine cuts.
    """
    return register_plugin_function(
        plugin_path=_LIBRARY,
        function_name=function,
        args=list(inputs),
        kwargs=dict(kwargs),
        # Lets the streaming engine call the function morsel by morsel, and other expressions and
        # filters move past it. False for a fit, whose rows depend on each other.
        is_elementwise=elementwise,
        # Makes the output one value per group in `group_by`, repeated to the group's length in
        # `over` and beside longer columns in `select`.
        returns_scalar=scalar,
        # Beside is_elementwise, lets the streaming engine call the function morsel by morsel and
        # take fewer rows than it gave.
        changes_length=shrinks,
    )


def call_with_model(
    function: str,
    rows: pl.Expr,
    model: bytes | pl.Expr,
    *,
    kwargs: Mapping[str, Any],
    elementwise: bool = False,
    scalar: bool = False,
) -> pl.Expr:
    """Build the expression of a function of rows and a model.

    A packed model travels in the kwargs, so that there is one input; a column of models is the
    second input.
    """
    packed, columns = (model, []) if isinstance(model, bytes) else (None, [model])
    return call(
        function,
        [rows, *columns],
        kwargs={**kwargs, "model": packed},
        elementwise=elementwise,
        scalar=scalar,
    )


def pack(rows: pl.Expr, **extras: pl.Expr | None) -> tuple[pl.Expr, list[str]]:
    """Pack rows and the columns that go with them into one input.

    Parameters
    ----------
    rows
        Feature column.
    **extras
        Columns by role: ``weight``, ``responsibility``, ``label`` or ``start``; None for absent.

    Returns
    -------
    tuple
        The input, which has the name of `rows`, and the roles of its fields after the first.
    """
    given = {role: column for role, column in extras.items() if column is not None}
    if not given:
        return rows, []
    return pl.struct(rows, *(in_role(role, column) for role, column in given.items())), list(given)


def in_role(role: str, column: pl.Expr) -> pl.Expr:
    """Give a column the name that tells its role and, where it is known, its own name."""
    return column.alias(role_name(role, column.meta.output_name(raise_if_undetermined=False)))


def role_name(role: str, name: str | None) -> str:
    """Tell the role of a column and, for messages, its own name where that is known."""
    return f"polars_gmm:{role}" if name is None else f"polars_gmm:{role}:{name}"
