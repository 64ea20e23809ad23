"""Fits larger than memory: the figures of docs/larger-than-memory.md.

`make bench-stream` writes 80 million rows of Parquet, 2.5 GB, to a temporary folder (ARGS="--dir
/mnt/disk" says where), prints the figures and writes benches/results/stream.json. With --quick, a
part of them in less than a minute, and nothing is written. Each figure is of processes of
their own with two threads: the median time of three, and the largest peak of memory, above what the
process had after the import.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import polars_gmm as pg

Result = dict[str, Any]

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "stream.json"
THREADS = "2"
PART = 2_500_000
WIDE = (50, 64)
REPEATS = 3
MILLION = 1_000_000


def write(folder: Path, rows: int, d: int, centers: int, group: int) -> None:
    """Write blobs around some centres, as files of row groups of so many rows."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    means = 6 * rng.normal(size=(centers, d))
    part = min(rows, PART * 4 // d)
    for i in range(rows // part):
        values = means[rng.integers(centers, size=part)] + rng.normal(size=(part, d))
        df = pl.DataFrame(values, schema=[f"x{j}" for j in range(d)])
        df.write_parquet(folder / f"{i:04}.parquet", row_group_size=group)


def status(key: str) -> float:
    """Give a figure of this process, in MiB."""
    with Path("/proc/self/status").open() as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(key))


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def child(what: str, folder: str, k: int) -> Result:
    """Measure one thing, in a process of its own."""
    warnings.simplefilter("ignore")
    lf = pl.scan_parquet(f"{folder}/*.parquet")
    start: Any = "k-means++"
    imported = status("VmRSS")
    if what != "fit":  # a start that costs nothing, so that the passes are what is measured
        head = lf.head(20_000)
        start = head.gmm.fit(k=k, init="random", n_init=1, max_iter=1, tol=0)
        imported = status("VmRSS")
    reset_peak()
    began = time.perf_counter()
    result: Result = {}
    if what in ("fit", "passes"):
        model = lf.gmm.fit(k=k, init=start, max_iter=2, tol=0, engine="streaming")
        assert model.history is not None
        seconds = statistics.median(model.history["seconds"])
        result = {
            "n_passes": model.n_passes,
            "seconds_per_pass": seconds,
            "rows_per_second": (model.n_rows or 0) / seconds,
        }
    elif what == "score":
        with tempfile.TemporaryDirectory(dir=folder) as out:
            lf.with_columns(start.predict()).sink_parquet(f"{out}/scored.parquet")
    elif what == "throughput":
        result = throughput(lf, start)
    return {
        **result,
        "what": what,
        "k": k,
        "seconds": time.perf_counter() - began,
        "peak_mib": status("VmHWM") - imported,
    }


def throughput(lf: pl.LazyFrame, start: pg.GaussianMixture) -> Result:
    """Compare passes, and first ones, with Polars' own sums, in turns: ratios of medians."""
    passes: list[float] = []
    firsts: list[float] = []
    sums: list[float] = []
    for _ in range(7):
        for _ in range(2):
            began = time.perf_counter()
            lf.select(pl.all().sum()).collect(engine="streaming")
            sums.append(time.perf_counter() - began)
        began = time.perf_counter()
        model = lf.gmm.fit(k=start.k, init=start, max_iter=1, tol=0, engine="streaming")
        took = time.perf_counter() - began
        assert model.history is not None
        seconds = model.history["seconds"].to_list()
        passes += seconds
        firsts.append(took - sum(seconds))
    of_polars = statistics.median(sums)
    return {
        "ratio": statistics.median(passes) / of_polars,
        "first_ratio": statistics.median(firsts) / of_polars,
        "sum_seconds": of_polars,
    }


def measured(what: str, folder: Path, k: int, **figures: Any) -> Result:
    """Measure one thing some times: the median of each figure, and the largest peak."""
    command = [sys.executable, __file__, "--child", what, str(folder), str(k)]
    env = {**os.environ, "POLARS_MAX_THREADS": THREADS}
    runs: list[Result] = []
    for _ in range(1 if what == "throughput" else REPEATS):
        run = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        runs.append(json.loads(run.stdout))
    medians = {
        key: statistics.median(run[key] for run in runs)
        for key, value in runs[0].items()
        if isinstance(value, float)
    }
    peaks = [run["peak_mib"] for run in runs]
    result = {**runs[0], **medians, "peak_mib": max(peaks), "peaks_mib": peaks, **figures}
    print(result, flush=True)
    return result


def narrow(folder: Path, *, quick: bool) -> list[Result]:
    """Four features, twenty components, in files of 5, 20 and 80 million rows."""
    results = []
    for rows in (MILLION,) if quick else (5 * MILLION, 20 * MILLION, 80 * MILLION):
        data = folder / f"{rows}"
        write(data, rows, 4, 20, 262_144)
        shape = {"rows": rows, "d": 4, "row_group": 262_144}
        results.append(measured("fit", data, 20, **shape))
        if rows <= 20 * MILLION:
            results.append(measured("score", data, 20, **shape))
        if rows == 20 * MILLION or quick:
            results.append(measured("throughput", data, 1, **shape))
            results.append(measured("passes", data, 1, **shape))
        for file in data.iterdir():
            file.unlink()
    return results


def wide(folder: Path, *, quick: bool) -> list[Result]:
    """Fifty features and 64 components, in row groups of two sizes."""
    results = []
    for rows, group in ((1, 32_768), (2, 32_768), (2, 262_144)):
        data = folder / f"wide-{rows}-{group}"
        d, k = WIDE
        n = rows * (MILLION // 10 if quick else MILLION)
        write(data, n, d, k, group)
        results.append(measured("passes", data, k, rows=n, d=d, row_group=group))
        for file in data.iterdir():
            file.unlink()
    return results


def summary(results: list[Result]) -> list[str]:
    """Give the lines of the table on the page."""
    lines = []
    for r in results:
        shape = f"{r['rows'] / MILLION:g} M × {r['d']}"
        if r["what"] == "throughput":
            lines.append(
                f"A pass at k = 1 over {shape} takes {r['ratio']:.2f} times as long as Polars' own "
                f"sum of the same columns, and the first pass {r['first_ratio']:.2f} times."
            )
        elif r["what"] == "score":
            lines.append(
                f"| {shape} | {r['k']} | `with_columns(model.predict()).sink_parquet(...)` | "
                f"{r['row_group']:,} | {r['seconds']:.1f} s in all | {r['peak_mib']:.0f} MiB |"
            )
        else:
            lines.append(
                f"| {shape} | {r['k']} | `fit` | {r['row_group']:,} | "
                f"{r['seconds_per_pass']:.1f} s a pass, {r['rows_per_second'] / MILLION:.1f} M "
                f"rows/s | {r['peak_mib']:.0f} MiB |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--dir", help="where the files are written, for as long as they are needed")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.child:
        what, folder, k = wanted.child
        print(json.dumps(child(what, folder, int(k))))
        return
    with tempfile.TemporaryDirectory(dir=wanted.dir) as folder:
        results = narrow(Path(folder), quick=wanted.quick) + wide(Path(folder), quick=wanted.quick)
    said = summary(results)
    print("", *said, sep="\n")
    if not wanted.quick:
        versions = {"polars-gmm": pg.__version__, "polars": pl.__version__}
        machine = {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "threads": int(THREADS),
        }
        content = {"said": said, "versions": versions, "machine": machine, "results": results}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
