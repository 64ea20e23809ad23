"""The driver of a fit over columns in memory."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from polars_gmm._errors import ConvergenceWarning, FitInterrupted, GmmError
from polars_gmm._history import history_frame
from polars_gmm._lib import Fitter, Model
from polars_gmm._model import GaussianMixture, wrap
from polars_gmm._progress import progress_bar

if TYPE_CHECKING:
    import polars as pl

    from polars_gmm._options import FitOptions

_SHORTEST = 1e-9
# The limit is estimated from two steps, twice.
_FEWEST_TO_CONVERGE = 3

Evaluation: TypeAlias = tuple[int, float, float, float]


@dataclass(frozen=True, slots=True)
class FitReport:
    """One iteration of a fit, as given to ``on_iteration``.

    A report stays what it is while the fit goes on. It pickles and copies. Where an accelerated
    step was refused, its iteration has no report: the numbers may skip, and the iteration after it
    has the seconds of both.

    Attributes
    ----------
    iteration : int
        Number of M-steps so far, from 1.
    log_likelihood : float
        Log-likelihood of `model` on the training rows, in nats.
    change : float
        What the iteration added to the mean log-likelihood per unit of weight.
    seconds : float
        Seconds the iteration took.
    rows_per_second : float
        Training rows over `seconds`.

    Examples
    --------
    >>> import polars_gmm as pg
    >>> seen = []
    >>> df = pg.make_blobs(100, centers=2).drop("label")
    >>> model = df.gmm.fit(k=2, on_iteration=seen.append)
    >>> seen[0].iteration, seen[-1].iteration == model.n_iter
    (1, True)
    """

    iteration: int
    log_likelihood: float
    change: float
    seconds: float
    rows_per_second: float
    _model: Model = field(repr=False, compare=False)
    # The course of the fit, which its later iterations append to, and its length at this one.
    _course: list[Evaluation] = field(repr=False, compare=False)
    _length: int = field(repr=False, compare=False)
    _floor: float = field(repr=False, compare=False)

    @property
    def model(self) -> GaussianMixture:
        """The model this iteration evaluated, with its own log-likelihood."""
        return wrap(self._model, history_frame(self._course[: self._length]), self._floor)

    def __reduce__(self) -> tuple[Callable[..., FitReport], tuple[Any, ...]]:
        """Pickle and copy with the model, packed, and the course of the fit up to it."""
        figures = (
            self.iteration,
            self.log_likelihood,
            self.change,
            self.seconds,
            self.rows_per_second,
        )
        course = self._course[: self._length]
        return _unpickled, (figures, self._model.pack(), course, self._floor)


def _unpickled(
    figures: tuple[int, float, float, float, float],
    packed: bytes,
    course: list[Evaluation],
    floor: float,
) -> FitReport:
    return FitReport(*figures, Model.unpack(packed), course, len(course), floor)


OnIteration: TypeAlias = Callable[[FitReport], object]


def fit_in_memory(
    read: Callable[[], pl.Series],
    *,
    extras: list[str],
    options: FitOptions,
    progress: bool,
    on_iteration: OnIteration | None,
) -> GaussianMixture:
    """Fit a mixture to one column of rows and extras.

    Parameters
    ----------
    read
        Gives the column; called once.
    extras
        Roles of the column's fields after the rows.
    options
        Checked options.
    progress
        Show a progress bar, or lines on stderr where tqdm is not installed.
    on_iteration
        Called once after every iteration; returning False ends the fit with the model evaluated
        last.

    Warns
    -----
    ConvergenceWarning
        If the fit ended by itself before it met `tol`; attributed to the caller's caller.

    Raises
    ------
    FitInterrupted
        On a KeyboardInterrupt, with the model evaluated last.
    GmmError
        If the rows cannot be fitted.
    """
    fitter: Fitter | None = None
    floor = options["covariance_floor"]
    stopped = False
    try:
        fitter = Fitter(read(), pickle.dumps({"extras": extras, "options": options}))
        if progress or on_iteration is not None:
            with _progress(progress, options["max_iter"]) as show:
                watchers = [watch for watch in (show, on_iteration) if watch is not None]
                stopped = _iterate(fitter, watchers, floor)
        else:
            fitter.run(None)
    except KeyboardInterrupt as interrupt:
        best = None if fitter is None else _last_model(fitter, floor)
        raise FitInterrupted(best) from interrupt
    model = evaluated(fitter, options)
    if not stopped and unconverged(model, options):
        warnings.warn(_shortfall(fitter, options), ConvergenceWarning, stacklevel=3)
    return model


def unconverged(model: GaussianMixture, options: FitOptions) -> bool:
    """Tell whether a fit that was to converge has not."""
    return options["tol"] > 0 and options["max_iter"] > 0 and not model.converged


def _shortfall(fitter: Fitter, options: FitOptions) -> str:
    """Say how far a fit came; the last evaluation may have been refused."""
    tol, max_iter = options["tol"], options["max_iter"]
    if fitter.iteration + 1 < max_iter:
        return (
            f"the fit ended at iteration {fitter.iteration}, before it converged, because the "
            f"log-likelihood fell by more than rounding explains: a covariance is nearly singular; "
            f"raise covariance_floor={options['covariance_floor']:g}, or fit fewer components"
        )
    if max_iter < _FEWEST_TO_CONVERGE:
        return (
            f"the fit ended at max_iter={max_iter}, too early to tell whether it has converged: "
            f"its last change of the mean log-likelihood is {fitter.change:.2g}, and what is left "
            f"is estimated from {_FEWEST_TO_CONVERGE} iterations or more; raise max_iter, or set "
            f"tol=0 for so many iterations without a test of convergence"
        )
    return (
        f"the fit ended at max_iter={max_iter} before it converged: its last change of the mean "
        f"log-likelihood is {fitter.change:.2g}, and more than tol={tol:g} is estimated to be "
        f"left; raise max_iter, or tol to stop sooner, or fit fewer components or a simpler "
        f"covariance_type"
    )


def evaluated(fitter: Fitter, options: FitOptions) -> GaussianMixture:
    """Give the model that a fit ended with, and its course."""
    model = _last_model(fitter, options["covariance_floor"])
    if model is None:
        raise GmmError("the fit ended before a model was evaluated")
    return model


def _last_model(fitter: Fitter, floor: float) -> GaussianMixture | None:
    model = fitter.model()
    return None if model is None else wrap(model, history_frame(fitter.history()), floor)


def _iterate(fitter: Fitter, watchers: Sequence[OnIteration], floor: float) -> bool:
    """Run to the end, or until a watcher answers False; tell whether one did."""
    done, seconds = False, 0.0
    course: list[Evaluation] = []
    while not done:
        began = perf_counter()
        done = fitter.run(1)
        seconds += perf_counter() - began
        evaluated = fitter.history()[len(course) :]
        course.extend(evaluated)
        model = fitter.model()
        if model is None or not evaluated:
            continue  # the step was refused: its seconds go to the iteration that follows
        if fitter.iteration > 0:
            report = _report(fitter, model, course, max(seconds, _SHORTEST), floor)
            answers = [watch(report) for watch in watchers]
            if any(answer is False for answer in answers):
                return not done
        seconds = 0.0
    return False


def _report(
    fitter: Fitter, model: Model, course: list[Evaluation], seconds: float, floor: float
) -> FitReport:
    return FitReport(
        iteration=fitter.iteration,
        log_likelihood=fitter.log_likelihood,
        change=fitter.change,
        seconds=seconds,
        rows_per_second=fitter.n_rows / seconds,
        _model=model,
        _course=course,
        _length=len(course),
        _floor=floor,
    )


@contextmanager
def _progress(wanted: bool, max_iter: int) -> Generator[OnIteration | None, None, None]:
    if not wanted:
        yield None
        return
    bar = progress_bar(max_iter, desc="EM", unit="iteration")
    if bar is None:
        yield _print_line
        return
    with bar:

        def advance(report: FitReport) -> None:
            bar.set_postfix(
                log_likelihood=f"{report.log_likelihood:.8g}", change=f"{report.change:.1e}"
            )
            bar.update(report.iteration - bar.n)

        yield advance


def _print_line(report: FitReport) -> None:
    print(
        f"EM iteration {report.iteration}: log-likelihood {report.log_likelihood:.8g}, "
        f"change {report.change:.1e}, {report.seconds:.3g} s",
        file=sys.stderr,
    )
