"""docs/trust.md names tests that exist, and figures that were measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:tests|src)/[\w/.]+)::(\w+)`", PAGE)))


def test_each_promise_names_what_holds_it() -> None:
    rows = re.findall(r"^\| (.+) \| (.+) \|$", PAGE, re.MULTILINE)[1:]
    assert len(rows) >= 14
    for promise, tests in rows:
        assert "::" in tests, promise


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part.rsplit("/", 1)[-1])
def test_named_tests_exist(path: str, name: str) -> None:
    keyword = "fn" if path.endswith(".rs") else "def"
    definition = rf"^\s*{keyword} {name}\("
    assert re.search(definition, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_figures_are_those_of_the_last_results() -> None:
    results = json.loads((ROOT / "benches" / "results" / "trust.json").read_text(encoding="utf-8"))
    for line in results["said"]:
        assert line in PAGE
