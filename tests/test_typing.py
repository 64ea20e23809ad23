"""mypy and pyright see the installed package as its users do, and its stub says what is compiled.

`typing/good.py` must pass and run; in `typing/bad.py` every line marked "wrong" must be reported,
and no other.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path

import pytest

import polars_gmm as pg

SAMPLES = Path(__file__).with_name("typing")
PYRIGHT = {"typeCheckingMode": "strict"}

Reports = dict[str, dict[int, str]]


def check(folder: Path, *command: str) -> str:
    """Run a checker where the package can only be found as installed, and give what it prints."""
    here = Path(sys.executable).parent  # the Python whose packages pyright reads
    run = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode in {0, 1}, run.stdout + run.stderr
    return run.stdout


def mypy(folder: Path) -> Reports:
    """What mypy --strict reports, by file and line."""
    cache = f"--cache-dir={SAMPLES.parents[1] / '.mypy_cache' / 'samples'}"
    said = check(folder, "mypy", "--strict", "--config-file=", cache, "good.py", "bad.py")
    found = re.findall(r"^(\S+?):(\d+): error: (.*)$", said, re.MULTILINE)
    return by_file((file, int(line), message) for file, line, message in found)


def pyright(folder: Path) -> Reports:
    """What pyright reports in strict mode, by file and line."""
    (folder / "pyrightconfig.json").write_text(json.dumps(PYRIGHT), encoding="utf-8")
    said = check(folder, "pyright", "--outputjson")
    found = json.loads(said)["generalDiagnostics"]
    return by_file(
        (Path(it["file"]).name, it["range"]["start"]["line"] + 1, it["message"]) for it in found
    )


def by_file(found: Iterable[tuple[str, int, str]]) -> Reports:
    """The first message for each line."""
    reports: Reports = {"good.py": {}, "bad.py": {}}
    for file, line, message in found:
        reports[file].setdefault(line, message)
    return reports


@pytest.fixture(scope="module", params=[mypy, pyright], ids=["mypy", "pyright"])
def reports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    checker: Callable[[Path], Reports] = request.param
    folder = tmp_path_factory.mktemp("user")
    for sample in SAMPLES.glob("*.py"):
        shutil.copy(sample, folder)
    return checker(folder)


def test_a_right_program_passes(reports: Reports) -> None:
    assert reports["good.py"] == {}


def test_every_mistake_is_reported(reports: Reports) -> None:
    lines = (SAMPLES / "bad.py").read_text(encoding="utf-8").splitlines()
    wrong = {number: line for number, line in enumerate(lines, start=1) if "# wrong: " in line}
    missed = [line for number, line in wrong.items() if number not in reports["bad.py"]]
    others = {n: message for n, message in reports["bad.py"].items() if n not in wrong}
    assert len(wrong) > 30
    assert (missed, others) == ([], {})


def test_the_right_program_runs() -> None:
    runpy.run_path(str(SAMPLES / "good.py"), run_name="__main__")


def test_the_types_are_installed() -> None:
    assert files("polars_gmm").joinpath("py.typed").is_file()


def test_the_stub_says_what_is_compiled(tmp_path: Path) -> None:
    said = check(tmp_path, "mypy.stubtest", "polars_gmm._lib")
    assert said.startswith("Success: no issues found"), said


def test_every_public_name_has_a_type(tmp_path: Path) -> None:
    said = check(
        tmp_path, "pyright", "--verifytypes", "polars_gmm", "--ignoreexternal", "--outputjson"
    )
    report = json.loads(said)["typeCompleteness"]
    assert report["exportedSymbolCounts"]["withKnownType"] >= len(pg.__all__) - 1
    assert report["completenessScore"] == 1, [
        it["name"] for it in report["symbols"] if not it["isTypeKnown"]
    ]
