"""GaussianMixture: the Python face of a model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, final

import numpy as np
import polars as pl

from polars_gmm import _diagnostics, _history, _scoring, _sklearn
from polars_gmm._checks import float_array, integer, names, real, shown, text
from polars_gmm._errors import GmmError, abbreviated, frame_errors
from polars_gmm._features import frame_of, rows_of
from polars_gmm._lib import Model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import ArrayLike, NDArray

# What JSON keeps of the fit, besides the model.
_OF_THE_FIT = ("history", "covariance_floor", "n_passes")
_DTYPE = pl.Struct(
    {
        "version": pl.UInt8,
        "features": pl.List(pl.String),
        "covariance_type": pl.String,
        "weights": pl.List(pl.Float64),
        "means": pl.List(pl.List(pl.Float64)),
        "covariances": pl.List(pl.List(pl.List(pl.Float64))),
        "log_likelihood": pl.Float64,
        "entropy": pl.Float64,
        "n_rows": pl.UInt64,
        "total_weight": pl.Float64,
        "n_iter": pl.UInt32,
        "converged": pl.Boolean,
    }
)
_PARAMETERS = ("weights", "means", "covariances")
_REQUIRED = ("version", "features", "covariance_type", *_PARAMETERS)


@final
class GaussianMixture:
    """A Gaussian mixture model: p(x) = sum_k w_k N(x | mu_k, Sigma_k).

    Models come from ``df.gmm.fit(k=...)``, from a model struct in a column (`from_struct`), or
    from arrays, as here. They are immutable, compare by value, and pickle.

    Parameters
    ----------
    weights
        Mixing weights w, shape (k,), not negative, of sum 1. A weight of zero is legal.
    means
        Means mu, shape (k, d), in units of the features.
    covariances
        Covariances Sigma, symmetric positive definite: shape (k, d, d), or as scikit-learn keeps
        them: tied (d, d), diag (k, d), spherical (k,).
    features
        Names of the d features, as the fields of a struct column. ``["emb[0]", "emb[1]"]`` are
        the positions of an Array or List column ``emb``.
    covariance_type
        "full", "tied", "diag" or "spherical".

    Attributes
    ----------
    weights : ndarray of shape (k,)
        Mixing weights; read-only, like the other arrays.
    means : ndarray of shape (k, d)
        Means.
    covariances : ndarray of shape (k, d, d)
        Covariances, in full for every covariance type.

    Raises
    ------
    GmmError
        If the arrays are no mixture: shapes, finite values, weights of sum 1, symmetric positive
        definite covariances of the given type.

    Notes
    -----
    Definitions as in Bishop (2006), *Pattern Recognition and Machine Learning*, eq. 9.7.

    Examples
    --------
    >>> import polars_gmm as pg
    >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
    >>> model
    GaussianMixture(k=2, d=1, covariance_type='full', features=['x'])
    >>> model.means.tolist()
    [[-1.0], [1.0]]
    """

    __slots__ = ("_floor", "_history", "_model", "_passes", "covariances", "means", "weights")

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]
    _model: Model
    _history: pl.DataFrame | None
    _floor: float | None
    _passes: int | None

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        *,
        features: Sequence[str],
        covariance_type: str = "full",
    ) -> None:
        model = Model.from_arrays(
            names("features", features),
            text("covariance_type", covariance_type),
            _flat("weights", weights),
            _flat("means", means),
            _flat("covariances", covariances),
        )
        _fill(self, model)

    @property
    def features(self) -> list[str]:
        """Names of the d features."""
        return self._model.features

    @property
    def covariance_type(self) -> str:
        """Covariance structure: "full", "tied", "diag" or "spherical"."""
        return self._model.covariance_type

    @property
    def k(self) -> int:
        """Number of components."""
        return self._model.k

    @property
    def d(self) -> int:
        """Number of features."""
        return self._model.d

    @property
    def n_parameters(self) -> int:
        """Number of free parameters.

        k - 1 weights, k d means, and covariances: full k d(d+1)/2, tied d(d+1)/2, diag k d,
        spherical k.
        """
        return self._model.n_parameters

    @property
    def log_likelihood(self) -> float | None:
        """L = sum_i w_i log p(x_i) on the training rows; None when not made by a fit."""
        return self._model.log_likelihood

    @property
    def entropy(self) -> float | None:
        """-sum_i w_i sum_k r_ik log r_ik on the training rows; None when not made by a fit."""
        return self._model.entropy

    @property
    def n_rows(self) -> int | None:
        """Number of training rows of positive weight; None when there were none."""
        return self._model.n_rows

    @property
    def total_weight(self) -> float | None:
        """Sum of the weights of the training rows, the n of `bic`; None when there were none."""
        return self._model.total_weight

    @property
    def n_iter(self) -> int | None:
        """Number of M-steps on all rows from the start to this model; None when not made by a fit.

        The iterations that find the start, on a sample of the rows, do not count.
        """
        return self._model.n_iter

    @property
    def converged(self) -> bool | None:
        """Whether the fit met its `tol` before `max_iter`; None when not made by a fit."""
        return self._model.converged

    @property
    def n_passes(self) -> int | None:
        """Number of times the fit read all rows of a lazy frame, the first pass included.

        Of several k, the passes of the one returned. None where the rows were in memory, and when
        not made by a fit; kept by JSON and pickle.
        """
        return self._passes

    @property
    def history(self) -> pl.DataFrame | None:
        """The course of the fit, a row per model accepted, from the start (iteration 0) on.

        Columns ``iteration`` (UInt32), ``log_likelihood``, ``change`` of the mean log-likelihood
        and ``seconds`` (Float64). A number is missing from ``iteration`` where an accelerated step
        was refused: the iteration after it took its place, and its seconds are counted there.
        None unless fitted by ``df.gmm.fit`` or ``lf.gmm.fit``; kept by JSON and pickle.
        """
        return None if self._history is None else self._history.clone()

    @property
    def diagnostics(self) -> pl.DataFrame:
        """What to know of the components before they are trusted, a row for each.

        ``component`` (UInt32) and ``weight``; ``effective_rows``, weight times `n_rows`;
        ``smallest_eigenvalue`` and ``largest_eigenvalue`` of D^-1/2 Sigma D^-1/2, where D holds
        the variances of the features under the whole mixture, the units of ``covariance_floor``;
        ``at_floor`` (Boolean), whether the smallest is at most 1 % above the floor of the fit;
        ``nearest`` (UInt32), the component it overlaps most, and their ``overlap``, the
        Bhattacharyya coefficient of the two densities: 0 for components far apart, 1 for equal
        ones.

        ``effective_rows`` and ``at_floor`` are null where rows or floor are not known: the floor
        is known for models of ``df.gmm.fit`` and ``lf.gmm.fit``, and kept by JSON and pickle.
        ``nearest`` and ``overlap`` are null for a component of weight zero, which is no other's
        neighbour, and where there is no other. A constant feature has for its unit its square,
        or 1 where it is zero, as in the fit. A component at the floor, or on fewer effective rows
        than d + 1, describes a few rows rather than a cluster.

        Bhattacharyya (1943), *Bulletin of the Calcutta Mathematical Society* 35, 99-109;
        Fukunaga (1990), *Introduction to Statistical Pattern Recognition*, section 3.4.
        """
        return _diagnostics.diagnostics(self, self._floor)

    @property
    def aic(self) -> float | None:
        """Akaike's criterion, -2 L + 2 n_parameters (Akaike 1974); lower is better."""
        if self.log_likelihood is None:
            return None
        return -2 * self.log_likelihood + 2 * self.n_parameters

    @property
    def bic(self) -> float | None:
        """Bayesian criterion, -2 L + n_parameters log n (Schwarz 1978); lower is better."""
        if self.log_likelihood is None or not self.total_weight:
            return None
        return -2 * self.log_likelihood + self.n_parameters * math.log(self.total_weight)

    @property
    def icl(self) -> float | None:
        """Integrated completed likelihood, bic + 2 entropy; lower is better.

        Biernacki, Celeux & Govaert (2000).
        """
        if self.bic is None or self.entropy is None:
            return None
        return self.bic + 2 * self.entropy

    def responsibilities(self, *, log: bool = False) -> pl.Expr:
        """Probability of each component given the row, from the model's own features.

        Parameters
        ----------
        log
            Give logarithms.

        Returns
        -------
        polars.Expr
            Array(Float64, k) named ``responsibilities``; each row sums to 1.

        Notes
        -----
        Bishop (2006), eq. 9.13. A null feature gives null, NaN or infinity gives NaN.

        The columns are found by the names in `features`. A model fitted on a computed column that
        kept its name, such as ``pl.col("x").log()``, would read the raw ``x``: add the computed
        column under a name of its own with ``with_columns`` and ``.alias``, and fit that. Names
        ``a[0]``, ``a[1]``, ... are read as the positions of an Array or List column ``a``.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> df = pl.DataFrame({"x": [0.0]})
        >>> df.select(model.responsibilities()).to_series().to_numpy().round(6).tolist()
        [[0.5, 0.5]]
        """
        rows = rows_of(self.features)
        return _scoring.responsibilities(rows, self.pack(), log=log).alias("responsibilities")

    def predict(self) -> pl.Expr:
        """Most probable component of a row, from the model's own features.

        Returns
        -------
        polars.Expr
            UInt32 named ``component``, 0 to k - 1.

        Notes
        -----
        A null, NaN or infinite feature gives null.

        The columns are found by the names in `features`. A model fitted on a computed column that
        kept its name, such as ``pl.col("x").log()``, would read the raw ``x``: add the computed
        column under a name of its own with ``with_columns`` and ``.alias``, and fit that. Names
        ``a[0]``, ``a[1]``, ... are read as the positions of an Array or List column ``a``.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> df = pl.DataFrame({"x": [-2.0, 3.0, None]})
        >>> df.select(model.predict()).to_series().to_list()
        [0, 1, None]
        """
        return _scoring.predict(rows_of(self.features), self.pack()).alias("component")

    def log_density(self) -> pl.Expr:
        """Log-density of a row, log p(x), from the model's own features.

        Returns
        -------
        polars.Expr
            Float64 named ``log_density``, in nats.

        Notes
        -----
        Bishop (2006), eq. 9.7. A null feature gives null, NaN or infinity gives NaN.

        The columns are found by the names in `features`. A model fitted on a computed column that
        kept its name, such as ``pl.col("x").log()``, would read the raw ``x``: add the computed
        column under a name of its own with ``with_columns`` and ``.alias``, and fit that. Names
        ``a[0]``, ``a[1]``, ... are read as the positions of an Array or List column ``a``.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> df = pl.DataFrame({"x": [0.0, None]})
        >>> df.select(model.log_density().round(4)).to_series().to_list()
        [-1.4189, None]
        """
        return _scoring.log_density(rows_of(self.features), self.pack()).alias("log_density")

    def score(self, frame: pl.DataFrame | pl.LazyFrame) -> float:
        """Mean log-likelihood per row.

        Parameters
        ----------
        frame
            Frame with the model's features; a lazy one is collected to a single row.

        Returns
        -------
        float
            sum_i log p(x_i) / n, in nats.

        Raises
        ------
        GmmError
            If a feature is missing or not numeric, there are no rows, or a row has a null, NaN or
            infinite feature.

        Examples
        --------
        >>> import polars as pl
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> round(model.score(pl.DataFrame({"x": [0.0, 0.0]})), 4)
        -1.4189
        """
        if not isinstance(frame, pl.DataFrame | pl.LazyFrame):
            raise GmmError(f"score takes a DataFrame or a LazyFrame; got {shown(frame)}")
        schema = frame.collect_schema()
        density = pl.col("log_density")
        with frame_errors(schema, [rows_of(self.features)]):
            mean, rows, without = (
                frame.select(self.log_density())
                .select(
                    mean=density.mean(),
                    rows=pl.len(),
                    without=(density.is_null() | density.is_nan()).sum(),
                )
                .lazy()
                .collect()
                .row(0)
            )
        if rows == 0:
            raise GmmError("the score is a mean over rows, but the frame has none")
        if without > 0:
            raise GmmError(
                f"{without} of {rows} rows have no log-density, because a feature is null, NaN or "
                f"infinite: filter or fill them before scoring"
            )
        return float(mean)

    def sample(self, n: int, seed: int = 0) -> pl.DataFrame:
        """Draw rows from the mixture.

        Parameters
        ----------
        n
            Number of rows.
        seed
            Same seed, same rows.

        Returns
        -------
        polars.DataFrame
            n independent rows with the model's features: Float64 columns, or one Array column
            where the features are positions.

        Raises
        ------
        GmmError
            If `n` or `seed` is no whole number >= 0.

        Notes
        -----
        x = mu_k + L_k z, with k drawn by weight, L_k the Cholesky factor of Sigma_k, and z
        standard normal.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> model.sample(3, seed=1).shape
        (3, 1)
        """
        size = integer("n", n)
        rng = np.random.default_rng(integer("seed", seed))
        component = rng.choice(self.k, size=size, p=self.weights / self.weights.sum())
        values = rng.standard_normal((size, self.d))
        factors = np.linalg.cholesky(self.covariances)
        for k in range(self.k):
            rows = np.flatnonzero(component == k)
            values[rows] = self.means[k] + values[rows] @ factors[k].T
        return frame_of(self.features, values)

    def to_frame(self) -> pl.DataFrame:
        """Tabulate the components.

        Returns
        -------
        polars.DataFrame
            A row per component: ``component`` (UInt32), ``weight`` (Float64), ``mean``
            (Array(Float64, d)), ``covariance`` (Array(Float64, (d, d))).

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> model.to_frame().select("component", "weight").rows()
        [(0, 0.5), (1, 0.5)]
        """
        return pl.DataFrame(
            {
                "component": pl.Series(range(self.k), dtype=pl.UInt32),
                "weight": self.weights,
                "mean": self.means,
                "covariance": self.covariances,
            }
        )

    def to_struct(self) -> pl.Series:
        """Give the model as a Polars value.

        Returns
        -------
        polars.Series
            One struct, named ``model``, of the fields that ``expr.gmm.fit`` gives.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> model.to_struct().struct["weights"].to_list()
        [[0.5, 0.5]]
        """
        return self._model.to_series().alias("model")

    @classmethod
    def from_struct(cls, value: pl.Series | Mapping[str, Any]) -> GaussianMixture:
        """Read a model from a Polars value.

        Parameters
        ----------
        value
            A Series of one model struct or one packed model, or the struct as a dict, as
            ``Series.to_list`` and ``DataFrame.row`` give it.

        Returns
        -------
        GaussianMixture
            The model, without `history` and floor.

        Raises
        ------
        GmmError
            If the value is not one valid model.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> pg.GaussianMixture.from_struct(model.to_struct()) == model
        True
        """
        return wrap(Model.from_series(_struct_series(value)))

    def pack(self) -> bytes:
        """Give the model as bytes: the packed form that every `model` argument accepts.

        Returns
        -------
        bytes
            What ``expr.gmm.pack`` gives for the model struct.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> pg.GaussianMixture.unpack(model.pack()) == model
        True
        """
        return self._model.pack()

    @classmethod
    def unpack(cls, data: bytes) -> GaussianMixture:
        """Read a model from the bytes of `pack`.

        Parameters
        ----------
        data
            A packed model.

        Returns
        -------
        GaussianMixture
            The model, without `history`.

        Raises
        ------
        GmmError
            If the bytes are no packed model.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> pg.GaussianMixture.unpack(model.pack()).k
        1
        """
        return wrap(Model.unpack(_bytes(data)))

    def to_json(self) -> str:
        """Give the model, its history and its floor as versioned JSON that round-trips to the bit.

        Returns
        -------
        str
            One JSON object.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([0.5, 0.5], [[-1], [1]], [[[1]], [[1]]], features=["x"])
        >>> pg.GaussianMixture.from_json(model.to_json()) == model
        True
        """
        fit: dict[str, Any] = {}
        if self._history is not None:
            fit["history"] = _history.to_columns(self._history)
        if self._floor is not None:
            fit["covariance_floor"] = self._floor
        if self._passes is not None:
            fit["n_passes"] = self._passes
        if not fit:
            return self._model.to_json()
        return json.dumps({**json.loads(self._model.to_json()), **fit})

    @classmethod
    def from_json(cls, text: str | bytes) -> GaussianMixture:
        """Read a model from JSON.

        Parameters
        ----------
        text
            What `to_json` gave, or the same as bytes in UTF-8.

        Returns
        -------
        GaussianMixture
            The same model, bit for bit, with its history.

        Raises
        ------
        GmmError
            If the text is not the JSON of a valid model, or of a later version of the format.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.1]], [[[1.0]]], features=["x"])
        >>> pg.GaussianMixture.from_json(model.to_json()).means.tolist()
        [[0.1]]
        """
        model, fit = _parsed(text)
        history, floor, passes = (fit.get(key) for key in _OF_THE_FIT)
        return wrap(
            Model.from_json(model),
            None if history is None else _history.from_columns(history),
            None if floor is None else _checked_floor(floor),
            None if passes is None else integer("the n_passes in a model's JSON", passes),
        )

    def write_json(self, path: str | PathLike[str]) -> None:
        """Write `to_json` to a file.

        Parameters
        ----------
        path
            File to write, in UTF-8; replaced if it exists.
        """
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def read_json(cls, path: str | PathLike[str]) -> GaussianMixture:
        """Read a model from a file of `write_json`.

        Parameters
        ----------
        path
            File to read.

        Returns
        -------
        GaussianMixture
            The same model, bit for bit, with its history.

        Raises
        ------
        GmmError
            If the file does not hold the JSON of a valid model.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.write_json(Path(folder) / "model.json")
        ...     pg.GaussianMixture.read_json(Path(folder) / "model.json") == model
        True
        """
        return cls.from_json(Path(path).read_bytes())

    def to_sklearn(self) -> Any:
        """Give the fitted ``sklearn.mixture.GaussianMixture`` with these parameters.

        Returns
        -------
        sklearn.mixture.GaussianMixture
            Ready to predict, score and sample.

        Raises
        ------
        GmmError
            If scikit-learn is not installed.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[4.0]]], features=["x"])
        >>> model.to_sklearn().precisions_cholesky_.tolist()
        [[[0.5]]]
        """
        return _sklearn.to_estimator(self)

    @classmethod
    def from_sklearn(cls, est: Any, features: Sequence[str] | None = None) -> GaussianMixture:
        """Read the parameters of a fitted ``sklearn.mixture.GaussianMixture``.

        Parameters
        ----------
        est
            A fitted estimator.
        features
            Names of the features; by default those the estimator was fitted with, or
            ``x0, x1, ...`` if it saw no names.

        Returns
        -------
        GaussianMixture
            The same mixture; log-likelihood and counts are not known and None.

        Raises
        ------
        GmmError
            If the estimator is another class or not fitted, or scikit-learn is not installed.

        Examples
        --------
        >>> import polars_gmm as pg
        >>> model = pg.GaussianMixture([1.0], [[0.0]], [[[4.0]]], features=["x"])
        >>> pg.GaussianMixture.from_sklearn(model.to_sklearn()) == model
        True
        """
        return cls(**_sklearn.from_estimator(est, features))

    def __eq__(self, other: object) -> bool:
        """Compare by value, to the last bit; the history does not count."""
        if not isinstance(other, GaussianMixture):
            return NotImplemented
        return self.pack() == other.pack()

    def __hash__(self) -> int:
        """Hash by value."""
        return hash(self.pack())

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Pickle and copy through JSON."""
        return GaussianMixture.from_json, (self.to_json(),)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: models are immutable."""
        raise AttributeError(f"a GaussianMixture is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse: models are immutable."""
        raise AttributeError(f"a GaussianMixture is immutable: cannot delete {name!r}")

    def __repr__(self) -> str:
        """Show the model in one line."""
        parts = [
            f"k={self.k}",
            f"d={self.d}",
            f"covariance_type={self.covariance_type!r}",
            f"features={abbreviated(self.features)}",
        ]
        if self.log_likelihood is not None:
            parts.append(f"log_likelihood={self.log_likelihood:.2f}")
        if self.n_iter is not None:
            parts.append(f"n_iter={self.n_iter}")
        if self.converged is not None:
            parts.append(f"converged={self.converged}")
        return f"GaussianMixture({', '.join(parts)})"

    def _repr_html_(self) -> str:
        return self.to_frame()._repr_html_()


def wrap(
    model: Model,
    history: pl.DataFrame | None = None,
    floor: float | None = None,
    passes: int | None = None,
) -> GaussianMixture:
    """Give a compiled model its Python face, with what is known of the fit that made it."""
    mixture = object.__new__(GaussianMixture)
    _fill(mixture, model, history, floor, passes)
    return mixture


def compiled(mixture: GaussianMixture) -> Model:
    """Give the compiled model behind its Python face."""
    return mixture._model


def null_model() -> pl.Series:
    """Give the model struct of what cannot be fitted."""
    return pl.Series("model", [None], dtype=_DTYPE)


def _fill(
    mixture: GaussianMixture,
    model: Model,
    history: pl.DataFrame | None = None,
    floor: float | None = None,
    passes: int | None = None,
) -> None:
    k, d = model.k, model.d
    object.__setattr__(mixture, "_model", model)
    object.__setattr__(mixture, "_history", history)
    object.__setattr__(mixture, "_floor", floor)
    object.__setattr__(mixture, "_passes", passes)
    object.__setattr__(mixture, "weights", _array(model.weights, (k,)))
    object.__setattr__(mixture, "means", _array(model.means, (k, d)))
    object.__setattr__(mixture, "covariances", _array(model.covariances, (k, d, d)))


def _array(numbers: bytes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Give an array over bytes, which are read-only."""
    return np.frombuffer(numbers, dtype=np.float64).reshape(shape)


def _flat(name: str, values: ArrayLike) -> tuple[list[float], list[int]]:
    array = float_array(name, values)
    return array.ravel().tolist(), list(array.shape)


def _bytes(data: Any) -> bytes:
    if not isinstance(data, bytes):
        raise GmmError(f"a packed model must be bytes; got {shown(data)}")
    return data


def _parsed(text: str | bytes) -> tuple[str, dict[str, Any]]:
    """Split JSON into that of the model alone, and what is known of its fit."""
    try:
        string = text if isinstance(text, str) else bytes(memoryview(text)).decode()
        content: Any = json.loads(string)
        if not isinstance(content, dict) or not content.keys() & set(_OF_THE_FIT):
            return string, {}
        fit = {key: content.pop(key, None) for key in _OF_THE_FIT}
        return json.dumps(content), fit
    except (TypeError, ValueError, RecursionError) as error:
        raise GmmError(f"expected the JSON of a model, but it does not parse: {error}") from error


def _checked_floor(value: Any) -> float:
    floor = real("the covariance_floor in a model's JSON", value)
    if not 0 <= floor < 1:
        raise GmmError(
            f"the covariance_floor in a model's JSON must be at least 0 and below 1; got {floor}"
        )
    return floor


def _struct_series(value: Any) -> pl.Series:
    if isinstance(value, pl.Series):
        if not isinstance(value.dtype, pl.Struct | pl.Binary | pl.Null):
            raise GmmError(
                f"a model must be a Series of one model struct or one packed model; "
                f"got one of dtype {value.dtype}"
            )
        if _has_extension(value.dtype):
            raise GmmError(
                f"a model struct must hold no extension dtype, but its dtype is {value.dtype}; "
                f"give the fields as fit or to_struct made them"
            )
        if isinstance(value.dtype, pl.Struct) and len(value) == 1:
            fields = value.struct.unnest()
            _check_fields({name: not fields[name].has_nulls() for name in fields.columns})
        return value
    if not isinstance(value, Mapping):
        raise GmmError(f"a model struct must be a Series of length 1 or a dict; got {shown(value)}")
    row: dict[str, Any] = dict(value)
    _check_fields({name: row[name] is not None for name in row})
    if all(row[name] is None for name in _REQUIRED):
        return pl.Series("model", [None], dtype=_DTYPE)
    for name in _PARAMETERS:
        row[name] = float_array(name, row[name]).tolist()
    row["features"] = names("features", row["features"])
    try:
        return pl.Series("model", [row], dtype=_DTYPE)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise GmmError(f"a model struct has fields {list(_DTYPE.to_schema())}: {error}") from error


def _has_extension(dtype: Any) -> bool:
    """Tell whether a dtype is an extension or nests one."""
    if isinstance(dtype, pl.Struct):
        return any(_has_extension(field.dtype) for field in dtype.fields)
    if isinstance(dtype, pl.List | pl.Array):
        return _has_extension(dtype.inner)
    return isinstance(dtype, pl.BaseExtension)


def _check_fields(filled: Mapping[str, bool]) -> None:
    """Check that the fields of a struct are those of a model, or all null, which is no model."""
    missing = [name for name in _REQUIRED if not filled.get(name, False)]
    if missing and (any(filled.values()) or not filled.keys() >= set(_REQUIRED)):
        raise GmmError(
            f"a model struct needs the fields {list(_REQUIRED)}, but {missing} are missing or "
            f"null: give it as fit or to_struct made it"
        )
