"""Numbers of any size: large, small, far from zero, far from each other, and their weights."""

from __future__ import annotations

import json
import pickle
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

import oracle
import polars_gmm as pg
from datasets import array_column, blobs, frame
from oracle import STRUCTURES, distance
from polars_gmm import GaussianMixture, GmmError
from support import as_model, bits, says, the_value

xy = pl.struct("x0", "x1")
structures = pytest.mark.parametrize("structure", STRUCTURES)

# About 1e150: scaled by a power of two, every number keeps its digits.
FAR = 498


@cache
def rows_and_labels(n: int = 1_500) -> tuple[oracle.Array, Any]:
    return blobs(n, seed=3)


@cache
def plain(n: int = 1_500) -> pl.DataFrame:
    """Features x0 and x1, weights w, responsibilities r, labels z."""
    rows, labels = rows_and_labels(n)
    rng = np.random.default_rng(4)
    return frame(rows).with_columns(
        pl.Series("w", rng.uniform(0.1, 3.0, size=n)),
        pl.Series("z", labels.astype(np.uint32)),
        array_column("r", rng.dirichlet(np.ones(3), size=n)),
    )


def start(structure: str) -> oracle.Parameters:
    return oracle.random_model(np.random.default_rng(5), 3, 2, structure)


def scaled(parameters: oracle.Parameters, scale: oracle.Array) -> oracle.Parameters:
    """The same mixture of features in other units."""
    units = np.outer(scale, scale)
    return parameters._replace(
        means=parameters.means * scale, covariances=parameters.covariances * units
    )


def unscaled(row: dict[str, Any], scale: oracle.Array) -> oracle.Parameters:
    return scaled(oracle.parameters(row), 1 / scale)


def stretch(df: pl.DataFrame, scale: oracle.Array) -> pl.DataFrame:
    return df.with_columns(pl.col("x0") * scale[0], pl.col("x1") * scale[1])


def exactly(a: oracle.Parameters, b: oracle.Parameters) -> None:
    for name, left, right in zip(oracle.Parameters._fields, a, b, strict=True):
        assert np.asarray(left).tolist() == np.asarray(right).tolist(), name


# Magnitudes


def scales(structure: str) -> list[oracle.Array]:
    """Powers of two for each feature; for spherical models one for all."""
    exponents = [(FAR, FAR), (-FAR, -FAR), (100, 100), (-100, -100)]
    if structure != "spherical":
        exponents += [(FAR, -FAR), (-FAR, 30), (0, FAR)]
    return [2.0 ** np.array(pair, dtype=float) for pair in exponents]


@structures
def test_scores_of_any_magnitude(structure: str) -> None:
    df, parameters = plain(), start(structure)
    model = as_model(parameters, structure=structure)
    here = df.select(
        r=xy.gmm.responsibilities(model), z=xy.gmm.predict(model), l=xy.gmm.log_density(model)
    )
    for scale in scales(structure):
        model = as_model(scaled(parameters, scale), structure=structure)
        there = stretch(df, scale).select(
            r=xy.gmm.responsibilities(model), z=xy.gmm.predict(model), l=xy.gmm.log_density(model)
        )
        assert there["z"].equals(here["z"])
        # Logarithms of the scale are rounded, and hundreds of nats are taken off again.
        assert np.abs(there["r"].to_numpy() - here["r"].to_numpy()).max() <= 1e-11
        moved = here["l"].to_numpy() - np.log(scale).sum()
        assert np.abs(there["l"].to_numpy() - moved).max() <= 1e-11


@structures
@pytest.mark.parametrize("weights", [None, "w"])
def test_m_steps_of_any_magnitude(structure: str, weights: str | None) -> None:
    for floor in (0.0, 1e-6, 0.9):
        step = xy.gmm.m_step(
            "r", weights=weights, covariance_type=structure, covariance_floor=floor
        )
        here = oracle.parameters(the_value(plain().select(step)))
        for scale in scales(structure):
            there = unscaled(the_value(stretch(plain(), scale).select(step)), scale)
            if floor < 0.5:
                exactly(there, here)
            oracle.assert_same_parameters(there, here, 1e-13)


