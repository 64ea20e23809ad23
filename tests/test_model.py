"""GaussianMixture: built, checked, sampled, scored, written and read."""

from __future__ import annotations

import copy
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.mixture import GaussianMixture as SklearnMixture

import oracle
import polars_gmm as pg
from datasets import faithful, frame
from oracle import STRUCTURES, distance
from polars_gmm import GaussianMixture, GmmError
from support import as_model, parameters_of, says, the_value

structures = pytest.mark.parametrize("structure", STRUCTURES)


def built(structure: str = "full", k: int = 3, d: int = 2) -> GaussianMixture:
    rng = np.random.default_rng([k, d])
    return as_model(oracle.random_model(rng, k, d, structure), structure=structure)


def fitted(structure: str = "full") -> GaussianMixture:
    return faithful().gmm.fit(k=2, covariance_type=structure)


# Construction


@structures
def test_a_model_holds_its_arrays(structure: str) -> None:
    parameters = oracle.random_model(np.random.default_rng(1), 3, 2, structure)
    model = GaussianMixture(*parameters, features=["a", "b"], covariance_type=structure)
    assert (model.weights == parameters.weights).all()
    assert (model.means == parameters.means).all()
    assert (model.covariances == parameters.covariances).all()
    assert (model.weights.shape, model.means.shape) == ((3,), (3, 2))
    assert model.covariances.shape == (3, 2, 2)
    assert (model.k, model.d) == (3, 2)
    assert model.features == ["a", "b"]
    assert model.covariance_type == structure
    for name in ("log_likelihood", "bic", "aic", "icl", "n_rows", "n_iter", "converged", "history"):
        assert getattr(model, name) is None


def test_lists_and_integers_will_do() -> None:
    model = GaussianMixture([1], [[0, 0]], [[[1, 0], [0, 1]]], features=["a", "b"])
    assert model.means.dtype == np.float64
    assert model.covariance_type == "full"


@structures
def test_covariances_in_the_shape_of_sklearn(structure: str) -> None:
    whole = oracle.random_model(np.random.default_rng(1), 3, 2, structure)
    short = {
        "full": whole.covariances,
        "tied": whole.covariances[0],
        "diag": np.einsum("kdd->kd", whole.covariances),
        "spherical": whole.covariances[:, 0, 0],
    }[structure]
    model = GaussianMixture(
        whole.weights, whole.means, short, features=["a", "b"], covariance_type=structure
    )
    assert (model.covariances == whole.covariances).all()


def test_weights_are_normalised_to_rounding() -> None:
    model = GaussianMixture(
        [1 / 3, 1 / 3, 1 / 3 + 1e-12], [[0.0], [1.0], [2.0]], [[[1.0]]] * 3, features=["a"]
    )
    assert abs(model.weights.sum() - 1) < 1e-11


