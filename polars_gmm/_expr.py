"""The namespace ``.gmm`` of expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from polars_gmm import _scoring
from polars_gmm._namespace import registered
from polars_gmm._options import (
    Acceleration,
    Among,
    CovarianceType,
    Criterion,
    FitOptions,
    Init,
    ModelLike,
    Nulls,
    OnFailure,
    column,
    fit_options,
    m_step_options,
    model_source,
    numbers_of_components,
    on_failure_option,
    optional_column,
    several,
)
from polars_gmm._plugin import call, call_with_model, pack
from polars_gmm._prior import NormalInverseWishart

if TYPE_CHECKING:
    from collections.abc import Iterable


@registered(pl.Expr)
class GmmExpr:
    """Gaussian mixtures on a feature column, a column of statistics or a column of models.

    A feature column is a struct of numeric fields, an Array, a List of one length, or a numeric
    column. Fields of a struct are matched to a model's features by name, positions of an Array or
    List by order. An expression for several columns, such as ``pl.col("x", "y")``, is not one
    feature column: Polars calls the method for each of them alone, or refuses where other columns
    go along, such as weights. Put them in a `polars.struct`.

    Parameters
    ----------
    expr
        The column.
    """

    __slots__ = ("_expr",)

    def __init__(self, expr: pl.Expr) -> None:
        self._expr = expr

    def responsibilities(self, model: ModelLike, *, log: bool = False) -> pl.Expr:
        """Probability of each component given the row: the E-step.

        Parameters
        ----------
        model
            A GaussianMixture; or name or expression of a column of model structs or packed
            models, of length 1 or with a model for every row.
        log
            Give logarithms.

        Returns
        -------
        polars.Expr
            Array(Float64, k) for a GaussianMixture, List(Float64) for a column of models; each
            row sums to 1.

        Raises
        ------
        GmmError
            If `model` is no model.
        polars.exceptions.ComputeError
            When run, if the column does not have the model's features, or is not numeric.

        Notes
        -----
        r_ik = w_k N(x_i | mu_k, Sigma_k) / sum_j w_j N(x_i | mu_j, Sigma_j): Bishop (2006),
        eq. 9.23. A null feature gives null, NaN or infinity gives NaN.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> df = pl.DataFrame({"x": [0.0, None]})
        >>> df.select(pl.col("x").gmm.responsibilities(model)).dtypes
        [Array(Float64, shape=(2,))]
        """
        return _scoring.responsibilities(self._expr, model_source(model), log=log)

    def predict(self, model: ModelLike) -> pl.Expr:
        """Most probable component of a row.

        Parameters
        ----------
        model
            A GaussianMixture, or a column of models, as for `responsibilities`.

        Returns
        -------
        polars.Expr
            UInt32, 0 to k - 1.

        Raises
        ------
        GmmError
            If `model` is no model.
        polars.exceptions.ComputeError
            When run, if the column does not have the model's features, or is not numeric.

        Notes
        -----
        A null, NaN or infinite feature gives null.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> df = pl.DataFrame({"x": [-2.0, 3.0, None]})
        >>> df.select(pl.col("x").gmm.predict(model)).to_series().to_list()
        [0, 1, None]
        """
        return _scoring.predict(self._expr, model_source(model))

    def log_density(self, model: ModelLike) -> pl.Expr:
        """Log-density of a row, log p(x).

        Parameters
        ----------
        model
            A GaussianMixture, or a column of models, as for `responsibilities`.

        Returns
        -------
        polars.Expr
            Float64, in nats.

        Raises
        ------
        GmmError
            If `model` is no model.
        polars.exceptions.ComputeError
            When run, if the column does not have the model's features, or is not numeric.

        Notes
        -----
        log p(x) = log sum_k w_k N(x | mu_k, Sigma_k): Bishop (2006), eq. 9.7. A null feature
        gives null, NaN or infinity gives NaN.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> df = pl.DataFrame({"x": [0.0]})
        >>> df.select(pl.col("x").gmm.log_density(model).round(4)).item()
        -1.4189
        """
        return _scoring.log_density(self._expr, model_source(model))

    def fit(
        self,
        k: int | Iterable[int],
        *,
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
        on_failure: OnFailure = "raise",
    ) -> pl.Expr:
        """Fit a mixture to the column, or to each group, by expectation-maximisation.

        Parameters
        ----------
        k
            Number of components; or a range or list of them, of which each column or group gets
            the one of lowest `criterion`. Numbers above a group's rows are left out.
        criterion
            "bic", "aic" or "icl": see `bic`, `aic` and `icl`.
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
        on_failure
            "raise", or "null" for a null model where features are null, NaN or infinite, sums
            overflow, a component of a given start has no row, or covariances come out singular
            with a `covariance_floor` of 0. Weights that are negative, NaN or null and labels out
            of range are errors all the same.

        Returns
        -------
        polars.Expr
            One model struct per column or group: ``version``, ``features``,
            ``covariance_type``, ``weights`` (k), ``means`` (k, d), ``covariances``,
            ``log_likelihood``, ``entropy``, ``n_rows``, ``total_weight``, ``n_iter``,
            ``converged``. A group with fewer rows of positive weight than k, or than all of them,
            always gives null.

        Raises
        ------
        GmmError
            At once, if an option is unknown or out of range.
        polars.exceptions.ComputeError
            When run, if a feature is null (see `nulls`), NaN, infinite or not numeric, a weight is
            negative, NaN or null, or a label is out of range.

        Notes
        -----
        Dempster, Laird & Rubin (1977); Bishop (2006), eq. 9.23-9.26. Started by a method,
        components are in lexicographic order of their means; a given start keeps its order.

        A start is drawn on a sample of max(2048, 256 k, 8 k (d + 1)) rows, or on all rows where
        that would be half of them or more. By default 16 candidates (8 for k <= 2; 4 for k > 32, or
        covariances of more than 16384 numbers) run on it side by side, the worse half leaving after
        each leg; then components are split and merged as long as the likelihood rises, and one that
        collapsed on fewer than d + 1 distinct rows is seeded once more. Where `n_init` is given,
        each candidate runs until it stops, 1000 iterations at most; a single one goes on as drawn.
        With at least 4 times as many rows as the sample has, the chosen one gets up to 100
        iterations more on the sample. Where the sample holds but some of the rows, EM on it stops
        where less is left than `tol` or p / (200 n), of p parameters and n rows of the sample.
        ``n_iter`` and `max_iter` count none of these.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> df = pl.DataFrame({"g": ["a", "a", "b", "b"], "x": [0.0, 2.0, 10.0, 14.0]})
        >>> models = df.group_by("g", maintain_order=True).agg(m=pl.col("x").gmm.fit(1))
        >>> [round(pg.GaussianMixture.from_struct(m).means.item(), 6) for m in models["m"]]
        [1.0, 12.0]
        >>> blobs = pg.make_blobs(300, centers=[[0, 0], [9, 0], [0, 9]], seed=1)
        >>> best = blobs.select(m=pl.struct("x0", "x1").gmm.fit(k=[1, 2, 3, 4], criterion="bic"))
        >>> pg.GaussianMixture.from_struct(best["m"]).k
        3
        """
        counts = numbers_of_components(k, init)
        options = fit_options(
            counts[0],
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
        among = several(counts, criterion)
        fitted = self._fit("fit", options, among, weights, labels, on_failure, scalar=True)
        return call("unpack", [fitted], kwargs={}, elementwise=True)

    def fit_predict(
        self,
        k: int | Iterable[int],
        *,
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
        on_failure: OnFailure = "raise",
    ) -> pl.Expr:
        """Fit a mixture, and give the most probable component of each row under it.

        Parameters
        ----------
        k, covariance_type, weights, init, n_init, max_iter, tol, covariance_floor, nulls, seed, \
