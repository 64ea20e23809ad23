"""The two Python M-steps of the talk this project starts from, written anew.

From rows x (n × d) and responsibilities r (n × k):

    W_c = Σ_i r_ic    μ_c = Σ_i r_ic x_i / W_c    Σ_c = Σ_i r_ic (x_i − μ_c)(x_i − μ_c)ᵀ / W_c
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mixture = tuple[Array, Array, Array]


def with_einsum(rows: Array, responsibilities: Array) -> Mixture:
    weights = responsibilities.sum(axis=0)
    means = np.einsum("nk, nd -> kd", responsibilities, rows) / weights[:, None]
    centred = rows[:, None, :] - means
    scatter = np.einsum("nkd, nk, nke -> kde", centred, responsibilities, centred)
    return weights / weights.sum(), means, scatter / weights[:, None, None]


def with_a_loop(rows: Array, responsibilities: Array) -> Mixture:
    weights = responsibilities.sum(axis=0)
    means = responsibilities.T @ rows / weights[:, None]
    covariances = np.empty((len(weights), rows.shape[1], rows.shape[1]))
    for c, (weight, mean) in enumerate(zip(weights, means, strict=True)):
        centred = rows - mean
        covariances[c] = (centred * responsibilities[:, c, None]).T @ centred / weight
    return weights / weights.sum(), means, covariances
