"""The EM loop for those who read the rows themselves."""

from __future__ import annotations

import pickle
from typing import Any

import polars as pl

from polars_gmm._checks import shown
from polars_gmm._checks import text as checked_text
from polars_gmm._errors import GmmError
from polars_gmm._lib import Loop
from polars_gmm._model import GaussianMixture, compiled, wrap
from polars_gmm._options import Acceleration, CovarianceType, fit_options
from polars_gmm._prior import NormalInverseWishart


class EM:
    """The EM loop as a state machine: ask for a model, tell the statistics of all rows under it.

    The loop reads no rows. ``statistics`` and ``merge`` make the statistics, in any engine and on
    any number of machines; this object accelerates, stops, and never lets the likelihood fall. It
    is the loop of every fit of this package. Components keep the order of `start`.

    Parameters
    ----------
    start
        Model to begin at, such as a fit to a sample of the rows.
    covariance_type
        Covariance structure: "full", "tied", "diag", "spherical"; None for that of `start`.
    max_iter, tol, covariance_floor, acceleration, prior
        As for ``df.gmm.fit``.

    Raises
    ------
    GmmError
        If an option is unknown or out of range.

    Notes
    -----
    Dempster, Laird & Rubin (1977). The whole state pickles, so that a loop can go on in another
    process.

    Examples
    --------
    >>> import polars as pl
    >>> import polars_gmm as pg
    >>> df = pg.make_blobs(600, centers=[[0, 0], [8, 8]], seed=1).drop("label")
    >>> parts = [df.head(200), df.tail(400)]
    >>> em = pg.EM(parts[0].gmm.fit(k=2))
    >>> xy = pl.struct("x0", "x1")
    >>> while not em.done:
    ...     question = em.ask()
    ...     answers = pl.concat(p.select(s=xy.gmm.statistics(question)) for p in parts)
    ...     done = em.tell(answers.select(pl.col("s").gmm.merge()))
    >>> em.model.converged, em.model.n_rows
    (True, 600)
    """

    __slots__ = ("_loop",)

    _loop: Loop

    def __init__(
        self,
        start: GaussianMixture,
        *,
        covariance_type: CovarianceType | None = None,
        max_iter: int = 1000,
        tol: float = 1e-6,
        covariance_floor: float = 1e-6,
        acceleration: Acceleration | None = "quasi-newton",
        prior: NormalInverseWishart | None = None,
    ) -> None:
        if not isinstance(start, GaussianMixture):
            raise GmmError(f"start must be a GaussianMixture; got {shown(start)}")
        kind: Any = start.covariance_type if covariance_type is None else covariance_type
        options, _ = fit_options(
            start.k,
            covariance_type=kind,
            init=start,
            max_iter=max_iter,
            tol=tol,
            covariance_floor=covariance_floor,
            acceleration=acceleration,
            prior=prior,
        )
        self._loop = Loop(compiled(start), pickle.dumps(options))

    def ask(self) -> GaussianMixture:
        """Give the model to evaluate next.

        Returns
        -------
        GaussianMixture
            The same one until its statistics are told. A start whose own structure keeps
            variances alone comes as "full" where `covariance_type` needs covariances.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> start = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> pg.EM(start).ask() == start
        True
        """
        return wrap(self._loop.ask())

    def tell(self, statistics: pl.DataFrame | pl.Series | dict[str, Any]) -> bool:
        """Take the statistics of all rows under the model asked for.

        Parameters
        ----------
        statistics
            One struct as ``statistics`` or ``merge`` make it: a frame of one row and one column,
            a series of one row, or the struct as a dict.

        Returns
        -------
        bool
            Whether the loop is done.

        Raises
        ------
        GmmError
            If they are not statistics of that model's components and features, were made under
            another model, are of another number of rows than those told before, of no rows, or
            not finite; the loop is then where it was.

        Notes
        -----
        The model need not be told with its statistics: under the right one their log-likelihood
        is the expected log joint density plus their entropy (Neal & Hinton 1998). Models so near
        that this holds to nine digits are not told apart.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> start = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> em = pg.EM(start)
        >>> x = pl.col("x").gmm
        >>> em.tell(pl.DataFrame({"x": [1.0, 2.0, 6.0]}).select(x.statistics(em.ask())))
        False
        >>> em.ask().means.tolist()
        [[3.0]]
        """
        return self._loop.tell(_series(statistics))

    @property
    def done(self) -> bool:
        """Whether the loop has ended: converged, or at `max_iter`."""
        return self._loop.done

    @property
    def model(self) -> GaussianMixture | None:
        """The last model evaluated, with its own log-likelihood; None before the first."""
        model = self._loop.model()
        return None if model is None else wrap(model, None, self._loop.covariance_floor)

    @property
    def history(self) -> pl.DataFrame:
        """Columns ``iteration``, ``log_likelihood`` and ``change`` of its mean, a row per model."""
        schema = {"iteration": pl.UInt32, "log_likelihood": pl.Float64, "change": pl.Float64}
        history = pl.DataFrame(self._loop.history(), schema=schema, orient="row")
        return history.with_columns(pl.col("change").fill_nan(None))

    def to_json(self) -> str:
        """Give the whole state as versioned JSON, with every bit.

        Returns
        -------
        str
            One JSON object.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> start = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> state = pg.EM(start, tol=0.01).to_json()
        >>> pg.EM.from_json(state).ask() == start
        True
        """
        return self._loop.state()

    @classmethod
    def from_json(cls, text: str) -> EM:
        """Read a state, to go on from where it was.

        Parameters
        ----------
        text
            What `to_json` gave.

        Returns
        -------
        EM
            The same loop, to the bit.

        Raises
        ------
        GmmError
            If the text is no such state, is damaged, or of a later version.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> start = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> pg.EM.from_json(pg.EM(start).to_json()).done
        False
        """
        em = object.__new__(cls)
        em._loop = Loop.from_state(checked_text("the state of an EM loop", text))
        return em

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Pickle and copy through JSON."""
        return EM.from_json, (self.to_json(),)

    def __repr__(self) -> str:
        """Show where the loop is."""
        asked = self._loop.ask()
        return f"EM(k={asked.k}, d={asked.d}, iteration={self._loop.iteration}, done={self.done})"


def _series(statistics: object) -> pl.Series:
    """Give one struct of statistics as a series."""
    if isinstance(statistics, pl.Series):
        return statistics
    if isinstance(statistics, pl.DataFrame) and statistics.width == 1:
        return statistics.to_series()
    if isinstance(statistics, dict):
        return pl.Series("statistics", [statistics])
    raise GmmError(
        f"statistics must be one struct, as a frame of one column, a series or a dict; "
        f"got {shown(statistics)}"
    )
