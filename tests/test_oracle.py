"""The oracle itself, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import oracle
from oracle import STRUCTURES, Parameters


def sklearn_form(covariances: oracle.Array, structure: str) -> oracle.Array:
    if structure == "full":
        return covariances
    if structure == "tied":
        return covariances[0]
    variances = np.einsum("kdd->kd", covariances)
    return variances if structure == "diag" else variances[:, 0]


def one_step_of_sklearn(
    rows: oracle.Array, start: Parameters, structure: str
) -> tuple[GaussianMixture, Parameters]:
    precisions = np.linalg.inv(start.covariances)
    estimator = GaussianMixture(
        len(start.weights),
        covariance_type=structure,
        reg_covar=0,
        max_iter=1,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=sklearn_form(precisions, structure),
    )
    with pytest.warns(ConvergenceWarning):
        estimator.fit(rows)
    k, d = start.means.shape
    covariances = {
        "full": lambda c: c,
        "tied": lambda c: np.broadcast_to(c, (k, d, d)),
        "diag": lambda c: np.stack([np.diag(v) for v in c]),
        "spherical": lambda c: np.stack([v * np.eye(d) for v in c]),
    }[structure](estimator.covariances_)
    return estimator, Parameters(estimator.weights_, estimator.means_, covariances)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 3), (5, 4)])
def test_a_step_is_the_step_of_sklearn(structure: str, d: int, k: int) -> None:
    rng = np.random.default_rng(d)
    start = oracle.random_model(rng, k, d, structure)
    rows, _ = oracle.draw(rng, start, 500)
    estimator, stepped = one_step_of_sklearn(rows, start, structure)
    ours = oracle.em_step(rows, start, structure)
    oracle.assert_same_parameters(ours, stepped, 1e-10)
    assert oracle.distance(oracle.log_density(rows, ours), estimator.score_samples(rows)) < 1e-10
    assert (
        oracle.distance(oracle.responsibilities(rows, ours), estimator.predict_proba(rows)) < 1e-10
    )


@pytest.mark.parametrize("structure", STRUCTURES)
def test_integer_weights_are_repeated_rows(structure: str) -> None:
    rng = np.random.default_rng(3)
    model = oracle.random_model(rng, 3, 2, structure)
    rows, _ = oracle.draw(rng, model, 200)
    times = rng.integers(0, 4, size=200)
    repeated = np.repeat(rows, times, axis=0)
    weighted = oracle.e_step(rows, model, times.astype(float))
    for a, b in zip(weighted, oracle.e_step(repeated, model), strict=True):
        assert oracle.distance(a, b) < 1e-12
    oracle.assert_same_parameters(
        oracle.em_step(rows, model, structure, times.astype(float)),
        oracle.em_step(repeated, model, structure),
        1e-12,
    )


@pytest.mark.parametrize("structure", STRUCTURES)
def test_far_from_the_origin_the_sums_stay_centred(structure: str) -> None:
    rng = np.random.default_rng(4)
    model = oracle.random_model(rng, 3, 5, structure)
    rows, _ = oracle.draw(rng, model, 500)
    rows = np.round(rows * 2**20) / 2**20
    offset = 2.0**20
    near = oracle.em_step(rows, model, structure)
    moved = oracle.em_step(rows + offset, model._replace(means=model.means + offset), structure)
    assert oracle.distance(moved.covariances, near.covariances) < 1e-9
    assert oracle.distance(moved.means - offset, near.means) < 1e-8


def test_a_distance_is_infinite_where_there_is_none() -> None:
    assert oracle.distance([1.0, np.nan], [1.0, 2.0]) == np.inf
    assert oracle.distance([1.0], [1.0, 2.0]) == np.inf
    assert oracle.distance([3.0, 4.5], [3.0, 4.0]) == pytest.approx(0.1)
