"""Checks wheels before anyone installs them: size, tag, metadata and contents.

usage: python .ci/check_wheel.py dist/*.whl
"""

from __future__ import annotations

import re
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

MEGABYTE = 1_000_000
LARGEST_WHEEL = 25 * MEGABYTE
LARGEST_LIBRARY = 32 * MEGABYTE
NEEDED = ("polars_gmm/py.typed", "polars_gmm/_lib.pyi", "polars_gmm/__init__.py")
LIBRARY = re.compile(r"polars_gmm/_lib(\.abi3)?\.(so|pyd)")
OURS = re.compile(r"polars_gmm/(\w+\.py|_lib\.pyi|py\.typed)|polars_gmm-[^/]*\.dist-info/.+")


def faults(path: Path) -> list[str]:
    """What is wrong with a wheel, a sentence each."""
    found = []
    with ZipFile(path) as wheel:
        sizes = {it.filename: it.file_size for it in wheel.infolist() if not it.is_dir()}
        texts = {
            name.rpartition("/")[2]: wheel.read(name).decode()
            for name in sizes
            if name.endswith(("dist-info/METADATA", "dist-info/WHEEL"))
        }
    if path.stat().st_size > LARGEST_WHEEL:
        found.append(f"{megabytes(path.stat().st_size)} where {megabytes(LARGEST_WHEEL)} is most")
    libraries = [name for name in sizes if LIBRARY.fullmatch(name)]
    if len(libraries) != 1:
        found.append(f"one abi3 library is needed; got {libraries}")
    found += [
        f"{name} has {megabytes(sizes[name])} where {megabytes(LARGEST_LIBRARY)} is most"
        for name in libraries
        if sizes[name] > LARGEST_LIBRARY
    ]
    found += [f"{name} is missing" for name in NEEDED if name not in sizes]
    others = [name for name in sizes if not OURS.fullmatch(name) and name not in libraries]
    if others:
        found.append(f"files that do not belong there: {others}")
    return found + tag_faults(path, texts["WHEEL"]) + metadata_faults(texts["METADATA"])


def tag_faults(path: Path, text: str) -> list[str]:
    tags = Parser().parsestr(text).get_all("Tag", [])
    if path.name.split("-")[2:4] == ["cp310", "abi3"] and all(
        tag.startswith("cp310-abi3-") for tag in tags
    ):
        return []
    return [f"the tag must be cp310-abi3, for every Python from 3.10 on; got {tags}"]


def metadata_faults(text: str) -> list[str]:
    metadata = Parser().parsestr(text)
    needs = metadata.get_all("Requires-Dist", [])
    expected = {
        "Name": "polars-gmm",
        "Requires-Python": ">=3.10",
        "License-Expression": "MIT",
        "License-File": "LICENSE",
        "Description-Content-Type": "text/markdown; charset=UTF-8; variant=GFM",
    }
    found = [
        f"{key} must be {value!r}; got {metadata[key]!r}"
        for key, value in expected.items()
        if metadata[key] != value
    ]
    if sorted(need for need in needs if ";" not in need) != ["numpy>=1.24", "polars>=1.37"]:
        found.append(f"it must need numpy>=1.24 and polars>=1.37 alone; it needs {needs}")
    return found


def megabytes(size: int) -> str:
    return f"{size / MEGABYTE:.1f} MB"


def main(paths: list[str]) -> int:
    if not paths:
        print("check_wheel: name at least one wheel", file=sys.stderr)
        return 2
    wrong = {path: faults(Path(path)) for path in paths}
    for path, sentences in wrong.items():
        for sentence in sentences:
            print(f"{path}: {sentence}", file=sys.stderr)
        if not sentences:
            print(f"{path}: {megabytes(Path(path).stat().st_size)}, as it should be")
    return int(any(wrong.values()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
