"""A mixture per group, beside a loop over scikit-learn: the figures of docs/groups.md.

`make bench-groups` prints them and writes benches/results/groups.json. scikit-learn fits a part of
the groups, in turn with the query on all of them; ratios are of seconds a group, medians of the
rounds. With --quick, small tables and nothing is written.
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
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import sklearn
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

import polars_gmm as pg

Result = dict[str, Any]

RESULTS = Path(__file__).resolve().parent / "results" / "groups.json"
ROUNDS = 5
PAUSE = 0.15  # seconds, in which the threads of a BLAS stop to spin after a call
ENOUGH = 1e-6  # nats per row: a difference below this is the stop rule's
XY = pl.struct("x", "y")


class Case(NamedTuple):
    """Groups of rows in the plane, two clusters each."""

    groups: int
    rows: int
    beside: int  # groups that scikit-learn fits in a round

    def frame(self) -> pl.DataFrame:
        """The rows: each group has clusters of its own, near or far."""
        rng = np.random.default_rng(self.groups)
        g = np.repeat(np.arange(self.groups), self.rows)
        apart = rng.uniform(1.5, 6.0, size=self.groups)[g]
        angle = rng.uniform(0.0, 2 * np.pi, size=self.groups)[g]
        second = rng.random(g.size) < 0.4
        x, y = rng.normal(size=(2, g.size))
        x += second * apart * np.cos(angle)
        y += second * apart * np.sin(angle)
        return pl.DataFrame({"g": g, "x": x, "y": y})


CASES = [Case(100_000, 20, 100), Case(10_000, 100, 100)]
QUICK = [Case(2_000, 20, 20), Case(1_000, 100, 20)]


def measure_fits(case: Case) -> Result:
    """Seconds a group of the query and of the loop, and how their likelihoods compare."""
    df = case.frame()
    parts = [
        df.slice(g * case.rows, case.rows).select("x", "y").to_numpy() for g in range(case.beside)
    ]
    query, loop, one_thread = [], [], []
    likelihoods: list[float] = []
    models = df.head(0)
    for _ in range(ROUNDS):
        time.sleep(PAUSE)
        begun = time.perf_counter()
        models = df.group_by("g", maintain_order=True).agg(m=XY.gmm.fit(2))
        query.append((time.perf_counter() - begun) / case.groups)
        begun = time.perf_counter()
        fits = [GaussianMixture(2, random_state=0).fit(part) for part in parts]
        loop.append((time.perf_counter() - begun) / case.beside)
        with threadpool_limits(limits=1):
            begun = time.perf_counter()
            for part in parts:
                GaussianMixture(2, random_state=0).fit(part)
            one_thread.append((time.perf_counter() - begun) / case.beside)
        likelihoods = [fit.score(part) for fit, part in zip(fits, parts, strict=True)]
    own = models["m"].struct["log_likelihood"].head(case.beside).to_numpy() / case.rows
    no_worse = float(np.mean(own >= np.array(likelihoods) - ENOUGH))
    return {
        "groups": case.groups,
        "rows": case.rows,
        "seconds": statistics.median(query) * case.groups,
        "microseconds_a_group": statistics.median(query) * 1e6,
        "sklearn_milliseconds_a_group": statistics.median(loop) * 1e3,
        "sklearn_milliseconds_a_group_one_thread": statistics.median(one_thread) * 1e3,
        "ratio": statistics.median(loop) / statistics.median(query),
        "ratio_one_thread": statistics.median(one_thread) / statistics.median(query),
        "no_worse": no_worse,
        "rounds": ROUNDS,
    }


JOIN = """
import pathlib, sys
import polars as pl
import polars_gmm as pg

path, models, what = sys.argv[1:]
features = pl.struct([f"x{j}" for j in range(8)])
score = features.gmm.predict("m")

