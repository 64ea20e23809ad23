"""Rows of known component, and maximum a posteriori fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import polars_gmm as pg
from datasets import blobs, frame
from support import ComputeError, says

STRUCTURES = ("full", "tied", "diag", "spherical")
structures = pytest.mark.parametrize("structure", STRUCTURES)


def partly_known(known: int = 30) -> pl.DataFrame:
    """Three blobs; the components of the first rows are known, numbered against their order."""
    rows, labels = blobs(300)
    numbers = [int(2 - z) if i < known else None for i, z in enumerate(labels)]
    return frame(rows).with_columns(pl.Series("z", numbers, dtype=pl.Int64), truth=2 - labels)


@structures
@pytest.mark.parametrize("lazy", [False, True])
def test_known_rows_keep_their_component(structure: str, lazy: bool) -> None:
    df = partly_known()
    source: Any = df.lazy() if lazy else df
    model = source.gmm.fit("x0", "x1", k=3, labels="z", covariance_type=structure)
    predicted = df.select(model.predict()).to_series()
    assert (predicted == df["truth"]).mean() > 0.95


def test_the_likelihood_counts_known_labels_as_observed() -> None:
    df = partly_known()
    model = df.gmm.fit("x0", "x1", k=3, labels="z")
    scored = df.select("z", model.log_density(), model.responsibilities(log=True))
    expected = sum(
        density + (0.0 if z is None else row[z]) for z, density, row in scored.iter_rows()
    )
    assert model.log_likelihood == pytest.approx(expected, rel=1e-12)


def test_unlabelled_rows_alone_are_an_ordinary_fit() -> None:
    df = partly_known().with_columns(z=pl.lit(None, dtype=pl.Int64))
    assert df.gmm.fit("x0", "x1", k=3, labels="z").k == 3
    xy = pl.struct("x0", "x1")
    with_column = df.select(m=xy.gmm.fit(3, labels=pl.col("z")))
    likelihoods = [
        pg.GaussianMixture.from_struct(with_column["m"]).log_likelihood,
        df.gmm.fit("x0", "x1", k=3).log_likelihood,
    ]
    assert likelihoods[0] == pytest.approx(likelihoods[1], rel=1e-6)


def test_labels_in_groups() -> None:
    df = partly_known().with_columns(g=pl.int_range(pl.len()) % 2)
    out = df.with_columns(
        c=pl.struct("x0", "x1").gmm.fit_predict(3, labels="z").over("g"),
    )
    assert (out["c"] == out["truth"]).mean() > 0.95


def test_labels_out_of_range_or_of_another_dtype() -> None:
    df = partly_known()
    with says(pg.GmmError, "labels", "z", r"\b7\b", "0 to 2"):
        df.with_columns(z=pl.lit(7)).gmm.fit("x0", "x1", k=3, labels="z")
    with says(pg.GmmError, "labels", "str"):
        df.with_columns(z=pl.lit("a")).gmm.fit("x0", "x1", k=3, labels="z")
    with says(ComputeError, "labels", "str"):
        df.lazy().select(pl.struct("x0", "x1").gmm.fit(3, labels=pl.lit("a"))).collect_schema()


def test_numbers_below_the_labels_are_passed_over() -> None:
    df, xy = partly_known(), pl.struct("x0", "x1")
    of_frame = df.gmm.fit("x0", "x1", k=[1, 2, 3, 4], labels="z")
    fitted = df.select(m=xy.gmm.fit([4, 2, 1, 3], labels="z"))["m"][0]
    assert pg.GaussianMixture.from_struct(fitted) == of_frame
    assert of_frame == df.gmm.fit("x0", "x1", k=3, labels="z")
    # Where none is left, the labels are what is wrong, whatever else is asked for.
    with says(pg.GmmError, 'labels "z" must be integers from 0 to'):
        df.gmm.fit("x0", "x1", k=[2, 1], labels="z")
    with says(ComputeError, 'labels "z" must be integers from 0 to 1'):
        df.select(xy.gmm.fit([1, 2], labels="z", on_failure="null"))
    some = df.with_columns(z=pl.when(pl.col("z") < 2).then(pl.col("z")))
    with says(ComputeError, 'labels "z" must be integers from 0 to 0'):
        some.select(xy.gmm.fit([1, 900], labels="z"))


@structures
def test_a_prior_keeps_components_from_collapsing(structure: str) -> None:
    rng = np.random.default_rng(1)
    rows = np.vstack([rng.normal(size=(40, 2)), [[9.0, 9.0]]])
    df = frame(rows)
    prior = pg.NormalInverseWishart()
    options: dict[str, Any] = {"k": 2, "covariance_type": structure}
    labels = pl.Series("z", [0] * 40 + [1])
    start = df.with_columns(labels)
    mapped = start.gmm.fit("x0", "x1", init=pl.col("z"), prior=prior, **options)
    variances = np.array([np.diag(c) for c in mapped.covariances])
    assert variances.min() > 0.01
    # BIC is that of the likelihood at the maximum a posteriori estimate.
    total = df.select(mapped.log_density()).to_series().sum()
    assert mapped.log_likelihood == pytest.approx(total, rel=1e-12)
    assert mapped.bic == pytest.approx(-2 * total + mapped.n_parameters * np.log(41), rel=1e-12)


def test_a_prior_follows_the_units() -> None:
    df = frame(blobs(200)[0])
    prior = pg.NormalInverseWishart()
    here = df.gmm.fit(k=3, prior=prior)
    there = df.with_columns(pl.col("x0") * 2.0**20).gmm.fit(k=3, prior=prior)
    assert np.abs(there.means[:, 0] / 2.0**20 - here.means[:, 0]).max() < 1e-6


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (3, ["prior", "NormalInverseWishart"]),
        (pg.NormalInverseWishart(shrinkage=-1), ["prior.shrinkage", ">= 0"]),
        (pg.NormalInverseWishart(dof=0.5), ["prior.dof", "d - 1"]),
        (pg.NormalInverseWishart(mean=[1.0, 2.0, 3.0]), ["prior.mean", "2 features"]),
        (pg.NormalInverseWishart(scale=[[1.0, 2.0], [2.0, 1.0]]), ["prior.scale", "definite"]),
        (pg.NormalInverseWishart(scale=[[1.0, 0.5], [0.2, 1.0]]), ["prior.scale", "symmetric"]),
        (pg.NormalInverseWishart(scale=[1.0, 2.0]), ["prior.scale", r"\(d, d\)"]),
    ],
)
def test_bad_priors(prior: Any, words: list[str]) -> None:
    with says(pg.GmmError, *words):
        frame(blobs(60)[0]).gmm.fit(k=2, prior=prior)


def test_bad_accelerations() -> None:
    with says(pg.GmmError, "acceleration", "quasi-newton", "squarem"):
        frame(blobs(60)[0]).gmm.fit(k=2, acceleration="squarem")
