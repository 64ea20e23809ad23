"""One package for a range of Polars versions; an older one is refused in a sentence."""

from __future__ import annotations

import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest

import polars_gmm as pg
from polars_gmm._versions import OLDEST_POLARS, release
from support import run_python

IMPORT = """
import sys
import polars as pl

pl.__version__ = sys.argv[1]
try:
    import polars_gmm
except ImportError as error:
    print(error)
else:
    print("imported")
"""

VERSIONS = {
    "1.37.0": (1, 37),
    "2.1.0": (2, 1),
    "1.37.0rc1": (1, 37),
    "2.2.0-beta.1": (2, 2),
    "2.2rc1": (2, 2),
    "2.0.0.dev20260101+local.7": (2, 0),
    "10.0": (10, 0),
    "3": (3, 0),
    "v2.3.1": (2, 3),
    "0.20.31": (0, 20),
    "unknown": (sys.maxsize, 0),
    "": (sys.maxsize, 0),
}


@pytest.mark.parametrize("text", VERSIONS)
def test_any_version_string_is_read(text: str) -> None:
    assert release(text) == VERSIONS[text]


@pytest.mark.parametrize("old", ["1.36.1", "1.9.0", "0.20.31", "1.36.0-beta.2"])
def test_an_older_polars_gets_one_sentence(old: str) -> None:
    assert run_python(IMPORT, old).strip() == (
        f"polars-gmm needs polars 1.37 or newer, but polars {old} is installed: "
        f"run `pip install --upgrade polars`"
    )


@pytest.mark.parametrize("new", ["1.37.0rc1", "2.2.0-beta.1", "99.0", "unknown"])
def test_other_versions_are_imported(new: str) -> None:
    assert run_python(IMPORT, new).strip() == "imported"


def test_the_oldest_polars_is_the_same_everywhere() -> None:
    oldest = ".".join(map(str, OLDEST_POLARS))
    pinned = Path(__file__).parents[1] / "requirements" / "oldest.txt"
    assert f"polars>={oldest}" in (requires("polars-gmm") or [])
    assert f"polars=={oldest}.0" in pinned.read_text().splitlines()


def test_the_version_is_that_of_the_distribution() -> None:
    assert pg.__version__ == version("polars-gmm")