@structures
def test_statistics_and_em_steps_of_any_magnitude(structure: str) -> None:
    df, parameters = plain(), start(structure)
    model = as_model(parameters, structure=structure)
    here = the_value(df.select(xy.gmm.statistics(model, weights="w")))
    step = oracle.parameters(the_value(df.select(xy.gmm.em_step(model, weights="w"))))
    for scale in scales(structure):
        far = as_model(scaled(parameters, scale), structure=structure)
        there = the_value(stretch(df, scale).select(xy.gmm.statistics(far, weights="w")))
        units = np.outer(scale, scale)
        if np.shape(there["scatter"])[1] == 1:
            units = np.diag(units)[None, :]
        assert distance(there["weight"], here["weight"]) <= 1e-12
        assert distance(there["mean"] / scale, here["mean"]) <= 1e-12
        assert distance(there["scatter"] / units, here["scatter"]) <= 1e-12
        assert there["total_weight"] == here["total_weight"]
        moved = here["log_likelihood"] - here["total_weight"] * np.log(scale).sum()
        assert distance(there["log_likelihood"], moved) <= 1e-12
        next_model = the_value(stretch(df, scale).select(xy.gmm.em_step(far, weights="w")))
        oracle.assert_same_parameters(unscaled(next_model, scale), step, 1e-12)


@structures
@pytest.mark.parametrize("init", ["k-means++", "k-means", "random", "labels", "model"])
def test_fits_of_any_magnitude(structure: str, init: str) -> None:
    parameters = start(structure)

    def fitted(scale: oracle.Array) -> GaussianMixture:
        given: Any = {
            "labels": pl.col("z"),
            "model": as_model(scaled(parameters, scale), structure=structure),
        }.get(init, init)
        options: dict[str, Any] = {"k": 3, "covariance_type": structure, "weights": "w"}
        df = stretch(plain(), scale)
        model = df.gmm.fit("x0", "x1", init=given, **options)
        assert df.lazy().gmm.fit("x0", "x1", init=given, **options) == model
        return model

    here = fitted(np.ones(2))
    for scale in scales(structure):
        there = fitted(scale)
        # At 1e±150 a log-likelihood is thousands a row: its rounding may end a fit a step apart.
        assert abs(there.n_iter - here.n_iter) <= 1
        back = unscaled(pl.DataFrame(there.to_struct()).row(0, named=True)["model"], scale)
        again = oracle.Parameters(here.weights, here.means, here.covariances)
        oracle.assert_same_parameters(back, again, 1e-6)
        moved = here.log_likelihood - here.total_weight * np.log(scale).sum()
        assert distance(there.log_likelihood, moved) <= 1e-10


@structures
@pytest.mark.parametrize("scale", [1e-150, 1e-75, 1e-8, 1e8, 1e75, 1e150])
def test_models_of_any_magnitude_go_through_every_form(structure: str, scale: float) -> None:
    model = frame(rows_and_labels()[0] * scale).gmm.fit(k=3, covariance_type=structure)
    assert GaussianMixture.unpack(model.pack()) == model
    assert GaussianMixture.from_json(model.to_json()) == model
    assert GaussianMixture.from_struct(model.to_struct()) == model
    assert pickle.loads(pickle.dumps(model)) == model
    sample = model.sample(2_000, seed=1)
    assert distance(sample.to_numpy().mean(axis=0) / scale, model.weights @ model.means / scale) < 1


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_asymmetry_is_seen_at_any_magnitude(scale: float) -> None:
    skew = np.array([[1.0, 0.5], [0.2, 1.0]]) * scale**2
    with says(GmmError, "symmetric"):
        GaussianMixture([1.0], [[0.0, 0.0]], [skew], features=["a", "b"])
    even = np.array([[1.0, 0.5], [0.5 * (1 + 1e-12), 1.0]]) * scale**2
    assert GaussianMixture([1.0], [[0.0, 0.0]], [even], features=["a", "b"]).k == 1


@structures
@pytest.mark.parametrize("scale", [1e155, 1e200, 1e300])
def test_moments_that_overflow_are_said_to(structure: str, scale: float) -> None:
    df = frame(rows_and_labels()[0] * scale).with_columns(plain()["r"], plain()["z"])
    for init in ("k-means++", pl.col("z")):
        with says(GmmError, "overflow|too large", "rescale"):
            df.gmm.fit("x0", "x1", k=3, covariance_type=structure, init=init)
    with says(pl.exceptions.ComputeError, "overflow", "rescale"):
        df.select(xy.gmm.m_step("r", covariance_type=structure))


