"""Progress bars where tqdm is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

# Is told what is done while there is no iteration to report.
Phase: TypeAlias = Callable[[str], None]


def untold(text: str) -> None:
    """Tell nobody."""


def progress_bar(total: int, *, desc: str, unit: str) -> Any:
    """Give a bar of tqdm; None where it is not installed."""
    try:
        return import_module("tqdm.auto").tqdm(total=total, desc=desc, unit=unit)
    except ImportError:
        return None
