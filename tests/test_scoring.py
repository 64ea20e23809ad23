"""Responsibilities, labels and densities of given rows under a given model."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import oracle
import polars_gmm as pg
from datasets import array_column, frame
from oracle import STRUCTURES, distance
from support import as_model, bits, nulled, says

xy = pl.struct("x0", "x1")


def scored(df: pl.DataFrame, model: pg.GaussianMixture, rows: pl.Expr = xy) -> pl.DataFrame:
    return df.select(
        r=rows.gmm.responsibilities(model),
        log_r=rows.gmm.responsibilities(model, log=True),
        z=rows.gmm.predict(model),
        l=rows.gmm.log_density(model),
    )


def plane(structure: str = "full", n: int = 500) -> tuple[oracle.Parameters, oracle.Array]:
    rng = np.random.default_rng(11)
    model = oracle.random_model(rng, 3, 2, structure)
    return model, oracle.draw(rng, model, n)[0]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_scores_agree_with_scipy(structure: str) -> None:
    model, rows = plane(structure)
    out = scored(frame(rows), as_model(model, structure=structure))
    gamma = oracle.responsibilities(rows, model)
    assert distance(out["r"].to_numpy(), gamma) <= 1e-12
    assert distance(out["log_r"].to_numpy(), np.log(gamma)) <= 1e-12
    assert distance(out["l"].to_numpy(), oracle.log_density(rows, model)) <= 1e-12
    assert out["z"].to_list() == gamma.argmax(axis=1).tolist()
    assert np.abs(out["r"].to_numpy().sum(axis=1) - 1).max() <= 1e-14


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("far", [40.0, 1e3, 1e6])
def test_far_from_every_component(structure: str, far: float) -> None:
    model, _ = plane(structure)
    angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    rows = far * np.column_stack([np.cos(angles), np.sin(angles)])
    out = scored(frame(rows), as_model(model, structure=structure))
    r, log_density = out["r"].to_numpy(), out["l"].to_numpy()
    assert np.isfinite(r).all()
    assert np.abs(r.sum(axis=1) - 1).max() <= 1e-14
    assert distance(log_density, oracle.log_density(rows, model)) <= 1e-12
    assert out["z"].to_list() == oracle.log_joint(rows, model).argmax(axis=1).tolist()
    assert not np.isnan(out["log_r"].to_numpy()).any()


def test_narrow_components_far_apart() -> None:
    model = oracle.Parameters(
        np.array([0.5, 0.5]),
        np.array([[0.0, 0.0], [1e6, 1e6]]),
        np.stack([np.eye(2) * 1e-6, np.eye(2) * 1e-6]),
    )
    rows = np.array([[0.0, 0.0], [1e6, 1e6], [4e5, 4e5], [6e5, 6e5]])
    out = scored(frame(rows), as_model(model))
    assert out["r"].to_list() == [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert out["z"].to_list() == [0, 1, 0, 1]


def test_ties_go_to_the_first_component() -> None:
    model = oracle.Parameters(
        np.array([0.25, 0.25, 0.5]),
        np.array([[1.0, 1.0], [1.0, 1.0], [90.0, 90.0]]),
        np.stack([np.eye(2)] * 3),
    )
    out = scored(frame(np.array([[1.0, 1.0], [1.5, 0.0]])), as_model(model))
    assert out["r"].to_list() == [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]
    assert out["z"].to_list() == [0, 0]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_component_of_weight_zero_takes_nothing(structure: str) -> None:
    model, rows = plane(structure)
    weights = np.array([0.0, 0.4, 0.6])
    out = scored(
        frame(rows),
        as_model(model._replace(weights=weights), structure=structure),
    )
    others = oracle.Parameters(weights[1:], model.means[1:], model.covariances[1:])
    assert (out["r"].to_numpy()[:, 0] == 0).all()
    assert (out["log_r"].to_numpy()[:, 0] == -np.inf).all()
    assert out["z"].min() == 1
    assert distance(out["r"].to_numpy()[:, 1:], oracle.responsibilities(rows, others)) <= 1e-12
    assert distance(out["l"].to_numpy(), oracle.log_density(rows, others)) <= 1e-12


def test_struct_fields_are_matched_by_name() -> None:
    model, rows = plane()
    df = frame(rows)
    swapped = scored(df, as_model(model), pl.struct("x1", "x0"))
    assert bits(swapped) == bits(scored(df, as_model(model)))


def test_arrays_and_lists_are_matched_by_position() -> None:
    model, rows = plane()
    df = frame(rows).with_columns(array_column("a", rows))
    df = df.with_columns(pl.col("a").arr.to_list().alias("l"), a_swapped=pl.concat_arr("x1", "x0"))
    expected = bits(scored(df, as_model(model)))
    assert bits(scored(df, as_model(model), pl.col("a"))) == expected
    assert bits(scored(df, as_model(model), pl.col("l"))) == expected
    assert bits(scored(df, as_model(model), pl.col("a_swapped"))) != expected


def test_a_sliced_list_starts_where_it_starts() -> None:
    model, rows = plane()
    df = frame(rows).select(l=pl.concat_list("x0", "x1"), a=pl.concat_arr("x0", "x1"))
    whole = scored(df, as_model(model), pl.col("l"))
    for name in ("l", "a"):
        part = scored(df.slice(101, 57), as_model(model), pl.col(name))
        assert bits(part) == bits(whole.slice(101, 57))


def test_one_dimension_is_a_plain_column() -> None:
    rng = np.random.default_rng(2)
    model = oracle.random_model(rng, 3, 1, "full")
    rows, _ = oracle.draw(rng, model, 100)
    df = frame(rows)
    out = scored(df, as_model(model), pl.col("x0"))
    assert distance(out["r"].to_numpy(), oracle.responsibilities(rows, model)) <= 1e-12
    assert bits(out) == bits(scored(df, as_model(model), pl.struct("x0")))


def test_the_output_keeps_the_name_of_the_rows() -> None:
    model, rows = plane()
    df = frame(rows).with_columns(array_column("emb", rows))
    assert df.select(pl.col("emb").gmm.predict(as_model(model))).columns == ["emb"]
    assert df.select(xy.alias("point").gmm.log_density(as_model(model))).columns == ["point"]


def test_rows_need_not_start_at_a_block() -> None:
    model, rows = plane(n=10_007)
    df = frame(rows)
    whole = scored(df, as_model(model))
    for start in (1, 7, 4096, 9_999):
        assert bits(scored(df.slice(start), as_model(model))) == bits(whole.slice(start))


def test_each_row_may_bring_its_own_model() -> None:
    first, rows = plane()
    second = first._replace(means=first.means[::-1] + 0.5, weights=first.weights[::-1])
    models = pl.concat([as_model(first).to_struct(), as_model(second).to_struct()]).alias("m")
    which = np.arange(len(rows)) % 2
    df = frame(rows).with_columns(models.gather(which))
    for model in (pl.col("m"), "m", pl.col("m").gmm.pack()):
        mixed = scored(df, model)
        for j, parameters in enumerate((first, second)):
            alone = scored(frame(rows[which == j]), as_model(parameters))
            assert bits(mixed.filter(which == j)) == bits(alone)


def test_a_null_model_gives_null() -> None:
    parameters, rows = plane(n=4)
    models = as_model(parameters).to_struct().alias("m").gather([0, 0, 0, 0])
    df = frame(rows).with_columns(nulled(models, [2]))
    out = scored(df, pl.col("m"))
    assert out.null_count().row(0) == (1, 1, 1, 1)
    assert out["z"].is_null().to_list() == [False, False, True, False]


def test_models_of_different_k_share_a_column() -> None:
    model, rows = plane(n=2)
    small = oracle.Parameters(np.ones(1), model.means[:1], model.covariances[:1])
    models = pl.concat([as_model(model).to_struct(), as_model(small).to_struct()]).alias("m")
    out = frame(rows).with_columns(models).select(xy.gmm.responsibilities("m"))
    assert out.to_series().list.len().to_list() == [3, 1]


def test_scoring_with_a_singular_covariance_is_an_error() -> None:
    _, rows = plane()
    df = frame(rows).with_columns(x1=pl.lit(1.0), r=pl.lit([0.5, 0.5]))
    stepped = df.select(m=xy.gmm.m_step("r", covariance_floor=0))
    with says(pl.exceptions.ComputeError, "singular|positive definite"):
        df.join(stepped, how="cross").select(xy.gmm.log_density("m"))
