"""The namespaces as a function, which type checkers can follow."""

from __future__ import annotations

from typing import overload

import polars as pl

from polars_gmm._checks import shown
from polars_gmm._expr import GmmExpr
from polars_gmm._frame import GmmFrame, GmmLazyFrame


@overload
def gmm(target: pl.Expr) -> GmmExpr: ...
@overload
def gmm(target: pl.DataFrame) -> GmmFrame: ...
@overload
def gmm(target: pl.LazyFrame) -> GmmLazyFrame: ...
def gmm(target: object) -> GmmExpr | GmmFrame | GmmLazyFrame:
    """Give the namespace ``.gmm`` of an expression or frame.

    Parameters
    ----------
    target
        What the namespace is for.

    Returns
    -------
    GmmExpr, GmmFrame or GmmLazyFrame
        The same as ``target.gmm``, for mypy and pyright, which cannot see registered namespaces.

    Raises
    ------
    TypeError
        If `target` is neither an expression nor a frame.

    Examples
    --------
    >>> import polars as pl
    >>> import polars_gmm as pg
    >>> df = pl.DataFrame({"x": [1.0, 3.0]})
    >>> pg.gmm(df).fit(k=1).means.round(6).tolist()
    [[2.0]]
    """
    if isinstance(target, pl.Expr):
        return GmmExpr(target)
    if isinstance(target, pl.DataFrame):
        return GmmFrame(target)
    if isinstance(target, pl.LazyFrame):
        return GmmLazyFrame(target)
    raise TypeError(f"gmm() takes an Expr, a DataFrame or a LazyFrame; got {shown(target)}")
