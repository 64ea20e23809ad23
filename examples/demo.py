"""Gaussian mixtures as Polars expressions: fit, look, score in a lazy query, write, compare.

Run it with `make demo`, or anywhere the package and scikit-learn are installed.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import sklearn.mixture
from sklearn.datasets import make_blobs

import polars_gmm as pg

HERE = Path(__file__).parent
OUT = HERE / "out"
RUNS = 5


def main() -> None:
    OUT.mkdir(exist_ok=True)

    # 272 eruptions of the Old Faithful geyser: how long each took, and the wait for the next one.
    faithful = pl.scan_csv(HERE / "faithful.csv")
    main_job("Old Faithful", faithful, k=2, path=OUT / "faithful.parquet")

    # 10,000 points in the plane around 20 centres.
    points, _ = make_blobs(n_samples=10_000, centers=20, n_features=2, random_state=7)
    blobs = pl.DataFrame(points, schema=["x", "y"])
    model = main_job("20 blobs", blobs.lazy(), k=20, path=OUT / "blobs.parquet")

    compare(blobs, model)


def main_job(title: str, rows: pl.LazyFrame, k: int, path: Path) -> pg.GaussianMixture:
    """Fit a mixture, show it, and let a lazy query add its columns on the way to a Parquet file."""
    print(f"\n{title}, k = {k}")

    # `rows.gmm.fit(k=k)` is the same; type checkers understand `pg.gmm(rows)`.
    model, seconds = timed(pg.gmm(rows).fit, k=k)
    print(f"fitted in {seconds:.3f} s: {model!r}")
    with pl.Config(tbl_rows=k):
        print(model.to_frame())

    query = rows.with_columns(
        model.responsibilities(),  # how much each component answers for the row; sums to 1
        model.predict(),  # the component that answers most
        model.log_density(),  # log p(row); the lowest are the oddest rows
    )
    _, seconds = timed(query.sink_parquet, path)
    print(f"scored in a lazy query and written to {path.name} in {seconds:.3f} s; read back:")

    scored = pl.read_parquet(path)
    print(scored.head(3))
    print("the oddest row:", scored.drop("responsibilities").sort("log_density").row(0, named=True))
    return model


def compare(frame: pl.DataFrame, model: pg.GaussianMixture) -> None:
    """Take the seconds that a fit and scoring take, next to scikit-learn's."""
    array = frame.to_numpy()
    k = model.k
    ours, defaults, matched = [], [], []
    for seed in range(RUNS):  # in turns, so that a busy moment of the machine hits all
        ours.append(timed(frame.gmm.fit, k=k, seed=seed))
        sk = sklearn.mixture.GaussianMixture(k, random_state=seed)
        defaults.append(timed(sk.fit, array))
        sk = sklearn.mixture.GaussianMixture(k, random_state=seed, tol=1e-6, max_iter=1000)
        matched.append(timed(sk.fit, array))

    print(f"\nNext to scikit-learn {sklearn.__version__}, on the same {len(frame):,} rows, k = {k}")
    print("tol is what a fit may leave of the rise of the mean log-likelihood (scikit-learn: what")
    print("an iteration may still add). 1e-6, with at most 1,000 iterations, is polars-gmm's")
    print("default; 1e-3, with at most 100, scikit-learn's.")
    print("All else is the default of each, starts included, and each may use every core.")
    print(f"Medians of {RUNS} runs with seeds 0 to {RUNS - 1}, taken in turns:")
    fits = [
        ("polars-gmm, tol 1e-6", ours, frame),
        ("scikit-learn, tol 1e-6", matched, array),
        ("scikit-learn, tol 1e-3", defaults, array),
    ]
    for name, runs, rows in fits:
        seconds = statistics.median(seconds for _, seconds in runs)
        likelihood = statistics.median(fitted.score(rows) for fitted, _ in runs)
        print(f"  fit    {name:22}  {seconds:.4f} s, mean log-likelihood {likelihood:.6f}")

    sk = model.to_sklearn()  # the same model in both, so scoring is the same work
    warnings.filterwarnings("ignore", "X does not have valid feature names")  # a bare array
    ours, theirs = [], []
    for _ in range(RUNS):
        ours.append(timed(frame.select, model.responsibilities()))
        theirs.append(timed(sk.predict_proba, array))
    apart = np.abs(ours[-1][0].to_series().to_numpy() - theirs[-1][0]).max()
    for name, runs in [("polars-gmm", ours), ("scikit-learn", theirs)]:
        seconds = statistics.median(seconds for _, seconds in runs)
        print(f"  score  {name:22}  {seconds:.4f} s, the responsibilities of one model")
    print(f"The responsibilities of the two differ by {apart:.0e} at most.")


def timed(work: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, float]:
    """Call, and give the result with the seconds it took."""
    start = time.perf_counter()
    result = work(*args, **options)
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
