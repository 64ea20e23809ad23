"""Figures of speed in README.md and docs/ are those of benches/results/speed.json."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = json.loads((ROOT / "benches" / "results" / "speed.json").read_text(encoding="utf-8"))

spec = importlib.util.spec_from_file_location("report", ROOT / "benches" / "speed" / "report.py")
assert spec is not None
assert spec.loader is not None
report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(report)


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.name)
def test_pages_show_the_last_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert report.BEGIN in text
    assert report.filled(text, RESULTS) == text, "`python benches/speed/report.py` writes it anew"


def test_every_table_is_on_the_page() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    shown = re.findall(rf"{report.BEGIN}(\w+) -->", text)
    tables = {table.__name__ for table in report.SECTIONS.values()}
    assert set(shown) == tables | {"components", "where"}


def test_overlapping_data_overlap() -> None:
    rows = [*RESULTS["iterations"], *RESULTS["scoring"], *RESULTS["peak"]]
    overlapping = [row for row in rows if row.get("data", "overlapping") == "overlapping"]
    assert len(overlapping) >= 12
    assert min(row["entropy"] for row in overlapping) > 0.5


def test_losing_cases_are_told() -> None:
    """The table of small calls has what others do faster; it must not be left out."""
    lost = [
        name
        for row in RESULTS["small"]
        for name, ratio in row["ratios"].items()
        if ratio["ratio"] < 0.995
    ]
    printed = report.markdown(report.small(RESULTS))
    assert len(re.findall(r"\| 0\.\d\d×", printed)) == len(lost)


def test_it_can_be_measured_again(tmp_path: Path) -> None:
    """Some sections, quick, into a copy of the results; the others are kept."""
    into = tmp_path / "speed.json"
    into.write_text(json.dumps(RESULTS), encoding="utf-8")
    sections = ("m_steps", "small")
    command = [sys.executable, ROOT / "benches" / "speed", "--quick", "--into", into, "--only"]
    run = subprocess.run([*command, *sections], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    again = json.loads(into.read_text(encoding="utf-8"))
    for name in set(RESULTS) - {"absent", "machine", "versions"}:
        assert (again[name] != RESULTS[name]) == (name in sections), name
    assert report.aligned(report.m_steps(again)) in run.stdout
