"""scikit-learn with the parameters of a model of ours, and one iteration of its EM."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.mixture import GaussianMixture

from data import Array, Data


def one_iteration(data: Data) -> Callable[[], None]:
    """Its E-step and M-step from the same model each time."""
    sk = data.model.to_sklearn()
    begin = {name: getattr(sk, name) for name in PARAMETERS}
    step = GaussianMixture(data.model.k)

    def run() -> None:
        vars(step).update(begin)
        _, log_responsibilities = step._e_step(data.matrix)
        step._m_step(data.matrix, log_responsibilities)

    return run


def m_step(data: Data, responsibilities: Array) -> Callable[[], None]:
    step = GaussianMixture(data.model.k)
    logs = np.log(np.maximum(responsibilities, 1e-300))
    return lambda: step._m_step(data.matrix, logs)


PARAMETERS = ("weights_", "means_", "covariances_", "precisions_cholesky_")
