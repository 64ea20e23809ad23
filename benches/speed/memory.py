"""Memory that a fit takes beyond its columns, each in a process of its own; Linux only.

`python benches/speed/memory.py N D K STARTS` prints MiB: the peak of the resident set during a fit,
less what it was before; from one start, or from all that a fit tries by default.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from timing import Result

STATUS = Path("/proc/self/status")
ONE, ALL = "one", "all"


def during_fits(shapes: list[tuple[int, int, int]], threads: int) -> Iterator[Result]:
    if not STATUS.exists():
        return
    for n, d, k in shapes:
        beyond = {starts: in_a_process(n, d, k, starts, threads) for starts in (ONE, ALL)}
        columns = n * d * 8 / 2**20
        yield {
            "n": n, "d": d, "k": k, "threads": threads,
            "columns_mib": columns, "matrix_mib": n * k * 8 / 2**20,
            "beyond_mib": beyond[ONE], "of_all_starts_mib": beyond[ALL], "goal": 64,
        }  # fmt: skip


def in_a_process(n: int, d: int, k: int, starts: str, threads: int) -> float:
    command = [sys.executable, __file__, str(n), str(d), str(k), starts]
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads)}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)


def resident(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    return int(found[1]) / 1024 if found else float("nan")


def beyond_the_columns(n: int, d: int, k: int, n_init: int | None) -> float:
    import numpy as np

    import polars_gmm as pg

    rng = np.random.default_rng(0)
    centres = rng.normal(scale=3 / np.sqrt(d), size=(k, d))
    component = rng.integers(0, k, size=n)
    columns = {f"x{j}": rng.normal(size=n) + centres[component, j] for j in range(d)}
    df = pl.DataFrame({name: pl.Series(values) for name, values in columns.items()})
    del columns, component
    df.head(200).gmm.fit(k=2, max_iter=2, on_iteration=lambda _: None)  # threads, pages of code
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")

    def stop(report: pg.FitReport) -> bool:
        return report.iteration < 3

    model = df.gmm.fit(k=k, n_init=n_init, on_iteration=stop)
    assert model.k == k
    return resident("VmHWM") - before


if __name__ == "__main__":
    rows, features, components = (int(x) for x in sys.argv[1:4])
    print(beyond_the_columns(rows, features, components, {ONE: 1, ALL: None}[sys.argv[4]]))
