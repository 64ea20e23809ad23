"""Fitting a frame: what may be watched, stopped, chosen; and which columns are read."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs
import pytest

import oracle
import polars_gmm as pg
from datasets import array_column, blobs, by_quantile, faithful, frame
from oracle import STRUCTURES
from support import as_model, parameters_of, run_python

STARTS = ("k-means++", "k-means", "random")
structures = pytest.mark.parametrize("structure", STRUCTURES)


def labelled(n: int = 300) -> pl.DataFrame:
    rows, labels = blobs(n)
    return frame(rows).with_columns(
        pl.Series("z", labels.astype(np.uint32)), array_column("r", np.eye(3)[labels] * 0.7 + 0.1)
    )


def plane(n: int = 300) -> pl.DataFrame:
    return labelled(n).select("x0", "x1")


# Watching and stopping

CUT: dict[str, Any] = {"k": 3, "init": pl.col("start")}


def cut_faithful() -> pl.DataFrame:
    """Old Faithful with labels to start from, many iterations away from the maximum."""
    return faithful().with_columns(by_quantile(faithful()["waiting"], 3))


@pytest.mark.parametrize("lazy", [False, True])
def test_one_call_for_each_iteration(lazy: bool) -> None:
    df = cut_faithful()
    calls: list[Any] = []
    source = df.lazy() if lazy else df
    model = source.gmm.fit(**CUT, on_iteration=lambda *args: calls.append(args))
    assert model.history is not None
    reported = [report.iteration for (report,) in calls]
    assert reported == model.history["iteration"].to_list()[1:]  # refused steps are in neither
    assert len(reported) > 9
    assert model == df.gmm.fit(**CUT)


@pytest.mark.parametrize("stop", [1, 4])
def test_a_callback_may_stop_the_fit(stop: int) -> None:
    df = cut_faithful()
    calls: list[Any] = []

    def enough(*args: Any) -> bool:
        calls.append(args)
        return len(calls) < stop

    model = df.gmm.fit(**CUT, on_iteration=enough)
    assert len(calls) == model.n_iter == stop
    assert not model.converged
    recomputed = df.select(model.log_density()).to_series().sum()
    assert model.log_likelihood == pytest.approx(recomputed, rel=1e-12)
    until_then = df.gmm.fit(**CUT, max_iter=stop, tol=0)
    assert parameters_of(until_then).means.tobytes() == model.means.tobytes()


def test_a_report_belongs_to_its_iteration() -> None:
    df = cut_faithful()
    reports: list[pg.FitReport] = []
    model = df.gmm.fit(**CUT, on_iteration=reports.append)
    assert model.history is not None
    for report in (reports[0], reports[4], reports[-1]):
        until_then = df.gmm.fit(**CUT, max_iter=report.iteration, tol=0)
        for same in (report, copy.deepcopy(report), pickle.loads(pickle.dumps(report))):
            assert same == report
            assert same.model.means.tobytes() == until_then.means.tobytes()
            assert same.model.log_likelihood == report.log_likelihood
            assert same.model.n_iter == report.iteration
            assert same.model.history is not None
            course = model.history.filter(pl.col("iteration") <= report.iteration)
            assert same.model.history.drop("seconds").equals(course.drop("seconds"))
    assert reports[-1].model == model


@pytest.mark.parametrize("with_model", [False, True])
def test_an_interruption_pickles_and_copies(with_model: bool) -> None:
    stopped = pg.FitInterrupted(cut_faithful().gmm.fit(**CUT) if with_model else None)
    for same in (copy.copy(stopped), copy.deepcopy(stopped), pickle.loads(pickle.dumps(stopped))):
        assert same.model == stopped.model
        assert str(same) == str(stopped)


def test_only_false_stops() -> None:
    model = cut_faithful().gmm.fit(**CUT, on_iteration=lambda *_: None)
    assert model.converged
    assert cut_faithful().gmm.fit(**CUT, on_iteration=lambda *_: 0) == model


def test_an_error_in_a_callback_is_the_error_of_the_fit() -> None:
    def broken(*_: Any) -> bool:
        raise RuntimeError("the plot is closed")

    with pytest.raises(RuntimeError, match="the plot is closed"):
        cut_faithful().gmm.fit(**CUT, on_iteration=broken)


def test_progress_changes_nothing() -> None:
    expected = cut_faithful().gmm.fit(**CUT)
    assert cut_faithful().gmm.fit(**CUT, progress=True) == expected
    assert cut_faithful().lazy().gmm.fit(**CUT, progress=True) == expected


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import polars as pl
import polars_gmm as pg

df = pl.DataFrame(np.random.default_rng(0).normal(size=(400_000, 4)), schema=["a", "b", "c", "d"])
start = df.head(20_000).gmm.fit(k=30, init="random", n_init=1, max_iter=1, tol=0)
pressed = []

def press():
    pressed.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

threading.Timer(float(sys.argv[1]), press).start()
try:
    df.gmm.fit(k=30, tol=0, max_iter=1_000_000, init=start, progress=sys.argv[2] == "progress")
except pg.FitInterrupted as stopped:
    waited = time.perf_counter() - pressed[0]
    model = stopped.model
else:
    raise SystemExit("not interrupted")
assert waited < 1.0, waited
assert issubclass(pg.FitInterrupted, KeyboardInterrupt)
assert not model.converged
total = df.select(model.log_density()).to_series().sum()
assert abs(model.log_likelihood - total) < 1e-9 * abs(total)
assert model.n_iter >= 1
assert df.group_by(pl.col("a").round(0)).agg(pl.col("b").sum()).height > 5
assert df.head(500).gmm.fit(k=2).n_rows == 500
print("stopped")
"""


