"""Registration of ``.gmm``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

if TYPE_CHECKING:
    Of = TypeVar("Of", bound=type[Any])

_REGISTER: dict[type, Callable[[str], Callable[[type[Any]], type[Any]]]] = {
    pl.Expr: pl.api.register_expr_namespace,
    pl.DataFrame: pl.api.register_dataframe_namespace,
    pl.LazyFrame: pl.api.register_lazyframe_namespace,
}


class _Fresh:
    """A namespace that is made at each access.

    Polars would keep it on the object, which it refers to: a frame would stay in memory until
    Python next looks for cycles.
    """

    def __init__(self, namespace: type[Any]) -> None:
        self._namespace = namespace

    def __get__(self, instance: object, owner: type[Any]) -> Any:
        return self._namespace if instance is None else self._namespace(instance)


def registered(on: type[Any]) -> Callable[[Of], Of]:
    """Register a class as the namespace ``.gmm`` of a class of Polars."""

    def register(namespace: Of) -> Of:
        _REGISTER[on]("gmm")(namespace)
        on.gmm = _Fresh(namespace)
        return namespace

    return register
