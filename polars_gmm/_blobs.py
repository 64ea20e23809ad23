"""Points around known centres, for examples and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from polars_gmm._checks import float_array, integer, names
from polars_gmm._errors import GmmError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_BOX = 10.0
_DIMENSIONS = 2
_LABEL = "label"


def make_blobs(
    n: int,
    *,
    centers: int | ArrayLike = 3,
    features: int | Sequence[str] | None = None,
    std: ArrayLike = 1.0,
    seed: int = 0,
) -> pl.DataFrame:
    """Draw points from spherical Gaussians with known centres.

    Every centre gets the same number of points, give or take one; rows are in random order.

    Parameters
    ----------
    n
        Number of rows.
    centers
        Number of centres, drawn uniformly from the cube [-10, 10]^d; or the centres themselves,
        shape (c, d).
    features
        Number of features, named ``x0, x1, ...``; or their names. By default as many as the
        centres have coordinates, or 2 when the centres are drawn.
    std
        Standard deviation of every component; or one for each, shape (c,).
    seed
        Same seed, same points.

    Returns
    -------
    polars.DataFrame
        n rows: the features (Float64), and ``label`` (UInt32), the row of the centre.

    Raises
    ------
    GmmError
        If a number is out of range, or shapes do not fit together.

    Examples
    --------
    >>> import polars_gmm as pg
    >>> df = pg.make_blobs(6, centers=[[0, 0], [9, 9]], features=["x", "y"], std=0.1)
    >>> dict(df.schema)
    {'x': Float64, 'y': Float64, 'label': UInt32}
    >>> df["label"].value_counts(sort=True).sort("label").rows()
    [(0, 3), (1, 3)]
    """
    rng = np.random.default_rng(integer("seed", seed))
    size = integer("n", n)
    columns = _columns(features)
    means = _centres(centers, None if columns is None else len(columns), rng)
    spread = _spread(std, len(means))
    if columns is None:
        columns = _numbered(means.shape[1])
    label = rng.permutation(np.arange(size, dtype=np.uint32) % len(means))
    points = means[label] + spread[label, None] * rng.standard_normal((size, means.shape[1]))
    return pl.DataFrame(points, schema=columns, orient="row").with_columns(pl.Series(_LABEL, label))


def _columns(features: int | Sequence[str] | None) -> list[str] | None:
    if features is None:
        return None
    if isinstance(features, Sequence):
        given = names("features", features)
        if len({*given, _LABEL}) <= len(given):
            raise GmmError(
                f"features must be different names, none of them {_LABEL!r}; got {given}"
            )
        return given
    return _numbered(integer("features", features, least=1))


def _numbered(count: int) -> list[str]:
    return [f"x{index}" for index in range(count)]


def _centres(centers: Any, d: int | None, rng: np.random.Generator) -> NDArray[np.float64]:
    if isinstance(centers, Real):
        shape = (integer("centers", centers, least=1), _DIMENSIONS if d is None else d)
        return rng.uniform(-_BOX, _BOX, size=shape)
    means = float_array("centers", centers)
    if means.ndim != 2 or means.size == 0 or d not in {None, means.shape[1]}:
        width = "d" if d is None else d
        raise GmmError(f"centers must be a number or have shape (c, {width}); got {means.shape}")
    return means


def _spread(std: Any, count: int) -> NDArray[np.float64]:
    spread = float_array("std", std)
    if spread.shape not in {(), (count,)} or not (spread >= 0).all():
        raise GmmError(f"std must be one number >= 0, or {count}, one per centre; got {std!r}")
    return np.broadcast_to(spread, (count,))
