"""Plain NumPy expectation maximisation: what the extension is tested against."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, xlogy
from scipy.stats import multivariate_normal

Array = NDArray[np.float64]

STRUCTURES = ("full", "tied", "diag", "spherical")


class Parameters(NamedTuple):
    """Weights (k,), means (k, d) and covariances (k, d, d), whatever the structure."""

    weights: Array
    means: Array
    covariances: Array


class Statistics(NamedTuple):
    """Weighted sums of one E-step: centred, and with the likelihood of the model that made it."""

    weight: Array
    mean: Array
    scatter: Array
    log_likelihood: float
    entropy: float
    total_weight: float


def log_joint(rows: Array, model: Parameters) -> Array:
    """log(pi_k) + log N(x; mu_k, Sigma_k), shape (n, k)."""
    columns = [
        multivariate_normal.logpdf(rows - mean, cov=covariance).reshape(len(rows))
        for mean, covariance in zip(model.means, model.covariances, strict=True)
    ]
    with np.errstate(divide="ignore"):
        return np.log(model.weights) + np.stack(columns, axis=1)


def log_density(rows: Array, model: Parameters) -> Array:
    """log p(x), shape (n,)."""
    return np.asarray(logsumexp(log_joint(rows, model), axis=1))


def log_responsibilities(rows: Array, model: Parameters) -> Array:
    """log p(component | x), shape (n, k)."""
    joint = log_joint(rows, model)
    return np.asarray(joint - logsumexp(joint, axis=1, keepdims=True))


def responsibilities(rows: Array, model: Parameters) -> Array:
    """p(component | x), shape (n, k)."""
    return np.exp(log_responsibilities(rows, model))


def _sums(rows: Array, shares: Array) -> tuple[Array, Array, Array]:
    """Weight (k,), mean (k, d) and scatter (k, d, d) of rows under shares (n, k)."""
    origin = rows.mean(axis=0)
    weight = shares.sum(axis=0)
    mean = shares.T @ (rows - origin) / weight[:, None]
    centred = (rows - origin)[:, None, :] - mean
    scatter = np.einsum("nkd,nk,nke->kde", centred, shares, centred, optimize=True)
    return weight, mean + origin, scatter


def e_step(rows: Array, model: Parameters, weights: Array | None = None) -> Statistics:
    """The statistics of rows under a model."""
    row_weights = np.ones(len(rows)) if weights is None else weights
    gamma = responsibilities(rows, model)
    return Statistics(
        *_sums(rows, gamma * row_weights[:, None]),
        log_likelihood=float(row_weights @ log_density(rows, model)),
        entropy=float(-(row_weights @ xlogy(gamma, gamma).sum(axis=1))),
        total_weight=float(row_weights.sum()),
    )


def structured(weight: Array, scatter: Array, structure: str) -> Array:
    """Covariances (k, d, d) of maximum likelihood under a structure."""
    d = scatter.shape[1]
    own = scatter / weight[:, None, None]
    if structure == "full":
        return own
    if structure == "tied":
        return np.broadcast_to(scatter.sum(axis=0) / weight.sum(), scatter.shape)
    variances = np.einsum("kdd->kd", own)
    if structure == "spherical":
        variances = np.repeat(variances.mean(axis=1, keepdims=True), d, axis=1)
    return np.einsum("kd,de->kde", variances, np.eye(d))


def maximize(weight: Array, mean: Array, scatter: Array, structure: str) -> Parameters:
    """The M-step on statistics."""
    return Parameters(weight / weight.sum(), mean, structured(weight, scatter, structure))


def m_step(
    rows: Array, gamma: Array, structure: str = "full", weights: Array | None = None
) -> Parameters:
    """The M-step on given responsibilities."""
    shares = gamma if weights is None else gamma * weights[:, None]
    return maximize(*_sums(rows, shares), structure)


def em_step(
    rows: Array, model: Parameters, structure: str = "full", weights: Array | None = None
) -> Parameters:
    """One E-step and the M-step after it."""
    return maximize(*e_step(rows, model, weights)[:3], structure)


def em(rows: Array, start: Parameters, structure: str, steps: int) -> Parameters:
    """A number of EM steps."""
    for _ in range(steps):
        start = em_step(rows, start, structure)
    return start


def expanded(compact: Any, k: int, d: int) -> Array:
    """Covariances (k, d, d) from a model's compact form or from the scatter of statistics."""
    blocks = np.asarray(compact, dtype=float)
    if blocks.shape[1:] == (d, d):
        return np.broadcast_to(blocks, (k, d, d))
    variances = np.broadcast_to(blocks[:, 0, :], (k, d))
    return np.einsum("kd,de->kde", variances, np.eye(d))


def parameters(row: dict[str, Any]) -> Parameters:
    """A model struct, as the dict Polars gives for it."""
    means = np.asarray(row["means"], dtype=float)
    covariances = row["covariances"]
    if means.shape[1] == 1:
        covariances = np.broadcast_to(np.asarray(covariances, dtype=float), (len(means), 1, 1))
    return Parameters(
        np.asarray(row["weights"], dtype=float), means, expanded(covariances, *means.shape)
    )


def distance(actual: Any, expected: Any) -> float:
    """Normwise relative error; infinite where shapes differ or the result is not finite."""
    a, e = np.asarray(actual, dtype=float), np.asarray(expected, dtype=float)
    if a.shape != e.shape or not np.isfinite(a).all():
        return float("inf")
    scale = float(np.linalg.norm(e))
    return float(np.linalg.norm(a - e)) / (scale if scale > 0 else 1.0)


def assert_same_parameters(actual: Parameters, expected: Parameters, rtol: float = 1e-10) -> None:
    """Weights, means and covariances, each normwise."""
    for name, a, e in zip(Parameters._fields, actual, expected, strict=True):
        assert distance(a, e) <= rtol, f"{name}: {distance(a, e):.1e} away"


def random_model(rng: np.random.Generator, k: int, d: int, structure: str) -> Parameters:
    """A well-conditioned mixture whose components overlap."""
    factors = rng.normal(size=(k, d, d)) / np.sqrt(d)
    scatter = factors @ factors.transpose(0, 2, 1) + 0.5 * np.eye(d)
    return Parameters(
        rng.dirichlet(np.full(k, 10.0)),
        rng.normal(scale=1.5, size=(k, d)),
        structured(np.ones(k), scatter, structure),
    )


def draw(rng: np.random.Generator, model: Parameters, n: int) -> tuple[Array, NDArray[np.intp]]:
    """Rows (n, d) drawn from a mixture, and the component each came from."""
    k, d = model.means.shape
    labels = rng.choice(k, size=n, p=model.weights)
    factors = np.linalg.cholesky(model.covariances)
    noise = np.einsum("nde,ne->nd", factors[labels], rng.normal(size=(n, d)))
    return model.means[labels] + noise, labels
