"""The talk this project starts from: random responsibilities, one M-step, labels come back."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import oracle
import polars_gmm as pg
from datasets import array_column
from oracle import distance
from support import as_model, parameters_of, the_value

K = 20
N = 10_000

xy = pl.struct("x0", "x1")


def workload() -> pl.DataFrame:
    return pg.make_blobs(N, centers=K, features=2, seed=7)


def rows_of(df: pl.DataFrame) -> oracle.Array:
    return df.select("x0", "x1").to_numpy()


def spread_out() -> tuple[oracle.Parameters, pl.DataFrame]:
    """Ten components far apart, and rows drawn from them."""
    rng = np.random.default_rng(7)
    factors = rng.normal(size=(10, 2, 2)) * 0.5
    truth = oracle.Parameters(
        rng.dirichlet(np.full(10, 20.0)),
        np.column_stack([np.arange(10) * 20.0, np.arange(10) % 3 * 30.0]),
        factors @ factors.transpose(0, 2, 1) + 0.3 * np.eye(2),
    )
    rows, labels = oracle.draw(rng, truth, 50_000)
    return truth, pl.DataFrame(
        {"x0": rows[:, 0], "x1": rows[:, 1], "label": labels.astype(np.uint32)}
    )


def test_m_step_from_random_responsibilities() -> None:
    df = workload()
    gamma = np.random.default_rng(0).dirichlet(np.ones(K), size=N)
    stepped = the_value(
        df.with_columns(array_column("r", gamma)).select(xy.gmm.m_step("r", covariance_floor=0))
    )
    expected = oracle.m_step(rows_of(df), gamma)
    oracle.assert_same_parameters(oracle.parameters(stepped), expected, 1e-12)


def test_e_step_then_m_step_is_an_em_step() -> None:
    df = workload()
    gamma = np.random.default_rng(0).dirichlet(np.ones(K), size=N)
    model = pg.GaussianMixture.from_struct(
        df.with_columns(array_column("r", gamma)).select(xy.gmm.m_step("r")).to_series()
    )
    likelihoods = []
    for _ in range(5):
        likelihoods.append(model.score(df))
        r = model.responsibilities()
        by_hand = the_value(df.with_columns(r).select(xy.gmm.m_step("responsibilities")))
        fused = df.select(xy.gmm.em_step(model)).to_series()
        oracle.assert_same_parameters(
            oracle.parameters(by_hand), oracle.parameters(fused[0]), 1e-12
        )
        model = pg.GaussianMixture.from_struct(fused)
    assert (np.diff(likelihoods) > 0).all()


def test_m_step_from_true_labels_recovers_the_mixture() -> None:
    truth, df = spread_out()
    hard = df.with_columns(array_column("r", np.eye(10)[df["label"].to_numpy()]))
    stepped = oracle.parameters(the_value(hard.select(xy.gmm.m_step("r"))))
    assert np.abs(stepped.weights - truth.weights).max() < 0.01
    assert np.abs(stepped.means - truth.means).max() < 0.1
    assert distance(stepped.covariances, truth.covariances) < 0.05
    for j in range(10):
        own = rows_of(df.filter(label=j))
        assert np.abs(stepped.means[j] - own.mean(axis=0)).max() < 1e-11
        assert distance(stepped.covariances[j], np.cov(own.T, bias=True)) < 1e-11
        assert stepped.weights[j] == pytest.approx(len(own) / df.height, rel=1e-13)


def test_samples_of_a_component_are_assigned_to_it() -> None:
    truth, df = spread_out()
    model = as_model(truth)
    out = df.select("label", z=model.predict(), r=model.responsibilities())
    assert (out["z"] == out["label"]).all()
    assert (out["r"].arr.arg_max() == out["label"]).all()
    for j in range(10):
        alone = as_model(
            oracle.Parameters(np.ones(1), truth.means[j : j + 1], truth.covariances[j : j + 1])
        )
        assert (alone.sample(200, seed=j).select(model.predict()).to_series() == j).all()


def test_a_fit_finds_the_mixture_again() -> None:
    truth, df = spread_out()
    model = df.gmm.fit("x0", "x1", k=10)
    order = np.lexsort(truth.means.T[::-1])
    assert np.abs(model.means - truth.means[order]).max() < 0.1
    assert np.abs(model.weights - truth.weights[order]).max() < 0.01
    assert distance(model.covariances, truth.covariances[order]) < 0.05


def test_far_rows_do_not_underflow() -> None:
    truth, df = spread_out()
    far = df.select(pl.col("x0", "x1") + 1e6)
    r = far.select(as_model(truth).responsibilities()).to_series().to_numpy()
    assert np.isfinite(r).all()
    assert np.abs(r.sum(axis=1) - 1).max() < 1e-14


def test_em_climbs_on_the_workload_of_the_talk() -> None:
    df = workload()
    model = df.gmm.fit("x0", "x1", k=K)
    truth = df.gmm.fit("x0", "x1", k=K, init=pl.col("label"))
    assert model.converged
    assert model.log_likelihood > truth.log_likelihood - 0.005 * N
    assert parameters_of(model).weights.min() > 0.005
