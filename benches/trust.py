"""How good fits are, beside scikit-learn's best of ten: the tables of docs/trust.md.

`make bench-trust` prints them and writes benches/results/trust.json; it takes scikit-learn ten
minutes. With --quick, a part of them in less than a minute, and nothing is written. With
--keep-sklearn, scikit-learn's figures are those of the last results, if its version is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import sklearn
from numpy.typing import NDArray
from sklearn import datasets, decomposition
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import polars_gmm as pg

Array = NDArray[np.float64]
Result = dict[str, Any]

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "trust.json"
STRUCTURES = ("full", "tied", "diag", "spherical")
ENOUGH = 1e-6  # nats per row: a difference below this is the stop rule's
WORSE = 0.01

# Mean log-likelihoods of 20 blobs by the seed of the data: the best of 120 searches of this package
# and of EM from the true centres, without those that have a degenerate component.
BLOBS_BEST = {
    200: -5.275365481,
    201: -5.362032083,
    202: -5.341461918,
    203: -5.375425078,
    204: -5.308535345,
}


class Case(NamedTuple):
    """A data set and what is fitted to it."""

    name: str
    rows: Array
    k: int
    structure: str

    @property
    def key(self) -> str:
        return f"{self.name} {self.k} {self.structure}"


# -- data ----------------------------------------------------------------------------------------


def faithful() -> Array:
    return pl.read_csv(HERE.parent / "tests" / "data" / "faithful.csv").to_numpy().astype(float)


def breast_cancer() -> Array:
    """In units of the features' deviations: raw, most variances lie at scikit-learn's reg_covar."""
    rows = datasets.load_breast_cancer().data
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


def digits() -> Array:
    return decomposition.PCA(10, random_state=0).fit_transform(datasets.load_digits().data)


def blobs20(seed: int) -> tuple[Array, Array]:
    """2000 rows around 20 centres, and the centres."""
    rows, _, centres = datasets.make_blobs(2000, centers=20, random_state=seed, return_centers=True)
    return rows, centres


def elongated(seed: int, n: int = 800) -> tuple[Array, NDArray[np.intp]]:
    """Two parallel clusters fifty times as long as wide, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size=n)
    y = np.where(labels == 1, 1.0, -1.0) + rng.normal(0, 0.2, size=n)
    return np.column_stack([rng.normal(0, 10, size=n), y]), labels


def overlapping(seed: int, n: int = 2000) -> Array:
    """Three clusters with one standard deviation between their means."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size=n)
    wide = np.array([0.5, 1.0, 1.5])[labels]
    return rng.normal(size=(n, 3)) * np.column_stack([np.ones(n), wide, np.ones(n)]) + np.outer(
        labels, [1.0, 0.0, 0.0]
    )


def unequal(seed: int, n: int = 3000) -> Array:
    """Four clusters of which the smallest has 2 % of the rows."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=n, p=[0.85, 0.1, 0.03, 0.02])
    means = np.array([[0.0, 0.0], [4.0, 3.0], [-4.0, 5.0], [8.0, -4.0]])
    return means[labels] + rng.normal(size=(n, 2))


def cases(quick: bool) -> Iterator[Case]:
    small: dict[str, tuple[Array, list[int]]] = {
        "faithful": (faithful(), [2, 3]),
        "iris": (datasets.load_iris().data, [2, 3]),
        "wine": (datasets.load_wine().data, [2]),
    }
    everything: dict[str, tuple[Array, list[int]]] = {
        "faithful": (faithful(), [2, 3, 4]),
        "iris": (datasets.load_iris().data, [2, 3, 4]),
        "wine": (datasets.load_wine().data, [2, 3]),
        "breast cancer": (breast_cancer(), [2, 3]),
        "digits, 10 pc": (digits(), [10]),
        "20 blobs": (blobs20(7)[0], [20]),
        "5 blobs": (
            datasets.make_blobs(1000, centers=5, n_features=4, random_state=3)[0],
            [5, 7],
        ),
        "moons": (datasets.make_moons(1000, noise=0.1, random_state=0)[0], [4, 8]),
        "elongated": (elongated(0)[0], [2]),
        "overlapping": (overlapping(0), [3]),
        "unequal weights": (unequal(0), [4]),
    }
    for name, (rows, ks) in (small if quick else everything).items():
        for k in ks:
            for structure in STRUCTURES:
                yield Case(name, rows, k, structure)


def frame(rows: Array) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=[f"x{j}" for j in range(rows.shape[1])])


# -- beside scikit-learn -------------------------------------------------------------------------


