"""What a look at the components of a model tells: how many rows, how round, how far apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polars_gmm._model import GaussianMixture

    Array = NDArray[np.float64]

# The variances under a model are those of the rows once its fit has converged, to about this.
_AT_FLOOR = 1e-2
_CONSTANT = 1e-6
_TINY = float(np.finfo(np.float64).tiny)

_SCHEMA = pl.Schema(
    {
        "component": pl.UInt32,
        "weight": pl.Float64,
        "effective_rows": pl.Float64,
        "smallest_eigenvalue": pl.Float64,
        "largest_eigenvalue": pl.Float64,
        "at_floor": pl.Boolean,
        "nearest": pl.UInt32,
        "overlap": pl.Float64,
    }
)


def diagnostics(model: GaussianMixture, floor: float | None) -> pl.DataFrame:
    """Tabulate the components; `floor` is the covariance floor of the fit, None if unknown."""
    units = _units(model, floor)
    covariances = model.covariances / units[:, None] / units
    eigenvalues = _eigenvalues(covariances)
    smallest = eigenvalues[:, 0]
    nearest, overlap = _neighbours(model.weights, model.means / units, covariances)
    columns = {
        "component": range(model.k),
        "weight": model.weights,
        "effective_rows": None if model.n_rows is None else model.weights * model.n_rows,
        "smallest_eigenvalue": smallest,
        "largest_eigenvalue": eigenvalues[:, -1],
        "at_floor": None if floor is None else _at_floor(smallest, floor),
        "nearest": nearest,
        "overlap": overlap,
    }
    return pl.DataFrame(
        [
            pl.Series(name, [None] * model.k if values is None else values, dtype=dtype)
            for (name, values), dtype in zip(columns.items(), _SCHEMA.values(), strict=True)
        ]
    )


def _at_floor(smallest: Array, floor: float) -> list[bool]:
    """Tell which components touch the floor; a floor of zero is none."""
    return [floor > 0 and value <= floor * (1 + _AT_FLOOR) for value in smallest.tolist()]


def _units(model: GaussianMixture, floor: float | None) -> Array:
    """Square roots of the units the covariance floor is in.

    The variance of feature j is sum_k w_k (Sigma_kjj + (mu_kj - mu_j)^2). A feature that is
    constant has no spread but the floor's own; its unit is its square, or 1 where it is zero.
    """
    mean = model.weights @ model.means
    between = model.means - mean
    deviations = np.sqrt(np.diagonal(model.covariances, axis1=1, axis2=2))
    scale = np.maximum(deviations, np.abs(between)).max(axis=0)
    variance = model.weights @ ((deviations / scale) ** 2 + (between / scale) ** 2)
    spread: Array = scale * np.sqrt(variance)
    if not floor:
        return spread
    constant = np.where(mean == 0, 1.0, np.abs(mean))
    only_floor = np.isclose(spread, np.sqrt(floor) * constant, rtol=_CONSTANT, atol=0)
    return np.where(only_floor, constant, spread)


def _neighbours(
    weights: Array, means: Array, covariances: Array
) -> tuple[list[int | None], list[float | None]]:
    """Give the component each overlaps most, and how much; None where there is no other."""
    alive = np.flatnonzero(weights > 0)
    nearest: list[int | None] = [None] * len(weights)
    overlap: list[float | None] = [None] * len(weights)
    logs = _log_determinant(_eigenvalues(covariances))
    for component in alive:
        others = alive[alive != component]
        if not others.size:
            continue
        middle = (covariances[component] + covariances[others]) / 2
        values, vectors = np.linalg.eigh(middle)
        between = np.einsum("ni,nij->nj", means[others] - means[component], vectors)
        # D_B = 1/8 d' M^-1 d + 1/2 ln |M| / sqrt(|A| |B|), M = (A + B) / 2
        distance = (between**2 / np.maximum(values, _TINY)).sum(axis=1) / 8
        distance += (_log_determinant(values) - (logs[component] + logs[others]) / 2) / 2
        closest = int(distance.argmin())
        nearest[component] = int(others[closest])
        overlap[component] = float(np.exp(-max(distance[closest], 0.0)))
    return nearest, overlap


def _eigenvalues(matrices: Array) -> Array:
    return np.linalg.eigvalsh(matrices).astype(np.float64, copy=False)


def _log_determinant(eigenvalues: Array) -> Array:
    logs: Array = np.log(np.maximum(eigenvalues, _TINY)).sum(axis=1)
    return logs
