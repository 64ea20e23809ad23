"""What goes wrong, in words."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl

from polars_gmm._lib import GmmError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from polars_gmm._model import GaussianMixture

__all__ = ["ConvergenceWarning", "FitInterrupted", "GmmError", "abbreviated", "frame_errors"]

_PLUGIN_SENTENCE = re.compile(r"the plugin failed with message: (.*?)(?:\n\n|\Z)", re.DOTALL)
# What Polars before 2 makes of Ctrl-C in a source of Python's.
_PRESSED = re.compile(r"execution of a Python source, exception: KeyboardInterrupt\b")
_SHOWN = 6
_LONG = 160


class ConvergenceWarning(UserWarning):
    """A fit ended before it converged.

    ``df.gmm.fit`` and ``df.gmm.search`` warn, with figures and what to do; the model is the best
    so far, and its ``converged`` is False. No warning comes with ``tol=0``, which asks for
    `max_iter` iterations, or where ``on_iteration`` or Ctrl-C ended the fit.

    Examples
    --------
    >>> import warnings
    >>> import polars_gmm as pg
    >>> df = pg.make_blobs(300, centers=3, std=4.0).drop("label")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", pg.ConvergenceWarning)
    ...     model = df.gmm.fit(k=3, max_iter=2)
    >>> [warning.category.__name__ for warning in caught], model.converged
    (['ConvergenceWarning'], False)
    """


class FitInterrupted(KeyboardInterrupt):
    """A fit was interrupted from the keyboard.

    Attributes
    ----------
    model : GaussianMixture or None
        The last model evaluated, complete with its own log-likelihood; of a search, the best
        candidate so far. None when there was none before the interruption.

    Examples
    --------
    >>> import polars_gmm as pg
    >>> issubclass(pg.FitInterrupted, KeyboardInterrupt)
    True
    """

    model: GaussianMixture | None

    def __init__(self, model: GaussianMixture | None = None) -> None:
        self.model = model
        if model is None:
            super().__init__("the fit was interrupted before a model was evaluated")
        else:
            plural = "" if model.n_iter == 1 else "s"
            super().__init__(
                f"interrupted from the keyboard; the model reached, k={model.k} after "
                f"{model.n_iter} iteration{plural}, is the attribute .model of this exception"
            )

    def __reduce__(self) -> tuple[type[FitInterrupted], tuple[GaussianMixture | None]]:
        """Pickle and copy with the model."""
        return FitInterrupted, (self.model,)


def abbreviated(names: Sequence[str]) -> str:
    """Write a list of names, shortened in the middle when it is long."""
    if len(names) <= _SHOWN:
        return repr(list(names))
    first = ", ".join(map(repr, names[:3]))
    return f"[{first}, ..., {names[-1]!r}]"


@contextmanager
def reading_interrupted() -> Generator[None, None, None]:
    """Raise a KeyboardInterrupt while rows are read as FitInterrupted."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise FitInterrupted(None) from interrupt


@contextmanager
def frame_errors(schema: pl.Schema, exprs: Sequence[pl.Expr]) -> Generator[None, None, None]:
    """Raise as GmmError what Polars says of `exprs` on a frame with this schema."""
    try:
        yield
    except pl.exceptions.ComputeError as error:
        if _PRESSED.search(str(error)):
            raise KeyboardInterrupt from error
        sentence = _PLUGIN_SENTENCE.search(str(error))
        if sentence is None:
            raise
        raise GmmError(sentence[1]) from error
    except (pl.exceptions.ColumnNotFoundError, pl.exceptions.StructFieldNotFoundError) as error:
        raise GmmError(_missing(error, schema, exprs)) from error
    except pl.exceptions.ShapeError as error:
        raise GmmError(
            f"features, and what is given beside them, must have a value for every row, but "
            f"{_first_sentence(error)}; select all of them from the same frame"
        ) from error
    except pl.exceptions.DuplicateError as error:
        raise GmmError(
            f"features must have different names, but {_first_sentence(error)}; "
            f"name each column once, or rename one with .alias(...)"
        ) from error


def not_read(error: BaseException, passes: int) -> GmmError | None:
    """Give the error of a source that could not be read after so many complete passes.

    None where the error says it itself: those of a first pass, and what is no failure of the
    source.
    """
    panicked = isinstance(error, pl.exceptions.PanicException)
    if not panicked and (passes == 0 or not isinstance(error, Exception)):
        return None
    if isinstance(error, MemoryError):
        return None
    reason = (
        "Polars makes no sense of what it finds" if panicked else _shortened(_first_sentence(error))
    )
    if passes == 0:
        return GmmError(
            f"the source could not be read: {reason}; see whether its files are whole, with "
            f"collect() on the lazy frame"
        )
    return GmmError(
        f"the source could not be read again in pass {passes + 1}: {reason}; it may have changed "
        f"since the first pass: give the same rows for the whole fit, or begin anew"
    )


def _shortened(sentence: str) -> str:
    """Give the beginning of a sentence that may quote what a file holds."""
    sentence = "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in sentence)
    return sentence if len(sentence) <= _LONG else f"{sentence[:_LONG]}..."


def _missing(error: Exception, schema: pl.Schema, exprs: Sequence[pl.Expr]) -> str:
    roots = [name for expr in exprs for name in expr.meta.root_names()]
    missing = [name for name in dict.fromkeys(roots) if name not in schema]
    named = ", ".join(map(repr, missing))
    what = f"there is no column {named}" if missing else _first_sentence(error)
    numeric = [name for name, dtype in schema.items() if dtype.is_numeric()]
    return f"{what}: name columns of this frame, whose numeric columns are {abbreviated(numeric)}"


def _first_sentence(error: BaseException) -> str:
    return re.split(r"\.\s|\n", str(error), maxsplit=1)[0]
