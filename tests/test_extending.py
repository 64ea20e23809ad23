"""Places that must agree, so that something new is not forgotten in one: see docs/extending.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest

import polars_gmm as pg
from oracle import STRUCTURES
from polars_gmm._options import CovarianceType
from test_api_surface import surface

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NAMESPACES: list[Any] = [pl.Expr.gmm, pl.DataFrame.gmm]
EXPRESSIONS = [name for name in vars(NAMESPACES[0]) if not name.startswith("_")]
TAKING_A_STRUCTURE = [
    method
    for owner in (*NAMESPACES, pg.GaussianMixture)
    for _, method in inspect.getmembers(owner, inspect.isfunction)
    if "covariance_type" in inspect.signature(method).parameters
]
FILES = [
    path
    for path in (*(ROOT / "polars_gmm").glob("_*.py"), *(ROOT / "src").rglob("*.rs"))
    if path.stem not in {"__init__", "lib", "mod", "tests", "testing"}
]


def test_python_and_rust_know_the_same_structures() -> None:
    with pytest.raises(pg.GmmError) as refused:
        pg.GaussianMixture([1], [[0]], [[[1]]], features=["x"], covariance_type="no such")
    named = re.findall(r'"(\w+)"', str(refused.value).split("got")[0])
    assert tuple(named) == get_args(CovarianceType) == STRUCTURES


def test_packed_models_keep_the_numbers_of_structures() -> None:
    before = len(b"pgmm" + bytes([1, 1, 1]) + b"x")  # magic, format, features
    for number, structure in enumerate(("full", "tied", "diag", "spherical")):
        packed = pg.GaussianMixture(
            [1], [[0]], [[[1]]], features=["x"], covariance_type=structure
        ).pack()
        assert packed[before] == number


@pytest.mark.parametrize("method", TAKING_A_STRUCTURE, ids=lambda method: method.__qualname__)
def test_docstrings_name_every_structure(method: Callable[..., object]) -> None:
    owner = pg.GaussianMixture if method.__name__ == "__init__" else method
    document = inspect.getdoc(owner) or ""
    own = re.search(r"^covariance_type\n((?: .*\n)+)", document, re.MULTILINE)
    if own is None:
        assert re.search(r"^k, covariance_type, .*\n    As for `fit`", document, re.MULTILINE)
    else:
        assert list(dict.fromkeys(re.findall(r'"(\w+)"', own[1]))) == list(STRUCTURES)


def test_structures_are_compared_in_the_readme() -> None:
    row = re.search(
        r"^\| covariance structures \| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert row is not None
    assert row[1].split(", ") == list(STRUCTURES)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_every_expression_is_on_its_page(name: str) -> None:
    table = re.findall(r"^\| `\w+\.gmm\.(\w+)\(", (DOCS / "expressions.md").read_text(), re.M)
    assert name in table


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_is_on_the_map(path: Path) -> None:
    assert re.search(rf"`(\w+/)?{path.stem}`", (DOCS / "how-it-works.md").read_text())


def test_the_typed_tour_calls_everything() -> None:
    tour = (ROOT / "tests" / "typing" / "good.py").read_text()
    public = re.findall(r"^[\w.]+?\.(?!gmm\b)(\w+)\b", surface(), re.MULTILINE)
    assert len(public) > 50
    assert [name for name in public if not re.search(rf"\.{name}\b", tour)] == []
