"""`search`: the candidates, their figures and order; mclust's tables; bad input in words."""

from __future__ import annotations

import warnings
from typing import Any

import polars as pl
import pytest

import polars_gmm as pg
from datasets import DATA, faithful, iris
from oracle import STRUCTURES
from support import says

FIGURES = ("log_likelihood", "n_parameters", "bic", "aic", "icl", "n_iter", "converged")


@pytest.mark.parametrize("lazy", [False, True])
def test_every_candidate_is_what_fit_gives(lazy: bool) -> None:
    df = faithful().with_columns(w=pl.int_range(pl.len()) % 3)
    source = df.lazy() if lazy else df
    options: dict[str, Any] = {"weights": "w", "init": "k-means", "seed": 3, "tol": 1e-5}
    table = source.gmm.search(k=[3, 1], covariance_type=["full", "tied"], **options)
    assert table.schema == {
        "k": pl.UInt32,
        "covariance_type": pl.String,
        "log_likelihood": pl.Float64,
        "n_parameters": pl.UInt64,
        "bic": pl.Float64,
        "aic": pl.Float64,
        "icl": pl.Float64,
        "n_iter": pl.UInt32,
        "converged": pl.Boolean,
        "at_floor": pl.UInt32,
        "model": pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]], features=["x"]).to_struct().dtype,
    }
    assert table.height == 4
    for row in table.iter_rows(named=True):
        structure = row["covariance_type"]
        model = df.gmm.fit(k=row["k"], covariance_type=structure, **options)
        assert pg.GaussianMixture.from_struct(row["model"]) == model
        assert [row[name] for name in FIGURES] == [getattr(model, name) for name in FIGURES]
        assert row["at_floor"] == model.diagnostics["at_floor"].sum()


def test_candidates_share_their_rows_and_nothing_else() -> None:
    """Of more rows than a start samples; the sample grows with k from k=9 on."""
    df = pg.make_blobs(6000, centers=4, std=1.5, seed=3).drop("label")
    table = df.gmm.search(k=[2, 10, 3], tol=1e-3, acceleration=None, seed=5)
    for row in table.iter_rows(named=True):
        model = df.gmm.fit(k=row["k"], tol=1e-3, acceleration=None, seed=5)
        assert pg.GaussianMixture.from_struct(row["model"]) == model


def test_known_components() -> None:
    known = faithful().with_columns(z=pl.when(pl.col("waiting") > 85).then(1))
    table = known.gmm.search("eruptions", "waiting", k=[3, 2], labels="z")
    assert sorted(table["k"]) == [2, 3]
    for row in table.iter_rows(named=True):
        model = known.gmm.fit("eruptions", "waiting", k=row["k"], labels="z")
        assert pg.GaussianMixture.from_struct(row["model"]) == model
    assert known.gmm.search(k=[2, 3], labels="z").equals(table)
    with pytest.warns(
        pg.ConvergenceWarning,
        match='cannot be fitted.*k=1 full.*labels "z" must be integers from 0 to 0',
    ):
        table = known.gmm.search("eruptions", "waiting", k=[1, 2], labels="z")
    assert table["model"].is_null().to_list() == [False, True]
    with says(pg.GmmError, "z", "7"):
        known.gmm.search("eruptions", "waiting", k=[1, 2], labels=pl.lit(7).alias("z"))


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl"])
def test_best_first(criterion: Any) -> None:
    table = faithful().gmm.search(k=range(1, 6), criterion=criterion)
    assert table[criterion].is_sorted()
    assert sorted(table["k"]) == [1, 2, 3, 4, 5]


def test_what_is_given_twice_or_alone() -> None:
    one = faithful().gmm.search(k=2)
    assert one.select("k", "covariance_type").rows() == [(2, "full")]
    twice = faithful().gmm.search(k=iter([2, 2]), covariance_type=("full", "full"))
    assert twice.equals(one)
    default = faithful().gmm.search("waiting", max_iter=2, tol=0)
    assert sorted(default["k"]) == list(range(1, 10))
    assert set(default["covariance_type"]) == {"full"}


@pytest.mark.parametrize("data", [faithful, iris])
def test_no_worse_than_mclust(data: Any) -> None:
    """mclust's BIC has the opposite sign; where it could not fit a candidate, there is none."""
    mclust = pl.read_csv(DATA / f"{data.__name__}_mclust_bic.csv").unpivot(
        index="k", variable_name="covariance_type", value_name="mclust"
    )
    ours = data().gmm.search(k=range(1, 10), covariance_type=STRUCTURES)
    table = ours.with_columns(pl.col("k").cast(pl.Int64)).join(
        mclust.drop_nulls(), on=["k", "covariance_type"]
    )
    assert table.height == 36
    worse = table.filter(-pl.col("bic") < pl.col("mclust") - 0.05)
    assert worse.select("k", "covariance_type", "bic", "mclust").rows() == []
    one = table.filter(k=1)
    assert (one["bic"] + one["mclust"]).abs().max() < 1e-6


