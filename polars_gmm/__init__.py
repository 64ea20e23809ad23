"""Gaussian mixture models as Polars expressions.

Importing the package registers the namespace ``.gmm`` on `polars.Expr`, `polars.DataFrame` and
`polars.LazyFrame`. `gmm` gives the same namespaces in a form type checkers can see.

Examples
--------
>>> import polars as pl
>>> import polars_gmm as pg
>>> df = pg.make_blobs(200, centers=[[0, 0], [10, 10]], seed=1)
>>> model = df.gmm.fit("x0", "x1", k=2)
>>> df.select(model.predict()).to_series().n_unique()
2
"""

from polars_gmm._versions import __version__  # first, because it refuses an old Polars

# isort: split
from polars_gmm._accessor import gmm
from polars_gmm._blobs import make_blobs
from polars_gmm._em import EM
from polars_gmm._errors import ConvergenceWarning, FitInterrupted, GmmError
from polars_gmm._fit import FitReport
from polars_gmm._model import GaussianMixture
from polars_gmm._prior import NormalInverseWishart

__all__ = [
    "EM",
    "ConvergenceWarning",
    "FitInterrupted",
    "FitReport",
    "GaussianMixture",
    "GmmError",
    "NormalInverseWishart",
    "__version__",
    "gmm",
    "make_blobs",
]
