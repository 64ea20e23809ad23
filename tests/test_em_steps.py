"""One E-step and one M-step against plain NumPy, to 1e-10 normwise."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

import oracle
from datasets import array_column, frame
from oracle import STRUCTURES, assert_same_parameters, distance
from support import as_model, the_value

RTOL = 1e-10

dimensions = pytest.mark.parametrize("d", [1, 2, 5, 30])
components = pytest.mark.parametrize("k", [1, 2, 20])
structures = pytest.mark.parametrize("structure", STRUCTURES)
weightings = pytest.mark.parametrize("weights", [None, "w"], ids=["unweighted", "weighted"])


class Case(NamedTuple):
    """Rows drawn from a model, weights (some zero), hard and soft responsibilities."""

    model: oracle.Parameters
    rows: oracle.Array
    row_weights: oracle.Array
    gammas: dict[str, oracle.Array]

    @property
    def df(self) -> pl.DataFrame:
        return frame(self.rows).with_columns(
            pl.Series("w", self.row_weights),
            *[array_column(name, gamma) for name, gamma in self.gammas.items()],
        )

    @property
    def features(self) -> pl.Expr:
        return pl.struct(f"x{j}" for j in range(self.rows.shape[1]))

    def weights(self, name: str | None) -> oracle.Array | None:
        return None if name is None else self.row_weights


@cache
def case(d: int, k: int, structure: str = "full", n: int = 0, offset: float = 0.0) -> Case:
    rng = np.random.default_rng([d, k])
    n = n or max(600, 5 * d * k)
    model = oracle.random_model(rng, k, d, structure)
    rows, labels = oracle.draw(rng, model, n)
    gammas = {"hard": np.eye(k)[labels], "soft": rng.dirichlet(np.ones(k), size=n)}
    row_weights = rng.choice([0.0, 0.25, 1.0, 3.5], size=n)
    moved = model._replace(means=model.means + offset)
    return Case(moved, rows + offset, row_weights, gammas)


def assert_model(row: dict[str, Any], expected: oracle.Parameters, structure: str) -> None:
    assert row["covariance_type"] == structure
    assert_same_parameters(oracle.parameters(row), expected, RTOL)
    assert row["log_likelihood"] is None
    assert row["n_iter"] is None
    assert row["converged"] is None


def assert_statistics(
    row: dict[str, Any], expected: oracle.Statistics, structure: str, log_densities: oracle.Array
) -> None:
    k, d = expected.mean.shape
    diagonal = structure in ("diag", "spherical")
    scatter = np.asarray(row["scatter"])
    assert scatter.shape == ((k, 1, d) if diagonal else (k, d, d))
    if diagonal:
        scatter, wanted = scatter[:, 0], np.einsum("kdd->kd", expected.scatter)
    else:
        wanted = expected.scatter
    assert distance(row["weight"], expected.weight) <= RTOL
    assert distance(row["mean"], expected.mean) <= RTOL
    assert distance(scatter, wanted) <= RTOL
    assert distance(row["total_weight"], expected.total_weight) <= RTOL
    size = float(np.abs(log_densities).sum())
    assert abs(row["log_likelihood"] - expected.log_likelihood) <= RTOL * size
    assert abs(row["entropy"] - expected.entropy) <= RTOL * expected.total_weight


@structures
@dimensions
@components
def test_e_step(structure: str, d: int, k: int) -> None:
    it = case(d, k, structure)
    model = as_model(it.model, structure=structure)
    out = it.df.select(
        r=it.features.gmm.responsibilities(model),
        log_r=it.features.gmm.responsibilities(model, log=True),
        log_p=it.features.gmm.log_density(model),
    )
    expected = oracle.log_responsibilities(it.rows, it.model)
    assert distance(out["r"].to_numpy(), np.exp(expected)) <= RTOL
    assert distance(out["log_p"].to_numpy(), oracle.log_density(it.rows, it.model)) <= RTOL
    assert distance(out["log_r"].to_numpy(), expected) <= RTOL


@structures
@dimensions
@components
@weightings
@pytest.mark.parametrize("gamma", ["hard", "soft"])
def test_m_step(structure: str, d: int, k: int, weights: str | None, gamma: str) -> None:
    it = case(d, k)
    out = it.df.select(
        it.features.gmm.m_step(
            gamma, weights=weights, covariance_type=structure, covariance_floor=0
        )
    )
    expected = oracle.m_step(it.rows, it.gammas[gamma], structure, it.weights(weights))
    assert_model(the_value(out), expected, structure)


@structures
@dimensions
@components
@weightings
def test_em_step(structure: str, d: int, k: int, weights: str | None) -> None:
    it = case(d, k, structure)
    model = as_model(it.model, structure=structure)
    out = it.df.select(it.features.gmm.em_step(model, weights=weights, covariance_floor=0))
    expected = oracle.em_step(it.rows, it.model, structure, it.weights(weights))
    assert_model(the_value(out), expected, structure)


@structures
@dimensions
@components
@weightings
def test_statistics_then_maximize(structure: str, d: int, k: int, weights: str | None) -> None:
    it = case(d, k, structure)
    model = as_model(it.model, structure=structure)
    summed = it.df.select(s=it.features.gmm.statistics(model, weights=weights))
    row_weights = it.weights(weights)
    expected = oracle.e_step(it.rows, it.model, row_weights)
    assert_statistics(the_value(summed), expected, structure, oracle.log_density(it.rows, it.model))
    counted = len(it.rows) if row_weights is None else int((row_weights > 0).sum())
    assert the_value(summed)["n_rows"] == counted
    stepped = summed.select(pl.col("s").gmm.maximize(covariance_type=structure, covariance_floor=0))
    wanted = oracle.maximize(*expected[:3], structure)
    assert_model(the_value(stepped), wanted, structure)


@structures
def test_full_scatter_serves_every_structure(structure: str) -> None:
    it = case(5, 2)
    stepped = it.df.select(s=it.features.gmm.statistics(as_model(it.model))).select(
        pl.col("s").gmm.maximize(covariance_type=structure, covariance_floor=0)
    )
    assert_model(the_value(stepped), oracle.em_step(it.rows, it.model, structure), structure)


@structures
@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_a_million_sigma_from_the_origin(structure: str, offset: float) -> None:
    it = case(5, 2, structure, offset=offset)
    model = as_model(it.model, structure=structure)
    e_step = it.df.select(s=it.features.gmm.statistics(model))
    assert_statistics(
        the_value(e_step),
        oracle.e_step(it.rows, it.model),
        structure,
        oracle.log_density(it.rows, it.model),
    )
    for step, expected in [
        (
            it.features.gmm.em_step(model, covariance_floor=0),
            oracle.em_step(it.rows, it.model, structure),
        ),
        (
            it.features.gmm.m_step("soft", covariance_type=structure, covariance_floor=0),
            oracle.m_step(it.rows, it.gammas["soft"], structure),
        ),
    ]:
        row = the_value(it.df.select(step))
        assert_model(row, expected, structure)
        assert distance(np.asarray(row["means"]) - offset, expected.means - offset) <= 1e-9


@structures
def test_many_blocks_of_rows(structure: str) -> None:
    it = case(2, 3, structure, n=100_001)
    model = as_model(it.model, structure=structure)
    stepped = it.df.select(it.features.gmm.em_step(model, weights="w", covariance_floor=0))
    expected = oracle.em_step(it.rows, it.model, structure, it.row_weights)
    assert_model(the_value(stepped), expected, structure)


@structures
def test_the_floor_is_not_a_ridge(structure: str) -> None:
    it = case(5, 2)
    rows = [
        the_value(
            it.df.select(
                it.features.gmm.m_step("soft", covariance_type=structure, covariance_floor=floor)
            )
        )
        for floor in (0, 1e-6)
    ]
    assert_same_parameters(oracle.parameters(rows[1]), oracle.parameters(rows[0]), 1e-13)


@structures
def test_the_floor_lifts_what_is_flat(structure: str) -> None:
    it = case(5, 2)
    flat = it.df.with_columns(x0=pl.when(pl.col("hard").arr.get(0) == 1).then(0.0).otherwise("x0"))
    step = it.features.gmm.m_step("hard", covariance_type=structure, covariance_floor=1e-3)
    lifted = oracle.parameters(the_value(flat.select(step)))
    assert np.linalg.eigvalsh(lifted.covariances).min() > 1e-5
    bare = it.features.gmm.m_step("hard", covariance_type=structure, covariance_floor=0)
    smallest = np.linalg.eigvalsh(oracle.parameters(the_value(flat.select(bare))).covariances)[0, 0]
    assert (smallest < 1e-12) == (structure in ("full", "diag"))


@structures
@pytest.mark.parametrize("size", [1e-155, 1e-158, 1e-162])
@pytest.mark.parametrize("d", [3, 9, 20])
def test_the_floor_lifts_what_is_too_small_to_square(d: int, size: float, structure: str) -> None:
    rng = np.random.default_rng(d)
    rows = np.concatenate([rng.normal(size=(100, d)) * size, rng.normal(size=(100, d)) + 100])
    df = frame(rows).with_columns(array_column("r", np.repeat(np.eye(2), 100, axis=0)))
    features = [f"x{j}" for j in range(d)]
    step = pl.struct(features).gmm.m_step("r", covariance_type=structure)
    stepped = oracle.parameters(the_value(df.select(step)))
    least = 1e-6 * rows.var(axis=0).min()
    assert np.linalg.eigvalsh(stepped.covariances).min() > 0.99 * least
    fitted = df.gmm.fit(*features, k=2, covariance_type=structure)
    in_units = fitted.diagnostics["smallest_eigenvalue"].to_numpy()
    assert in_units.min() > 0.99e-6


@pytest.mark.parametrize("away", [15.0, 18.0, 24.0])
@pytest.mark.parametrize(("d", "k"), [(1, 2), (3, 5), (9, 20), (30, 3), (2, 60)])
def test_a_component_far_from_all_rows_keeps_what_it_has(d: int, k: int, away: float) -> None:
    it = case(d, k, n=800)
    means = it.model.means.copy()
    direction = np.linalg.cholesky(it.model.covariances[-1]) @ np.ones(d)
    means[-1] += away * direction / np.sqrt(d)
    model = as_model(it.model._replace(means=means))
    names = list(model.features)
    df = it.df.with_columns(r=model.responsibilities())
    given = df.gmm.m_step(*names, responsibilities="r", weights="w")
    stepped = df.gmm.em_step(model, weights="w")
    assert 0 < given.weights[-1] < 0.01
    np.testing.assert_allclose(stepped.weights, given.weights, rtol=1e-10)
    np.testing.assert_allclose(stepped.means, given.means, rtol=1e-10, atol=1e-10)
    scale = np.sqrt(np.einsum("kii->ki", given.covariances))
    correlations = [m.covariances / scale[:, :, None] / scale[:, None] for m in (stepped, given)]
    np.testing.assert_allclose(*correlations, rtol=0, atol=1e-8)


@structures
def test_a_component_without_rows(structure: str) -> None:
    it = case(2, 2)
    gamma = np.column_stack([it.gammas["soft"], np.zeros(len(it.rows))])
    df = it.df.with_columns(array_column("r", gamma))
    stepped = df.select(m=it.features.gmm.m_step("r", covariance_type=structure))
    row = oracle.parameters(the_value(stepped))
    others = oracle.m_step(it.rows, it.gammas["soft"], structure)
    assert row.weights[2] == 0
    assert np.isfinite(row.means).all()
    assert np.linalg.eigvalsh(row.covariances).min() > 0
    assert_same_parameters(oracle.Parameters(*(part[:2] for part in row)), others, 1e-10)
    scored = df.join(stepped, how="cross").select(it.features.gmm.responsibilities("m"))
    assert scored.to_series().list.get(2).to_list() == [0.0] * df.height


def test_responsibilities_may_be_lists() -> None:
    it = case(2, 2)
    df = it.df.with_columns(pl.col("soft").arr.to_list().alias("list"))
    from_array = df.select(it.features.gmm.m_step("soft"))
    assert the_value(df.select(it.features.gmm.m_step("list"))) == the_value(from_array)
    assert the_value(df.select(it.features.gmm.m_step(pl.col("soft")))) == the_value(from_array)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_responsibilities_give_the_same_bits_however_they_lie(d: int) -> None:
    """In one chunk or several, as Array or List, sliced, beside a row that is null."""
    it = case(d, 20, n=3000)
    r = it.df["soft"]
    step = it.features.gmm.m_step("r")
    expected = it.df.with_columns(r=r).select(step).to_dicts()
    pieces = pl.concat([it.df.with_columns(r=r)[a:b] for a, b in ((0, 7), (7, 1500), (1500, 3000))])
    longer = pl.concat([it.df.with_columns(r=r)] * 2)[3000:]
    missing = pl.concat(
        [it.df.with_columns(r=r), it.df[:1].with_columns(r=pl.lit(None, r.dtype), x0=None)]
    )
    for df in (pieces, longer, it.df.with_columns(r=r.arr.to_list()), missing):
        assert df.select(step).to_dicts() == expected


def test_what_follows_a_row_does_not_count() -> None:
    """NaN in rows that weigh nothing, or beyond the slice, changes no bit of the rows before."""
    it = case(2, 20, n=300)
    gone = [50, 95, 96, 120]
    spoiled = it.gammas["soft"].copy()
    spoiled[gone] = np.nan
    w = it.row_weights.copy()
    w[gone] = 0.0
    step = it.features.gmm.m_step("r", weights="w")
    df = it.df.with_columns(array_column("r", it.gammas["soft"]), w=w)
    expected = df.select(step).to_dicts()
    bad = df.with_columns(array_column("r", spoiled))
    for column in (bad["r"], bad["r"].arr.to_list()):
        assert bad.with_columns(r=column).select(step).to_dicts() == expected
    first = df[:50].with_columns(pl.col("r").arr.to_list())
    lists = bad.with_columns(pl.col("r").arr.to_list())[:50]
    assert lists.select(step).to_dicts() == first.select(step).to_dicts()
