"""The driver of a search: one fit for each number of components and covariance structure."""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from polars_gmm._checks import text
from polars_gmm._errors import ConvergenceWarning, FitInterrupted, GmmError
from polars_gmm._fit import evaluated, unconverged
from polars_gmm._lib import SharedRows
from polars_gmm._model import GaussianMixture, null_model
from polars_gmm._progress import progress_bar

if TYPE_CHECKING:
    from polars_gmm._options import FitOptions

_SCHEMA = pl.Schema(
    {
        "k": pl.UInt32,
        "covariance_type": pl.String,
        "log_likelihood": pl.Float64,
        "n_parameters": pl.UInt64,
        "bic": pl.Float64,
        "aic": pl.Float64,
        "icl": pl.Float64,
        "n_iter": pl.UInt32,
        "converged": pl.Boolean,
        "at_floor": pl.UInt32,
    }
)
_FIGURES = _SCHEMA.names()[2:-1]
_NAMED = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate fitted, or the sentence that says why it cannot be."""

    options: FitOptions
    model: GaussianMixture | None
    failure: str | None = None

    def __str__(self) -> str:
        """Name the candidate."""
        return f"k={self.options['k']} {self.options['covariance_type']}"

    def row(self) -> dict[str, Any]:
        """Give the figures by column."""
        figures = {name: getattr(self.model, name, None) for name in _FIGURES}
        named = {"k": self.options["k"], "covariance_type": self.options["covariance_type"]}
        return {**named, **figures, "at_floor": self._at_floor()}

    def _at_floor(self) -> int | None:
        """Count the components at the covariance floor."""
        return None if self.model is None else int(self.model.diagnostics["at_floor"].sum())


def covariance_types(covariance_type: object) -> list[Any]:
    """Check the covariance structures to try, as strings; each counts once."""
    given: list[object] = [covariance_type]
    if isinstance(covariance_type, Iterable) and not isinstance(covariance_type, str | bytes):
        given = list(covariance_type)
    if not given:
        raise GmmError(
            "covariance_type must be the name of a covariance structure or a list of them, of "
            "which there is at least one to try; got an empty list"
        )
    return list(dict.fromkeys(text("covariance_type", value) for value in given))


def search_in_memory(
    column: pl.Series,
    *,
    extras: list[str],
    candidates: list[FitOptions],
    criterion: str,
    progress: bool,
) -> pl.DataFrame:
    """Fit every candidate to one column of rows and extras, and tabulate them, best first.

    Parameters
    ----------
    column
        Rows and extras.
    extras
        Roles of the column's fields after the rows.
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
        On a KeyboardInterrupt, with the best candidate so far.
    GmmError
        If the rows are not fit for any candidate, or too few for one.
    """
    done: list[Candidate] = []
    bar = progress_bar(len(candidates), desc="search", unit="candidate") if progress else None
    try:
        most = max(candidates, key=lambda options: options["k"])
        rows = SharedRows(column, pickle.dumps({"extras": extras, "options": most}))
        for options in candidates:
            done.append(_fitted(rows, options))
            if progress:
                show(bar, done[-1], criterion)
    except KeyboardInterrupt as interrupt:
        raise FitInterrupted(best(done, criterion)) from interrupt
    finally:
        if bar is not None:
            bar.close()
    said = complaint(done)
    if said is not None:
        warnings.warn(said, ConvergenceWarning, stacklevel=3)
    return table(done, criterion)


def _fitted(rows: SharedRows, options: FitOptions) -> Candidate:
    """Fit one candidate to rows that are fit for it, so that what fails is the candidate."""
    try:
        fitter = rows.fitter(pickle.dumps(options))
        fitter.run(None)
        return Candidate(options, evaluated(fitter, options))
    except GmmError as error:
        return Candidate(options, None, str(error))


def best(done: list[Candidate], criterion: str) -> GaussianMixture | None:
    """Give the model of lowest criterion, if there is one."""
    models = [candidate.model for candidate in done if candidate.model is not None]
    return min(models, key=lambda model: float(getattr(model, criterion)), default=None)


def table(done: list[Candidate], criterion: str) -> pl.DataFrame:
    """Tabulate candidates, lowest criterion first."""
    figures = pl.DataFrame([candidate.row() for candidate in done], schema=_SCHEMA)
    models = pl.concat([null_model() if it.model is None else it.model.to_struct() for it in done])
    return figures.with_columns(models.alias("model")).sort(
        criterion, "n_parameters", nulls_last=True, maintain_order=True
    )


def complaint(done: list[Candidate]) -> str | None:
    """Say in one sentence which candidates fell short, and what to do."""
    loose = [it for it in done if it.model is not None and unconverged(it.model, it.options)]
    failed = [it for it in done if it.model is None]
    parts = []
    if loose:
        parts.append(
            f"{len(loose)} of {len(done)} candidates ended before they converged, at "
            f"max_iter={loose[0].options['max_iter']} or earlier ({_names(loose)}): raise "
            f"max_iter, or tol={loose[0].options['tol']:g} to stop sooner"
        )
    if failed:
        parts.append(
            f"{len(failed)} of {len(done)} candidates cannot be fitted and have a null model "
            f"({_names(failed)}; the first because {failed[0].failure})"
        )
    return "; ".join(parts) or None


def _names(candidates: list[Candidate]) -> str:
    names = [str(candidate) for candidate in candidates[:_NAMED]]
    return ", ".join([*names, "..."] if len(candidates) > _NAMED else names)


def show(bar: Any, candidate: Candidate, criterion: str) -> None:
    """Say that a candidate has ended."""
    value = getattr(candidate.model, criterion, None)
    figure = "cannot be fitted" if value is None else f"{criterion} {value:.8g}"
    if bar is None:
        print(f"search, {candidate}: {figure}", file=sys.stderr)
        return
    bar.set_postfix_str(f"{candidate}: {figure}")
    bar.update()


def tell(bar: Any, phase: str) -> None:
    """Say what is done while no candidate ends."""
    if bar is None:
        print(f"search, {phase}", file=sys.stderr)
    else:
        bar.set_description(f"search, {phase}")
