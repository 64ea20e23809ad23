"""The versions of this package and of the Polars it runs on. An older Polars is refused here."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version

import polars as pl

try:
    __version__ = version("polars-gmm")
except PackageNotFoundError:
    __version__ = "unknown"

OLDEST_POLARS = (1, 37)
# Older ones read a name such as "^a$" as a pattern, even where a selector asks for that name.
SELECTS_EXACT_NAMES = (1, 38)


def release(text: str) -> tuple[int, int]:
    """Read the major and minor number, also of ``2.2.0-beta.1``; nothing readable counts as new."""
    numbers = re.search(r"(\d+)(?:\.(\d+))?", text)
    return (int(numbers[1]), int(numbers[2] or 0)) if numbers else (sys.maxsize, 0)


POLARS = release(pl.__version__)

if POLARS < OLDEST_POLARS:
    raise ImportError(
        f"polars-gmm needs polars {'.'.join(map(str, OLDEST_POLARS))} or newer, but polars "
        f"{pl.__version__} is installed: run `pip install --upgrade polars`"
    )
