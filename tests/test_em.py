"""The EM loop for those who read the rows themselves."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import polars as pl
import pytest

import polars_gmm as pg
from datasets import by_quantile, faithful
from support import says

DF = faithful().with_columns(by_quantile(faithful()["waiting"], 3))
XY = pl.struct("eruptions", "waiting")
PARTS = [DF.head(100), DF.slice(100, 1), DF.slice(101)]


def start(**options: Any) -> pg.GaussianMixture:
    return DF.gmm.fit("eruptions", "waiting", k=3, init=pl.col("start"), max_iter=0, **options)


def merged(model: pg.GaussianMixture) -> pl.DataFrame:
    answers = pl.concat(part.select(s=XY.gmm.statistics(model)) for part in PARTS)
    return answers.select(pl.col("s").gmm.merge())


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("acceleration", ["quasi-newton", None])
def test_the_loop_is_that_of_a_fit(structure: Any, acceleration: Any) -> None:
    begun = start(covariance_type=structure)
    options: dict[str, Any] = {"acceleration": acceleration, "tol": 1e-7, "covariance_floor": 1e-5}
    em = pg.EM(begun, **options)
    while not em.done:
        assert em.tell(merged(em.ask())) == em.done
    expected = DF.gmm.fit(
        "eruptions", "waiting", k=3, init=begun, covariance_type=structure, **options
    )
    assert em.model is not None
    assert em.model.n_iter == expected.n_iter
    assert em.model.converged
    assert em.model.means == pytest.approx(expected.means, rel=1e-9)
    assert em.model.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-12)
    assert expected.history is not None
    assert em.history["iteration"].to_list() == expected.history["iteration"].to_list()
    assert em.history["change"].to_list()[0] is None


@pytest.mark.parametrize("after", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("before", ["full", "spherical"])
def test_the_loop_takes_one_feature(before: Any, after: Any) -> None:
    begun = DF.gmm.fit("waiting", k=3, init=pl.col("start"), max_iter=0, covariance_type=before)
    options: dict[str, Any] = {"covariance_type": after, "max_iter": 20, "tol": 0}
    em = pg.EM(begun, **options)
    while not em.done:
        em.tell(DF.select(pl.col("waiting").gmm.statistics(em.ask())))
    expected = DF.gmm.fit("waiting", k=3, init=begun, **options)
    assert em.model is not None
    assert (em.model.n_iter, em.model.covariance_type) == (expected.n_iter, after)
    assert em.model.covariances == pytest.approx(expected.covariances, rel=1e-8)


def test_the_structure_may_change_and_priors_count() -> None:
    prior = pg.NormalInverseWishart(shrinkage=0.1)
    em = pg.EM(start(), covariance_type="tied", prior=prior, max_iter=3, tol=0)
    while not em.done:
        em.tell(merged(em.ask()))
    expected = DF.gmm.fit(
        "eruptions",
        "waiting",
        k=3,
        init=start(),
        covariance_type="tied",
        prior=prior,
        max_iter=3,
        tol=0,
    )
    assert em.model is not None
    assert em.model.covariances == pytest.approx(expected.covariances, rel=1e-9)
    assert em.model.covariance_type == "tied"


def test_statistics_come_in_any_form() -> None:
    asked = [pg.EM(start(), tol=0) for _ in range(3)]
    statistics = merged(start())
    for em, form in zip(
        asked, (statistics, statistics.to_series(), statistics.to_series()[0]), strict=True
    ):
        assert em.model is None
        assert not em.tell(form)
    assert len({em.ask() for em in asked}) == 1


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_the_state_travels(steps: int) -> None:
    em = pg.EM(start())
    for _ in range(steps):
        em.tell(merged(em.ask()))
    others = [
        pg.EM.from_json(em.to_json()),
        pickle.loads(pickle.dumps(em)),
        copy.deepcopy(em),
        copy.copy(em),
    ]
    while not em.done:
        em.tell(merged(em.ask()))
    for other in others:
        while not other.done:
            other.tell(merged(other.ask()))
        assert other.model == em.model
        assert other.history.equals(em.history)
    assert repr(em) == f"EM(k=3, d=2, iteration={em.model.n_iter if em.model else 0}, done=True)"


def test_bad_statistics_leave_the_loop_where_it_was() -> None:
    em = pg.EM(start())
    em.tell(merged(em.ask()))
    before, good = em.to_json(), merged(em.ask())
    two = DF.gmm.fit("eruptions", "waiting", k=2)
    struct = good.to_series()[0]
    bad: list[tuple[Any, str]] = [
        (merged(two), "those of the model asked for, k=3, .* but they have k=2"),
        (DF.select(pl.col("waiting").gmm.statistics(DF.gmm.fit("waiting", k=3))), "k=3, d=2.* d=1"),
        (DF.select(XY.gmm.statistics(start(covariance_type="diag"))), "diagonal scatter"),
        (pl.concat([good, good]), "the series has 2 rows; merge them"),
        (good.head(0), "0 rows"),
        (pl.select(pl.lit(None, dtype=good.dtypes[0])), "must not be null"),
        (pl.Series([None]), "must not be null"),
        (
            pl.concat([merged(em.ask())] * 2).select(pl.col("s").gmm.merge()),
            "of 272 rows, and .* 544",
        ),
        (DF.head(100).select(XY.gmm.statistics(em.ask())), "all rows each time"),
        (DF.select("waiting"), "struct"),
        (DF, "statistics must be one struct"),
        (3, "statistics must be one struct"),
        ({**struct, "log_likelihood": None}, "log_likelihood that is null"),
        ({**struct, "weight": [0.0] * 3, "total_weight": 0.0}, "total weight"),
    ]
    for statistics, words in bad:
        with says(pg.GmmError, words):
            em.tell(statistics)
        assert em.to_json() == before
    assert not em.tell(good)


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
def test_statistics_are_told_once_and_under_the_model_asked_for(structure: Any) -> None:
    em = pg.EM(start(covariance_type=structure), acceleration=None, tol=1e-4)
    told: list[pl.DataFrame] = []
    while not em.done:
        now = merged(em.ask())
        state = em.to_json()
        for before in told:
            with says(pg.GmmError, "not made under the model asked for", "tell each .* once"):
                em.tell(before)
        assert em.to_json() == state
        em.tell(now)
        told.append(now)
    assert len(told) > 3


@pytest.mark.parametrize(
    ("before", "after"), [("full", "diag"), ("tied", "spherical"), ("diag", "full")]
)
def test_the_start_may_have_another_structure(before: Any, after: Any) -> None:
    begun = start(covariance_type=before)
    em = pg.EM(begun, covariance_type=after)
    while not em.done:
        em.tell(merged(em.ask()))
    expected = DF.gmm.fit("eruptions", "waiting", k=3, init=begun, covariance_type=after)
    assert em.model is not None
    assert em.model.covariance_type == after
    assert em.model.n_iter == expected.n_iter
    assert em.model.covariances == pytest.approx(expected.covariances, rel=1e-9)


def test_statistics_added_up_elsewhere_are_taken() -> None:
    """The loop knows them by what they are, whoever added them up, and however they came."""
    em, expected = pg.EM(start(), tol=0, max_iter=40), pg.EM(start(), tol=0, max_iter=40)
    while not em.done:
        one, *others = [part.select(s=XY.gmm.statistics(em.ask()))["s"][0] for part in PARTS]
        for other in others:
            one = added(one, other)
        em.tell(json.loads(json.dumps(one)))
        expected.tell(merged(expected.ask()))
    assert em.model is not None
    assert expected.model is not None
    assert em.model.means == pytest.approx(expected.model.means, rel=1e-9)


def added(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Two statistics as one, by the textbook."""
    (wa, ma, sa), (wb, mb, sb) = (
        (np.array(s["weight"]), np.array(s["mean"]), np.array(s["scatter"])) for s in (a, b)
    )
    w = wa + wb
    delta = mb - ma
    between = delta[:, :, None] * delta[:, None, :] * (wa * wb / w)[:, None, None]
    return {
        **a,
        "weight": w.tolist(),
        "mean": (ma + delta * (wb / w)[:, None]).tolist(),
        "scatter": (sa + sb + between).tolist(),
        **{f: a[f] + b[f] for f in ("log_likelihood", "entropy", "n_rows", "total_weight")},
    }