acceleration, prior, labels, criterion
            As for `fit`.
        on_failure
            "raise", or "null" for null labels where `fit` gives a null model.

        Returns
        -------
        polars.Expr
            UInt32, 0 to k - 1, a label per row.

        Raises
        ------
        GmmError
            At once, if an option is unknown or out of range.
        polars.exceptions.ComputeError
            When run, as for `fit`.

        Notes
        -----
        With ``nulls="drop"`` a row with a null feature gets null; so does every row of a group
        whose model is null.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> df = pl.DataFrame({"x": [0.0, 9.0, 1.0, 8.0, 0.5, 8.5]})
        >>> df.select(pl.col("x").gmm.fit_predict(2)).to_series().to_list()
        [0, 1, 0, 1, 0, 1]
        """
        counts = numbers_of_components(k, init)
        options = fit_options(
            counts[0],
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
        among = several(counts, criterion)
        return self._fit("fit_predict", options, among, weights, labels, on_failure, scalar=False)

    def statistics(self, model: ModelLike, *, weights: str | pl.Expr | None = None) -> pl.Expr:
        """Sufficient statistics of the rows, expected under a model: the E-step in one pass.

        Parameters
        ----------
        model
            A GaussianMixture, or a column that holds the same model in all rows of a group: null
            gives null, and models that differ are an error.
        weights
            Name or expression of a column of row weights >= 0.

        Returns
        -------
        polars.Expr
            One struct per column or group: ``version``, ``features``, ``weight`` (k), ``mean``
            (k, d), ``scatter`` about the mean (k, d, d; or its diagonal, k, 1, d, for "diag" and
            "spherical"), ``log_likelihood``, ``entropy``, ``n_rows``, ``total_weight``.

        Raises
        ------
        GmmError
            If `model` or `weights` is neither a name nor an expression, nor a model.
        polars.exceptions.ComputeError
            When run, if a feature is NaN or infinite, a weight is negative, NaN or null, or
            models in a group differ.

        Notes
        -----
        N_k = sum_i w_i r_ik, m_k = sum_i w_i r_ik x_i / N_k and
        S_k = sum_i w_i r_ik (x_i - m_k)(x_i - m_k)': Bishop (2006), eq. 9.24-9.27. A row with a
        null feature is left out and not counted in ``n_rows``.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> df = pl.DataFrame({"x": [1.0, 3.0]})
        >>> statistics = df.select(s=pl.col("x").gmm.statistics(model)).unnest("s")
        >>> statistics.select("n_rows", "total_weight").rows()
        [(2, 2.0)]
        """
        return self._pass("statistics", model, weights)

    def em_step(
        self,
        model: ModelLike,
        *,
        weights: str | pl.Expr | None = None,
        covariance_floor: float = 1e-6,
    ) -> pl.Expr:
        """One iteration of expectation-maximisation in one pass: the next model.

        Parameters
        ----------
        model
            A GaussianMixture, or a column that holds the same model in all rows of a group: null
            gives null, and models that differ are an error.
        weights
            Name or expression of a column of row weights >= 0.
        covariance_floor
            As for `fit`.

        Returns
        -------
        polars.Expr
            One model struct, as for `fit`, of the covariance type of `model`;
            ``log_likelihood``, ``entropy``, ``n_iter`` and ``converged`` are null.

        Raises
        ------
        GmmError
            At once, if an argument has the wrong type or an impossible value.
        polars.exceptions.ComputeError
            When run, as for `statistics`.

        Notes
        -----
        `statistics`, then `maximize`. Null rule as for `statistics`.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> df = pl.DataFrame({"x": [1.0, 3.0]})
        >>> step = df.select(pl.col("x").gmm.em_step(model)).to_series()
        >>> pg.GaussianMixture.from_struct(step).means.round(6).tolist()
        [[2.0]]
        """
        options = m_step_options(covariance_floor=covariance_floor)
        return self._pass("em_step", model, weights, covariance_floor=options["covariance_floor"])

    def m_step(
        self,
        responsibilities: str | pl.Expr,
        *,
        weights: str | pl.Expr | None = None,
        covariance_type: CovarianceType = "full",
        covariance_floor: float = 1e-6,
    ) -> pl.Expr:
        """Maximum-likelihood model given responsibilities: the M-step.

        Parameters
        ----------
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
        polars.Expr
            One model struct, as for `fit`; ``log_likelihood``, ``entropy``, ``n_iter`` and
            ``converged`` are null.

        Raises
        ------
        GmmError
            At once, if an argument has the wrong type or an impossible value.
        polars.exceptions.ComputeError
            When run, if a feature is NaN or infinite, a weight is negative, NaN or null, or a row
            is null in its features or its responsibilities alone.

        Notes
        -----
        Bishop (2006), eq. 9.24-9.26. A row null in both features and responsibilities is left
        out.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> df = pl.DataFrame({"x": [0.0, 2.0, 9.0], "r": [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]})
        >>> step = df.select(pl.col("x").gmm.m_step("r")).to_series()
        >>> pg.GaussianMixture.from_struct(step).means.round(6).tolist()
        [[1.0], [9.0]]
        """
        options = m_step_options(covariance_type=covariance_type, covariance_floor=covariance_floor)
        rows, extras = pack(
            self._expr,
            weight=optional_column("weights", weights),
            responsibility=column("responsibilities", responsibilities),
        )
        return call("m_step", [rows], kwargs={"extras": extras, **options}, scalar=True)

    def merge(self) -> pl.Expr:
        """Add statistics up.

        Returns
        -------
        polars.Expr
            One statistics struct per column or group: that of all their rows together.

        Raises
        ------
        polars.exceptions.ComputeError
            When run, if the column is no statistics, or of different features or k.

        Notes
        -----
        Pairwise, about the means: Chan, Golub & LeVeque (1983), *Algorithms for computing the
        sample variance*. A null struct is left out.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> df = pl.DataFrame({"g": ["a", "b", "b"], "x": [1.0, 2.0, 3.0]})
        >>> parts = df.group_by("g").agg(s=pl.col("x").gmm.statistics(model))
        >>> parts.select(pl.col("s").gmm.merge()).unnest("s")["n_rows"].to_list()
        [3]
        """
        return call("merge", [self._expr], kwargs={}, scalar=True)

    def maximize(
        self, *, covariance_type: CovarianceType = "full", covariance_floor: float = 1e-6
    ) -> pl.Expr:
        """Maximum-likelihood model of statistics: the M-step.

        Parameters
        ----------
        covariance_type
            "full", "tied", "diag" or "spherical". The first two need full scatter, which
            `statistics` under a "full" or "tied" model gives.
        covariance_floor
            As for `fit`.

        Returns
        -------
        polars.Expr
            A model struct for every statistics struct; ``log_likelihood``, ``entropy``,
            ``n_iter`` and ``converged`` are null.

        Raises
        ------
        GmmError
            At once, if an option is unknown or out of range.
        polars.exceptions.ComputeError
            When run, if the column is no statistics, or lacks the scatter of the type.

        Notes
        -----
        w_k = N_k / N, mu_k = m_k, Sigma_k = S_k / N_k for "full": Bishop (2006), eq. 9.24-9.26.
        Null gives null.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> df = pl.DataFrame({"x": [1.0, 3.0]})
        >>> step = df.select(pl.col("x").gmm.statistics(model).gmm.maximize()).to_series()
        >>> pg.GaussianMixture.from_struct(step).covariances.round(6).tolist()
        [[[1.0]]]
        """
        options = m_step_options(covariance_type=covariance_type, covariance_floor=covariance_floor)
        return call("maximize", [self._expr], kwargs=options, elementwise=True)

    def pack(self) -> pl.Expr:
        """Pack model structs into bytes, which joins onto many rows without copying them.

        Returns
        -------
        polars.Expr
            Binary, accepted wherever a column of models is.

        Raises
        ------
        polars.exceptions.ComputeError
            When run, if the column holds no models.

        Notes
        -----
        Null gives null.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> packed = model.to_struct().to_frame().select(pl.col("model").gmm.pack())
        >>> packed.item() == model.pack()
        True
        """
        return call("pack", [self._expr], kwargs={}, elementwise=True)

    def unpack(self) -> pl.Expr:
        """Give packed models as structs, whose fields can be selected.

        Returns
        -------
        polars.Expr
            Model structs, as for `fit`.

        Raises
        ------
        polars.exceptions.ComputeError
            When run, if the column holds no models.

        Notes
        -----
        The inverse of `pack`, to the bit. Null gives null.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> packed = pl.DataFrame({"m": [model.pack()]})
        >>> packed.select(pl.col("m").gmm.unpack().struct.field("means")).item().to_list()
        [[0.0]]
        """
        return call("unpack", [self._expr], kwargs={}, elementwise=True)

    def components(self) -> pl.Expr:
        """List the components of each model, to be exploded to a row for each.

        Returns
        -------
        polars.Expr
            List(Struct) of k components: ``component`` (UInt32, 0 to k - 1), ``weight``
            (Float64), ``mean`` (List, d) and ``covariance`` (List of Lists, d, d), written out
            whatever the covariance type.

        Raises
        ------
        polars.exceptions.ComputeError
            When run, if the column holds no models.

        Notes
        -----
        Null gives null.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.4, 0.6], [[-1], [1]], [[[1]], [[2]]], features=["x"])
        >>> df = pl.DataFrame({"shop": ["a"], "m": [model.pack()]})
        >>> parts = df.select("shop", pl.col("m").gmm.components()).explode("m").unnest("m")
        >>> parts.rows()
        [('a', 0, 0.4, [-1.0], [[1.0]]), ('a', 1, 0.6, [1.0], [[2.0]])]
        """
        return call("components", [self._expr], kwargs={}, elementwise=True)

    def bic(self) -> pl.Expr:
        """Bayesian information criterion of each model on the rows it was fitted to.

        Returns
        -------
        polars.Expr
            Float64; the lower, the better.

        Raises
        ------
        polars.exceptions.ComputeError
            When run, if the column holds no models.

        Notes
        -----
        -2 L + p log n, with log-likelihood L, p parameters and n the total weight (Schwarz 1978).
        Null for a null model, and where the likelihood is not known, as after `m_step`.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> df = pl.DataFrame({"g": ["a", "a", "b", "b"], "x": [0.0, 2.0, 10.0, 14.0]})
        >>> models = df.group_by("g", maintain_order=True).agg(m=pl.col("x").gmm.fit(1))
        >>> models.select(pl.col("m").gmm.bic().round(2)).to_series().to_list()
        [7.06, 9.83]
        """
        return self._criterion("bic")

    def aic(self) -> pl.Expr:
        """Akaike's information criterion of each model on the rows it was fitted to.

        Returns
        -------
        polars.Expr
            Float64; the lower, the better.

        Raises
        ------
        polars.exceptions.ComputeError
            When run, if the column holds no models.

        Notes
        -----
        -2 L + 2 p, with log-likelihood L and p parameters (Akaike 1974). Null rule as for `bic`.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> df = pl.DataFrame({"x": [0.0, 2.0]})
        >>> df.select(pl.col("x").gmm.fit(1).gmm.aic().round(2)).item()
        9.68
        """
        return self._criterion("aic")

    def icl(self) -> pl.Expr:
        """Integrated completed likelihood of each model on the rows it was fitted to.

        Returns
        -------
        polars.Expr
            Float64; the lower, the better.

        Raises
        ------
        polars.exceptions.ComputeError
            When run, if the column holds no models.

        Notes
        -----
        BIC + 2 E, with E the entropy of the responsibilities (Biernacki, Celeux & Govaert 2000).
        Null rule as for `bic`.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> df = pl.DataFrame({"x": [0.0, 2.0]})
        >>> df.select(pl.col("x").gmm.fit(1).gmm.icl().round(2)).item()
        7.06
        """
        return self._criterion("icl")

    def _criterion(self, criterion: Criterion) -> pl.Expr:
        return call("criterion", [self._expr], kwargs={"criterion": criterion}, elementwise=True)

    def _fit(
        self,
        function: str,
        options: tuple[FitOptions, pl.Expr | None],
        among: Among | None,
        weights: str | pl.Expr | None,
        labels: str | pl.Expr | None,
        on_failure: OnFailure,
        *,
        scalar: bool,
    ) -> pl.Expr:
        checked, start = options
        rows, extras = pack(
            self._expr,
            weight=optional_column("weights", weights),
            label=optional_column("labels", labels),
            start=start,
        )
        kwargs = {
            "extras": extras,
            "options": checked,
            "on_failure": on_failure_option(on_failure),
            "among": among,
            "name": self._expr.meta.output_name(raise_if_undetermined=False),
        }
        return call(function, [rows], kwargs=kwargs, scalar=scalar)

    def _pass(
        self,
        function: str,
        model: ModelLike,
        weights: str | pl.Expr | None,
        **options: float,
    ) -> pl.Expr:
        rows, extras = pack(self._expr, weight=optional_column("weights", weights))
        kwargs = {"extras": extras, **options}
        return call_with_model(function, rows, model_source(model), kwargs=kwargs, scalar=True)
