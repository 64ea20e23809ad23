"""The conjugate prior of means and covariances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from polars_gmm._checks import float_array, real, shown
from polars_gmm._errors import GmmError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class PriorOptions(TypedDict):
    """A prior as the compiled code takes it."""

    shrinkage: float
    dof: float | None
    mean: list[float] | None
    scale: list[float] | None


@dataclass(frozen=True, slots=True)
class NormalInverseWishart:
    """A normal-inverse-Wishart prior of means and covariances, for maximum a posteriori fits.

    mu_k | Sigma_k ~ N(mean, Sigma_k / shrinkage) and Sigma_k ~ inverse Wishart(dof, scale), so that
    no component collapses on a few rows. What is not given comes from the data, as in mclust.

    Parameters
    ----------
    shrinkage
        Rows the prior mean counts for, >= 0.
    dof
        Degrees of freedom nu, above d - 1; d + 2 if not given.
    mean
        Shape (d,), in units of the features; the mean of all rows if not given.
    scale
        Shape (d, d), symmetric positive definite; the covariance of all rows divided by k^(2/d)
        if not given. Structures "diag" and "spherical" use its diagonal.

    Raises
    ------
    GmmError
        When given to a fit, if a hyperparameter is out of range or of another shape.

    Notes
    -----
    Fraley & Raftery (2007), *Bayesian regularization for normal mixture estimation and model-based
    clustering*, section 3 and table 3. The default scale of "diag" is each feature's own variance,
    where mclust takes the mean of all variances: so a fit follows when one feature is rescaled.

    The fit maximises log-likelihood plus log-prior; ``log_likelihood`` is the likelihood at that
    maximum, and so are ``bic``, ``aic`` and ``icl``, as in mclust.

    Examples
    --------
    >>> import polars as pl
    >>> import polars_gmm as pg
    >>> df = pl.DataFrame({"x": [0.0, 1.0, 2.0, 50.0]})
    >>> prior = pg.NormalInverseWishart()
    >>> bool(df.gmm.fit(k=2, prior=prior).covariances.min() > 1)
    True
    """

    shrinkage: float = 0.01
    dof: float | None = None
    mean: ArrayLike | None = None
    scale: ArrayLike | None = None


def prior_options(prior: object) -> PriorOptions | None:
    """Check the types of a prior's hyperparameters."""
    if prior is None:
        return None
    if not isinstance(prior, NormalInverseWishart):
        raise GmmError(f"prior must be a NormalInverseWishart or None; got {shown(prior)}")
    return PriorOptions(
        shrinkage=real("prior.shrinkage", prior.shrinkage),
        dof=None if prior.dof is None else real("prior.dof", prior.dof),
        mean=_flat("prior.mean", prior.mean, 1),
        scale=_flat("prior.scale", prior.scale, 2),
    )


def _flat(name: str, values: ArrayLike | None, dimensions: int) -> list[float] | None:
    if values is None:
        return None
    array = float_array(name, values)
    if array.ndim != dimensions or len(set(array.shape)) != 1:
        shape = "(d,)" if dimensions == 1 else "(d, d)"
        raise GmmError(f"{name} must have shape {shape}; got {array.shape}")
    numbers: list[float] = array.ravel().tolist()
    return numbers