EYE = np.eye(2)
GOOD: dict[str, Any] = {
    "weights": [0.4, 0.6],
    "means": [[0.0, 1.0], [2.0, 3.0]],
    "covariances": [EYE, EYE],
    "features": ["a", "b"],
}
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "number of weights": ({"weights": [0.2, 0.3, 0.5]}, ["weights", "3", "2"]),
    "shape of means": ({"means": [0.0, 1.0]}, ["means"]),
    "shape of covariances": ({"covariances": [EYE]}, ["covariances"]),
    "width of covariances": ({"covariances": np.ones((2, 3, 3))}, ["covariances", "3", "2"]),
    "number of features": ({"features": ["a"]}, ["features", "1", "2"]),
    "twice the same feature": ({"features": ["a", "a"]}, ["features?", r"\ba\b"]),
    "no component": (
        {"weights": [], "means": np.ones((0, 2)), "covariances": np.ones((0, 2, 2))},
        ["component"],
    ),
    "weight NaN": ({"weights": [np.nan, 1.0]}, ["weights?", "nan|finite"]),
    "weight negative": ({"weights": [-0.5, 1.5]}, ["weights?", "negative|>= 0"]),
    "weights sum": ({"weights": [0.4, 0.7]}, ["weights", "sum", r"1\.1|1"]),
    "mean NaN": ({"means": [[0.0, np.nan], [2.0, 3.0]]}, ["means?", "nan|finite"]),
    "mean infinite": ({"means": [[0.0, 1.0], [np.inf, 3.0]]}, ["means?", "inf|finite"]),
    "covariance NaN": ({"covariances": [EYE, EYE * np.nan]}, ["covariance", "nan|finite"]),
    "asymmetric": ({"covariances": [EYE, [[1.0, 0.5], [0.2, 1.0]]]}, ["covariance", "symmetric"]),
    "indefinite": (
        {"covariances": [EYE, [[1.0, 2.0], [2.0, 1.0]]]},
        ["covariance", "positive definite", r"\b1\b"],
    ),
    "singular": (
        {"covariances": [[[1.0, 1.0], [1.0, 1.0]], EYE]},
        ["covariance", "positive definite", r"\b0\b"],
    ),
    "unknown structure": (
        {"covariance_type": "round"},
        ["covariance_type", "round", "full", "tied", "diag", "spherical"],
    ),
    "not tied": (
        {"covariance_type": "tied", "covariances": [EYE, 2 * EYE]},
        ["tied", "covariance"],
    ),
    "not diagonal": (
        {"covariance_type": "diag", "covariances": [EYE, [[1.0, 0.5], [0.5, 1.0]]]},
        ["diag", "covariance"],
    ),
    "not spherical": (
        {"covariance_type": "spherical", "covariances": [EYE, np.diag([1.0, 2.0])]},
        ["spherical", "covariance"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_each_failure_has_its_sentence(name: str) -> None:
    change, words = BAD[name]
    with says(GmmError, *words):
        GaussianMixture(**{**GOOD, **change})


def test_no_two_failures_have_the_same_sentence() -> None:
    sentences = set()
    for change, _ in BAD.values():
        with pytest.raises(GmmError) as caught:
            GaussianMixture(**{**GOOD, **change})
        sentences.add(str(caught.value))
    assert len(sentences) == len(BAD)


# Immutability and equality


def test_a_model_does_not_change() -> None:
    given = np.array([0.4, 0.6])
    model = GaussianMixture(**{**GOOD, "weights": given})
    given[0] = 9.0
    assert model.weights[0] == 0.4
    for array in (model.weights, model.means, model.covariances):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0
    for name in ("weights", "k", "features", "log_likelihood", "something"):
        with pytest.raises(AttributeError):
            setattr(model, name, 1)
    model.features.append("c")
    assert model.features == ["a", "b"]


def test_equal_models_are_equal() -> None:
    one, other = GaussianMixture(**GOOD), GaussianMixture(**GOOD)
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1
    assert one != GaussianMixture(**{**GOOD, "features": ["a", "c"]})
    assert one != GaussianMixture(**{**GOOD, "weights": [0.6, 0.4]})
    assert one != "a model"


# Round trips


def the_same(a: GaussianMixture, b: GaussianMixture) -> bool:
    return a == b and a.pack() == b.pack() and repr(a.to_frame()) == repr(b.to_frame())


def everything(structure: str) -> list[GaussianMixture]:
    ugly = built(structure, k=4, d=3)
    empty = oracle.random_model(np.random.default_rng(1), 2, 2, structure)
    return [
        ugly,
        fitted(structure),
        as_model(empty._replace(weights=np.array([0.0, 1.0])), ["ä b", "{}"], structure),
    ]


@structures
def test_json_pickle_and_copies_keep_every_bit(structure: str, tmp_path: Path) -> None:
    for model in everything(structure):
        path = tmp_path / "model.json"
        model.write_json(path)
        copies = [
            GaussianMixture.from_json(model.to_json()),
            GaussianMixture.read_json(path),
            GaussianMixture.read_json(str(path)),
            pickle.loads(pickle.dumps(model)),
            copy.deepcopy(model),
            copy.copy(model),
        ]
        for other in copies:
            assert the_same(other, model)
            assert (other.history is None) == (model.history is None)
            if model.history is not None:
                assert other.history.equals(model.history)


@structures
def test_structs_keep_every_bit(structure: str) -> None:
    for model in everything(structure):
        series = model.to_struct()
        assert series.name == "model"
        assert len(series) == 1
        assert the_same(GaussianMixture.from_struct(series), model)
        assert the_same(GaussianMixture.from_struct(series[0]), model)
        packed = series.to_frame().select(pl.col("model").gmm.pack())
        assert the_value(packed) == model.pack()
        assert the_same(GaussianMixture.from_struct(packed.to_series()), model)


@structures
def test_structs_go_through_files(structure: str) -> None:
    models = everything(structure)
    df = pl.concat([model.to_struct() for model in models]).to_frame("m")
    parquet, ipc = io.BytesIO(), io.BytesIO()
    df.write_parquet(parquet)
    df.write_ipc(ipc)
    for buffer, read in ((parquet, pl.read_parquet), (ipc, pl.read_ipc)):
        buffer.seek(0)
        back = read(buffer)
        assert back.schema == df.schema
        for i, model in enumerate(models):
            assert the_same(GaussianMixture.from_struct(back["m"][i : i + 1]), model)
    line = json.loads(df.write_json())[1]["m"]
    assert the_same(GaussianMixture.from_struct(line), models[1])


def test_json_is_versioned_and_checked() -> None:
    text = built().to_json()
    value = json.loads(text)
    assert value["version"] == 1
    with says(GmmError, "version", "99"):
        GaussianMixture.from_json(json.dumps({**value, "version": 99}))
    with says(GmmError, "sum"):
        GaussianMixture.from_json(json.dumps({**value, "weights": [0.5, 0.4, 0.4]}))
    with says(GmmError, "weights"):
        GaussianMixture.from_json(json.dumps({k: v for k, v in value.items() if k != "weights"}))
    for nonsense in ("", "{", "[]", "null", text[:-5]):
        with pytest.raises(GmmError):
            GaussianMixture.from_json(nonsense)


def test_structs_are_checked() -> None:
    row = built().to_struct()[0]
    with says(GmmError, "positive definite"):
        broken = [[[0.0, 0.0], [0.0, 0.0]]] * 3
        GaussianMixture.from_struct({**row, "covariances": broken})
    with says(GmmError, "means"):
        GaussianMixture.from_struct({k: v for k, v in row.items() if k != "means"})
    with pytest.raises(GmmError):
        GaussianMixture.from_struct(pl.Series("model", [None], dtype=built().to_struct().dtype))
    with pytest.raises(GmmError):
        GaussianMixture.from_struct(pl.concat([built().to_struct()] * 2))


def test_what_a_step_returns_is_a_model() -> None:
    df = faithful()
    step = df.select(m=pl.struct(pl.all()).gmm.em_step(fitted()))
    model = GaussianMixture.from_struct(step["m"])
    oracle.assert_same_parameters(parameters_of(model), oracle.parameters(step["m"][0]), 0)
    assert model.log_likelihood is None
    assert model.bic is None


# What a fit knows


@structures
def test_information_criteria(structure: str) -> None:
    df = faithful()
    model = fitted(structure)
    n, p, likelihood = df.height, model.n_parameters, model.log_likelihood
    assert model.bic == pytest.approx(-2 * likelihood + p * np.log(n), rel=1e-14)
    assert model.aic == pytest.approx(-2 * likelihood + 2 * p, rel=1e-14)
    assert model.icl == pytest.approx(model.bic + 2 * model.entropy, rel=1e-14)
    assert model.entropy > 0
    gamma = oracle.responsibilities(df.to_numpy(), parameters_of(model))
    assert distance(model.entropy, -np.sum(gamma * np.log(gamma))) < 1e-8
    assert model.n_rows == model.total_weight == n


def test_information_criteria_count_weights() -> None:
    df = faithful().with_columns(w=pl.lit(0.5))
    model = df.gmm.fit(k=2, weights="w")
    assert model.n_rows == 272
    assert model.total_weight == 136
    assert model.bic == pytest.approx(
        -2 * model.log_likelihood + model.n_parameters * np.log(136), rel=1e-14
    )


def test_history() -> None:
    model = fitted()
    assert model.history.schema == {
        "iteration": pl.UInt32,
        "log_likelihood": pl.Float64,
        "change": pl.Float64,
        "seconds": pl.Float64,
    }
    assert model.converged
    assert model.history["change"][-1] < 1e-6
    change = model.history["log_likelihood"].diff() / 272
    assert np.abs((model.history["change"] - change)[1:]).max() < 1e-12


def test_score_is_the_mean_log_density() -> None:
    df, model = faithful(), fitted()
    expected = df.select(model.log_density()).to_series().mean()
    assert model.score(df) == pytest.approx(expected, rel=1e-14)
    assert model.score(df.lazy()) == pytest.approx(expected, rel=1e-14)
    assert model.score(df) * 272 == pytest.approx(model.log_likelihood, rel=1e-12)


def test_to_frame() -> None:
    model = built(k=4, d=3)
    df = model.to_frame()
    assert df.schema == {
        "component": pl.UInt32,
        "weight": pl.Float64,
        "mean": pl.Array(pl.Float64, 3),
        "covariance": pl.Array(pl.Array(pl.Float64, 3), 3),
    }
    assert df["component"].to_list() == [0, 1, 2, 3]
    assert (df["weight"].to_numpy() == model.weights).all()
    assert (df["mean"].to_numpy() == model.means).all()
    assert (df["covariance"].to_numpy() == model.covariances).all()


def test_representations() -> None:
    for model in (built("tied", k=4, d=3), fitted("tied")):
        line = repr(model)
        assert "\n" not in line
        assert "GaussianMixture" in line
        assert "tied" in line
        assert f"k={model.k}" in line
        html = model._repr_html_()
        assert html.count("<table") == 1
        assert html.count("<tr") >= model.k


# Expressions that know their features


def test_expression_factories() -> None:
    df, model = faithful(), fitted()
    rows = pl.struct("waiting", "eruptions")
    out = df.with_columns(model.responsibilities(), model.predict(), model.log_density())
    assert out.columns == [*df.columns, "responsibilities", "component", "log_density"]
    assert out.schema["responsibilities"] == pl.Array(pl.Float64, 2)
    expected = df.select(
        responsibilities=rows.gmm.responsibilities(model),
        component=rows.gmm.predict(model),
        log_density=rows.gmm.log_density(model),
    )
    assert out.select(expected.columns).equals(expected)
    logs = df.select(model.responsibilities(log=True)).to_series()
    assert logs.equals(
        df.select(rows.gmm.responsibilities(model, log=True)).to_series(), check_names=False
    )


def test_factories_read_what_was_fitted() -> None:
    df = faithful().select("waiting", emb=pl.concat_arr("eruptions", "waiting"))
    for feature, names in (("waiting", ["waiting"]), ("emb", ["emb[0]", "emb[1]"])):
        model = df.gmm.fit(feature, k=2)
        assert model.features == names
        labels = df.select(model.predict()).to_series()
        assert labels.equals(
            df.select(pl.col(feature).gmm.predict(model)).to_series(), check_names=False
        )
        assert model.sample(3).schema == df.select(feature).schema


# Samples


@structures
def test_samples_have_the_moments_of_the_model(structure: str) -> None:
    model = built(structure)
    n = 200_000
    sample = model.sample(n, seed=1)
    assert sample.columns == model.features
    assert sample.height == n
    rows = sample.to_numpy()
    mean = model.weights @ model.means
    centred = model.means - mean
    covariance = np.einsum("k,kde->de", model.weights, model.covariances) + np.einsum(
        "k,kd,ke->de", model.weights, centred, centred
    )
    error = 5 * np.sqrt(np.diag(covariance) / n)
    assert (np.abs(rows.mean(axis=0) - mean) < error).all()
    assert np.abs(np.cov(rows.T) / covariance - 1).max() < 0.1
    assert abs(model.score(sample) - model.score(model.sample(n, seed=2))) < 0.02


def test_samples_of_a_component_lie_where_it_is() -> None:
    model = GaussianMixture(
        [0.1, 0.0, 0.9], [[0.0], [50.0], [100.0]], [[[1.0]], [[1.0]], [[4.0]]], features=["a"]
    )
    x = model.sample(50_000, seed=3)["a"].to_numpy()
    assert abs((x < 30).mean() - 0.1) < 0.007
    assert not ((x > 30) & (x < 70)).any()
    assert abs(x[x > 70].std() - 2) < 0.05


def test_same_seed_same_sample() -> None:
    model = built()
    assert model.sample(100, seed=4).equals(model.sample(100, seed=4))
    assert model.sample(100).equals(model.sample(100, seed=0))
    assert not model.sample(100, seed=4).equals(model.sample(100, seed=5))
    assert model.sample(0).height == 0
    assert model.sample(0).schema == model.sample(1).schema
    with pytest.raises(GmmError):
        model.sample(-1)


# scikit-learn


@structures
def test_to_sklearn(structure: str) -> None:
    df, model = faithful(), fitted(structure)
    estimator = model.to_sklearn()
    assert isinstance(estimator, SklearnMixture)
    ours = df.select(model.responsibilities()).to_series().to_numpy()
    assert np.abs(estimator.predict_proba(df) - ours).max() < 1e-10
    assert distance(estimator.score_samples(df), df.select(model.log_density()).to_series()) < 1e-10
    assert estimator.bic(df) == pytest.approx(model.bic, rel=1e-10)
    back = GaussianMixture.from_sklearn(estimator, features=model.features)
    assert parameters_of(back).means.tobytes() == parameters_of(model).means.tobytes()
    assert distance(back.covariances, model.covariances) < 1e-12


@structures
def test_from_sklearn(structure: str) -> None:
    df = faithful()
    rows = df.to_numpy()
    estimator = SklearnMixture(3, covariance_type=structure, random_state=0).fit(rows)
    model = GaussianMixture.from_sklearn(estimator, features=df.columns)
    ours = df.select(model.responsibilities()).to_series().to_numpy()
    assert np.abs(estimator.predict_proba(rows) - ours).max() < 1e-10
    assert model.covariance_type == structure
    unnamed = GaussianMixture.from_sklearn(estimator)
    assert unnamed.d == len(unnamed.features) == 2
    unfitted = SklearnMixture(3)
    with says(GmmError, "fit"):
        GaussianMixture.from_sklearn(unfitted)


# Blobs


def test_blobs_by_default() -> None:
    df = pg.make_blobs(1_000)
    assert df.schema == {"x0": pl.Float64, "x1": pl.Float64, "label": pl.UInt32}
    assert df.height == 1_000
    assert sorted(df["label"].unique()) == [0, 1, 2]
    assert df.equals(pg.make_blobs(1_000, seed=0))
    assert not df.equals(pg.make_blobs(1_000, seed=1))


def test_blobs_around_given_centres() -> None:
    centres = np.array([[0.0, 0.0, 0.0], [100.0, -100.0, 50.0]])
    df = pg.make_blobs(20_000, centers=centres, features=["a", "b", "c"], std=[0.5, 2.0], seed=2)
    assert df.columns == ["a", "b", "c", "label"]
    for label, std in ((0, 0.5), (1, 2.0)):
        own = df.filter(label=label).drop("label").to_numpy()
        assert abs(len(own) - 10_000) < 500
        assert np.abs(own.mean(axis=0) - centres[label]).max() < 0.1
        assert np.abs(own.std(axis=0) / std - 1).max() < 0.05


def test_blobs_of_any_size() -> None:
    df = pg.make_blobs(500, centers=20, features=5, std=0.1, seed=7)
    assert df.shape == (500, 6)
    assert df["label"].n_unique() == 20
    assert pg.make_blobs(0).height == 0
    with pytest.raises(GmmError):
        pg.make_blobs(10, centers=0)


# The typed accessor


def test_gmm_is_the_namespace() -> None:
    df = faithful()
    rows = pl.struct(pl.all())
    model = pg.gmm(df).fit(k=2)
    assert model == df.gmm.fit(k=2) == pg.gmm(df.lazy()).fit(k=2)
    assert df.select(pg.gmm(rows).predict(model)).equals(df.select(rows.gmm.predict(model)))
    assert type(pg.gmm(df)) is type(df.gmm)
    assert type(pg.gmm(df.lazy())) is type(df.lazy().gmm)
    assert type(pg.gmm(rows)) is type(rows.gmm)
    with pytest.raises((GmmError, TypeError), match="Expr"):
        pg.gmm("x")


def test_a_frame_of_one_component_is_the_normal_distribution() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3))
    model = frame(rows).gmm.fit(k=1)
    assert distance(model.means[0], rows.mean(axis=0)) < 1e-13
    assert distance(model.covariances[0], np.cov(rows.T, bias=True)) < 1e-13


