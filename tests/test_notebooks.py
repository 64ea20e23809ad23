"""The notebooks run from top to bottom, and are kept with outputs that any viewer shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
MOST = 300_000  # bytes

sys.path.append(str(NOTEBOOKS))
from run import executed  # noqa: E402


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(notebook: Any) -> list[list[set[str]]]:
    """The kinds of each output of each cell, without the version of Vega-Lite."""
    return [
        [
            {re.sub(r"\.v\d+", "", kind) for kind in output.get("data", {})}
            for output in cell.outputs
        ]
        for cell in code(notebook)
    ]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_it_runs_and_makes_the_outputs_it_is_kept_with(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICK", "1")
    assert kinds(executed(path)) == kinds(nbformat.read(path, as_version=4))


def test_it_is_small_and_was_run_in_order(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < MOST
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_charts_have_pictures(path: Path) -> None:
    outputs = [output for cell in kinds(nbformat.read(path, as_version=4)) for output in cell]
    assert sum("image/jpeg" in output for output in outputs) >= 4
    charts = [output for output in outputs if any("vegalite" in kind for kind in output)]
    assert all("image/jpeg" in output for output in charts)
    assert not any("application/javascript" in output for output in outputs)


def test_there_are_two() -> None:
    assert [path.stem for path in PATHS] == ["benchmark", "tour"]