# Denormals


@structures
@pytest.mark.parametrize("scale", [1e-155, 1e-158, 1e-165, 1e-300, 1e-310, 5e-324])
def test_what_varies_too_little_for_its_variance_is_constant(structure: str, scale: float) -> None:
    """Spreads up to about 1e-162 have no variance in double precision: they count as none."""
    whole = np.round(rows_and_labels()[0] * 8)
    rows = whole * scale
    df = frame(rows).with_columns(plain()["r"], c=plain()["x0"])
    fits = [df.gmm.fit("x0", "x1", k=2, covariance_type=structure)]
    if structure != "spherical":
        beside = df.gmm.fit("c", "x1", k=3, covariance_type=structure)
        # A variance of denormal size has fewer digits.
        there = df.with_columns(x1=pl.Series(whole[:, 1] if scale > 1e-160 else whole[:, 1] * 0))
        same = there.gmm.fit("c", "x1", k=3, covariance_type=structure)
        assert distance(beside.means[:, 0], same.means[:, 0]) <= 1e-4
        fits.append(beside)
    for model in fits:
        assert np.isfinite(model.log_likelihood)
        assert np.isfinite(model.covariances).all()
        smallest, largest = rows.min(), rows.max()
        assert (model.means[:, 1] >= smallest).all()
        assert (model.means[:, 1] <= largest).all()
        names = model.features
        scores = df.select(
            l=pl.struct(names).gmm.log_density(model),
            s=pl.struct(names).gmm.responsibilities(model).arr.sum(),
        )
        assert scores["l"].is_finite().all()
        assert np.abs(scores["s"].to_numpy() - 1).max() <= 1e-12
        assert distance(model.log_likelihood, scores["l"].sum()) <= 1e-10
    step = oracle.parameters(the_value(df.select(xy.gmm.m_step("r", covariance_type=structure))))
    expected = oracle.m_step(rows, df["r"].to_numpy(), structure)
    assert np.abs(step.means - expected.means).max() <= max(1e-9 * scale, 2e-323)


@structures
def test_denormals_score_as_the_zeros_they_nearly_are(structure: str) -> None:
    model = as_model(start(structure), structure=structure)
    tiny = pl.DataFrame({"x0": [5e-324, -1e-310, 2e-308], "x1": [-5e-324, 1e-320, 0.0]})
    zero = pl.DataFrame({"x0": [0.0] * 3, "x1": [0.0] * 3})
    for score in (xy.gmm.log_density(model), xy.gmm.responsibilities(model, log=True)):
        assert bits(tiny.select(score)) == bits(zero.select(score))
    for step in (xy.gmm.statistics(model), xy.gmm.em_step(model)):
        a, b = the_value(tiny.select(step)), the_value(zero.select(step))
        for name in ("weight", "weights", "log_likelihood", "entropy", "scatter", "covariances"):
            if name in a:
                assert repr(a[name]) == repr(b[name])


def test_denormal_weights_count() -> None:
    df = plain().with_columns(v=pl.col("w") * 1e-310)
    model = as_model(start("full"))
    row = the_value(df.select(xy.gmm.statistics(model, weights="v")))
    expected = the_value(df.select(xy.gmm.statistics(model, weights="w")))
    assert row["n_rows"] == df.height
    assert (
        distance(np.asarray(row["weight"]) * 1e300, np.asarray(expected["weight"]) * 1e-10) < 1e-8
    )
    assert distance(row["mean"], expected["mean"]) <= 1e-8


# Far from zero

# 2^27 is 1.3e8 standard deviations; rows on a grid of 2^-20 move there exactly.
GRID = 2.0**-20
OFFSETS = [np.array([2.0**27, -(2.0**27)]), np.array([2.0**30, 2.0**5])]


@cache
def on_grid() -> pl.DataFrame:
    rows = np.round(rows_and_labels()[0] / GRID) * GRID
    return plain().with_columns(frame(rows))


def moved(df: pl.DataFrame, offset: oracle.Array) -> pl.DataFrame:
    far = df.with_columns(pl.col("x0") + offset[0], pl.col("x1") + offset[1])
    back = far.select(pl.col("x0") - offset[0], pl.col("x1") - offset[1])
    assert back.equals(df.select("x0", "x1"))
    return far


