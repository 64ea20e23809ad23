"""`model.diagnostics`: what it says of sound, collapsed, coincident and distant components."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import polars as pl
import pytest

import polars_gmm as pg
from datasets import blobs, faithful, frame
from oracle import STRUCTURES


def plane(means: Any, scale: float = 1.0, weights: Any = None) -> pg.GaussianMixture:
    """Round components of equal size at these means."""
    k = len(means)
    shares = np.full(k, 1 / k) if weights is None else weights
    return pg.GaussianMixture(shares, means, [scale * np.eye(2)] * k, features=["x", "y"])


def test_a_row_per_component() -> None:
    model = faithful().gmm.fit(k=2)
    table = model.diagnostics
    assert table.schema == {
        "component": pl.UInt32,
        "weight": pl.Float64,
        "effective_rows": pl.Float64,
        "smallest_eigenvalue": pl.Float64,
        "largest_eigenvalue": pl.Float64,
        "at_floor": pl.Boolean,
        "nearest": pl.UInt32,
        "overlap": pl.Float64,
    }
    assert table["component"].to_list() == [0, 1]
    assert table["weight"].to_list() == model.weights.tolist()
    assert table["effective_rows"].sum() == pytest.approx(272, rel=1e-12)
    assert table["at_floor"].to_list() == [False, False]
    assert table["nearest"].to_list() == [1, 0]
    assert table["overlap"][0] == table["overlap"][1]


def test_eigenvalues_are_in_units_of_the_variances_of_the_rows() -> None:
    df = faithful()
    table = df.gmm.fit(k=1).diagnostics
    expected = np.linalg.eigvalsh(np.corrcoef(df.to_numpy().T))
    found = table.select("smallest_eigenvalue", "largest_eigenvalue").row(0)
    assert found == pytest.approx(expected, rel=1e-10)


def test_overlap_is_the_bhattacharyya_coefficient() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.cov(rng.normal(size=(2, 9)) * [[2.0], [0.5]]) for _ in range(2))
    means = rng.normal(size=(2, 2))
    model = pg.GaussianMixture([0.3, 0.7], means, [a, b], features=["x", "y"])
    middle, between = (a + b) / 2, means[0] - means[1]
    distance = between @ np.linalg.solve(middle, between) / 8 + 0.5 * np.log(
        np.linalg.det(middle) / np.sqrt(np.linalg.det(a) * np.linalg.det(b))
    )
    assert model.diagnostics["overlap"].to_list() == pytest.approx([np.exp(-distance)] * 2)


def test_coincident_and_distant_components() -> None:
    table = plane([[0, 0], [0, 0], [60, 0], [63, 0]]).diagnostics
    assert table["nearest"].to_list() == [1, 0, 3, 2]
    assert table["overlap"][:2].to_list() == pytest.approx([1, 1], abs=1e-12)
    assert table["overlap"][2:].to_list() == pytest.approx([np.exp(-9 / 8)] * 2)
    assert plane([[0, 0], [100, 0]]).diagnostics["overlap"].max() < 1e-100


def test_components_without_neighbour_or_weight() -> None:
    alone = plane([[1, 2]]).diagnostics
    assert alone.select("nearest", "overlap").row(0) == (None, None)
    table = plane([[0, 0], [0, 0], [5, 0]], weights=[0.5, 0.0, 0.5]).diagnostics
    assert table["nearest"].to_list() == [2, None, 0]
    assert table["overlap"].is_null().to_list() == [False, True, False]
    assert table.select("smallest_eigenvalue", "largest_eigenvalue").to_numpy().min() > 0


def test_what_no_fit_tells_is_null() -> None:
    model = faithful().gmm.fit(k=2)
    fields = model.to_struct().struct.unnest()
    given = pg.GaussianMixture(
        model.weights, model.means, model.covariances, features=model.features
    )
    assert given.diagnostics["effective_rows"].null_count() == 2
    assert given.diagnostics["at_floor"].null_count() == 2
    stored = pg.GaussianMixture.from_struct(fields.to_struct("model"))
    assert stored.diagnostics["effective_rows"].null_count() == 0
    assert stored.diagnostics["at_floor"].null_count() == 2


def test_the_floor_travels_with_the_model() -> None:
    models: list[pg.GaussianMixture] = []
    df = blobs_with_a_spike()
    model = df.gmm.fit(k=4, on_iteration=lambda report: models.append(report.model))
    again = [
        pg.GaussianMixture.from_json(model.to_json()),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        models[-1],
        pickle.loads(pickle.dumps(models[-1])),
    ]
    assert model.diagnostics["at_floor"].any()
    assert all(other.diagnostics.equals(model.diagnostics) for other in again)


def blobs_with_a_spike() -> pl.DataFrame:
    """Three clusters, and forty copies of one row far from them."""
    spike = pl.DataFrame({"x0": [30.0] * 40, "x1": [30.0] * 40})
    return pl.concat([frame(blobs(300)[0]), spike])


@pytest.mark.parametrize("structure", [s for s in STRUCTURES if s != "tied"])
@pytest.mark.parametrize("floor", [1e-6, 1e-3])
def test_a_component_on_copies_of_one_row_is_at_the_floor(structure: Any, floor: float) -> None:
    model = blobs_with_a_spike().gmm.fit(k=4, covariance_type=structure, covariance_floor=floor)
    spike = int(model.means.sum(axis=1).argmax())
    table = model.diagnostics
    assert table["at_floor"].to_list() == [j == spike for j in range(4)]
    assert table["smallest_eigenvalue"][spike] == pytest.approx(floor, rel=1e-2)
    assert table["effective_rows"][spike] == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e8])
@pytest.mark.parametrize("structure", ["full", "diag", "tied"])
def test_a_constant_feature_is_at_the_floor(value: float, structure: Any) -> None:
    df = frame(blobs(300)[0]).with_columns(c=pl.lit(value))
    table = df.gmm.fit(k=3, covariance_type=structure).diagnostics
    assert table["at_floor"].all()
    assert table["smallest_eigenvalue"].to_list() == pytest.approx([1e-6] * 3, rel=1e-4)


def test_without_a_floor_nothing_is_at_it() -> None:
    table = faithful().gmm.fit(k=2, covariance_floor=0).diagnostics
    assert table["at_floor"].to_list() == [False, False]


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(("scale", "shift"), [(1e-8, 0.0), (1e8, 0.0), (1.0, 1e6), (1e-5, -3.0)])
def test_diagnostics_have_no_units(structure: Any, scale: float, shift: float) -> None:
    df = frame(blobs(300)[0] * [1.0, 1.0])
    start = df.gmm.fit(k=3, covariance_type=structure)
    moved = pg.GaussianMixture(
        start.weights,
        start.means * scale + shift,
        start.covariances * scale**2,
        features=start.features,
        covariance_type=structure,
    )
    for name in ("smallest_eigenvalue", "largest_eigenvalue", "overlap"):
        before, after = (m.diagnostics[name].to_numpy() for m in (start, moved))
        assert np.abs(after / before - 1).max() < 1e-6, name
    assert moved.diagnostics["nearest"].to_list() == start.diagnostics["nearest"].to_list()


@pytest.mark.parametrize("exponent", [-290, -200, 200, 290])
def test_extreme_units_are_finite(exponent: int) -> None:
    scale = 10.0 ** (exponent / 2)
    table = plane([[0, 0], [3 * scale, 0]], scale**2).diagnostics
    expected = plane([[0, 0], [3, 0]]).diagnostics
    for name in ("smallest_eigenvalue", "overlap"):
        assert table[name].to_list() == pytest.approx(expected[name].to_list(), rel=1e-9)


def test_a_floor_of_another_kind_is_refused() -> None:
    text = faithful().gmm.fit(k=1).to_json()
    for floor in ("1.5", "-1e-9", "NaN", '"x"', "[1]", "true"):
        with pytest.raises(pg.GmmError, match="covariance_floor in a model's JSON"):
            pg.GaussianMixture.from_json(
                text.replace('"covariance_floor": 1e-06', f'"covariance_floor": {floor}')
            )
