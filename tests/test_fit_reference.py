"""Whole fits against scikit-learn, R's mclust and mixtools."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from sklearn.mixture import GaussianMixture

import datasets
import oracle
import polars_gmm as pg
from datasets import array_column, by_quantile, frame
from oracle import STRUCTURES, distance
from support import as_model, parameters_of


class Figure(NamedTuple):
    """A maximum of the likelihood that others have published, and labels from which EM finds it."""

    data: str
    structure: str
    k: int
    log_likelihood: float
    cut: str

    @property
    def df(self) -> pl.DataFrame:
        df = datasets.iris() if self.data == "iris" else datasets.faithful()
        return df.select("waiting") if self.data == "waiting" else df

    @property
    def labels(self) -> pl.Series:
        if self.cut == "species":
            return pl.Series("start", datasets.iris_species())
        return by_quantile(self.df[self.cut], self.k)

    def __str__(self) -> str:
        return f"{self.data}-{self.structure}-{self.k}"


FIGURES = [
    Figure("waiting", "tied", 2, -1034.001760, "waiting"),
    Figure("waiting", "full", 2, -1034.001750, "waiting"),
    Figure("faithful", "full", 2, -1130.263960, "waiting"),
    Figure("faithful", "full", 3, -1119.213971, "waiting"),
    Figure("faithful", "tied", 2, -1140.186759, "waiting"),
    Figure("faithful", "tied", 3, -1126.315928, "waiting"),
    Figure("faithful", "diag", 2, -1147.806353, "waiting"),
    Figure("iris", "full", 2, -214.354704, "Petal.Length"),
    Figure("iris", "full", 3, -180.185477, "species"),
    Figure("iris", "tied", 3, -256.354043, "species"),
    Figure("iris", "diag", 3, -307.177572, "Sepal.Length"),
    Figure("iris", "spherical", 3, -384.314095, "Petal.Length"),
]

WEIGHTS = {
    "waiting-tied-2": [0.36085, 0.63915],
    "waiting-full-2": [0.3608874, 0.6391126],
    "faithful-full-2": [0.355873, 0.644127],
    "faithful-tied-3": [0.168589, 0.356378, 0.475033],
}

# 2 log L - p ln n as mclust prints it; its stop rule is good to about 0.05.
MCLUST_BIC = {
    "faithful-full-2": -2322.19195930296,
    "faithful-tied-2": -2325.21993718258,
    "faithful-tied-3": -2314.31629566578,
    "faithful-diag-2": -2346.06492395165,
    "iris-full-2": -574.017832269817,
    "iris-full-3": -580.839630427709,
    "iris-tied-3": -632.964732322896,
    "iris-spherical-3": -853.814407212893,
}

figures = pytest.mark.parametrize("figure", FIGURES, ids=str)


def converged(figure: Figure) -> pg.GaussianMixture:
    df = figure.df.with_columns(figure.labels)
    return df.gmm.fit(
        k=figure.k,
        covariance_type=figure.structure,
        init=pl.col("start"),
        covariance_floor=0,
        tol=1e-15,
        max_iter=20_000,
    )


@figures
def test_published_maxima(figure: Figure) -> None:
    model = converged(figure)
    assert abs(model.log_likelihood - figure.log_likelihood) < 1.5e-6
    assert model.converged
    assert model.n_rows == figure.df.height
    assert model.features == figure.df.columns
    if str(figure) in WEIGHTS:
        digits = 2e-5 if str(figure) == "faithful-tied-3" else 1e-5
        assert np.abs(np.sort(model.weights) - WEIGHTS[str(figure)]).max() < digits
    if str(figure) in MCLUST_BIC:
        assert abs(-model.bic - MCLUST_BIC[str(figure)]) < 0.05


def test_mixtools_on_waiting() -> None:
    unequal = converged(FIGURES[1])
    order = np.argsort(unequal.means[:, 0])
    assert np.abs(unequal.means[order, 0] - [54.614901, 80.091098]).max() < 1e-4
    assert np.abs(np.sqrt(unequal.covariances[order, 0, 0]) - [5.871258, 5.867706]).max() < 1e-4
    equal = converged(FIGURES[0])
    assert np.abs(np.sort(equal.means[:, 0]) - [54.61364, 80.09031]).max() < 2e-5
    assert np.abs(np.sqrt(equal.covariances[:, 0, 0]) - 5.869089).max() < 5e-6


@figures
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_start_reaches_the_published_maxima(figure: Figure, seed: int) -> None:
    model = figure.df.gmm.fit(k=figure.k, covariance_type=figure.structure, tol=1e-10, seed=seed)
    assert model.log_likelihood > figure.log_likelihood - 1e-3
    if figure.k == 2:
        assert model.log_likelihood < figure.log_likelihood + 1e-3


def species_responsibilities() -> oracle.Array:
    return 0.9 * np.eye(3)[datasets.iris_species()] + 0.1 / 3


@pytest.mark.parametrize("structure", STRUCTURES)
def test_mclust_m_steps_on_iris(structure: str) -> None:
    family = datasets.iris_families()[structure]
    df = datasets.iris().with_columns(array_column("r", species_responsibilities()))
    rows = pl.struct(pl.exclude("r"))
    step = rows.gmm.m_step("r", covariance_type=structure, covariance_floor=0)
    model = oracle.parameters(df.select(step).to_series()[0])
    expected = oracle.Parameters(
        np.array(family["pro"]), np.array(family["mean"]).T, np.moveaxis(family["sigma"], 2, 0)
    )
    oracle.assert_same_parameters(model, expected, 1e-12)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_mclust_em_on_iris(structure: str) -> None:
    family = datasets.iris_families()[structure]
    df = datasets.iris().with_columns(array_column("r", species_responsibilities()))
    model = df.gmm.fit(
        k=3,
        covariance_type=structure,
        init=pl.col("r"),
        covariance_floor=0,
        tol=1e-15,
        max_iter=20_000,
    )
    assert abs(model.log_likelihood - family["em_loglik"]) < 1e-6
    assert distance(model.covariances, np.moveaxis(family["em_sigma"], 2, 0)) < 1e-4
    assert model.n_parameters == family["nparams"]


@pytest.mark.parametrize(
    ("structure", "count"), [("spherical", 13), ("diag", 21), ("tied", 26), ("full", 41)]
)
def test_parameter_counts(structure: str, count: int) -> None:
    rng = np.random.default_rng(0)
    model = as_model(oracle.random_model(rng, 2, 5, structure), structure=structure)
    assert model.n_parameters == count


def sklearn_fit(
    rows: oracle.Array, start: oracle.Parameters, structure: str, shape: oracle.Array
) -> GaussianMixture:
    return GaussianMixture(
        len(start.weights),
        covariance_type=structure,
        reg_covar=0,
        tol=1e-12,
        max_iter=100_000,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=shape,
    ).fit(rows)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(("d", "k"), [(1, 2), (2, 3), (5, 4)])
def test_same_maximum_as_sklearn_from_the_same_start(structure: str, d: int, k: int) -> None:
    rng = np.random.default_rng([d, k])
    truth = oracle.random_model(rng, k, d, structure)
    truth = truth._replace(means=truth.means + 4 * np.arange(k)[:, None] / d)
    rows, _ = oracle.draw(rng, truth, 1_000)
    start = oracle.Parameters(
        np.full(k, 1 / k),
        truth.means + rng.normal(scale=0.5, size=(k, d)),
        np.broadcast_to(np.eye(d), (k, d, d)),
    )
    shape = {
        "full": start.covariances,
        "tied": np.eye(d),
        "diag": np.ones((k, d)),
        "spherical": np.ones(k),
    }[structure]
    theirs = sklearn_fit(rows, start, structure, shape)
    ours = frame(rows).gmm.fit(
        k=k,
        covariance_type=structure,
        init=as_model(start, structure=structure),
        covariance_floor=0,
        tol=1e-14,
        max_iter=100_000,
    )
    expected = theirs.score(rows) * len(rows)
    assert abs(ours.log_likelihood - expected) <= 1e-8 * abs(expected)
    assert distance(ours.weights, theirs.weights_) < 1e-4
    assert distance(ours.means, theirs.means_) < 1e-4
    assert ours.bic == pytest.approx(theirs.bic(rows), rel=1e-7)
    assert ours.aic == pytest.approx(theirs.aic(rows), rel=1e-7)


def test_given_starts_keep_their_order() -> None:
    rows, labels = datasets.blobs()
    order = np.array([2, 0, 1])
    df = frame(rows).with_columns(pl.Series("z", order[labels]))
    model = df.gmm.fit(k=3, init=pl.col("z"))
    again = frame(rows).gmm.fit(k=3, init=model)
    for fit in (model, again):
        for j in range(3):
            own = rows[labels == j].mean(axis=0)
            assert np.abs(fit.means[order[j]] - own).max() < 0.1


def test_fixed_iterations_follow_the_oracle() -> None:
    rng = np.random.default_rng(8)
    start = oracle.random_model(rng, 3, 2, "full")
    rows, _ = oracle.draw(rng, oracle.random_model(rng, 3, 2, "full"), 400)
    options: dict[str, Any] = {"covariance_floor": 0, "tol": 0, "max_iter": 7, "acceleration": None}
    model = frame(rows).gmm.fit(k=3, init=as_model(start), **options)
    oracle.assert_same_parameters(parameters_of(model), oracle.em(rows, start, "full", 7))
    assert model.n_iter == 7
    assert not model.converged
