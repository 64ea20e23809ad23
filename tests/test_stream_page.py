"""docs/larger-than-memory.md shows figures that were measured."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_figures_are_those_of_the_last_results() -> None:
    page = (ROOT / "docs" / "larger-than-memory.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "benches" / "results" / "stream.json").read_text(encoding="utf-8"))
    assert len(results["said"]) >= 8
    for line in results["said"]:
        assert line in page