def test_what_is_no_start_or_state_is_refused() -> None:
    with says(pg.GmmError, "start must be a GaussianMixture; got 3"):
        pg.EM(3)  # type: ignore[arg-type]
    with says(pg.GmmError, "max_iter must be at least 0"):
        pg.EM(start(), max_iter=-1)
    with says(pg.GmmError, "covariance_type"):
        pg.EM(start(), covariance_type="no such")  # type: ignore[arg-type]
    with says(pg.GmmError, "mean"):
        pg.EM(start(), prior=pg.NormalInverseWishart(mean=[1.0]))
    state = json.loads(pg.EM(start()).to_json())
    damaged = [
        "{}",
        "[",
        start().to_json(),
        json.dumps({**state, "version": 7}),
        json.dumps({**state, "em": {**state["em"], "iteration": 3}}),
        json.dumps({**state, "em": None}),
    ]
    for text in damaged:
        with says(pg.GmmError, "not the state of an EM loop"):
            pg.EM.from_json(text)
    with says(pg.GmmError, "must be a string"):
        pg.EM.from_json(b"{}")  # type: ignore[arg-type]


def test_a_model_that_was_fitted_starts_as_one_that_was_not() -> None:
    em = pg.EM(DF.gmm.fit("eruptions", "waiting", k=3))
    assert em.ask().log_likelihood is None
    assert em.model is None
    assert em.history.height == 0