@pytest.mark.parametrize("progress", ["quiet", "progress"])
def test_ctrl_c_keeps_the_last_complete_model(progress: str) -> None:
    assert run_python(INTERRUPTED, "2.0", progress).strip() == "stopped"


# Columns


def test_every_numeric_column_is_a_feature() -> None:
    df = plane().with_columns(
        name=pl.lit("a"),
        w=pl.lit(1.0),
        z=labelled()["z"],
        r=labelled()["r"],
        n=pl.int_range(pl.len()) % 7,
    )
    assert df.drop("z", "w").gmm.fit(k=2).features == ["x0", "x1", "n"]
    assert df.gmm.fit(k=3, weights="w", init=pl.col("z")).features == ["x0", "x1", "n"]
    assert df.drop("z").gmm.fit(k=3, weights=pl.col("w"), init=pl.col("r")).features == [
        "x0",
        "x1",
        "n",
    ]


@pytest.mark.parametrize("lazy", [False, True])
def test_features_by_name_expression_and_selector(lazy: bool) -> None:
    df = labelled()
    source = df.lazy() if lazy else df
    options: dict[str, Any] = {"k": 3, "max_iter": 5, "tol": 0}
    expected = plane().gmm.fit(**options)
    for features in [
        ("x0", "x1"),
        (["x0", "x1"],),
        (pl.col("x0"), "x1"),
        (pl.col("x0", "x1"),),
        (cs.starts_with("x"),),
        (cs.float() & ~cs.by_name("r"),),
        ([cs.first(), pl.col("x1")],),
        (pl.struct("x0", "x1"),),
    ]:
        assert source.gmm.fit(*features, **options) == expected
    logs = source.gmm.fit((pl.col("x0") + 10).log(), pl.col("x1").alias("y"), **options)
    assert logs.features == ["x0", "y"]
    moved = plane().with_columns((pl.col("x0") + 10).log()).rename({"x1": "y"})
    assert logs == moved.gmm.fit(**options)


@pytest.mark.parametrize("lazy", [False, True])
def test_one_array_or_list_column_is_all_features(lazy: bool) -> None:
    df = plane().select(emb=pl.concat_arr("x0", "x1"), lst=pl.concat_list("x0", "x1"))
    source = df.lazy() if lazy else df
    expected = plane().gmm.fit(k=3)
    for name in ("emb", "lst"):
        model = source.gmm.fit(name, k=3)
        assert model.features == [f"{name}[0]", f"{name}[1]"]
        assert model.means.tobytes() == expected.means.tobytes()
        assert model.log_likelihood == expected.log_likelihood