def timed(work: Callable[[], Any], runs: int) -> tuple[Any, float]:
    """What `work` gives, and the median of its seconds."""
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return result, statistics.median(seconds)


def full_covariances(model: GaussianMixture, d: int) -> list[Array]:
    c = model.covariances_
    return {
        "full": lambda: list(c),
        "tied": lambda: [c],
        "diag": lambda: [np.diag(v) for v in c],
        "spherical": lambda: [v * np.eye(d) for v in c],
    }[model.covariance_type]()


def with_sklearn(case: Case) -> Result:
    def fit(n_init: int) -> GaussianMixture:
        return GaussianMixture(
            case.k,
            covariance_type=case.structure,
            n_init=n_init,
            tol=1e-6,
            max_iter=1000,
            random_state=0,
        ).fit(case.rows)

    n, d = case.rows.shape
    model, ten_seconds = timed(lambda: fit(10), 1)
    _, one_seconds = timed(lambda: fit(1), 3)
    smallest = min(np.linalg.eigvalsh(c)[0] for c in full_covariances(model, d))
    return {
        "log_likelihood": float(model.score(case.rows)),
        "seconds_ten": ten_seconds,
        "seconds_one": one_seconds,
        # Its floor is what it adds to every variance, in raw units.
        "degenerate": bool(smallest < 2 * model.reg_covar or n * model.weights_.min() < d + 1),
    }


def with_ours(case: Case) -> Result:
    df = frame(case.rows)
    model, seconds = timed(lambda: df.gmm.fit(k=case.k, covariance_type=case.structure), 3)
    return {
        "log_likelihood": model.log_likelihood / len(df),
        "seconds": seconds,
        "iterations": model.n_iter,
        "degenerate": is_degenerate(model, case.rows),
    }


def is_degenerate(model: pg.GaussianMixture, rows: Array) -> bool:
    """Whether a component lies at the floor or has fewer than d + 1 effective rows."""
    n, d = rows.shape
    deviations = rows.std(axis=0)
    units = np.outer(deviations, deviations)
    smallest = min(np.linalg.eigvalsh(c / units)[0] for c in model.covariances)
    return bool(smallest < 2e-6 or n * model.weights.min() < d + 1)


def beside_sklearn(quick: bool, kept: Result) -> list[Result]:
    print("\nlog-likelihood per row; sklearn n_init=10 and ours by default\n")
    print(
        f"{'data':<16} {'k':>2} {'structure':<9} {'sklearn':>10} {'ours':>10} {'difference':>11}"
        f" {'10 runs s':>9} {'1 run s':>8} {'ours s':>8}"
    )
    rows = []
    for case in cases(quick):
        ours = with_ours(case)
        theirs = kept.get(case.key) or with_sklearn(case)
        difference = ours["log_likelihood"] - theirs["log_likelihood"]
        left_out = ours["degenerate"] or theirs["degenerate"]
        who = [name for name, x in (("ours", ours), ("sklearn", theirs)) if x["degenerate"]]
        print(
            f"{case.name:<16} {case.k:>2} {case.structure:<9} {theirs['log_likelihood']:>10.5f}"
            f" {ours['log_likelihood']:>10.5f} {difference:>+11.1e} {theirs['seconds_ten']:>9.2f}"
            f" {theirs['seconds_one']:>8.3f} {ours['seconds']:>8.3f}"
            f"{'  left out: ' + ' and '.join(who) if who else ''}",
            flush=True,
        )
        rows.append(
            {
                "case": case.key,
                "difference": difference,
                "left_out": left_out,
                "sklearn": theirs,
                "ours": ours,
            }
        )
    return rows


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def compared(rows: list[Result]) -> Result:
    counted = [row for row in rows if not row["left_out"]]
    differences = [row["difference"] for row in counted]
    ten = [row["ours"]["seconds"] / row["sklearn"]["seconds_ten"] for row in rows]
    one = [row["ours"]["seconds"] / row["sklearn"]["seconds_one"] for row in rows]
    return {
        "cases": len(rows),
        "counted": len(counted),
        "share_as_good": float(np.mean(np.array(differences) >= -ENOUGH)),
        "worst_difference": min(differences),
        "time_over_ten_runs": geometric_mean(ten),
        "time_over_one_run": geometric_mean(one),
    }


# -- starts --------------------------------------------------------------------------------------


def recovers(seed: int, fit: Callable[[Array], Any]) -> bool:
    rows, labels = elongated(seed)
    return bool(adjusted_rand_score(labels, fit(rows)) > 0.9)


