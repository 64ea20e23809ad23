"""Rows drawn from a mixture that is known, and the mixture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.datasets import make_blobs

import polars_gmm as pg

Array = NDArray[np.float64]

# Distances between two means, in standard deviations.
NEAR, FAR = 3.0, 40.0


class Data(NamedTuple):
    """The same rows as columns and as a matrix, and the model a step begins at."""

    frame: pl.DataFrame
    matrix: Array
    model: pg.GaussianMixture
    column: str | None = None

    @property
    def features(self) -> pl.Expr:
        return pl.struct(self.model.features) if self.column is None else pl.col(self.column)

    def in_one_column(self) -> Data:
        """The same, the features in a struct column that is not made for each call."""
        column = "features"
        return self._replace(frame=self.frame.select(self.features.alias(column)), column=column)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.matrix.shape, self.model.k)

    def entropy(self) -> float:
        """Mean entropy of the responsibilities of a row, in nats: 0 if each has one component."""
        statistics = self.frame.select(self.features.gmm.statistics(self.model)).item()
        return statistics["entropy"] / self.frame.height

    def models(self, count: int) -> list[pg.GaussianMixture]:
        """As many models that differ by a little: each must be factorised anew, as in a fit."""
        weights = [
            self.model.weights * (1 + 1e-9 * i * np.arange(self.model.k)) for i in range(count)
        ]
        means, covariances = self.model.means, self.model.covariances
        return [
            pg.GaussianMixture(w / w.sum(), means, covariances, features=self.model.features)
            for w in weights
        ]


def mixture(n: int, d: int, k: int, distance: float) -> Data:
    """Rows of k components of unlike covariances and weights whose means lie `distance` apart."""
    rng = np.random.default_rng([n, d, k])
    weights = rng.dirichlet(np.full(k, 5.0))
    means = rng.normal(scale=distance / np.sqrt(2 * d), size=(k, d))
    # Cholesky factors near a common one: in many dimensions small differences add up.
    common = np.eye(d) + np.tril(rng.normal(scale=0.3 / np.sqrt(d), size=(d, d)), -1)
    factors = common @ (np.eye(d) + np.tril(rng.normal(scale=0.3 / d, size=(k, d, d))))
    components = rng.choice(k, size=n, p=weights)
    matrix = rng.normal(size=(n, d))
    for c in range(k):
        mine = components == c
        matrix[mine] = matrix[mine] @ factors[c].T + means[c]
    features = [f"x{j}" for j in range(d)]
    covariances = factors @ factors.transpose(0, 2, 1)
    model = pg.GaussianMixture(weights, means, covariances, features=features)
    return Data(pl.DataFrame(matrix, schema=features), matrix, model)


def blobs(n: int = 10_000, k: int = 20) -> Data:
    """The talk's blobs in the plane, and a mixture fitted to them."""
    matrix, _ = make_blobs(n_samples=n, centers=k, n_features=2, random_state=7)
    frame = pl.DataFrame(matrix, schema=["x", "y"])
    return Data(frame, matrix, frame.gmm.fit(k=k))
