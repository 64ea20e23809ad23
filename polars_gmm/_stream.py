"""Passes over a lazy frame: each is one query, whose rows are summed up as they arrive."""

from __future__ import annotations

import pickle
import re
from threading import Event
from time import perf_counter
from typing import TYPE_CHECKING

import polars as pl

from polars_gmm._errors import GmmError, frame_errors, not_read
from polars_gmm._interrupt import on_interrupt
from polars_gmm._lib import Loop, Scan
from polars_gmm._plugin import call
from polars_gmm._progress import Phase, untold

if TYPE_CHECKING:
    from polars_gmm._checkpoint import Saved
    from polars_gmm._lib import Model, Survey
    from polars_gmm._options import FitOptions

_COLLECTING = re.compile(r"columnar-function|in-memory-map")


class Source:
    """A lazy frame of one packed column, read as often as asked.

    Attributes
    ----------
    extras
        Roles of the packed column's fields after the rows.
    features
        Names of the features, where the schema does not tell them.
    passes
        Times all rows were read.
    """

    def __init__(
        self, frame: pl.LazyFrame, packed: pl.Expr, *, extras: list[str], features: list[str] | None
    ) -> None:
        self.extras = extras
        self.features = features
        self.passes = 0
        self._schema = frame.collect_schema()
        self._packed = packed
        self._rows = frame.select(packed)
        (name,) = self._rows.collect_schema().names()
        self._row = f"{name}:row"
        self._in_batches: bool | None = None

    def read(self, scan: Scan) -> None:
        """Bring all rows to a pass.

        Raises
        ------
        GmmError
            If the rows are not fit for it, or cannot be read once more.
        """
        pressed = Event()

        def stop() -> None:
            pressed.set()
            scan.cancel()

        try:
            with on_interrupt(stop), frame_errors(self._schema, [self._packed]):
                rows = self._read(scan)
        except BaseException as error:
            scan.cancel()
            scan.check()  # says it better than the query
            if pressed.is_set() and isinstance(error, Exception):
                raise KeyboardInterrupt from error  # what was made of it on the way
            said = not_read(error, self.passes)
            if said is None:
                raise
            raise said from error
        scan.check()
        if rows != scan.n_rows:
            raise GmmError(
                f"a pass counted {rows} rows and got {scan.n_rows}: the engine of polars "
                f"{pl.__version__} lost or repeated some; use engine='in-memory'"
            )
        self.passes += 1

    def _read(self, scan: Scan) -> int:
        query = self._query(scan)
        if self._in_batches is None:
            self._in_batches = self._collects(query)
        if self._in_batches:
            return self._read_batches(scan)
        counts = query.collect(engine="streaming")
        return int(counts.to_series().sum())

    def _read_batches(self, scan: Scan) -> int:
        batches = self._rows.collect_batches(engine="streaming")
        if hasattr(batches, "__arrow_c_stream__"):
            return scan.read(batches, 0)
        rows = 0
        for batch in batches:
            rows = scan.read(batch, rows)
        return rows

    def _query(self, scan: Scan) -> pl.LazyFrame:
        """Give the query that hands every morsel, with the numbers of its rows, to the pass."""
        numbered = self._rows.with_row_index(self._row)
        morsel = pl.struct(pl.nth(1), pl.nth(0))
        return numbered.select(
            call("scan", [morsel], kwargs={"scan": scan.id}, elementwise=True, shrinks=True)
        )

    def _collects(self, query: pl.LazyFrame) -> bool:
        """Tell whether this Polars would collect the column before it calls the pass."""
        return _collecting(query) > _collecting(self._rows.with_row_index(self._row))


def _collecting(query: pl.LazyFrame) -> int:
    """Count the nodes of the plan that hold a whole column."""
    plan = query.show_graph(engine="streaming", plan_stage="physical", raw_output=True, show=False)
    return len(_COLLECTING.findall(plan or ""))


class Streamed:
    """The EM loop over a source: a pass for each model it asks for, or two if one lacks much."""

    def __init__(
        self,
        source: Source,
        options: FitOptions,
        *,
        saved: Saved | None = None,
        phase: Phase = untold,
    ) -> None:
        self._source = source
        self._seconds: list[float] = []
        self._pending = 0.0
        self._phase = phase
        if saved is None:
            self.survey = self._surveyed(options)
            self._loop = self._begun(options)
        else:
            self._loop, self.survey = saved.loop, saved.survey
            self._seconds = saved.seconds
            source.passes = saved.n_passes
            # No pass follows that would know other rows, labels, or another start.
            if self._loop.done or {"label", "start"} & set(source.extras):
                self.survey.check_same(self._surveyed(options))
            if saved.start is not None:
                saved.check_start(self._begun(options).ask())
            source.passes = saved.n_passes

    @property
    def n_passes(self) -> int:
        """Passes of the fit; those that know the rows of a checkpoint again do not count."""
        return self._source.passes

    def _surveyed(self, options: FitOptions) -> Survey:
        self._phase("first pass")
        scan = Scan.survey(self._source.extras, [pickle.dumps(options)], self._source.features)
        self._source.read(scan)
        return scan.overview(options["k"], options["nulls"] == "raise")

    def _begun(self, options: FitOptions) -> Loop:
        packed = pickle.dumps(options)
        if options["init"] != "column":
            self._phase("start")
            return Loop.begin(self.survey, packed)
        self._phase("pass over the column of init")
        scan = Scan.assigned(self._source.extras, self.survey, packed)
        self._source.read(scan)
        return Loop.begin(self.survey, packed, scan.sums(0, self.survey))

    def run(self, iterations: int | None = None) -> bool:
        """Make up to that many passes, all that are left without a number; tell whether it is done.

        An interruption leaves the loop where the last complete pass left it.
        """
        left = iterations
        while not self._loop.done and (left is None or left > 0):
            began = perf_counter()
            scan = Scan.expected(self._source.extras, self.survey, [self._loop])
            self._source.read(scan)
            self._loop.tell_sums(scan.sums(0, self.survey))
            self._pending += perf_counter() - began
            if len(self._loop.history()) > len(self._seconds):
                self._seconds.append(self._pending)
                self._pending = 0.0
            left = None if left is None else left - 1
        return self._loop.done

    @property
    def iteration(self) -> int:
        """M-steps so far."""
        return self._loop.iteration

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood of the last model evaluated."""
        return self._loop.log_likelihood

    @property
    def change(self) -> float:
        """What the last iteration added to its mean."""
        return self._loop.change

    @property
    def n_rows(self) -> int:
        """Rows of a pass."""
        return self.survey.rows

    def as_loop(self) -> Loop:
        """Give the loop as it stands."""
        return self._loop

    def model(self) -> Model | None:
        """Give the last model evaluated."""
        return self._loop.model()

    def history(self) -> list[tuple[int, float, float, float]]:
        """Give iteration, log-likelihood, change and seconds of each evaluation."""
        return [
            (*record, s) for record, s in zip(self._loop.history(), self._seconds, strict=False)
        ]