# What is no model


@pytest.mark.parametrize("as_series", [False, True])
def test_a_struct_without_a_field(as_series: bool) -> None:
    row = the_value(built().to_struct().to_frame())
    without = {name: value for name, value in row.items() if name != "means"}
    for broken in (without, {**row, "means": None}):
        with says(GmmError, r"\['means'\] are missing or null"):
            GaussianMixture.from_struct(pl.Series([broken]) if as_series else broken)
    nothing = dict.fromkeys(row)
    with says(GmmError, "model is null"):
        GaussianMixture.from_struct(pl.Series([nothing]) if as_series else nothing)


def test_json_as_bytes() -> None:
    model = fitted()
    assert GaussianMixture.from_json(model.to_json().encode()) == model


@pytest.mark.parametrize("text", ["[" * 10**5, b"\xff", 3, None, '{"a":' * 10**5], ids=range(5))
def test_json_of_no_model(text: Any) -> None:
    with says(GmmError, "JSON"):
        GaussianMixture.from_json(text)


@pytest.mark.parametrize("history", [None, 3, [1], {"iteration": [1]}, {"iteration": [10**400]}])
def test_json_with_another_history(history: Any) -> None:
    content = {**json.loads(built().to_json()), "history": history}
    if history is None:
        assert GaussianMixture.from_json(json.dumps(content)) == built()
    else:
        with says(GmmError, "history"):
            GaussianMixture.from_json(json.dumps(content))


def test_only_frames_are_scored() -> None:
    frame_of_lists: Any = {"x0": [1.0], "x1": [1.0]}
    with says(GmmError, "DataFrame", "dict"):
        built().score(frame_of_lists)


@pytest.mark.parametrize(
    "weights",
    [np.ma.masked_array([0.5, 0.5], [False, True]), np.array(["0.5", "0.5"], object), [0.5, None]],
    ids=["masked", "strings", "None"],
)
def test_arrays_that_hold_other_things(weights: Any) -> None:
    with says(GmmError, "weights", "mask|numbers"):
        GaussianMixture(weights, [[0.0], [1.0]], [[[1.0]]] * 2, features=["a"])