def kibibytes(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

def measured(work):
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = kibibytes("VmRSS")
    work()
    print(max(kibibytes("VmHWM") - before, 0))

right = pl.read_parquet(models)
if what == "streaming":
    rows = pl.scan_parquet(path).join(right.lazy(), on="g")
    measured(lambda: rows.select(score.cast(pl.UInt64).sum()).collect(engine="streaming"))
else:
    rows = pl.read_parquet(path).rechunk()
    if what == "number":
        right = right.with_columns(pl.lit(1.0).alias("m"))
        score = pl.col("m").cast(pl.UInt32)
    measured(lambda: rows.join(right, on="g", how="left", maintain_order="left").select(score))
"""


def added_by(rows: str, models: str, what: str) -> float:
    """Peak memory of a process of its own, above what it held with the rows read, in MiB."""
    command = [sys.executable, "-c", JOIN, rows, models, what]
    elsewhere = Path(rows).parent  # not where the package lies without its extension
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=elsewhere)
    return int(done.stdout) / 1024


def measure_join(rows: int, groups: int) -> Result:
    """Peak memory that a join of packed models onto rows in any order adds, and its scores."""
    rng = np.random.default_rng(8)
    names = [f"x{j}" for j in range(8)]
    features = pl.struct(names)
    with tempfile.TemporaryDirectory() as folder:
        few = pl.DataFrame(rng.normal(size=(200 * groups, 8)), schema=names)
        few = few.with_columns(g=pl.int_range(pl.len(), dtype=pl.Int32) % groups)
        models = few.group_by("g").agg(m=features.gmm.fit(8, n_init=1, max_iter=5))
        models.select("g", pl.col("m").gmm.pack()).write_parquet(f"{folder}/models.parquet")
        table = pl.DataFrame(rng.normal(size=(rows, 8)), schema=names)
        table = table.with_columns(g=pl.Series(rng.integers(0, groups, rows, dtype=np.int32)))
        table.write_parquet(f"{folder}/rows.parquet", row_group_size=250_000)
        paths = [f"{folder}/rows.parquet", f"{folder}/models.parquet"]
        added = {what: added_by(*paths, what) for what in ("number", "packed", "streaming")}
        seconds = measure_scores(table.head(min(rows, 200_000)), models)
    return {"rows": rows, "models": groups, "k": 8, "d": 8, "mebibytes": added, **seconds}


def measure_scores(table: pl.DataFrame, models: pl.DataFrame) -> Result:
    """Seconds to score joined rows: sorted by model and not, beside one model for all."""
    features = pl.struct([f"x{j}" for j in range(8)])
    packed = models.select("g", pl.col("m").gmm.pack())
    one = pg.GaussianMixture.from_struct(models["m"][0])
    score = features.gmm.predict("m")
    frames = {
        "unsorted": table.join(packed, on="g", maintain_order="left"),
        "sorted": table.sort("g").join(packed, on="g", maintain_order="left"),
        "structs": table.join(models, on="g", maintain_order="left"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ("one", *frames)}
    for _ in range(3):
        begun = time.perf_counter()
        table.select(features.gmm.predict(one))
        seconds["one"].append(time.perf_counter() - begun)
        for name, frame in frames.items():
            begun = time.perf_counter()
            frame.select(score)
            seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"scored": table.height, "seconds": medians}


def said(fits: list[Result], join: Result) -> list[str]:
    """What docs/groups.md says of the figures."""
    rows = [
        f"| {fit['groups']:,} groups of {fit['rows']} rows | {fit['seconds']:.2g} s "
        f"| {fit['microseconds_a_group']:.0f} µs "
        f"| {fit['sklearn_milliseconds_a_group']:.1f} ms, {fit['ratio']:.0f} times as long "
        f"| {fit['sklearn_milliseconds_a_group_one_thread']:.1f} ms, "
        f"{fit['ratio_one_thread']:.0f} times as long | {fit['no_worse']:.0%} |"
        for fit in fits
    ]
    added = join["mebibytes"]
    memory = (
        f"| {join['rows'] // 10**6}M rows, {join['models']:,} models "
        f"| {added['number']:.0f} MiB | {added['packed']:.0f} MiB | {added['streaming']:.0f} MiB |"
    )
    seconds = join["seconds"]
    scores = (
        f"| {join['scored']:,} rows | {seconds['one']:.2f} s | {seconds['sorted']:.2f} s "
        f"| {seconds['unsorted']:.2f} s | {seconds['structs']:.2f} s |"
    )
    return [*rows, memory, scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small tables; nothing is written")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")
    fits = [measure_fits(case) for case in (QUICK if quick else CASES)]
    join = measure_join(*((100_000, 20) if quick else (10_000_000, 1_000)))
    lines = said(fits, join)
    print("\n".join(lines))
    if quick:
        return
    result = {
        "said": lines,
        "fits": fits,
        "join": join,
        "versions": {
            "polars_gmm": pg.__version__,
            "polars": pl.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "threads": pl.thread_pool_size(),
            "cores": os.cpu_count(),
            "load": os.getloadavg(),
        },
    }
    RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
