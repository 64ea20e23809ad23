"""The shape of the source: which code may see what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUST = sorted(
    p for p in (ROOT / "src").rglob("*.rs") if p.stem not in {"testing", "tests"}
)  # tests' own
MIXTURE = sorted((ROOT / "src" / "mixture").rglob("*.rs"))
PYTHON = sorted((ROOT / "polars_gmm").rglob("*.py"))


def code(path: Path) -> str:
    """The lines before the tests of a file, without comments."""
    lines = []
    for line in path.read_text().splitlines():
        if line.strip().startswith("#[cfg(test)]"):
            break
        lines.append(line.split("//")[0])
    return "\n".join(lines)


def test_the_files_are_there() -> None:
    assert len(MIXTURE) > 5
    assert len(RUST) > len(MIXTURE)
    assert len(PYTHON) > 5


@pytest.mark.parametrize("path", MIXTURE, ids=lambda path: path.stem)
def test_the_mathematics_knows_neither_polars_nor_python(path: Path) -> None:
    assert not re.search(r"polars|pyo3|crate::plugin", path.read_text(), flags=re.IGNORECASE)


@pytest.mark.parametrize("path", RUST, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_nothing_panics_on_purpose(path: Path) -> None:
    forbidden = r"\.unwrap\(|\.expect\(|\b(panic|todo|unimplemented|unreachable)!"
    assert not re.findall(forbidden, code(path))


def test_there_is_one_door_to_the_plugin() -> None:
    doors = [path.name for path in PYTHON if "register_plugin_function" in path.read_text()]
    assert doors == ["_plugin.py"]


def test_private_polars_modules_are_imported_for_types_only() -> None:
    for path in PYTHON:
        for line in path.read_text().splitlines():
            if re.match(r"(from|import) polars\._", line):
                raise AssertionError(f"{path.name} imports a private module: {line}")
