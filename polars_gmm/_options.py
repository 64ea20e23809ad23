"""Options: what a user gives, as what the compiled code takes."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Literal, TypeAlias, TypedDict, get_args

import polars as pl

from polars_gmm import _lib
from polars_gmm._checks import integer, real, shown, text
from polars_gmm._errors import GmmError
from polars_gmm._features import named
from polars_gmm._model import GaussianMixture
from polars_gmm._prior import NormalInverseWishart, PriorOptions, prior_options

CovarianceType: TypeAlias = Literal["full", "tied", "diag", "spherical"]
StartMethod: TypeAlias = Literal["k-means++", "k-means", "random"]
Criterion: TypeAlias = Literal["bic", "aic", "icl"]
Init: TypeAlias = StartMethod | pl.Expr | GaussianMixture
Acceleration: TypeAlias = Literal["quasi-newton"]
Nulls: TypeAlias = Literal["raise", "drop"]
OnFailure: TypeAlias = Literal["raise", "null"]
ModelLike: TypeAlias = GaussianMixture | pl.Expr | str


class FitOptions(TypedDict):
    """The options of a fit as the compiled code takes them."""

    k: int
    covariance_type: str
    init: str
    start: bytes | None
    n_init: int | None
    max_iter: int
    tol: float
    covariance_floor: float
    nulls: str
    seed: int
    acceleration: str | None
    prior: PriorOptions | None


class Among(TypedDict):
    """Numbers of components to try, and the criterion by which the best is kept."""

    k: list[int]
    criterion: str


class MStepOptions(TypedDict):
    """The options of an M-step."""

    covariance_type: str
    covariance_floor: float


def fit_options(
    k: int,
    *,
    covariance_type: CovarianceType = "full",
    init: Init = "k-means++",
    n_init: int | None = None,
    max_iter: int = 1000,
    tol: float = 1e-6,
    covariance_floor: float = 1e-6,
    nulls: Nulls = "raise",
    seed: int = 0,
    acceleration: Acceleration | None = "quasi-newton",
    prior: NormalInverseWishart | None = None,
) -> tuple[FitOptions, pl.Expr | None]:
    """Check the options of a fit.

    Returns
    -------
    tuple
        The options, and the column of labels or responsibilities to start from, if any.

    Raises
    ------
    GmmError
        If an option has the wrong type or an impossible value.
    """
    method, start, column = _start(init)
    options = FitOptions(
        k=integer("k", k, least=1),
        covariance_type=text("covariance_type", covariance_type),
        init=method,
        start=start,
        n_init=None if n_init is None else integer("n_init", n_init, least=1),
        max_iter=integer("max_iter", max_iter),
        tol=real("tol", tol),
        covariance_floor=real("covariance_floor", covariance_floor),
        nulls=text("nulls", nulls),
        seed=integer("seed", seed),
        acceleration=None if acceleration is None else text("acceleration", acceleration),
        prior=prior_options(prior),
    )
    _lib.check_options(pickle.dumps(options))
    return options, column


def m_step_options(
    *, covariance_type: CovarianceType = "full", covariance_floor: float
) -> MStepOptions:
    """Check the options of an M-step, by the rules of a fit."""
    options, _ = fit_options(1, covariance_type=covariance_type, covariance_floor=covariance_floor)
    return MStepOptions(
        covariance_type=options["covariance_type"],
        covariance_floor=options["covariance_floor"],
    )


def numbers_of_components(k: object, init: object = None) -> list[int]:
    """Check the numbers of components to try, where to start from given; each counts once."""
    try:
        given = list(k) if isinstance(k, Iterable) and not isinstance(k, str | bytes) else [k]
    except TypeError as error:
        raise GmmError(f"k must be a whole number or a list of them: {error}") from error
    if not given:
        raise GmmError(
            f"k must be a whole number, or a range or list of them, of which there is at least "
            f"one to try; got {shown(k)}"
        )
    counts = list(dict.fromkeys(integer("k", value, least=1) for value in given))
    if len(counts) > 1 and isinstance(init, pl.Expr | GaussianMixture):
        raise GmmError(
            f"init must be the name of a method where k is a list, as a given start has one number "
            f"of components; got {shown(init)}"
        )
    return counts


def checked_criterion(criterion: object) -> str:
    """Check the name of the criterion candidates are ordered by."""
    choices = get_args(Criterion)
    if not isinstance(criterion, str) or criterion not in choices:
        raise GmmError(f"criterion must be one of {list(choices)}; got {shown(criterion)}")
    return criterion


def several(counts: list[int], criterion: object) -> Among | None:
    """Say how the best of several numbers of components is chosen; None for one number."""
    checked = checked_criterion(criterion)
    return None if len(counts) == 1 else Among(k=counts, criterion=checked)


def on_failure_option(value: object) -> str:
    """Check what a fit does with a group it cannot fit."""
    choices = get_args(OnFailure)
    if not isinstance(value, str) or value not in choices:
        raise GmmError(f"on_failure must be one of {list(choices)}; got {shown(value)}")
    return value


def column(name: str, value: object) -> pl.Expr:
    """Give the column of an option: a name or an expression."""
    if isinstance(value, str):
        return named(value)
    if isinstance(value, pl.Expr):
        return value
    raise GmmError(f"{name} must be a column name or a Polars expression; got {shown(value)}")


def optional_column(name: str, value: object) -> pl.Expr | None:
    """Give the column of an option that may be absent."""
    return None if value is None else column(name, value)


def model_source(model: object) -> bytes | pl.Expr:
    """Give a model as packed bytes, or as the column that holds models."""
    if isinstance(model, GaussianMixture):
        return model.pack()
    if isinstance(model, str | pl.Expr):
        return column("model", model)
    raise GmmError(
        f"model must be a GaussianMixture, or a column name or expression of a model struct or "
        f"packed model; got {shown(model)}"
    )


def _start(init: object) -> tuple[str, bytes | None, pl.Expr | None]:
    """Give the method, the packed model and the column that `init` stands for."""
    if isinstance(init, GaussianMixture):
        return "model", init.pack(), None
    if isinstance(init, pl.Expr):
        return "column", None, init
    methods = get_args(StartMethod)
    if not isinstance(init, str) or init not in methods:
        raise GmmError(
            f"init must be one of {list(methods)}, a GaussianMixture, or an expression for a "
            f"column of labels or responsibilities, such as pl.col('label'); got {shown(init)}"
        )
    return init, None, None
