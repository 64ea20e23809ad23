"""The speed of this package, beside scikit-learn and others, and beside what the machine can do.

`make bench` prints the tables and writes benches/results/speed.json, README.md, docs/benchmarks.md
and the notebooks; it takes a quarter of an hour, most of it scikit-learn's. With --quick, fewer
rows in a minute, and nothing is written. Both sides of every ratio have the same threads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from report import RESULTS, printed, write_pages

Sections = dict[str, Callable[[], Iterator[dict[str, Any]]]]

VARIABLES = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows; nothing is written")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of all sides")
    parser.add_argument("--into", type=Path, help="where to write the results instead")
    parser.add_argument("--only", nargs="*", help="sections to measure anew in the results --into")
    wanted = parser.parse_args()
    if wanted.only is not None and wanted.into is None:
        parser.error("--only needs --into FILE, results whose other sections are kept")
    # Read when Polars and a BLAS are first imported.
    os.environ.update(dict.fromkeys(VARIABLES, str(wanted.threads)))
    sections = of_all_sections(wanted.quick, wanted.threads)
    results = described(wanted.threads)
    if wanted.only is not None:
        results = json.loads(wanted.into.read_text(encoding="utf-8")) | results
        sections = {name: sections[name] for name in wanted.only}
    for name, section in sections.items():
        began = time.perf_counter()
        results[name] = list(section())
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    into = wanted.into.resolve() if wanted.into else None if wanted.quick else RESULTS
    if into is not None:
        into.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(printed(results, goals=not wanted.quick))
    if into == RESULTS:
        write_pages()


def of_all_sections(quick: bool, threads: int) -> Sections:
    import fits
    import memory
    import peak
    import scaling
    import small
    import steps
    from timing import FULL, QUICK

    effort = QUICK if quick else FULL
    shapes = [shape[:3] for shape in (steps.BLOBS, *steps.shapes(effort))]
    return {
        "iterations": lambda: steps.iterations(effort),
        "m_steps": lambda: steps.m_steps(effort),
        "scoring": lambda: steps.scoring(effort),
        "peak": lambda: peak.fractions(effort, threads),
        "components": lambda: scaling.many_components(effort),
        "memory": lambda: memory.during_fits(shapes[: 2 if quick else None], threads),
        "groups": lambda: fits.groups(effort),
        "small": lambda: small.calls(effort),
        "threads": lambda: scaling.threads(effort, threads),
        "scaling": lambda: scaling.grids(effort),
        "fits": lambda: fits.fits(effort),
    }


def described(threads: int) -> dict[str, object]:
    from machine import absent, machine, versions

    from polars_gmm._lib import fma_peak

    return {
        "versions": versions(),
        "absent": absent(),
        "machine": machine(threads, fma_peak(threads, 1.0)) | {"load": os.getloadavg()[0]},
    }


if __name__ == "__main__":
    main()
