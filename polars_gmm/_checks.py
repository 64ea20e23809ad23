"""Types of the values a user gives."""

from __future__ import annotations

import operator
from decimal import Decimal
from numbers import Real
from reprlib import Repr
from typing import TYPE_CHECKING, Any

import numpy as np

from polars_gmm._errors import GmmError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_INTEGER = 2**63 - 1
_NUMERIC_KINDS = "buif"
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def integer(name: str, value: Any, *, least: int = 0) -> int:
    """Check a whole number: any integer type of Python or NumPy, but no bool."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise GmmError(f"{name} must be a whole number; got {shown(value)}")
    if not least <= number <= _LARGEST_INTEGER:
        raise GmmError(f"{name} must be at least {least} and less than 2**63; got {number}")
    return number


def real(name: str, value: Any) -> float:
    """Check a real number: any such type of Python or NumPy, but no bool."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise GmmError(f"{name} must be a number; got {shown(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise GmmError(f"{name} must be a number in double precision: {error}") from error


def boolean(name: str, value: Any) -> bool:
    """Check a bool of Python or NumPy."""
    if not isinstance(value, bool | np.bool_):
        raise GmmError(f"{name} must be True or False; got {shown(value)}")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Check a string."""
    if not isinstance(value, str):
        raise GmmError(f"{name} must be a string; got {shown(value)}")
    return value


def names(name: str, value: Any) -> list[str]:
    """Check a list of column names."""
    listed = hasattr(value, "__iter__") and not isinstance(value, str)
    items: list[Any] = list(value) if listed else []
    if not items or not all(isinstance(item, str) for item in items):
        raise GmmError(f"{name} must be a list of column names; got {shown(value)}")
    return [str(item) for item in items]


def float_array(name: str, value: Any) -> NDArray[np.float64]:
    """Check numbers in a rectangular array, and convert them to Float64."""
    if isinstance(value, np.ma.MaskedArray):
        raise GmmError(f"{name} must be an array without a mask: fill it with .filled(...)")
    try:
        array = np.asarray(value)
        if array.dtype.kind in _NUMERIC_KINDS or _holds_numbers(array):
            return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise GmmError(f"{name} must be a rectangular array of numbers: {error}") from error
    raise GmmError(f"{name} must be an array of numbers; got one of dtype {array.dtype}")


def _holds_numbers(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "O" and all(isinstance(x, Real | Decimal) for x in array.flat)


def shown(value: object) -> str:
    """Show a value, shortened where it is long, and its type."""
    return f"{_SHORT.repr(value)} of type {type(value).__name__}"
