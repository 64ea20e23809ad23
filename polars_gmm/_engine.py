"""Who reads the rows of a fit: columns in memory, or a pass over the source for each iteration."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import polars as pl

from polars_gmm._checks import shown
from polars_gmm._errors import GmmError, frame_errors
from polars_gmm._lib import Fitter
from polars_gmm._progress import Phase
from polars_gmm._stream import Source, Streamed

if TYPE_CHECKING:
    from polars_gmm._checkpoint import Checkpoint, Saved
    from polars_gmm._fit import Driven
    from polars_gmm._lib import Loop, Model, Survey
    from polars_gmm._options import FitOptions

Engine: TypeAlias = Literal["auto", "in-memory", "streaming"]

# Columns that are no larger, as Float64, are collected by engine="auto".
SMALL = 64 * 2**20
_NUMBER = 8


def checked_engine(engine: object) -> str:
    """Check who is to read the rows."""
    choices = get_args(Engine)
    if not isinstance(engine, str) or engine not in choices:
        raise GmmError(f"engine must be one of {list(choices)}; got {shown(engine)}")
    return engine


@dataclass(frozen=True)
class Table:
    """The rows of a frame as one packed column."""

    frame: pl.DataFrame | pl.LazyFrame
    rows: pl.Expr
    packed: pl.Expr
    extras: list[str]

    def begin(
        self, options: FitOptions, *, engine: str, checkpoint: Checkpoint | None, phase: Phase
    ) -> Driven:
        """Check the rows and find the start, or go on from a checkpoint."""
        if engine != "streaming":
            phase("reading the columns")
        return self.begin_on(self.column(engine), options, checkpoint=checkpoint, phase=phase)

    def begin_on(
        self,
        column: pl.Series | None,
        options: FitOptions,
        *,
        checkpoint: Checkpoint | None,
        phase: Phase,
    ) -> Driven:
        """Begin with the rows of `column`, or stream them where there is none."""
        features = self.features()
        saved = None if checkpoint is None else checkpoint.load(features)
        if column is None:
            return Streamed(self.source(features), options, saved=saved, phase=phase)
        phase("start")
        return InMemory(column, self.extras, options, saved=saved)

    def column(self, engine: str) -> pl.Series | None:
        """Give the packed column, or None where it is to be streamed."""
        lazy = self.frame.lazy()
        with frame_errors(lazy.collect_schema(), [self.packed]):
            if engine == "streaming":
                return None
            if engine == "in-memory" or isinstance(self.frame, pl.DataFrame):
                return self.frame.select(self.packed).lazy().collect().to_series()
            most = SMALL // (_NUMBER * max(self._width(), 1))
            # Stops reading at the first row too many.
            head = lazy.select(self.packed).head(most + 1).collect(engine="streaming")
            return head.to_series() if head.height <= most else None

    def source(self, features: list[str] | None) -> Source:
        """Give the same rows to be streamed."""
        names = features if self._list is not None else None
        return Source(self.frame.lazy(), self.packed, extras=self.extras, features=names)

    def features(self) -> list[str] | None:
        """Give the names of the features, as far as schema and first row tell them."""
        name, dtype = self._feature_column()
        if isinstance(dtype, pl.Struct):
            return [field.name for field in dtype.fields]
        width = self._list if isinstance(dtype, pl.List) else getattr(dtype, "size", None)
        if isinstance(dtype, pl.List | pl.Array):
            return None if width is None else [f"{name}[{j}]" for j in range(width)]
        return [name]

    def _feature_column(self) -> tuple[str, pl.DataType]:
        ((name, dtype),) = self.frame.lazy().select(self.rows).collect_schema().items()
        return name, dtype

    @cached_property
    def _list(self) -> int | None:
        """Length of the first list, where the features are one."""
        if not isinstance(self._feature_column()[1], pl.List):
            return None
        lists = self.frame.lazy().select(self.rows).filter(pl.nth(0).is_not_null())
        lengths = lists.select(pl.nth(0).list.len()).head(1).collect(engine="streaming")
        return None if lengths.is_empty() else int(lengths.item())

    def _width(self) -> int:
        """Count the numbers of a row."""
        schema = self.frame.lazy().select(self.packed).collect_schema()
        return sum(map(_numbers, schema.dtypes())) - 1 + (self._list or 1)


def _numbers(dtype: Any) -> int:
    if isinstance(dtype, pl.Struct):
        return sum(_numbers(field.dtype) for field in dtype.fields)
    return int(dtype.size) if isinstance(dtype, pl.Array) else 1


class InMemory:
    """The EM loop over columns in memory."""

    n_passes = None

    def __init__(
        self,
        column: pl.Series,
        extras: list[str],
        options: FitOptions,
        *,
        saved: Saved | None = None,
    ) -> None:
        kwargs = pickle.dumps({"extras": extras, "options": options})
        self._survey: Survey | None = None
        if saved is None:
            self._fitter = Fitter(column, kwargs)
            return
        self._fitter = Fitter(column, kwargs, saved.loop, saved.seconds)
        saved.survey.check_same(self.survey)
        if saved.start is not None:
            saved.check_start(Fitter(column, kwargs).as_loop().ask())

    @property
    def survey(self) -> Survey:
        """By what the rows are known again."""
        if self._survey is None:
            self._survey = self._fitter.survey()
        return self._survey

    def run(self, iterations: int | None = None) -> bool:
        """Evaluate that many models, all without a number; tell whether it is done."""
        return self._fitter.run(iterations)

    @property
    def iteration(self) -> int:
        """M-steps so far."""
        return self._fitter.iteration

    @property
    def log_likelihood(self) -> float:
        """Log-likelihood of the last model evaluated."""
        return self._fitter.log_likelihood

    @property
    def change(self) -> float:
        """What the last iteration added to its mean."""
        return self._fitter.change

    @property
    def n_rows(self) -> int:
        """Rows in memory."""
        return self._fitter.n_rows

    def as_loop(self) -> Loop:
        """Give the loop as it stands."""
        return self._fitter.as_loop()

    def model(self) -> Model | None:
        """Give the last model evaluated."""
        return self._fitter.model()

    def history(self) -> list[tuple[int, float, float, float]]:
        """Give iteration, log-likelihood, change and seconds of each evaluation."""
        return self._fitter.history()
