"""Whole fits with all defaults, beside scikit-learn's best of ten and its default."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from blas import both_ways, on_its_threads
from sklearn.mixture import GaussianMixture
from timing import QUICK, Effort, Result, compared, measured, seconds

sys.path.append(str(Path(__file__).resolve().parents[1]))
import trust

TEN, DEFAULT = "scikit-learn, n_init=10", "scikit-learn, default"
SECONDS = ("seconds", "low", "high")


def quietly(work: partial[object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work()


def fits(effort: Effort) -> Iterator[Result]:
    """The list of benches/trust.py, which looks at how good they are."""
    for case in chosen(effort):
        df = trust.frame(case.rows)
        options = {"covariance_type": case.structure}
        default = GaussianMixture(case.k, random_state=0, **options)
        careful = GaussianMixture(
            case.k, n_init=10, tol=1e-6, max_iter=1000, random_state=0, **options
        )
        sides = {
            "ours": partial(quietly, partial(df.gmm.fit, k=case.k, **options)),
            **both_ways(DEFAULT, partial(quietly, partial(default.fit, case.rows))),
        }
        figures = compared(sides, effort._replace(rounds=1))
        ten_runs = both_ways(TEN, partial(quietly, partial(careful.fit, case.rows)))
        if effort == QUICK:  # many threads for little data can take a minute
            del ten_runs[TEN]
        for name, work in ten_runs.items():
            with on_its_threads(work):
                ten = seconds(work)
            ratio = ten / figures["times"]["ours"]["seconds"]
            figures["times"][name] = measured([[ten]])
            figures["ratios"][name] = {"ratio": ratio, "low": ratio, "high": ratio}
        yield {"case": case.key} | figures


def chosen(effort: Effort) -> Iterator[trust.Case]:
    quick = effort == QUICK
    return (case for case in trust.cases(quick) if case.k == 2 or not quick)


def groups(effort: Effort) -> Iterator[Result]:
    """Many small mixtures: one expression, beside a loop over some of them in scikit-learn."""
    count, size, some = (500, 100, 10) if effort == QUICK else (10_000, 100, 200)
    rng = np.random.default_rng(1)
    means = rng.normal(scale=3, size=(count, 2, 2))
    labels = rng.integers(0, 2, size=(count, size))
    rows = rng.normal(size=(count, size, 2)) + means[np.arange(count)[:, None], labels]
    flat = rows.reshape(-1, 2)
    df = pl.DataFrame(flat, schema=["x", "y"]).with_columns(g=np.repeat(np.arange(count), size))
    model = pl.struct("x", "y").gmm.fit(k=2)

    def theirs() -> list[float]:
        fitted = (GaussianMixture(2, random_state=0).fit(x) for x in rows[:some])
        return [m.score(x) for m, x in zip(fitted, rows, strict=False)]

    sides = {
        "ours": lambda: df.group_by("g").agg(model),
        **both_ways("scikit-learn", theirs),
    }
    figures = compared(sides, effort)
    for name, ratio in figures["ratios"].items():  # theirs are `some` groups of `count`
        for of, keys in ((ratio, ("ratio", "low", "high")), (figures["times"][name], SECONDS)):
            for key in keys:
                of[key] *= count / some
    fitted = df.group_by("g").agg(model.struct.field("log_likelihood")).sort("g")
    mine = fitted["log_likelihood"].to_numpy()[:some] / size
    good = float(np.mean(mine >= np.array(theirs()) - 1e-6))
    yield {"groups": count, "size": size, "d": 2, "k": 2, "as_good": good, "goal": 100} | figures
