"""`ConvergenceWarning`: when a fit warns, where, and what it says."""

from __future__ import annotations

import json
import warnings
from typing import Any

import polars as pl
import pytest

import polars_gmm as pg
from datasets import by_quantile, faithful

CUT: dict[str, Any] = {"k": 3, "init": pl.col("start")}


def cut() -> pl.DataFrame:
    return faithful().with_columns(by_quantile(faithful()["waiting"], 3))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("typed", [False, True])
def test_a_fit_that_ends_at_max_iter_warns_where_it_is_called(lazy: bool, typed: bool) -> None:
    source: Any = cut().lazy() if lazy else cut()
    namespace = pg.gmm(source) if typed else source.gmm
    with pytest.warns(pg.ConvergenceWarning) as caught:
        model = namespace.fit(**CUT, max_iter=3)
    (warning,) = caught
    assert warning.filename == __file__
    assert model.history is not None
    said = str(warning.message)
    for figure in ("max_iter=3", f"{model.history['change'][-1]:.2g}", "tol=1e-06", "raise max_"):
        assert figure in said
    assert not model.converged


def test_it_is_a_user_warning_that_may_be_silenced() -> None:
    assert issubclass(pg.ConvergenceWarning, UserWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", pg.ConvergenceWarning)
        assert not cut().gmm.fit(**CUT, max_iter=3).converged


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_iter": 3, "tol": 0},
        {"max_iter": 0},
        {"on_iteration": lambda _: False},
        {"on_iteration": lambda report: report.iteration < 3, "max_iter": 500},
    ],
    ids=["converged", "tol 0", "max_iter 0", "stopped", "stopped later"],
)
def test_no_warning(options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut().gmm.fit(**CUT, **options)


@pytest.mark.parametrize("max_iter", [1, 2])
def test_too_few_iterations_to_tell_are_said_to_be(max_iter: int) -> None:
    with pytest.warns(pg.ConvergenceWarning, match=f"max_iter={max_iter}, too early to tell"):
        assert not cut().gmm.fit(**CUT, max_iter=max_iter).converged


def test_one_iteration_from_the_end_of_another_fit_cannot_tell() -> None:
    start = faithful().gmm.fit(k=2)
    with pytest.warns(pg.ConvergenceWarning, match="too early to tell.*tol=0"):
        assert not faithful().gmm.fit(k=2, init=start, max_iter=1).converged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert faithful().gmm.fit(k=2, init=start, max_iter=3).converged
        faithful().gmm.fit(k=2, init=start, max_iter=1, tol=0)


def test_watching_does_not_silence_it() -> None:
    with pytest.warns(pg.ConvergenceWarning, match="max_iter=3"):
        cut().gmm.fit(**CUT, max_iter=3, on_iteration=lambda _: None)


def test_seconds_belong_to_the_iterations_reported() -> None:
    reports: list[pg.FitReport] = []
    model = faithful().gmm.fit(k=5, tol=1e-9, on_iteration=reports.append)
    assert model.history is not None
    assert model.history["iteration"].to_list() == [0, *(r.iteration for r in reports)]
    assert len(reports) == model.history.height - 1
    assert (model.history["seconds"] > 0).all()
    assert [r.change for r in reports] == model.history["change"].to_list()[1:]


@pytest.mark.parametrize(
    "broken",
    [
        {"iteration": [0, None]},
        {"iteration": [1, 0]},
        {"iteration": [0, 0]},
        {"iteration": [0, -1]},
        {"iteration": [0, 1.5]},
        {"iteration": 0},
        {"log_likelihood": [None, -1.0]},
        {"log_likelihood": [float("nan"), -1.0]},
        {"change": [None, float("inf")]},
        {"seconds": ["0", 1.0]},
        {"seconds": [0.1]},
        {"more": [1, 2]},
    ],
    ids=str,
)
def test_a_history_no_fit_writes_is_refused(broken: dict[str, Any]) -> None:
    content = json.loads(faithful().gmm.fit(k=1).to_json())
    sound = {
        "iteration": [0, 2],
        "log_likelihood": [-5.0, -4.0],
        "change": [None, 0.1],
        "seconds": [0.5, 0.25],
    }
    good = pg.GaussianMixture.from_json(json.dumps({**content, "history": sound})).history
    assert good is not None
    assert good.to_dict(as_series=False) == sound
    with pytest.raises(pg.GmmError, match="history"):
        pg.GaussianMixture.from_json(json.dumps({**content, "history": {**sound, **broken}}))
