"""The namespaces ``.gmm`` of DataFrame and LazyFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from polars_gmm._checks import boolean, shown
from polars_gmm._errors import GmmError, frame_errors
from polars_gmm._features import FeatureSpec, select_rows
from polars_gmm._fit import OnIteration, fit_in_memory
from polars_gmm._options import (
    Acceleration,
    CovarianceType,
    Init,
    Nulls,
    fit_options,
    optional_column,
)
from polars_gmm._plugin import call, importable, pack
from polars_gmm._prior import NormalInverseWishart

if TYPE_CHECKING:
    from polars_gmm._model import GaussianMixture


class _FrameNamespace:
    __slots__ = ("_frame",)

    def __init__(self, frame: pl.DataFrame | pl.LazyFrame) -> None:
        self._frame = frame

    def fit(
        self,
        *features: FeatureSpec,
        k: int,
        covariance_type: CovarianceType = "full",
        weights: str | pl.Expr | None = None,
        init: Init = "k-means++",
        n_init: int | None = None,
        max_iter: int = 1000,
        tol: float = 1e-6,
        covariance_floor: float = 1e-6,
        nulls: Nulls = "raise",
        seed: int = 0,
        acceleration: Acceleration | None = "quasi-newton",
        prior: NormalInverseWishart | None = None,
        labels: str | pl.Expr | None = None,
        progress: bool = False,
        on_iteration: OnIteration | None = None,
    ) -> GaussianMixture:
        """Fit a mixture to the rows of the frame by expectation-maximisation.

        A lazy frame is collected once, and no other columns than those named here.

        Parameters
        ----------
        *features
            Names, expressions, selectors, or lists of them; none for every numeric column but
            those of `weights` and `init`. One expression for an Array, List or struct column is
            used as it is. Names are exact: a pattern is ``pl.col("^x.*$")``. Give a computed
            feature its own name with ``.alias(...)``, or the model takes the column of the same
            name for it when it scores.
        k
            Number of components.
        covariance_type
            "full": any covariance for each component; "tied": one for all; "diag": diagonal;
            "spherical": one variance for each component.
        weights
            Name or expression of a column of row weights >= 0.
        init
            "k-means++", "k-means" or "random" (Dirichlet responsibilities, then an M-step); an
            expression for a column of labels 0 to k - 1 or of responsibilities; or a
            GaussianMixture to start from.
        n_init
            Number of starts drawn and tried, of which the best goes on; None for 8 of k-means++
            or k-means, and 1 of "random". See Notes.
        max_iter
            Largest number of M-steps on all rows; those that find the start do not count.
        tol
            The fit has converged when an iteration raises the mean log-likelihood by less than
            this and by less than the iteration before did; 0 runs to `max_iter`.
        covariance_floor
            Smallest eigenvalue a component's covariance may have, in units of the features'
            pooled variances; 0 turns the floor off.
        nulls
            "raise", or "drop" rows with a null feature.
        seed
            Same seed, same fit.
        acceleration
            "quasi-newton" extrapolates the steps of EM and goes back to them where that does not
            raise the objective; None for plain EM.
        prior
            A `NormalInverseWishart` for a maximum a posteriori fit; None for maximum likelihood.
        labels
            Name or expression of a column of the components, 0 to k - 1, that rows are known to
            belong to, null where that is unknown. Such rows keep their component, so components
            stay in this order; a row's label in `log_likelihood` counts as observed.
        progress
            Show a progress bar, or a line per iteration on stderr where tqdm is not installed.
        on_iteration
            Called with a `FitReport` once after every iteration; returning False ends the fit
            with the model evaluated last.

        Returns
        -------
        GaussianMixture
            The last model evaluated, with its own log-likelihood and `history`.

        Raises
        ------
        GmmError
            If an option is unknown or out of range, a column is missing or not numeric, there
            are fewer rows than k, a feature is null (see `nulls`), NaN or infinite, or a weight
            is negative, NaN or null.
        FitInterrupted
            On a KeyboardInterrupt, with the last model evaluated as ``.model``.

        Notes
        -----
        Dempster, Laird & Rubin (1977); Bishop (2006), eq. 9.23-9.26. Started by a method,
        components are in lexicographic order of their means; a given start keeps its order.

        A start is drawn on a sample of at most max(2048, 256 k, 8 k (d + 1)) rows. By default the
        candidates get 10 EM iterations each on it; where `n_init` is given, each runs until it
        stops, 1000 at most; a single candidate goes on as drawn. With at least 4 times as many
        rows as the sample has, the chosen one gets up to 100 iterations more on the sample.
        ``n_iter`` and `max_iter` count none of these.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> df = pg.make_blobs(400, centers=[[0, 0], [10, 10]], seed=1)
        >>> model = df.gmm.fit("x0", "x1", k=2)
        >>> model.weights.round(6).tolist()
        [0.5, 0.5]
        >>> model.features
        ['x0', 'x1']
        """
        options, start = fit_options(
            k,
            covariance_type=covariance_type,
            init=init,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            covariance_floor=covariance_floor,
            nulls=nulls,
            seed=seed,
            acceleration=acceleration,
            prior=prior,
        )
        if on_iteration is not None and not callable(on_iteration):
            raise GmmError(f"on_iteration must be a function; got {shown(on_iteration)}")
        shows_progress = boolean("progress", progress)
        weight = optional_column("weights", weights)
        label = optional_column("labels", labels)
        given = {"weights": weight, "labels": label, "init": start}
        besides = {option: column for option, column in given.items() if column is not None}
        rows = select_rows(self._frame.lazy(), features, besides=besides)
        packed, extras = pack(rows, weight=weight, label=label, start=start)
        self._check_schema(packed, {"extras": extras, "options": options})
        return fit_in_memory(
            lambda: self._read(packed),
            extras=extras,
            options=options,
            progress=shows_progress,
            on_iteration=on_iteration,
        )

    def _read(self, packed: pl.Expr) -> pl.Series:
        with frame_errors(self._frame.lazy().collect_schema(), [packed]):
            return importable(self._frame.select(packed).lazy().collect().to_series())

    def _check_schema(self, packed: pl.Expr, kwargs: dict[str, object]) -> None:
        """Raise what the schema tells before any row is read."""
        fit = call("fit", [packed], kwargs={**kwargs, "on_failure": "raise"}, scalar=True)
        frame = self._frame.lazy()
        with frame_errors(frame.collect_schema(), [packed]):
            frame.select(fit).collect_schema()


@pl.api.register_dataframe_namespace("gmm")
class GmmFrame(_FrameNamespace):
    """Gaussian mixtures of the rows of a DataFrame."""

    __slots__ = ()

    def __init__(self, frame: pl.DataFrame) -> None:
        super().__init__(frame)


@pl.api.register_lazyframe_namespace("gmm")
class GmmLazyFrame(_FrameNamespace):
    """Gaussian mixtures of the rows of a LazyFrame."""

    __slots__ = ()

    def __init__(self, frame: pl.LazyFrame) -> None:
        super().__init__(frame)