def start_on_grid(structure: str, offset: oracle.Array) -> GaussianMixture:
    parameters = start(structure)
    means = np.round(parameters.means / GRID) * GRID
    return as_model(parameters._replace(means=means + offset), structure=structure)


@structures
@pytest.mark.parametrize("offset", OFFSETS, ids=str)
def test_scores_at_an_offset_have_every_bit(structure: str, offset: oracle.Array) -> None:
    here, there = (start_on_grid(structure, o) for o in (np.zeros(2), offset))
    for score in ("log_density", "predict", "responsibilities"):
        expected = on_grid().select(getattr(xy.gmm, score)(here))
        assert bits(moved(on_grid(), offset).select(getattr(xy.gmm, score)(there))) == bits(
            expected
        )


@structures
@pytest.mark.parametrize("offset", OFFSETS, ids=str)
def test_steps_at_an_offset(structure: str, offset: oracle.Array) -> None:
    """Means, of batches too, are rounded to their own digits: to 1e-8 of a standard deviation."""
    here, there = (start_on_grid(structure, o) for o in (np.zeros(2), offset))
    far = moved(on_grid(), offset)
    near = the_value(on_grid().select(xy.gmm.statistics(here, weights="w")))
    away = the_value(far.select(xy.gmm.statistics(there, weights="w")))
    assert away["log_likelihood"] == near["log_likelihood"]
    assert away["weight"] == near["weight"]
    assert np.abs(away["mean"] - offset - near["mean"]).max() <= 1e-6
    assert distance(away["scatter"], near["scatter"]) <= 1e-8
    for make in (
        lambda model: xy.gmm.em_step(model, weights="w", covariance_floor=0),
        lambda _: xy.gmm.m_step("r", covariance_type=structure, covariance_floor=0),
    ):
        a = oracle.parameters(the_value(on_grid().select(make(here))))
        b = oracle.parameters(the_value(far.select(make(there))))
        assert b.weights.tolist() == a.weights.tolist()
        assert np.abs(b.means - offset - a.means).max() <= 1e-6
        assert distance(b.covariances, a.covariances) <= 1e-8


@structures
@pytest.mark.parametrize("offset", OFFSETS, ids=str)
@pytest.mark.parametrize("init", ["k-means++", "k-means", "random", "labels"])
def test_fits_at_an_offset(structure: str, offset: oracle.Array, init: str) -> None:
    options: dict[str, Any] = {
        "k": 3,
        "covariance_type": structure,
        "weights": "w",
        "tol": 1e-13,  # at the limit, where paths that rounding parts meet
        "init": pl.col("z") if init == "labels" else init,
    }
    here = on_grid().gmm.fit("x0", "x1", **options)
    there = moved(on_grid(), offset).gmm.fit("x0", "x1", **options)
    assert distance(there.weights, here.weights) <= 1e-6
    assert np.abs(there.means - offset - here.means).max() <= 1e-5
    assert distance(there.covariances, here.covariances) <= 1e-6
    assert distance(there.log_likelihood, here.log_likelihood) <= 1e-9


# One far row


@structures
@pytest.mark.parametrize("far", [1e3, 1e8, 1e16, 1e30, 1e100, 1e140])
@pytest.mark.parametrize("place", [0, 700, -1])
def test_one_far_row_harms_no_component_it_does_not_belong_to(
    structure: str, far: float, place: int
) -> None:
    """Given responsibilities say whose it is; the others keep their moments."""
    rows, labels = rows_and_labels()
    rows, labels = rows.copy(), labels.copy()
    rows[place], labels[place] = [far, -far], 1
    df = frame(rows).with_columns(array_column("h", np.eye(3)[labels]))
    step = the_value(df.select(xy.gmm.m_step("h", covariance_type=structure, covariance_floor=0)))
    got = oracle.parameters(step)
    for component in (0, 2):
        own = rows[labels == component]
        assert distance(got.means[component], own.mean(axis=0)) <= 1e-12
        if structure != "tied":
            alone = oracle.m_step(own, np.ones((len(own), 1)), structure)
            assert distance(got.covariances[component], alone.covariances[0]) <= 1e-12
    assert distance(got.means[1], rows[labels == 1].mean(axis=0)) <= 1e-12


