"""The driver of a search over a source: candidates side by side, which share each pass."""

from __future__ import annotations

import pickle
import warnings
from functools import partial
from typing import TYPE_CHECKING

from polars_gmm._errors import ConvergenceWarning, FitInterrupted, GmmError
from polars_gmm._lib import Loop, Scan
from polars_gmm._model import wrap
from polars_gmm._progress import Phase, progress_bar, untold
from polars_gmm._search import Candidate, best, complaint, show, table, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from polars_gmm._lib import Sums, Survey
    from polars_gmm._options import FitOptions
    from polars_gmm._stream import Source


def search_streaming(
    source: Source, *, candidates: list[FitOptions], criterion: str, progress: bool
) -> pl.DataFrame:
    """Fit every candidate to a source, and tabulate them, best first.

    Parameters
    ----------
    source
        Where the rows are read.
    candidates
        Checked options of each candidate, at least one.
    criterion
        Column the table is ordered by.
    progress
        Show a bar over the candidates, or lines on stderr where tqdm is not installed.

    Warns
    -----
    ConvergenceWarning
        Once, if candidates did not converge or cannot be fitted; attributed to the caller's
        caller.

    Raises
    ------
    FitInterrupted
        On a KeyboardInterrupt, with the best model so far.
    GmmError
        If the rows are not fit for any candidate, or too few for one.
    """
    running = SideBySide(source, candidates)
    bar = progress_bar(len(candidates), desc="search", unit="candidate") if progress else None
    try:
        phase = partial(tell, bar) if progress else untold
        running.begin(phase)
        for candidate in running.ended():
            if progress:
                show(bar, candidate, criterion)
        while running.loops:
            running.step(phase)
            for candidate in running.ended():
                if progress:
                    show(bar, candidate, criterion)
    except KeyboardInterrupt as interrupt:
        raise FitInterrupted(best(running.so_far(), criterion)) from interrupt
    finally:
        if bar is not None:
            bar.close()
    done = running.so_far()
    said = complaint(done)
    if said is not None:
        warnings.warn(said, ConvergenceWarning, stacklevel=3)
    return table(done, criterion)


class SideBySide:
    """Several EM loops over one source.

    Attributes
    ----------
    loops
        Those that have not ended, by the place of their candidate.
    """

    def __init__(self, source: Source, candidates: list[FitOptions]) -> None:
        self.loops: dict[int, Loop] = {}
        self._source = source
        self._options = candidates
        self._survey: Survey | None = None
        self._done: dict[int, Candidate] = {}
        self._news: list[Candidate] = []

    def begin(self, phase: Phase) -> None:
        """Make the first pass, and draw every start on its sample."""
        phase("first pass")
        packed = [pickle.dumps(options) for options in self._options]
        scan = Scan.survey(self._source.extras, packed, self._source.features)
        self._source.read(scan)
        most = max(self._options, key=lambda options: options["k"])
        self._survey = scan.overview(most["k"], most["nulls"] == "raise")
        for place, options in enumerate(packed):
            phase(f"start {place + 1} of {len(packed)}")
            self._attempt(place, partial(self._begin, place, self._survey, options))

    def step(self, phase: Phase) -> None:
        """Make a pass for all models that are asked for."""
        for place in list(self.loops):
            self._attempt(place, self.loops[place].check)
        places = list(self.loops)
        if self._survey is None or not places:
            return
        phase(f"pass {self._source.passes + 1}, candidates left: {len(places)}")
        scan = Scan.expected(self._source.extras, self._survey, [self.loops[p] for p in places])
        self._source.read(scan)
        for index, place in enumerate(places):
            sums = scan.sums(index, self._survey)
            self._attempt(place, partial(self._tell, place, sums))

    def _begin(self, place: int, survey: Survey, options: bytes) -> None:
        self.loops[place] = Loop.begin(survey, options)

    def _tell(self, place: int, sums: Sums) -> None:
        if self.loops[place].tell_sums(sums):
            self._end(place, self.loops[place])

    def _attempt(self, place: int, action: Callable[[], None]) -> None:
        """Do something that may show that a candidate cannot be fitted."""
        try:
            action()
        except GmmError as error:
            self._end(place, None, str(error))

    def ended(self) -> list[Candidate]:
        """Give the candidates that have ended since the last call."""
        news, self._news = self._news, []
        return news

    def so_far(self) -> list[Candidate]:
        """Give every candidate that has a model, or never will, in the order of the options."""
        running = {p: _candidate(self._options[p], loop) for p, loop in self.loops.items()}
        known = {**running, **self._done}
        return [known[place] for place in sorted(known)]

    def _end(self, place: int, loop: Loop | None, failure: str | None = None) -> None:
        options = self._options[place]
        ended = Candidate(options, None, failure) if loop is None else _candidate(options, loop)
        self._done[place] = ended
        self._news.append(ended)
        self.loops.pop(place, None)


def _candidate(options: FitOptions, loop: Loop) -> Candidate:
    model = loop.model()
    if model is None:
        return Candidate(options, None, "the fit ended before a model was evaluated")
    return Candidate(options, wrap(model, None, options["covariance_floor"]))
