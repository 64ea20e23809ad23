"""README.md and docs/ tell the truth: their Python runs, and prints what they show.

A page is one session: its blocks share their names, from top to bottom. A `text` block straight
after a `python` block is its output; `.venv/bin/python tests/test_readme.py` writes those anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def run(text: str, name: str, folder: Path) -> Iterator[tuple[re.Match[str], str]]:
    """Run the blocks of a page in a folder that holds examples/; yield each with its output."""
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=lambda *_: {"out"})
    os.chdir(folder)
    names = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        above = text.count("\n", 0, block.start(1))  # so that a traceback names the page's line
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), pl.Config(tbl_width_chars=100):
            exec(compile("\n" * above + block[1], name, "exec"), names)
        yield block, printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_print_what_the_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block, printed in run(page.read_text(encoding="utf-8"), str(page), tmp_path):
        assert printed == (block[3] or ""), f"{page.name} does not show what it prints"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def write_outputs(page: Path) -> None:
    text = written = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for block, printed in reversed(list(run(text, str(page), Path(folder)))):
            shown = f"\n```text\n{printed}```\n" if printed else ""
            end = block.start() + len(f"```python\n{block[1]}```\n")
            written = written[:end] + shown + written[block.end() :]
        os.chdir(ROOT)
    page.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    for page in PAGES:
        write_outputs(page)