def recovery(quick: bool) -> Result:
    def ours(rows: Array) -> Any:
        df = frame(rows)
        return df.select(df.gmm.fit(k=2).predict()).to_series().to_numpy()

    def theirs(rows: Array) -> Any:
        return GaussianMixture(2, n_init=10, random_state=0).fit_predict(rows)

    draws, few = (20, 5) if quick else (300, 30)
    seeds = range(1_000_000, 1_000_000 + draws)
    return {
        "draws": draws,
        "recovered": sum(recovers(seed, ours) for seed in seeds),
        "sklearn_draws": few,
        "sklearn_recovered": sum(recovers(seed, theirs) for seed in seeds[:few]),
    }


def twenty_blobs(quick: bool) -> Result:
    seeds = range(3) if quick else range(20)
    sets = list(BLOBS_BEST)[: 1 if quick else 5]
    short = []
    for data_seed in sets:
        df = frame(blobs20(data_seed)[0])
        for seed in seeds:
            value = df.gmm.fit(k=20, seed=seed).log_likelihood / df.height
            short.append(BLOBS_BEST[data_seed] - value)
    return {
        "fits": len(short),
        "within": sum(x <= WORSE for x in short),
        "farthest": max(short),
        "nearest": min(short),
    }


def best_of_blobs() -> None:
    """Print the constants `BLOBS_BEST` anew."""
    for data_seed in BLOBS_BEST:
        rows, centres = blobs20(data_seed)
        df = frame(rows)
        labels = ((rows[:, None, :] - centres) ** 2).sum(axis=2).argmin(axis=1)
        starts = df.with_columns(z=pl.Series(labels))
        fits = [starts.gmm.fit(*df.columns, k=20, init=pl.col("z"))]
        fits += [df.gmm.fit(k=20, n_init=10, seed=1000 + i) for i in range(20)]
        fits += [df.gmm.fit(k=20, seed=1000 + i) for i in range(100)]
        sound = [model for model in fits if not is_degenerate(model, rows)]
        print(data_seed, max(model.log_likelihood for model in sound) / len(rows), flush=True)


# -- acceleration --------------------------------------------------------------------------------


def overlapping_cases(quick: bool) -> Iterator[Case]:
    """Components that share their rows: where EM is slow."""
    rng = np.random.default_rng(2)
    near = rng.normal(size=1000) + 1.5 * rng.integers(0, 2, size=1000)
    moons = datasets.make_moons(1000, noise=0.1, random_state=0)[0]
    yield Case("near in 1-d", near[:, None], 2, "full")
    for structure in STRUCTURES:
        yield Case("overlapping", overlapping(0), 3, structure)
    if quick:
        return
    for structure in STRUCTURES:
        yield Case("faithful", faithful(), 3, structure)
    yield Case("iris", datasets.load_iris().data, 3, "full")
    yield Case("iris", datasets.load_iris().data, 3, "tied")
    yield Case("moons", moons, 4, "full")
    yield Case("moons", moons, 8, "spherical")
    yield Case("digits, 10 pc", digits(), 10, "tied")


def acceleration(quick: bool) -> list[Result]:
    """Passes over the data until 1e-6 per row below the limit, from one start."""
    print("\npasses over the data to within 1e-6 of the limit\n")
    print(f"{'data':<16} {'k':>2} {'structure':<9} {'plain':>6} {'accelerated':>11} {'times':>6}")
    results = []
    for case in overlapping_cases(quick):
        df = frame(case.rows)
        options: Result = {"k": case.k, "covariance_type": case.structure}
        start = df.gmm.fit(**options, n_init=1, max_iter=0)
        options |= {"init": start, "tol": 1e-12, "max_iter": 20_000}
        plain, fast = df.gmm.fit(**options, acceleration=None), df.gmm.fit(**options)
        limits = [model.log_likelihood / df.height for model in (plain, fast)]
        passes = [
            passes_to(model, (limit - ENOUGH) * df.height)
            for model, limit in zip((plain, fast), limits, strict=True)
        ]
        same = abs(limits[0] - limits[1]) <= ENOUGH
        print(
            f"{case.name:<16} {case.k:>2} {case.structure:<9} {passes[0]:>6} {passes[1]:>11}"
            f" {passes[0] / passes[1]:>6.1f}{'' if same else '  another limit'}",
            flush=True,
        )
        results.append(
            {
                "case": case.key,
                "plain": passes[0],
                "accelerated": passes[1],
                "limit_gained": limits[1] - limits[0],
            }
        )
    return results