def test_the_columns_are_read_once_and_no_others() -> None:
    read: list[str] = []

    def seen(name: str) -> pl.Expr:
        def note(column: pl.Series) -> pl.Series:
            read.append(name)
            return column

        return pl.col(name).map_batches(note, return_dtype=pl.Float64).alias(name)

    lf = faithful().with_columns(other=pl.col("waiting")).lazy()
    lf = lf.select(seen("eruptions"), "waiting", seen("other"))
    table = lf.gmm.search("eruptions", "waiting", k=[1, 2, 3])
    assert read == ["eruptions"]
    assert table.equals(faithful().gmm.search(k=[1, 2, 3]))


def test_one_warning_names_what_did_not_converge() -> None:
    with pytest.warns(pg.ConvergenceWarning) as caught:
        table = faithful().gmm.search(k=range(1, 8), max_iter=2)
    (warning,) = caught
    assert warning.filename == __file__
    short = table.filter(~pl.col("converged")).height
    assert f"{short} of 7 candidates" in str(warning.message)
    assert "max_iter=2" in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faithful().gmm.search(k=range(1, 8), max_iter=2, tol=0)


def test_a_candidate_that_cannot_be_fitted_comes_last_as_null() -> None:
    df = faithful().with_columns(twice=pl.col("waiting") * 2)
    structures: list[Any] = ["full", "spherical", "diag"]
    with pytest.warns(pg.ConvergenceWarning, match="1 of 3 candidates cannot be fitted.*k=2 full"):
        table = df.gmm.search(k=2, covariance_type=structures, covariance_floor=0)
    assert table["covariance_type"].to_list()[-1] == "full"
    assert table.row(-1)[2:] == (None,) * 9
    assert table["model"].null_count() == 1
    assert set(table.columns[2:-1]) >= set(FIGURES)


@pytest.mark.parametrize("progress", [True, False])
def test_progress_changes_nothing(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    table = faithful().gmm.search(k=[1, 2], progress=progress)
    assert table.equals(faithful().gmm.search(k=[1, 2]))
    said = capsys.readouterr().err
    assert ("k=2 full: bic 2322.19" in said) == progress


def test_an_interruption_has_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    from polars_gmm import _search

    fitted = _search._fitted

    def interrupted(rows: Any, options: Any) -> Any:
        if options["k"] == 3:
            raise KeyboardInterrupt
        return fitted(rows, options)

    monkeypatch.setattr(_search, "_fitted", interrupted)
    with pytest.raises(pg.FitInterrupted) as caught:
        faithful().gmm.search(k=[1, 2, 3])
    assert caught.value.model == faithful().gmm.fit(k=2)
    with pytest.raises(pg.FitInterrupted) as caught:
        faithful().gmm.search(k=[3, 1])
    assert caught.value.model is None


@pytest.mark.parametrize(
    ("options", "patterns"),
    [
        ({"k": []}, ["k must be", "at least one"]),
        ({"k": range(0)}, ["k must be", "at least one"]),
        ({"k": range(3)}, ["k must be at least 1", "got 0"]),
        ({"k": [1, 2.5]}, ["k must be a whole number", "2.5"]),
        ({"k": "2"}, ["k must be a whole number", "'2'"]),
        ({"k": None}, ["k must be a whole number", "None"]),
        ({"k": [2, 300]}, ["300", "272"]),
        ({"covariance_type": []}, ["covariance_type must be", "at least one"]),
        ({"covariance_type": ["full", "round"]}, ["covariance_type", "round"]),
        ({"covariance_type": ["full", 3]}, ["covariance_type must be a string", "3"]),
        ({"criterion": "BIC"}, ["criterion must be one of", "bic", "icl", "'BIC'"]),
        ({"criterion": None}, ["criterion must be one of", "None"]),
        ({"init": pl.col("waiting")}, ["init must be the name of a method"]),
        ({"init": "best"}, ["init must be one of", "best"]),
        ({"tol": -1.0}, ["tol"]),
        ({"progress": 1}, ["progress must be True or False"]),
        ({"weights": "none"}, ["no column 'none'"]),
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_bad_input_in_words(options: Any, patterns: list[str], lazy: bool) -> None:
    source = faithful().lazy() if lazy else faithful()
    with says(pg.GmmError, *patterns):
        source.gmm.search(**options)


def test_bad_rows_are_an_error_and_no_null_candidates() -> None:
    df = faithful().with_columns(pl.when(pl.int_range(pl.len()) != 4).then("waiting"))
    with says(pg.GmmError, "waiting", "null"):
        df.gmm.search(k=2)
    assert df.gmm.search(k=2, nulls="drop")["converged"].all()
    with says(pg.GmmError, "waiting", "NaN"):
        df.fill_null(float("nan")).gmm.search(k=2, covariance_floor=0)
    with says(pg.GmmError, "weight"):
        faithful().with_columns(w=-1.0).gmm.search(k=2, weights="w")
