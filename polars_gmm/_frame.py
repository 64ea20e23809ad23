"""The namespaces ``.gmm`` of DataFrame and LazyFrame."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from os import PathLike
from typing import TYPE_CHECKING

import polars as pl

from polars_gmm import _steps
from polars_gmm._best import best_of
from polars_gmm._checkpoint import Checkpoint, checkpoint_path
from polars_gmm._checks import boolean, shown
from polars_gmm._engine import Engine, Table, checked_engine
from polars_gmm._errors import GmmError, frame_errors, reading_interrupted
from polars_gmm._features import FeatureSpec, select_rows
from polars_gmm._fit import OnIteration, drive
from polars_gmm._namespace import registered
from polars_gmm._options import (
    Acceleration,
    CovarianceType,
    Criterion,
    FitOptions,
    Init,
    Nulls,
    StartMethod,
    checked_criterion,
    fit_options,
    numbers_of_components,
    optional_column,
)
from polars_gmm._plugin import call, pack
from polars_gmm._prior import NormalInverseWishart
from polars_gmm._search import covariance_types, search_in_memory
from polars_gmm._stream import Source
from polars_gmm._stream_search import search_streaming

if TYPE_CHECKING:
    from polars_gmm._model import GaussianMixture


class _FrameNamespace:
    __slots__ = ("_frame",)

    def __init__(self, frame: pl.DataFrame | pl.LazyFrame) -> None:
        self._frame = frame

    def fit(
        self,
        *features: FeatureSpec,
        k: int | Iterable[int],
        criterion: Criterion = "bic",
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
        engine: Engine = "auto",
        checkpoint: str | PathLike[str] | None = None,
        resume: bool = False,
    ) -> GaussianMixture:
        """Fit a mixture to the rows of the frame by expectation-maximisation.

        No other columns are read than those named here. Those of a lazy frame are collected once
        if they are small, and else read by the streaming engine for every iteration: see `engine`.

        Parameters
        ----------
        *features
            Names, expressions, selectors, or lists of them; none for every numeric column but
            those of `weights` and `init`. One expression for an Array, List or struct column is
            used as it is. Names are exact: a pattern is ``pl.col("^x.*$")``. Give a computed
            feature its own name with ``.alias(...)``, or the model takes the column of the same
            name for it when it scores.
        k
            Number of components; or a range or list of them, of which the one of lowest
            `criterion` is kept. `search` gives the table of all.
        criterion
            "bic", "aic" or "icl", as in `search`.
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
            Number of starts drawn, each run until it stops, of which the best goes on; None for a
            search of the best start, or one draw of "random". See Notes.
        max_iter
            Largest number of M-steps on all rows; those that find the start do not count.
        tol
            The fit has converged when less than this is estimated to be left of the rise of the
            mean log-likelihood, from its last iterations (Aitken); 0 runs to `max_iter`.
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
            Show a progress bar, or a line per phase and iteration on stderr where tqdm is not
            installed.
        on_iteration
            Called with a `FitReport` once after every iteration, but those whose accelerated step
            was refused; returning False ends the fit with the model evaluated last.
        engine
            Who reads the rows. "in-memory" collects the columns of the fit once. "streaming"
            makes a pass over the source for each iteration, in bounded memory, with the same
            result. "auto" collects columns of at most 64 MiB, counted as Float64 with those of
            `weights`, `labels` and `init`, and streams larger ones; a DataFrame is in memory.
        checkpoint
            File that keeps the state of the fit, replaced after the start and after every
            iteration; whoever reads it finds a whole one.
        resume
            Go on from `checkpoint` if that file exists, to the same result as without the
            interruption.

        Returns
        -------
        GaussianMixture
            The last model evaluated, with its own log-likelihood and `history`.

        Raises
        ------
        GmmError
            If an option is unknown or out of range, a column is missing or not numeric, there
            are fewer rows than k, a feature is null (see `nulls`), NaN or infinite, or a weight
            is negative, NaN or null; if the rows change between passes, or cannot be read again;
            if `checkpoint` cannot be written, or is of other rows, labels, features or options,
            or of another start.
        FitInterrupted
            On a KeyboardInterrupt, with the last model evaluated as ``.model``.

        Warns
        -----
        ConvergenceWarning
            If the fit ended before it met `tol`.

        Notes
        -----
        Dempster, Laird & Rubin (1977); Bishop (2006), eq. 9.23-9.26. Started by a method,
        components are in lexicographic order of their means; a given start keeps its order.

        A start is drawn on a sample of max(2048, 256 k, 8 k (d + 1)) rows, or on all rows where
        that would be half of them or more. By default 16 candidates (8 for k <= 2; 4 for k > 32, or
        covariances of more than 16384 numbers) run on it side by side, the worse half leaving after
        each leg; then components of up to four that differ are split and merged as long as the
        likelihood rises. Of the ends, the one with the fewest components that collapsed on fewer
        than d + 1 distinct rows is taken, and these are seeded once more. Where `n_init` is given,
        each candidate runs until it stops, 1000 iterations at most; a single one goes on as drawn.
        With at least 4 times as many rows as the sample has, the chosen one gets up to 100
        iterations more on the sample. Where the sample holds but some of the rows, EM on it stops
        where less is left than `tol` or p / (200 n), of p parameters and n rows of the sample.
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
        candidates = [
            fit_options(
                count,
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
            for count in numbers_of_components(k, init)
        ]
        options, start = candidates[0]
        order = checked_criterion(criterion)
        if on_iteration is not None and not callable(on_iteration):
            raise GmmError(f"on_iteration must be a function; got {shown(on_iteration)}")
        shows_progress = boolean("progress", progress)
        read_by, resumes = checked_engine(engine), boolean("resume", resume)
        path = checkpoint_path(checkpoint)
        if resumes and path is None:
            raise GmmError("resume=True needs the checkpoint to go on from: give checkpoint=...")
        if path is not None and len(candidates) > 1:
            raise GmmError(
                "checkpoint holds one fit, and several k are several fits: give a single k, or "
                "no checkpoint"
            )
        table = self._table(features, options, weights=weights, labels=labels, start=start)
        if len(candidates) > 1:
            read = cache(lambda: table.column(read_by))
            return best_of(
                lambda options, watch: drive(
                    lambda phase: table.begin_on(read(), options, checkpoint=None, phase=phase),
                    options=options,
                    progress=shows_progress,
                    on_iteration=watch,
                    checkpoint=None,
                ),
                [options for options, _ in candidates],
                criterion=order,
                on_iteration=on_iteration,
            )
        kept = None if path is None else Checkpoint(path, options, extras=table.extras)
        if kept is not None and not resumes:
            kept.check_replaceable()
        return drive(
            lambda phase: table.begin(
                options, engine=read_by, checkpoint=kept if resumes else None, phase=phase
            ),
            options=options,
            progress=shows_progress,
            on_iteration=on_iteration,
            checkpoint=kept,
        )

    def search(
        self,
        *features: FeatureSpec,
        k: int | Iterable[int] = range(1, 10),
        covariance_type: CovarianceType | Iterable[CovarianceType] = "full",
        criterion: Criterion = "bic",
        weights: str | pl.Expr | None = None,
        init: StartMethod = "k-means++",
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
        engine: Engine = "auto",
    ) -> pl.DataFrame:
        """Fit a mixture for each number of components and covariance structure, best first.

        Every candidate is what ``fit`` gives with these options. The columns named here, and no
        others, are read once for all of them; where they are streamed (see `engine`), candidates
        run side by side and share each pass over the source.

        Parameters
        ----------
        *features
            As in ``fit``.
        k
            Number of components, or a range or list of them.
        covariance_type
            Covariance structure, or a list of them: "full", "tied", "diag", "spherical".
        criterion
            "bic", "aic" or "icl": what candidates are ordered by.
        weights
            Name or expression of a column of row weights >= 0.
        init
            "k-means++", "k-means" or "random": how every candidate starts.
        n_init
            As in ``fit``.
        max_iter
            Largest number of M-steps on all rows, for each candidate.
        tol
            As in ``fit``.
        covariance_floor
            As in ``fit``.
        nulls
            "raise", or "drop" rows with a null feature.
        seed
            Same seed, same table.
        acceleration
            As in ``fit``.
        prior
            As in ``fit``.
        labels
            As in ``fit``, 0 to the largest k less 1. A candidate of too few components for them
            cannot be fitted.
        progress
            Show phases and a bar over the candidates, or a line for each on stderr where tqdm is
            not installed.
        engine
            "in-memory", "streaming" or "auto", as in ``fit``.

        Returns
        -------
        polars.DataFrame
            A row per candidate: ``k`` (UInt32), ``covariance_type`` (String), ``log_likelihood``
            (Float64), ``n_parameters`` (UInt64), ``bic``, ``aic``, ``icl`` (Float64), ``n_iter``
            (UInt32), ``converged`` (Boolean), ``at_floor`` (UInt32), the number of components at
            the covariance floor, and ``model``, the struct that
            ``GaussianMixture.from_struct`` reads. Lowest criterion first; of equal ones, the one
            of fewer parameters. A candidate that cannot be fitted (with a floor of 0, one with a
            singular covariance) has null figures and a null model, and comes last.

        Raises
        ------
        GmmError
            If there is no candidate, an option is unknown or out of range, a column is missing
            or not numeric, there are fewer rows than the largest k, a feature is null (see
            `nulls`), NaN or infinite, or a weight is negative, NaN or null.
        FitInterrupted
            On a KeyboardInterrupt, with the best candidate so far as ``.model``.

        Warns
        -----
        ConvergenceWarning
            Once, if candidates ended before they met `tol`, or cannot be fitted.

        Notes
        -----
        With log-likelihood L, p parameters, n the total weight and E the entropy of the
        responsibilities: BIC = -2 L + p log n (Schwarz 1978), AIC = -2 L + 2 p (Akaike 1974) and
        ICL = BIC + 2 E (Biernacki, Celeux & Govaert 2000). Lower is better, as in scikit-learn.
        R's mclust has the opposite sign, 2 L - p log n, where larger is better; its names for the
        structures are VVV (full), EEE (tied), VVI (diag) and VII (spherical).

        The likelihood of a mixture grows without bound as a component collapses on rows that lie
        in a plane or on rounded values; only the floor stops it, and the criteria of such a
        candidate mean little. It may come first: ``filter(pl.col("at_floor") == 0)`` leaves such
        candidates out.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> df = pg.make_blobs(400, centers=[[0, 0], [9, 0], [0, 9]], seed=1)
        >>> table = df.gmm.search("x0", "x1", k=range(1, 5), covariance_type=["full", "tied"])
        >>> table.select("k", "covariance_type").row(0), table.height
        ((3, 'tied'), 8)
        >>> best = pg.GaussianMixture.from_struct(table["model"].head(1))
        >>> best.k
        3
        """
        if not isinstance(init, str):
            raise GmmError(
                f"init must be the name of a method in a search, as a given start has one number "
                f"of components; got {shown(init)}"
            )
        counts, structures = numbers_of_components(k), covariance_types(covariance_type)
        candidates = [
            fit_options(
                count,
                covariance_type=structure,
                init=init,
                n_init=n_init,
                max_iter=max_iter,
                tol=tol,
                covariance_floor=covariance_floor,
                nulls=nulls,
                seed=seed,
                acceleration=acceleration,
                prior=prior,
            )[0]
            for count in counts
            for structure in structures
        ]
        order = checked_criterion(criterion)
        shows_progress, read_by = boolean("progress", progress), checked_engine(engine)
        most = max(candidates, key=lambda options: options["k"])
        table = self._table(features, most, weights=weights, labels=labels)
        with reading_interrupted():
            column = table.column(read_by)
            rows = table.source(table.features()) if column is None else column
        if isinstance(rows, Source):
            return search_streaming(
                rows,
                candidates=candidates,
                criterion=order,
                progress=shows_progress,
            )
        return search_in_memory(
            rows,
            extras=table.extras,
            candidates=candidates,
            criterion=order,
            progress=shows_progress,
        )

    def _table(
        self,
        features: tuple[FeatureSpec, ...],
        options: FitOptions,
        *,
        weights: str | pl.Expr | None,
        labels: str | pl.Expr | None,
        start: pl.Expr | None = None,
    ) -> Table:
        """Pack rows and the columns beside them, and check what the schema tells of them."""
        weight, label = optional_column("weights", weights), optional_column("labels", labels)
        given = {"weights": weight, "labels": label, "init": start}
        besides = {option: column for option, column in given.items() if column is not None}
        rows = select_rows(self._frame.lazy(), features, besides=besides)
        packed, extras = pack(rows, weight=weight, label=label, start=start)
        self._check_schema(packed, {"extras": extras, "options": options})
        return Table(self._frame, rows, packed, extras)

    def _check_schema(self, packed: pl.Expr, kwargs: dict[str, object]) -> None:
        """Raise what the schema tells before any row is read."""
        fit = call("fit", [packed], kwargs={**kwargs, "on_failure": "raise"}, scalar=True)
        frame = self._frame.lazy()
        with frame_errors(frame.collect_schema(), [packed]):
            frame.select(fit).collect_schema()


@registered(pl.DataFrame)
class GmmFrame(_FrameNamespace):
    """Gaussian mixtures of the rows of a DataFrame."""

    __slots__ = ()
    _frame: pl.DataFrame

    def __init__(self, frame: pl.DataFrame) -> None:
        super().__init__(frame)

    def em_step(
        self,
        model: GaussianMixture,
        *,
        weights: str | pl.Expr | None = None,
        covariance_floor: float = 1e-6,
    ) -> GaussianMixture:
        """Make one iteration of EM: the E-step, and the M-step on its statistics.

        The expression of this name as a call, which gives the model at once: for a loop that is
        written by hand.

        Parameters
        ----------
        model
            The model whose E-step it is; it names the columns of its features.
        weights
            Name or expression of a column of row weights >= 0.
        covariance_floor
            As for `fit`.

        Returns
        -------
        GaussianMixture
            The next model, of the covariance type of `model`; ``log_likelihood``, ``entropy``,
            ``n_iter`` and ``converged`` are None.

        Raises
        ------
        GmmError
            If an argument has the wrong type or an impossible value, a column is missing or not
            numeric, a feature is NaN or infinite, a weight is negative, NaN or null, a covariance
            is singular, or no row weighs anything.

        Notes
        -----
        Bishop (2006), eq. 9.23-9.26. A row with a null feature does not count.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> df = pl.DataFrame({"x": [1.0, 3.0]})
        >>> df.gmm.em_step(model).means.round(6).tolist()
        [[2.0]]
        """
        return _steps.em_step(
            self._frame, model, weights=weights, covariance_floor=covariance_floor
        )

    def m_step(
        self,
        *features: FeatureSpec,
        responsibilities: str | pl.Expr,
        weights: str | pl.Expr | None = None,
        covariance_type: CovarianceType = "full",
        covariance_floor: float = 1e-6,
    ) -> GaussianMixture:
        """Make the maximum-likelihood model given responsibilities: the M-step.

        The expression of this name as a call, which gives the model at once: for a loop that is
        written by hand, or responsibilities from elsewhere.

        Parameters
        ----------
        *features
            Feature columns, as for `fit`: every numeric column if none is named.
        responsibilities
            Name or expression of an Array or List column of k responsibilities per row.
        weights
            Name or expression of a column of row weights >= 0.
        covariance_type
            "full", "tied", "diag" or "spherical".
        covariance_floor
            As for `fit`.

        Returns
        -------
        GaussianMixture
            The model; ``log_likelihood``, ``entropy``, ``n_iter`` and ``converged`` are None.

        Raises
        ------
        GmmError
            If an argument has the wrong type or an impossible value, a column is missing or not
            numeric, a feature is NaN or infinite, a weight is negative, NaN or null, a row is null
            in its features or its responsibilities alone, or no row weighs anything.

        Notes
        -----
        Bishop (2006), eq. 9.24-9.26. A row null in both features and responsibilities is left
        out.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> df = pl.DataFrame({"x": [0.0, 2.0, 9.0], "r": [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]})
        >>> df.gmm.m_step("x", responsibilities="r").means.round(6).tolist()
        [[1.0], [9.0]]
        """
        return _steps.m_step(
            self._frame,
            features,
            responsibilities=responsibilities,
            weights=weights,
            covariance_type=covariance_type,
            covariance_floor=covariance_floor,
        )


@registered(pl.LazyFrame)
class GmmLazyFrame(_FrameNamespace):
    """Gaussian mixtures of the rows of a LazyFrame."""

    __slots__ = ()

    def __init__(self, frame: pl.LazyFrame) -> None:
        super().__init__(frame)
