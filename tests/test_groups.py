"""A mixture per group, and each row scored by its own group's model."""

from __future__ import annotations

import importlib
import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

import polars_gmm as pg
from registry import MODEL
from support import ComputeError, bits, says

xy = pl.struct("x", "y")
Engine = Literal["in-memory", "streaming"]
ENGINES: tuple[Engine, ...] = ("in-memory", "streaming")
CRITERIA: tuple[Literal["bic", "aic", "icl"], ...] = ("bic", "aic", "icl")
ROOT = Path(__file__).resolve().parents[1]
IRIS = pl.read_csv(ROOT / "examples" / "iris.csv")


def grouped_rows(groups: int, each: int, seed: int = 0) -> pl.DataFrame:
    """Groups `g` of one, two or three round clusters, in turn."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), each)
    z = np.tile(np.arange(each), groups) % (1 + g % 3)
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    rows = centres[z] + rng.normal(size=(groups * each, 2)) + g[:, None]
    return pl.DataFrame({"g": g, "x": rows[:, 0], "y": rows[:, 1]})


def alone(rows: pl.DataFrame, expr: pl.Expr) -> Any:
    """What the expression makes of these rows and no others."""
    return rows.select(out=expr)["out"].to_list()


# Groups of every kind


@pytest.mark.parametrize("engine", ENGINES)
def test_several_keys_with_nulls(engine: Engine) -> None:
    df = grouped_rows(6, 60).with_columns(
        shop=pl.when(pl.col("g") < 2).then(None).otherwise(pl.col("g") % 2),
        day=pl.when(pl.col("g") % 3 == 0).then(None).otherwise(pl.lit("monday")),
    )
    expr = xy.gmm.fit(2)
    lazy = df.lazy().group_by("shop", "day", maintain_order=True).agg(m=expr, n=pl.len())
    models = lazy.collect(engine=engine)
    keys = df.select("shop", "day").unique(maintain_order=True)
    assert models.select("shop", "day").equals(keys)
    assert models["n"].sum() == df.height
    for shop, day, model, _ in models.rows():
        own = df.filter(pl.col("shop").eq_missing(shop), pl.col("day").eq_missing(day))
        assert [model] == alone(own, expr)


def test_windows_give_each_row_its_groups_model() -> None:
    df = grouped_rows(4, 50).sample(fraction=1.0, shuffle=True, seed=3)
    out = df.with_columns(m=xy.gmm.fit(2).over("g"), z=xy.gmm.fit_predict(2).over("g"))
    for (_,), rows in out.group_by("g"):
        own = alone(rows, xy.gmm.fit(2))
        assert rows["m"].to_list() == own * len(rows)
        assert rows["z"].to_list() == alone(rows, xy.gmm.fit_predict(2))


def test_groups_by_time() -> None:
    df = grouped_rows(1, 240).with_columns(
        t=pl.datetime_range(
            datetime(2024, 1, 1), datetime(2024, 1, 1, 3, 59), timedelta(minutes=1), eager=True
        )
    )
    expr = xy.gmm.fit(2, max_iter=20)
    hours = df.group_by_dynamic("t", every="1h").agg(m=expr)
    assert hours["m"].to_list() == [alone(df.slice(60 * i, 60), expr)[0] for i in range(4)]
    trailing = df.tail(30).rolling("t", period="10m").agg(m=expr)
    assert trailing["m"].is_null().to_list() == [True] + [False] * 29
    assert trailing["m"].to_list()[-1] == alone(df.tail(10), expr)[0]
    assert trailing["m"].to_list()[14] == alone(df.tail(30).slice(5, 10), expr)[0]
    rolled = df.tail(30).select(m=expr.rolling("t", period="10m"))
    assert bits(rolled["m"]) == bits(trailing["m"])


def test_a_group_that_cannot_be_fitted_harms_no_other() -> None:
    df = grouped_rows(6, 30).with_columns(
        x=pl.when(pl.col("g") == 1).then(float("nan")).otherwise("x")
    )
    df = df.filter((pl.col("g") != 2) | (pl.int_range(pl.len()).over("g") < 1))
    expr = xy.gmm.fit([2, 3], on_failure="null")
    models = df.group_by("g", maintain_order=True).agg(m=expr)
    assert models["m"].is_null().to_list() == [False, True, True, False, False, False]
    for g in (0, 3, 4, 5):
        assert models.filter(g=g)["m"].to_list() == alone(df.filter(g=g), expr)
    labels = df.select(xy.gmm.fit_predict([2, 3], on_failure="null").over("g")).to_series()
    assert labels.is_null().to_list() == df["g"].is_in([1, 2]).to_list()
    with says(ComputeError, "NaN or infinite in 30 rows"):
        df.group_by("g").agg(m=xy.gmm.fit([2, 3]))


# k for each group


@pytest.mark.parametrize("criterion", CRITERIA)
def test_each_group_gets_the_k_of_lowest_criterion(
    criterion: Literal["bic", "aic", "icl"],
) -> None:
    df = grouped_rows(9, 80)
    counts = [3, 1, 4, 2]
    tried = pl.concat(
        df.group_by("g", maintain_order=True).agg(m=xy.gmm.fit(k)) for k in sorted(counts)
    )
    value = getattr(pl.col("m").gmm, criterion)()
    expected = tried.sort("g", value, maintain_order=True).unique("g", keep="first").sort("g")
    best = df.group_by("g", maintain_order=True).agg(
        m=xy.gmm.fit(counts, criterion=criterion),
        z=xy.gmm.fit_predict(counts, criterion=criterion),
    )
    assert best["m"].to_list() == expected["m"].to_list()
    if criterion == "bic":
        found = best["m"].struct["weights"].list.len().to_list()
        assert found == [1, 2, 3] * 3
    for rows, model in zip(df.partition_by("g"), best["m"], strict=True):
        assert rows.gmm.fit("x", "y", k=counts, criterion=criterion) == (
            pg.GaussianMixture.from_struct(model)
        )
    packed = best.select("g", pl.col("m").gmm.pack())
    joined = df.join(packed, on="g", maintain_order="left").select(xy.gmm.predict("m"))
    assert best.explode("z")["z"].to_list() == joined.to_series().to_list()


def test_numbers_above_the_rows_of_a_group_are_left_out() -> None:
    df = pl.DataFrame({"g": [0, 0, 0, 1], "x": [0.0, 1.0, 5.0, 2.0]})
    models = df.group_by("g", maintain_order=True).agg(m=pl.col("x").gmm.fit([2, 4]))
    assert models["m"].struct["weights"].list.len().to_list() == [2, None]
    single = df.group_by("g", maintain_order=True).agg(m=pl.col("x").gmm.fit([7]))
    assert single["m"].null_count() == 2
    # What is wrong with the data, and not with one k, is told all the same.
    collinear = pl.DataFrame({"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0]})
    with says(ComputeError, "positive definite"):
        collinear.select(xy.gmm.fit([5, 1], covariance_floor=0.0))
    with says(pg.GmmError, "positive definite"):
        collinear.gmm.fit(k=[1, 2], covariance_floor=0.0)


@pytest.mark.parametrize("column", ["x", "v", "l"])
def test_models_of_groups_know_their_features_by_name(column: str) -> None:
    values = np.random.default_rng(3).normal(size=(60, 2))
    df = pl.DataFrame({"g": [0, 1] * 30, "x": values[:, 0], "v": pl.Series(values)})
    df = df.with_columns(l=pl.col("v").arr.to_list())
    fit = pl.col(column).gmm.fit(1)
    expected = df.filter(g=0).select(m=fit)["m"][0]
    assert expected["features"] == (["x"] if column == "x" else [f"{column}[0]", f"{column}[1]"])
    grouped = df.lazy().group_by("g", maintain_order=True).agg(m=fit)
    for engine in ("in-memory", "streaming"):
        assert grouped.collect(engine=engine)["m"][0] == expected
    assert df.with_columns(m=fit.over("g"))["m"][0] == expected
    model = pg.GaussianMixture.from_struct(grouped.collect()["m"][0])
    assert df.select(model.predict()).height == 60
    bad = df.with_columns(x=pl.lit(None, pl.Float64), v=None, l=None).with_columns(
        v=pl.lit(None, pl.Array(pl.Float64, 2)), l=pl.lit(None, pl.List(pl.Float64))
    )
    with says(ComputeError, f'"{column}'):
        bad.group_by("g").agg(m=fit)


def test_broken_models_are_told_of_at_once() -> None:
    """Each equals no other, and none is compared with all others."""
    model = pg.GaussianMixture([1.0], [[0.0, 0.0]], [np.eye(2)], features=["x", "y"])
    struct = model.to_struct()
    broken = {**struct[0], "means": [[0.0, None]]}
    many = pl.DataFrame({"m": [broken]}, schema={"m": struct.dtype})[[0] * 100_000]
    rows = many.with_columns(x=pl.lit(1.0), y=pl.lit(2.0))
    with says(ComputeError, "means are ragged or have nulls"):
        rows.select(xy.gmm.predict("m"))


def test_several_k_need_a_start_that_is_drawn() -> None:
    df = grouped_rows(1, 30).with_columns(z=pl.lit(0))
    for init in (pl.col("z"), df.gmm.fit("x", "y", k=2)):
        for fit in (
            lambda init=init: xy.gmm.fit([1, 2], init=init),
            lambda init=init: xy.gmm.fit_predict([1, 2], init=init),
            lambda init=init: df.gmm.fit("x", "y", k=[1, 2], init=init),
        ):
            with says(pg.GmmError, "init must be the name of a method where k is a list"):
                fit()
    for wrong in ([], "12", [0, 1], [1.5], None):
        with says(pg.GmmError, "^k must be"):
            xy.gmm.fit(wrong)  # type: ignore[arg-type]
    for call in (xy.gmm.fit, xy.gmm.fit_predict, lambda k, **o: df.gmm.fit("x", k=k, **o)):
        with says(pg.GmmError, r"criterion must be one of \['bic', 'aic', 'icl'\]; got 'BIC'"):
            call(2, criterion="BIC")


def test_frames_watch_and_warn_for_the_model_they_give() -> None:
    df = grouped_rows(3, 100)
    seen: list[int] = []
    model = df.gmm.fit("x", "y", k=[1, 2], on_iteration=lambda r: seen.append(r.model.k))
    assert set(seen) == {1, 2}
    assert model == min((df.gmm.fit("x", "y", k=k) for k in (1, 2)), key=lambda m: m.bic)
    stopped = df.gmm.fit("x", "y", k=[1, 2], on_iteration=lambda _: False)
    assert stopped.k == 1
    with pytest.warns(pg.ConvergenceWarning, match="the best by bic, ended at iteration 1") as told:
        df.gmm.fit("x", "y", k=[2, 3], max_iter=1)
    assert [warning.filename for warning in told] == [__file__]
    with says(pg.GmmError, "row"):
        df.head(1).gmm.fit("x", "y", k=[2, 3])


# Columns of models


def test_criteria_are_those_of_the_models() -> None:
    df = grouped_rows(6, 40)
    models = pl.concat(
        df.group_by("g").agg(m=xy.gmm.fit(k, covariance_type=kind))
        for k, kind in ((1, "full"), (2, "tied"), (3, "diag"), (2, "spherical"))
    )
    for column in (pl.col("m"), pl.col("m").gmm.pack()):
        out = models.select(getattr(column.gmm, name)().alias(name) for name in CRITERIA)
        expected = [pg.GaussianMixture.from_struct(model) for model in models["m"]]
        for name in CRITERIA:
            assert out[name].to_list() == [getattr(model, name) for model in expected]
    step = df.with_columns(r=pl.lit([0.5, 0.5])).select(m=xy.gmm.m_step("r"))
    unknown = step.select(getattr(pl.col("m").gmm, name)().alias(name) for name in CRITERIA)
    assert unknown.row(0) == (None, None, None)
    best = models.filter(pl.col("m").gmm.bic() == pl.col("m").gmm.bic().min().over("g"))
    assert sorted(best["g"].to_list()) == [0, 1, 2, 3, 4, 5]


def test_components_are_rows() -> None:
    models = grouped_rows(3, 80).group_by("g", maintain_order=True).agg(m=xy.gmm.fit([1, 2, 3]))
    models = models.vstack(pl.DataFrame({"g": [9], "m": [None]}, schema=models.schema))
    out = models.select("g", pl.col("m").gmm.components()).explode("m").unnest("m")
    assert out["g"].to_list() == [0, 1, 1, 2, 2, 2, 9]
    assert out.row(6) == (9, None, None, None, None)
    written = [pg.GaussianMixture.from_struct(model).to_frame() for model in models["m"].head(3)]
    plain = pl.concat(frame.cast({"mean": pl.List(pl.Float64)}) for frame in written)
    assert (
        out.head(6)
        .select("component", "weight", "mean")
        .equals(plain.select("component", "weight", "mean"))
    )
    assert out["covariance"].to_list()[:6] == plain["covariance"].to_list()


def test_unpacked_models_are_the_models() -> None:
    models = (
        grouped_rows(4, 30)
        .group_by("g")
        .agg(m=xy.gmm.fit(2))["m"]
        .append(pl.Series([None], dtype=MODEL))
    )
    out = models.to_frame().select(
        twice=pl.col("m").gmm.pack().gmm.unpack(), same=pl.col("m").gmm.unpack()
    )
    assert out.schema == {"twice": MODEL, "same": MODEL}
    assert bits(out["twice"]) == bits(out["same"]) == bits(models)


# Joins


def scores() -> list[pl.Expr]:
    return [
        xy.gmm.predict("m").alias("z"),
        xy.gmm.log_density("m").alias("l"),
        xy.gmm.responsibilities("m").alias("r"),
        xy.gmm.responsibilities("m", log=True).alias("logs"),
    ]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_joined_models_score_as_group_by_group(packed: bool, engine: Engine, order: str) -> None:
    df = grouped_rows(30, 40).with_row_index()
    models = df.group_by("g", maintain_order=True).agg(m=xy.gmm.fit([1, 2, 3], max_iter=5))
    models = models.with_columns(pl.when(pl.col("g") != 7).then("m").alias("m"))
    expected = pl.concat(
        rows.with_columns(m=pl.lit(models["m"][g : g + 1]).first()).select("index", *scores())
        for g, rows in enumerate(df.partition_by("g"))
    )
    if packed:
        models = models.with_columns(pl.col("m").gmm.pack())
    if order == "shuffled":
        df = df.sample(fraction=1.0, shuffle=True, seed=1)
    joined = df.lazy().join(models.lazy(), on="g", how="left", maintain_order="left")
    out = joined.select("index", *scores()).collect(engine=engine)
    assert out["z"].null_count() == 40
    assert bits(out.sort("index")) == bits(expected)


def test_rows_at_fault_are_named_where_they_stand() -> None:
    df = grouped_rows(20, 30).sample(fraction=1.0, shuffle=True, seed=2)
    models = df.group_by("g", maintain_order=True).agg(m=xy.gmm.fit(1))
    joined = df.join(models.select("g", pl.col("m").gmm.pack()), on="g", maintain_order="left")
    short = (
        pl.when(pl.int_range(pl.len()) == 321)
        .then(pl.concat_list("x"))
        .otherwise(pl.concat_list("x", "y"))
    )
    with says(ComputeError, "width 2", "width 1 in row 321"):
        joined.with_columns(xy=short).select(pl.col("xy").gmm.predict("m"))
    broken = pl.when(pl.col("g") == joined["g"][5]).then(pl.lit(b"pgmm")).otherwise("m")
    first = joined["g"].to_list().index(joined["g"][5])
    with says(ComputeError, f"row {first} of a batch", "not a Gaussian mixture"):
        joined.with_columns(m=broken).select(xy.gmm.predict("m"))


@pytest.mark.parametrize("packed", [False, True])
def test_an_unsorted_join_costs_little_more_than_a_sorted_one(packed: bool) -> None:
    rng = np.random.default_rng(5)
    d, k, groups = 8, 8, 100
    names = [f"x{j}" for j in range(d)]
    rows = pl.DataFrame(rng.normal(size=(20_000, d)), schema=names).with_columns(
        g=pl.int_range(pl.len()) % groups
    )
    models = (
        rows.sort("g")
        .group_by("g", maintain_order=True)
        .agg(m=pl.struct(names).gmm.fit(k, n_init=1, max_iter=0))
    )
    if packed:
        models = models.with_columns(pl.col("m").gmm.pack())
    score = pl.struct(names).gmm.log_density("m")

    def seconds(rows: pl.DataFrame) -> float:
        joined = rows.join(models, on="g", maintain_order="left")
        begun = time.perf_counter()
        joined.select(score)
        return time.perf_counter() - begun

    # Nineteen in twenty rows have another model than the row before: factorising for each would
    # take twenty times as long.
    ratios = [seconds(rows) / seconds(rows.sort("g")) for _ in range(5)]
    assert np.median(ratios) < 6


def test_a_join_of_packed_models_is_scored_in_a_stream(tmp_path: Path) -> None:
    df = grouped_rows(20, 500)
    df.sample(fraction=1.0, shuffle=True, seed=4).write_parquet(tmp_path / "rows.parquet")
    models = df.group_by("g").agg(m=xy.gmm.fit(2, max_iter=3).gmm.pack())
    rows = pl.scan_parquet(tmp_path / "rows.parquet")
    query = rows.join(models.lazy(), on="g").with_columns(l=xy.gmm.log_density("m"))
    plan = query.select("g", "l").show_graph(
        engine="streaming", plan_stage="physical", raw_output=True, show=False
    )
    assert plan is not None
    assert "columnar-function" not in plan
    assert "in-memory-map" not in plan
    total = query.group_by("g").agg(pl.col("l").sum()).sort("g").collect(engine="streaming")
    expected = models.select("g", l=pl.col("m").gmm.unpack().struct["n_rows"]).sort("g")
    assert total["g"].equals(expected["g"])
    whole = df.join(models, on="g").select(xy.gmm.log_density("m").sum()).item()
    assert abs(total["l"].sum() - whole) < 1e-9 * abs(whole)


# The recipe of docs/groups.md


def test_anomalies_are_rows_their_own_group_finds_odd() -> None:
    history = grouped_rows(6, 500, seed=6)
    # New rows: in each group, one of fifty that would be ordinary in the group three further on.
    new = grouped_rows(6, 1000, seed=7).with_row_index()
    moved = pl.when(pl.col("index") % 50 == 7).then(20).otherwise(0)
    new = new.with_columns(x=pl.col("x") + moved, y=pl.col("y") + moved)
    models = history.group_by("g").agg(m=xy.gmm.fit([1, 2, 3]).gmm.pack())
    density = xy.gmm.log_density("m")
    thresholds = history.join(models, on="g").group_by("g").agg(least=density.quantile(0.01))
    scored = new.join(models, on="g").join(thresholds, on="g")
    flagged = scored.filter(density < pl.col("least"))
    odd = set(range(7, 6000, 50))
    assert odd <= set(flagged["index"].to_list())
    # Of the others, about one in a hundred in every group: the threshold is the group's own.
    rates = flagged.filter(pl.col("index") % 50 != 7).group_by("g").len()["len"] / 980
    assert len(rates) == 6
    assert 0.002 < rates.min() <= rates.max() < 0.03  # type: ignore[operator]


def test_species_of_iris_are_told_by_their_own_mixtures() -> None:
    features = pl.struct(IRIS.columns[:4])
    models = IRIS.group_by("species").agg(m=features.gmm.fit(1, covariance_type="full"))
    known = IRIS.with_row_index()
    scored = known.join(models.rename({"species": "guess"}), how="cross")
    likely = scored.with_columns(l=features.gmm.log_density("m")).sort("l", descending=True)
    guesses = likely.unique("index", keep="first", maintain_order=True)
    # Quadratic discriminant analysis with equal priors: 3 rows of 150 (Fisher 1936 by MASS::qda).
    assert guesses.filter(pl.col("species") != pl.col("guess")).height == 3


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    example = importlib.import_module("groups")
    assert example.species()["right"].to_list() == [50, 48, 49]
    found = example.shops(groups=40, rows=100)
    assert found["odd baskets"].item() == 40


def test_the_page_has_the_figures_of_the_last_results() -> None:
    results = json.loads((ROOT / "benches" / "results" / "groups.json").read_text("utf-8"))
    page = (ROOT / "docs" / "groups.md").read_text("utf-8")
    for line in results["said"]:
        assert line in page
