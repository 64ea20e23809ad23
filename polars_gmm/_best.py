"""The best of several fits of one frame, by a criterion."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from polars_gmm._errors import ConvergenceWarning, FitInterrupted, GmmError
from polars_gmm._fit import FitReport, OnIteration, is_no, unconverged

if TYPE_CHECKING:
    from polars_gmm._model import GaussianMixture
    from polars_gmm._options import FitOptions

Fit: TypeAlias = Callable[["FitOptions", OnIteration | None], "GaussianMixture"]


def best_of(
    fit: Fit,
    candidates: list[FitOptions],
    *,
    criterion: str,
    on_iteration: OnIteration | None,
) -> GaussianMixture:
    """Fit every candidate and give the model of lowest criterion, of equal ones the smallest.

    Parameters
    ----------
    fit
        Fits one candidate.
    candidates
        Checked options of each candidate, at least one.
    criterion
        "bic", "aic" or "icl".
    on_iteration
        Called after every iteration of every candidate; returning False ends the fit with the
        best model so far.

    Warns
    -----
    ConvergenceWarning
        If the model given did not converge; attributed to the caller's caller.

    Raises
    ------
    FitInterrupted
        On a KeyboardInterrupt, with the best model so far.
    GmmError
        If no candidate can be fitted, for the reason the first has.
    """
    models: list[GaussianMixture] = []
    failures: list[GmmError] = []
    stopped = False

    def watch(report: FitReport) -> object:
        nonlocal stopped
        answer = None if on_iteration is None else on_iteration(report)
        stopped = is_no(answer)
        return answer

    for options in candidates:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                models.append(fit(options, None if on_iteration is None else watch))
        except FitInterrupted as interrupt:
            reached = models if interrupt.model is None else [*models, interrupt.model]
            raise FitInterrupted(_lowest(reached, criterion)) from interrupt
        except GmmError as error:
            failures.append(error)
        if stopped:
            break
    best = _lowest(models, criterion)
    if best is None:
        raise failures[0]
    options = next(options for options in candidates if options["k"] == best.k)
    if not stopped and unconverged(best, options):
        warnings.warn(_shortfall(best, options, criterion), ConvergenceWarning, stacklevel=3)
    return best


def _lowest(models: list[GaussianMixture], criterion: str) -> GaussianMixture | None:
    def rank(model: GaussianMixture) -> tuple[float, int]:
        return float(getattr(model, criterion)), model.n_parameters

    return min(models, key=rank, default=None)


def _shortfall(model: GaussianMixture, options: FitOptions, criterion: str) -> str:
    return (
        f"the fit of k={model.k}, the best by {criterion}, ended at iteration {model.n_iter} "
        f"before it converged; raise max_iter={options['max_iter']}, or tol={options['tol']:g} to "
        f"stop sooner, or fit fewer components or a simpler covariance_type"
    )