class Counter:
    """Counts how often a lazy column is computed."""

    def __init__(self, fails: bool = False) -> None:
        self.calls = 0
        self.fails = fails

    def __call__(self, column: pl.Series) -> pl.Series:
        self.calls += 1
        if self.fails:
            raise AssertionError("this column is not needed")
        return column

    def column(self, name: str) -> pl.Expr:
        return pl.col(name).map_batches(self, return_dtype=pl.Float64)


def test_a_lazy_fit_collects_its_columns_once_and_no_others() -> None:
    needed, weight, other = Counter(), Counter(), Counter(fails=True)
    lf = (
        plane()
        .lazy()
        .select(
            x0=needed.column("x0"),
            x1="x1",
            w=weight.column("x0").abs(),
            other=other.column("x1"),
        )
    )
    model = lf.gmm.fit("x0", "x1", k=3, weights="w", max_iter=20, tol=0)
    assert needed.calls == weight.calls == 1
    assert other.calls == 0
    df = plane().with_columns(w=pl.col("x0").abs())
    assert model == df.gmm.fit("x0", "x1", k=3, weights="w", max_iter=20, tol=0)


def test_a_scan_is_fitted(tmp_path: Any) -> None:
    path = tmp_path / "rows.parquet"
    labelled().write_parquet(path)
    scan = pl.scan_parquet(path).filter(pl.col("x0") > -100)
    assert scan.gmm.fit("x0", "x1", k=3) == plane().gmm.fit(k=3)


# Starts


@structures
@pytest.mark.parametrize("init", STARTS)
def test_every_start_finds_clusters_that_are_there(init: str, structure: str) -> None:
    rows, labels = blobs(600)
    seeds = range(5)
    own = np.stack([rows[labels == j].mean(axis=0) for j in range(3)])
    for seed in seeds:
        model = frame(rows).gmm.fit(k=3, init=init, covariance_type=structure, seed=seed, n_init=8)
        assert np.abs(model.means - own[np.lexsort(own.T[::-1])]).max() < 0.15
        assert model.converged


def test_a_start_from_labels_is_an_m_step() -> None:
    df = labelled()
    gamma = np.eye(3)[df["z"].to_numpy()]
    expected = oracle.m_step(plane().to_numpy(), gamma)
    for labels in (pl.col("z"), pl.col("z").cast(pl.Int8), pl.col("z").cast(pl.Int64)):
        model = df.gmm.fit("x0", "x1", k=3, init=labels, covariance_floor=0, tol=0, max_iter=3)
        after = oracle.em(plane().to_numpy(), expected, "full", 3)
        oracle.assert_same_parameters(parameters_of(model), after)


def test_a_start_from_responsibilities_is_an_m_step() -> None:
    df = labelled()
    expected = oracle.em(
        plane().to_numpy(), oracle.m_step(plane().to_numpy(), df["r"].to_numpy()), "full", 3
    )
    for column in (pl.col("r"), pl.col("r").arr.to_list()):
        model = df.gmm.fit("x0", "x1", k=3, init=column, covariance_floor=0, tol=0, max_iter=3)
        oracle.assert_same_parameters(parameters_of(model), expected)


def test_a_start_from_a_model_matches_features_by_name() -> None:
    rng = np.random.default_rng(0)
    start = oracle.random_model(rng, 3, 2, "full")
    swapped = oracle.Parameters(
        start.weights, start.means[:, ::-1], start.covariances[:, ::-1, ::-1]
    )
    options: dict[str, Any] = {"k": 3, "max_iter": 3, "tol": 0}
    one = plane().gmm.fit(init=as_model(start), **options)
    other = plane().gmm.fit(init=as_model(swapped, ["x1", "x0"]), **options)
    oracle.assert_same_parameters(parameters_of(one), parameters_of(other), 1e-12)


def test_a_start_of_another_structure() -> None:
    start = plane().gmm.fit(k=3, covariance_type="spherical", max_iter=2, tol=0)
    model = plane().gmm.fit(k=3, covariance_type="full", init=start)
    assert model.covariance_type == "full"
    assert model.log_likelihood > start.log_likelihood


