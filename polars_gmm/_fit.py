"""The driver of a fit: iterations watched, interrupted, kept in a checkpoint."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from polars_gmm._errors import ConvergenceWarning, FitInterrupted, GmmError
from polars_gmm._history import history_frame
from polars_gmm._lib import Model
from polars_gmm._model import GaussianMixture, wrap
from polars_gmm._progress import Phase, progress_bar, untold

if TYPE_CHECKING:
    from polars_gmm._checkpoint import Checkpoint
    from polars_gmm._lib import Loop, Survey
    from polars_gmm._options import FitOptions

_SHORTEST = 1e-9
# Changes that tell how fast they shrink.
_RECENT = 5
# The limit is estimated from two steps, twice.
_FEWEST_TO_CONVERGE = 3

Evaluation: TypeAlias = tuple[int, float, float, float]


class Driven(Protocol):
    """The EM loop and whoever reads its rows."""

    @property
    def n_passes(self) -> int | None:
        """Times the rows were read from a source; None where they are in memory."""
        ...

    @property
    def iteration(self) -> int:
        """M-steps so far."""
        ...

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood of the last model evaluated."""
        ...

    @property
    def change(self) -> float:
        """What the last iteration added to its mean."""
        ...

    @property
    def n_rows(self) -> int:
        """Training rows."""
        ...

    @property
    def survey(self) -> Survey:
        """By what the rows are known again."""
        ...

    def run(self, iterations: int | None = None) -> bool:
        """Evaluate that many models, all that are left without a number; tell whether it is done.

        An interruption leaves the loop where the last complete evaluation left it.
        """
        ...

    def as_loop(self) -> Loop:
        """Give the loop as it stands."""
        ...

    def model(self) -> Model | None:
        """Give the last model evaluated."""
        ...

    def history(self) -> list[Evaluation]:
        """Give iteration, log-likelihood, change and seconds of each evaluation."""
        ...


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
    iterations_left : int or None
        Estimate of the iterations to come, from how fast the changes shrink; None where they do
        not shrink, or too few are known.
    seconds_left : float or None
        `iterations_left` times `seconds`.

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
    iterations_left: int | None
    _model: Model = field(repr=False, compare=False)
    # The course of the fit, which its later iterations append to, and its length at this one.
    _course: list[Evaluation] = field(repr=False, compare=False)
    _length: int = field(repr=False, compare=False)
    _floor: float = field(repr=False, compare=False)
    _passes: int | None = field(repr=False, compare=False)

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds to come, as `iterations_left`."""
        return None if self.iterations_left is None else self.iterations_left * self.seconds

    @property
    def model(self) -> GaussianMixture:
        """The model this iteration evaluated, with its own log-likelihood."""
        course = history_frame(self._course[: self._length])
        return wrap(self._model, course, self._floor, self._passes)

    def __reduce__(self) -> tuple[Callable[..., FitReport], tuple[Any, ...]]:
        """Pickle and copy with the model, packed, and the course of the fit up to it."""
        figures = (
            self.iteration,
            self.log_likelihood,
            self.change,
            self.seconds,
            self.rows_per_second,
            self.iterations_left,
        )
        course = self._course[: self._length]
        return _unpickled, (figures, self._model.pack(), course, self._floor, self._passes)


def _unpickled(
    figures: tuple[int, float, float, float, float, int | None],
    packed: bytes,
    course: list[Evaluation],
    floor: float,
    passes: int | None,
) -> FitReport:
    return FitReport(*figures, Model.unpack(packed), course, len(course), floor, passes)


OnIteration: TypeAlias = Callable[[FitReport], object]


def drive(
    begin: Callable[[Phase], Driven],
    *,
    options: FitOptions,
    progress: bool,
    on_iteration: OnIteration | None,
    checkpoint: Checkpoint | None,
) -> GaussianMixture:
    """Run a fit from its start to its end.

    Parameters
    ----------
    begin
        Checks the rows and finds the start; called once, with whom to tell how far that is.
    options
        Checked options.
    progress
        Show phases and iterations: a progress bar, or lines on stderr where tqdm is not installed.
    on_iteration
        Called once after every iteration; returning False ends the fit with the model evaluated
        last.
    checkpoint
        Where the state is kept, after the start and after every iteration.

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
    fit: Driven | None = None
    floor = options["covariance_floor"]
    stopped = False
    try:
        with _progress(progress, options["max_iter"]) as (phase, show):
            fit = begin(phase)
            if checkpoint is not None:
                checkpoint.save(fit)
            watchers = [watch for watch in (show, on_iteration) if watch is not None]
            if watchers or checkpoint is not None:
                stopped = _iterate(fit, watchers, options, checkpoint)
            else:
                fit.run(None)
    except KeyboardInterrupt as interrupt:
        best = None if fit is None else _last_model(fit, floor, fit.n_passes)
        raise FitInterrupted(best) from interrupt
    model = evaluated(fit, options, fit.n_passes)
    if not stopped and unconverged(model, options):
        warnings.warn(_shortfall(fit, options), ConvergenceWarning, stacklevel=3)
    return model


