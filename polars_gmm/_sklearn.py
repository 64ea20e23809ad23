"""Models of scikit-learn."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from polars_gmm._errors import GmmError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from polars_gmm._model import GaussianMixture


def to_estimator(model: GaussianMixture) -> Any:
    """Build the fitted `sklearn.mixture.GaussianMixture` with the parameters of `model`."""
    factors = _inverse_factors(model.covariances)
    estimator = _mixture_module().GaussianMixture(model.k, covariance_type=model.covariance_type)
    estimator.weights_ = model.weights.copy()
    estimator.means_ = model.means.copy()
    estimator.covariances_ = _shaped(model.covariances, model.covariance_type)
    estimator.precisions_cholesky_ = _shaped(factors, model.covariance_type)
    estimator.precisions_ = _shaped(factors @ factors.transpose(0, 2, 1), model.covariance_type)
    estimator.converged_ = bool(model.converged)
    estimator.n_iter_ = model.n_iter or 0
    estimator.lower_bound_ = _mean_log_likelihood(model)
    estimator.n_features_in_ = model.d
    estimator.feature_names_in_ = np.array(model.features, dtype=object)
    return estimator


def from_estimator(estimator: Any, features: Sequence[str] | None) -> dict[str, Any]:
    """Give the arguments of `GaussianMixture` for a fitted estimator."""
    if not isinstance(estimator, _mixture_module().GaussianMixture):
        raise GmmError(
            f"expected a fitted sklearn.mixture.GaussianMixture; "
            f"got {type(estimator).__module__}.{type(estimator).__qualname__}"
        )
    if not hasattr(estimator, "weights_"):
        raise GmmError("this sklearn.mixture.GaussianMixture is not fitted: call its fit first")
    return {
        "weights": estimator.weights_,
        "means": estimator.means_,
        "covariances": estimator.covariances_,
        "features": _names(estimator) if features is None else features,
        "covariance_type": estimator.covariance_type,
    }


def _mixture_module() -> Any:
    try:
        return import_module("sklearn.mixture")
    except ImportError as error:
        raise GmmError(
            "conversion to and from scikit-learn needs scikit-learn, which is not installed: "
            "run `pip install scikit-learn`"
        ) from error


def _names(estimator: Any) -> list[str]:
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        return [f"x{index}" for index in range(estimator.means_.shape[1])]
    return [str(name) for name in names]


def _inverse_factors(covariances: NDArray[np.float64]) -> NDArray[np.float64]:
    """U upper triangular with U U' = Sigma^-1: the transposed inverse of the Cholesky factor."""
    inverses = np.linalg.inv(np.linalg.cholesky(covariances))
    return np.array(np.tril(inverses).transpose(0, 2, 1), dtype=np.float64)


def _shaped(matrices: NDArray[np.float64], covariance_type: str) -> NDArray[np.float64]:
    """Cut matrices of shape (k, d, d) to the shape scikit-learn keeps for the type."""
    cuts: dict[str, NDArray[np.float64]] = {
        "full": matrices,
        "tied": matrices[0],
        "diag": np.diagonal(matrices, axis1=1, axis2=2),
        "spherical": matrices[:, 0, 0],
    }
    return np.array(cuts[covariance_type])


def _mean_log_likelihood(model: GaussianMixture) -> float:
    if model.log_likelihood is None or not model.total_weight:
        return -np.inf
    return model.log_likelihood / model.total_weight