@pytest.mark.parametrize("init", STARTS)
@pytest.mark.parametrize("seed", range(4))
def test_more_starts_are_no_worse(init: str, seed: int) -> None:
    df = pg.make_blobs(400, centers=6, std=2.0, seed=seed).drop("label")
    one, many = (
        df.gmm.fit(k=6, init=init, n_init=n, seed=seed, tol=1e-8).log_likelihood for n in (1, 8)
    )
    assert many >= one - 1e-4


def test_more_starts_find_more() -> None:
    df = pg.make_blobs(400, centers=8, std=0.2, seed=3).drop("label")
    seeds = range(10)
    one, many = (
        np.array([df.gmm.fit(k=8, init="random", n_init=n, seed=s).log_likelihood for s in seeds])
        for n in (1, 10)
    )
    assert many.mean() > one.mean() + 1
    assert (many >= one - 1e-3).all()


@pytest.mark.parametrize("init", STARTS)
def test_same_seed_same_fit(init: str) -> None:
    df = pg.make_blobs(400, centers=6, std=2.0, seed=1).drop("label")
    fits = [df.gmm.fit(k=6, init=init, seed=s, n_init=1, max_iter=3, tol=0) for s in (0, 0, 1, 2)]
    assert fits[0] == fits[1]
    assert fits[0] != fits[2]
    assert fits[2] != fits[3]
    assert df.gmm.fit(k=6, init=init, n_init=1, max_iter=3, tol=0) == fits[0]


@pytest.mark.parametrize("init", STARTS)
@pytest.mark.parametrize("seed", range(5))
def test_components_come_in_the_order_of_their_means(init: str, seed: int) -> None:
    model = plane().gmm.fit(k=3, init=init, seed=seed)
    assert model.means.tolist() == sorted(model.means.tolist())
    rows = pl.struct("x0", "x1")
    value = plane().select(rows.gmm.fit(3, init=init, seed=seed)).to_series()[0]
    assert value["means"] == sorted(value["means"])


def test_fit_predict_is_fit_then_predict() -> None:
    df, rows = plane(), pl.struct("x0", "x1")
    model = df.gmm.fit(k=3)
    labels = df.select(a=rows.gmm.fit_predict(3), b=model.predict())
    assert labels["a"].equals(labels["b"], check_names=False)


def test_max_iter_is_the_most() -> None:
    df = cut_faithful()
    model = df.gmm.fit(**CUT, tol=0, max_iter=11)
    assert (model.n_iter, model.converged) == (11, False)
    loose = df.gmm.fit(**CUT, tol=1e-2)
    tight = df.gmm.fit(**CUT, tol=1e-8)
    assert loose.n_iter < tight.n_iter < 1000
    assert loose.log_likelihood < tight.log_likelihood
    assert loose.converged
    assert tight.converged


# Names


@pytest.mark.parametrize("lazy", [False, True])
def test_names_are_no_patterns(lazy: bool) -> None:
    plain = plane(60).with_columns(a=pl.lit(1.0), w=pl.int_range(pl.len()) % 3 + 1)
    odd = plain.rename({"x0": "^a$", "x1": "*", "w": "^x.*$"})
    expected = plain.gmm.fit("x0", "x1", k=2, weights="w")
    source = odd.lazy() if lazy else odd
    model = source.gmm.fit("^a$", "*", k=2, weights="^x.*$")
    assert model.features == ["^a$", "*"]
    assert parameters_of(model).means.tobytes() == parameters_of(expected).means.tobytes()
    assert model.score(source) == pytest.approx(expected.score(plain), rel=1e-12)
    assert "^x.*$" not in source.gmm.fit(k=2, weights="^x.*$").features
    one = odd.gmm.fit("^a$", k=1)
    assert one.features == ["^a$"]
    column = one.to_struct().to_frame("^model$")
    scored = odd.join(column, how="cross").select(pl.col("a").gmm.log_density("^model$"))
    assert scored.height == odd.height
    with pytest.raises(pg.GmmError, match="zz"):
        source.gmm.fit("^zz$", k=1)