def passes_to(model: pg.GaussianMixture, log_likelihood: float) -> int:
    """Passes until then; those of refused steps count as iterations, and so here."""
    reached = model.history.filter(pl.col("log_likelihood") >= log_likelihood)
    return int(reached["iteration"][0]) + 1


def accelerated(rows: list[Result]) -> Result:
    ratios = [row["plain"] / row["accelerated"] for row in rows]
    same = [row["limit_gained"] for row in rows if abs(row["limit_gained"]) > ENOUGH]
    return {
        "cases": len(rows),
        "geometric_mean": geometric_mean(ratios),
        "worst": min(ratios),
        "another_limit": len(same),
    }


# -- stopping ------------------------------------------------------------------------------------


def stopping(quick: bool) -> Result:
    """How far below their limits fits from single draws end that say they have converged."""
    left = []
    for case in cases(quick):
        df = frame(case.rows)
        options: Result = {"k": case.k, "covariance_type": case.structure}
        for seed in range(2 if quick else 5):
            start = df.gmm.fit(**options, n_init=1, max_iter=0, seed=seed)
            model = df.gmm.fit(**options, init=start)
            limit = df.gmm.fit(**options, init=start, tol=1e-12, max_iter=20_000)
            if model.converged and not is_degenerate(limit, case.rows):
                left.append((limit.log_likelihood - model.log_likelihood) / df.height)
    return {
        "fits": len(left),
        "within_tol": sum(x <= ENOUGH for x in left),
        "within_ten_tol": sum(x <= 10 * ENOUGH for x in left),
        "farthest": max(left),
    }


# -- all of it -----------------------------------------------------------------------------------


def kept_figures(wanted: bool) -> Result:
    """scikit-learn's figures of the last results, by case."""
    if not wanted or not RESULTS.exists():
        return {}
    last = json.loads(RESULTS.read_text())
    if last["versions"]["scikit-learn"] != sklearn.__version__:
        return {}
    return {row["case"]: row["sklearn"] for row in last["beside_sklearn"]}


def summary(results: Result) -> list[str]:
    by = results["summary"]["beside_sklearn"]
    lines = [
        f"at least as good as scikit-learn's n_init=10, tol=1e-6: {by['share_as_good']:.1%} of"
        f" {by['counted']} cases ({by['cases'] - by['counted']} left out of {by['cases']})",
        f"worst difference: {by['worst_difference']:+.1e} per row",
        f"seconds over n_init=10: {by['time_over_ten_runs']:.3f}, over one run:"
        f" {by['time_over_one_run']:.3f} (geometric means)",
    ]
    elongated, blobs = results["elongated"], results["blobs20"]
    lines += [
        f"elongated clusters: {elongated['recovered']} of {elongated['draws']} draws; scikit-learn"
        f" with n_init=10: {elongated['sklearn_recovered']} of {elongated['sklearn_draws']}",
        f"20 blobs, k = 20: {blobs['within']} of {blobs['fits']} fits within {WORSE} of the best"
        f" known, the farthest {blobs['farthest']:.4f}",
    ]
    ends = results["stopping"]
    lines.append(
        f"fits from single draws that say they have converged: {ends['within_tol']} of"
        f" {ends['fits']} end within tol of their limit, {ends['within_ten_tol']} within 10 tol,"
        f" the farthest {ends['farthest']:.1e} below"
    )
    fast = results["summary"]["acceleration"]
    lines.append(
        f"acceleration: {fast['geometric_mean']:.1f} times fewer passes (geometric mean of"
        f" {fast['cases']}), at worst {fast['worst']:.2f}; {fast['another_limit']} at another limit"
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep-sklearn", action="store_true")
    parser.add_argument("--best-blobs", action="store_true", help="search for BLOBS_BEST anew")
    wanted = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*converge")
    if wanted.best_blobs:
        best_of_blobs()
        return
    rows = beside_sklearn(wanted.quick, kept_figures(wanted.keep_sklearn))
    passes = acceleration(wanted.quick)
    results = {
        "versions": {
            "polars-gmm": pg.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "polars": pl.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
        },
        "summary": {"beside_sklearn": compared(rows), "acceleration": accelerated(passes)},
        "elongated": recovery(wanted.quick),
        "blobs20": twenty_blobs(wanted.quick),
        "stopping": stopping(wanted.quick),
        "acceleration": passes,
        "beside_sklearn": rows,
    }
    results = {"said": summary(results), **results}
    print("", *results["said"], sep="\n")
    if not wanted.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