@structures
@pytest.mark.parametrize("far", [1e3, 1e8, 1e16, 1e30, 1e100])
def test_one_far_row_is_scored_as_it_lies(structure: str, far: float) -> None:
    parameters = start(structure)
    model = as_model(parameters, structure=structure)
    rows = np.array([[far, 0.0], [0.0, -far], [far, far]])
    out = frame(rows).select(l=xy.gmm.log_density(model), r=xy.gmm.responsibilities(model))
    expected = oracle.log_density(rows, parameters)
    np.testing.assert_allclose(out["l"].to_numpy(), expected, rtol=1e-12)
    assert np.abs(out["r"].to_numpy().sum(axis=1) - 1).max() <= 1e-12
    if structure in ("full", "diag", "spherical"):
        joint = oracle.log_joint(rows, parameters)
        assert out["r"].to_numpy().argmax(axis=1).tolist() == joint.argmax(axis=1).tolist()


@structures
@pytest.mark.parametrize("far", [1e3, 1e8, 1e16, 1e30, 1e100])
def test_a_fit_with_one_far_row_is_finite_and_tells_the_truth(structure: str, far: float) -> None:
    rows, _ = rows_and_labels()
    df = frame(np.vstack([rows, [[far, -far]]]))
    for init in ("k-means++", "k-means", "random"):
        model = df.gmm.fit(k=4, covariance_type=structure, init=init)
        densities = df.select(xy.gmm.log_density(model)).to_series()
        assert densities.is_finite().all()
        assert distance(model.log_likelihood, densities.sum()) <= 1e-10
        assert np.isfinite(model.covariances).all()
        assert (np.linalg.eigvalsh(model.covariances) > 0).all()


@structures
@pytest.mark.parametrize("far", [1e155, 1e200, 1e307])
def test_rows_beyond_every_density_belong_to_the_widest_component(
    structure: str, far: float
) -> None:
    """Their distance squared overflows; whose they are, and that they are, does not."""
    eye = np.eye(2)
    spread = [1.0, 100.0, 1.0] if structure != "tied" else [1.0] * 3
    model = as_model(
        oracle.Parameters(
            np.array([0.5, 0.25, 0.25]),
            np.array([[0.0, 0.0], [5.0, 5.0], [far / 2, far / 2]]),
            np.stack([s * eye for s in spread]),
        ),
        structure=structure,
    )
    nearest = [2, 2] if structure == "tied" else [1, 1]
    df = frame(np.array([[far, far], [far * 0.9, far]]))
    out = df.select(
        z=xy.gmm.predict(model),
        r=xy.gmm.responsibilities(model),
        g=xy.gmm.responsibilities(model, log=True),
    )
    assert out["z"].to_list() == nearest
    assert out["r"].to_numpy().tolist() == np.eye(3)[nearest].tolist()
    logs = out["g"].to_numpy()
    assert (logs[:, nearest[0]] == 0).all()
    assert (np.delete(logs, nearest[0], axis=1) < -1e100).all()


# Weights


@structures
@pytest.mark.parametrize("bad", [1e300, -1e8, 5e-324])
def test_rows_of_weight_zero_have_no_say_wherever_they_lie(structure: str, bad: float) -> None:
    at = pl.int_range(pl.len()) % 7 == 0
    zero = plain().with_columns(w=pl.when(at).then(0.0).otherwise("w"))
    wild = zero.with_columns(pl.when(at).then(bad).otherwise(pl.col("x0", "x1")).name.keep())
    model = as_model(start(structure), structure=structure)
    options: dict[str, Any] = {"weights": "w", "max_iter": 5, "tol": 0}
    for expr in (
        xy.gmm.statistics(model, weights="w"),
        xy.gmm.em_step(model, weights="w"),
        xy.gmm.m_step("r", weights="w", covariance_type=structure),
        xy.gmm.fit(3, covariance_type=structure, **options),
        xy.gmm.fit(3, covariance_type=structure, init=pl.col("z"), **options),
        xy.gmm.fit(3, covariance_type=structure, init="random", **options),
    ):
        assert bits(wild.select(expr.alias("out"))) == bits(zero.select(expr.alias("out")))


WEIGHTS = [2.0**-40, 2.0**40, 1e-12, 1e12]