def unconverged(model: GaussianMixture, options: FitOptions) -> bool:
    """Tell whether a fit that was to converge has not."""
    return options["tol"] > 0 and options["max_iter"] > 0 and not model.converged


def _shortfall(fitter: Driven, options: FitOptions) -> str:
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


class Evaluated(Protocol):
    """A loop that has evaluated models."""

    def model(self) -> Model | None:
        """Give the last model evaluated."""
        ...

    def history(self) -> list[Evaluation]:
        """Give iteration, log-likelihood, change and seconds of each evaluation."""
        ...


def evaluated(fit: Evaluated, options: FitOptions, passes: int | None = None) -> GaussianMixture:
    """Give the model that a fit ended with, and its course."""
    model = _last_model(fit, options["covariance_floor"], passes)
    if model is None:
        raise GmmError("the fit ended before a model was evaluated")
    return model


def _last_model(fit: Evaluated, floor: float, passes: int | None) -> GaussianMixture | None:
    model = fit.model()
    return None if model is None else wrap(model, history_frame(fit.history()), floor, passes)


def _iterate(
    fit: Driven,
    watchers: Sequence[OnIteration],
    options: FitOptions,
    checkpoint: Checkpoint | None,
) -> bool:
    """Run to the end, or until a watcher answers False; tell whether one did."""
    done, seconds = False, 0.0
    course = fit.history()
    while not done:
        began = perf_counter()
        done = fit.run(1)
        seconds += perf_counter() - began
        if checkpoint is not None:
            checkpoint.save(fit)
        evaluated = fit.history()[len(course) :]
        course.extend(evaluated)
        model = fit.model()
        if model is None or not evaluated:
            continue  # refused, or to be read again: its seconds go to the iteration that follows
        if fit.iteration > 0:
            left = 0 if done else _iterations_left([c[2] for c in course], fit.iteration, options)
            report = _report(fit, model, course, max(seconds, _SHORTEST), left, options)
            answers = [watch(report) for watch in watchers]
            if any(map(is_no, answers)):
                return not done
        seconds = 0.0
    return False


def is_no(answer: object) -> bool:
    """Tell whether an answer is False, of Python or NumPy."""
    return isinstance(answer, bool | np.bool_) and not answer


def _report(
    fit: Driven,
    model: Model,
    course: list[Evaluation],
    seconds: float,
    left: int | None,
    options: FitOptions,
) -> FitReport:
    return FitReport(
        iteration=fit.iteration,
        log_likelihood=fit.log_likelihood,
        change=fit.change,
        seconds=seconds,
        rows_per_second=fit.n_rows / seconds,
        iterations_left=left,
        _model=model,
        _course=course,
        _length=len(course),
        _floor=options["covariance_floor"],
        _passes=fit.n_passes,
    )


def _iterations_left(changes: Sequence[float], iteration: int, options: FitOptions) -> int | None:
    """Estimate the iterations until less than `tol` is left of a geometric rise, 1 at least.

    With a last change c and a ratio q of one change to the one before, what is left after j more
    iterations is c q^(j + 1) / (1 - q).
    """
    most = max(options["max_iter"] - iteration, 0)
    if options["tol"] <= 0:
        return most
    last = [change for change in changes[-_RECENT:] if change > 0]
    ratios = [b / a for a, b in pairwise(last)]
    if not ratios:
        return None
    ratio = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
    if not 0 < ratio < 1:
        return None
    now = last[-1] * ratio / (1 - ratio)
    needed = math.log(options["tol"] / now) / math.log(ratio) if now > options["tol"] else 0.0
    return min(max(math.ceil(needed), 1), max(most, 1))


@contextmanager
def _progress(
    wanted: bool, max_iter: int
) -> Generator[tuple[Phase, OnIteration | None], None, None]:
    """Give whom to tell of phases, and of iterations."""
    if not wanted:
        yield untold, None
        return
    bar = progress_bar(max_iter, desc="EM", unit="iteration")
    if bar is None:
        yield _print_phase, _print_line
        return
    with bar:

        def begin(phase: str) -> None:
            bar.set_description(f"EM, {phase}")

        def advance(report: FitReport) -> None:
            bar.set_description("EM", refresh=False)
            bar.set_postfix(
                log_likelihood=f"{report.log_likelihood:.8g}",
                change=f"{report.change:.1e}",
                rows=f"{report.rows_per_second:.3g}/s",
                left=_left(report),
            )
            bar.update(report.iteration - bar.n)

        yield begin, advance


def _print_phase(phase: str) -> None:
    print(f"EM, {phase}", file=sys.stderr)


def _print_line(report: FitReport) -> None:
    print(
        f"EM iteration {report.iteration}: log-likelihood {report.log_likelihood:.8g}, "
        f"change {report.change:.1e}, {report.seconds:.3g} s, "
        f"{report.rows_per_second:.3g} rows/s, {_left(report)} left",
        file=sys.stderr,
    )


def _left(report: FitReport) -> str:
    seconds = report.seconds_left
    return "unknown time" if seconds is None else f"about {seconds:.2g} s"