@structures
@pytest.mark.parametrize("c", WEIGHTS)
def test_weights_in_other_units_change_no_parameter(structure: str, c: float) -> None:
    df = plain().with_columns(v=pl.col("w") * c)
    model = as_model(start(structure), structure=structure)
    rtol = 0.0 if c in (2.0**-40, 2.0**40) else 1e-12
    for make in (
        lambda w: xy.gmm.em_step(model, weights=w),
        lambda w: xy.gmm.m_step("r", weights=w, covariance_type=structure),
    ):
        a, b = (the_value(df.select(make(name))) for name in ("w", "v"))
        oracle.assert_same_parameters(oracle.parameters(b), oracle.parameters(a), rtol)
        assert distance(b["total_weight"], c * a["total_weight"]) <= rtol
    a, b = (the_value(df.select(xy.gmm.statistics(model, weights=w))) for w in ("w", "v"))
    assert b["n_rows"] == a["n_rows"]
    for name in ("weight", "scatter", "log_likelihood", "entropy", "total_weight"):
        assert distance(b[name], np.asarray(a[name]) * c) <= rtol
    assert distance(b["mean"], a["mean"]) <= rtol


@structures
@pytest.mark.parametrize("c", WEIGHTS)
@pytest.mark.parametrize("init", ["k-means++", "k-means", "random", "labels"])
def test_fits_do_not_see_the_unit_of_the_weights(structure: str, c: float, init: str) -> None:
    df = plain().with_columns(v=pl.col("w") * c)
    options: dict[str, Any] = {
        "k": 3,
        "covariance_type": structure,
        "init": pl.col("z") if init == "labels" else init,
    }
    a = df.gmm.fit("x0", "x1", weights="w", **options)
    b = df.gmm.fit("x0", "x1", weights="v", **options)
    assert b.n_iter == a.n_iter
    assert b.converged == a.converged
    oracle.assert_same_parameters(
        oracle.Parameters(b.weights, b.means, b.covariances),
        oracle.Parameters(a.weights, a.means, a.covariances),
        1e-10,
    )
    assert distance(b.log_likelihood, c * a.log_likelihood) <= 1e-10
    # A row's entropy is a difference of logarithms: known to a rounding error of 1, not of itself.
    rounding = np.finfo(float).eps * b.total_weight
    assert abs(b.entropy - c * a.entropy) <= 1e-8 * b.entropy + rounding
    assert b.n_rows == a.n_rows


@structures
def test_weights_of_all_sizes_at_once(structure: str) -> None:
    rng = np.random.default_rng(6)
    rows, labels = rows_and_labels()
    # Each component has weights of its own size, so that no sum drowns another.
    weights = 10.0 ** np.array([-12.0, 0.0, 12.0])[labels] * rng.uniform(0.5, 2.0, size=len(rows))
    df = frame(rows).with_columns(pl.Series("w", weights), array_column("h", np.eye(3)[labels]))
    step = the_value(
        df.select(xy.gmm.m_step("h", weights="w", covariance_type=structure, covariance_floor=0))
    )
    expected = oracle.m_step(rows, np.eye(3)[labels], structure, weights)
    got = oracle.parameters(step)
    for component in range(3):
        assert distance(got.weights[component], expected.weights[component]) <= 1e-12
        assert distance(got.means[component], expected.means[component]) <= 1e-12
        assert distance(got.covariances[component], expected.covariances[component]) <= 1e-12
    model = df.gmm.fit("x0", "x1", k=3, weights="w", covariance_type=structure)
    recomputed = df.select((xy.gmm.log_density(model) * pl.col("w")).sum()).item()
    assert distance(model.log_likelihood, recomputed) <= 1e-10
    assert distance(model.total_weight, weights.sum()) <= 1e-12


@pytest.mark.parametrize("w", [1e300, 1e308])
def test_weights_that_overflow_are_said_to(w: float) -> None:
    df = plain().with_columns(w=pl.lit(w))
    if w * df.height == np.inf:
        with says(GmmError, "overflow|too large|finite"):
            df.gmm.fit("x0", "x1", k=2, weights="w")
    else:
        model = df.gmm.fit("x0", "x1", k=2, weights="w", max_iter=3, tol=0)
        assert distance(model.means, df.gmm.fit("x0", "x1", k=2, max_iter=3, tol=0).means) <= 1e-8


def test_json_has_no_infinity() -> None:
    model = frame(rows_and_labels()[0] * 1e150).gmm.fit(k=2)
    figures = json.loads(model.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert figures["covariances"][0][0][0] == model.covariances[0, 0, 0]
    assert pg.GaussianMixture.from_json(json.dumps(figures)) == model
