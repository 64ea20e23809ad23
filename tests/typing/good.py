"""A user's program that mypy and pyright must accept, and that runs: a tour of the whole API."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray
from typing_extensions import assert_type

import polars_gmm as pg


def frames() -> pg.GaussianMixture:
    df = pg.make_blobs(300, centers=[[0.0, 0.0], [9.0, 9.0]], features=["x", "y"], std=0.5, seed=1)
    assert_type(df, pl.DataFrame)
    df = df.with_columns(w=pl.lit(1.0))

    reports: list[pg.FitReport] = []
    model = pg.gmm(df).fit(
        "x",
        pl.col("y"),
        k=2,
        covariance_type="full",
        weights="w",
        init="k-means++",
        n_init=2,
        max_iter=100,
        tol=1e-6,
        covariance_floor=1e-6,
        nulls="drop",
        seed=7,
        progress=False,
        on_iteration=reports.append,
    )
    assert_type(model, pg.GaussianMixture)
    assert_type(reports[0].model, pg.GaussianMixture)
    assert_type(reports[0].iteration, int)
    assert_type(reports[0].log_likelihood + reports[0].change, float)
    assert_type(reports[0].seconds + reports[0].rows_per_second, float)
    assert_type(reports[0].iterations_left, int | None)
    assert_type(reports[0].seconds_left, float | None)

    lazy = pg.gmm(df.lazy()).fit(["x", "y"], k=2, init=model, weights=pl.col("w") * 2)
    assert_type(lazy, pg.GaussianMixture)
    pg.gmm(df).fit(cs.by_name("x", "y"), k=2, init=pl.col("label"), covariance_type="tied")
    prior = pg.NormalInverseWishart(
        shrinkage=0.01, dof=4.0, mean=[0.0, 0.0], scale=[[1.0, 0.0], [0.0, 1.0]]
    )
    assert (prior.shrinkage, prior.dof, prior.mean, prior.scale)[0] == 0.01
    pg.gmm(df).fit("x", "y", k=2, prior=prior, acceleration=None)
    pg.gmm(df).fit("x", k=2, on_iteration=lambda report: report.iteration < 3)

    step = pg.gmm(df).m_step(
        "x",
        pl.col("y"),
        responsibilities=model.responsibilities(),
        weights="w",
        covariance_type="tied",
        covariance_floor=1e-6,
    )
    assert_type(step, pg.GaussianMixture)
    assert_type(pg.gmm(df).em_step(step, weights=pl.col("w")), pg.GaussianMixture)

    table = pg.gmm(df).search(
        "x",
        pl.col("y"),
        k=range(1, 4),
        covariance_type=["full", "tied"],
        criterion="icl",
        weights="w",
        init="k-means",
        progress=False,
    )
    assert_type(table, pl.DataFrame)
    assert_type(pg.gmm(df.lazy()).search("x", k=2, covariance_type="diag"), pl.DataFrame)
    pg.gmm(df.lazy()).search("x", k=2, engine="streaming")
    return model


def streams(model: pg.GaussianMixture) -> None:
    df = model.sample(200, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.json"
        streamed = pg.gmm(df.lazy()).fit(
            "x", "y", k=2, engine="streaming", checkpoint=path, resume=True
        )
    assert_type(streamed.n_passes, int | None)
    em = pg.EM(streamed, covariance_type="full", max_iter=10, acceleration=None, prior=None)
    rows = pg.gmm(pl.struct("x", "y"))
    while not em.done:
        assert_type(em.tell(df.select(rows.statistics(em.ask()))), bool)
    assert_type(em.model, pg.GaussianMixture | None)
    assert_type(em.history, pl.DataFrame)
    assert_type(pg.EM.from_json(em.to_json()), pg.EM)


def expressions(model: pg.GaussianMixture) -> None:
    df = model.sample(200, seed=3)
    rows = pg.gmm(pl.struct("x", "y"))
    scored = df.select(
        "x",
        "y",
        r=rows.responsibilities(model),
        logs=rows.responsibilities(model, log=True),
        component=rows.predict(model),
        density=rows.log_density(model),
        labels=rows.fit_predict(2, covariance_type="diag", seed=1),
    )
    assert_type(rows.predict(model), pl.Expr)

    steps = scored.select(
        s=rows.statistics(model, weights=None),
        m=rows.m_step("r", covariance_type="spherical", covariance_floor=0.0),
        e=rows.em_step(model, covariance_floor=1e-6),
        f=rows.fit(2, init="random", n_init=1, max_iter=5, tol=0, on_failure="null"),
    )
    statistics = pg.gmm(pl.col("s"))
    packed = steps.select(
        both=pg.gmm(statistics.merge()).maximize(covariance_type="tied"),
        packed=pg.gmm(pl.col("m")).pack(),
    )
    column = pg.gmm(pl.col("packed"))
    figures = packed.select(column.unpack(), b=column.bic(), a=column.aic(), i=column.icl())
    assert_type(figures.lazy().with_columns(column.components()), pl.LazyFrame)
    pg.gmm(df).fit("x", "y", k=[1, 2], criterion="icl")
    df.select(rows.fit(range(1, 3), criterion="aic"), z=rows.fit_predict(k=[1, 2]))
    again = df.lazy().join(packed.lazy(), how="cross").select(rows.log_density("packed"))
    assert_type(again.collect(), pl.DataFrame)


def values(model: pg.GaussianMixture) -> None:
    assert_type(model.weights, NDArray[np.float64])
    assert_type(model.means, NDArray[np.float64])
    assert_type(model.covariances, NDArray[np.float64])
    assert_type(model.features, list[str])
    assert_type(model.covariance_type, str)
    assert_type(model.k + model.d + model.n_parameters, int)
    assert_type(model.log_likelihood, float | None)
    assert_type(model.entropy, float | None)
    assert_type(model.total_weight, float | None)
    assert_type(model.n_rows, int | None)
    assert_type(model.n_iter, int | None)
    assert_type(model.converged, bool | None)
    assert_type(model.history, pl.DataFrame | None)
    assert_type(model.diagnostics, pl.DataFrame)
    assert_type((model.aic, model.bic, model.icl), tuple[float | None, float | None, float | None])

    df = model.sample(10)
    assert_type(model.responsibilities(log=True), pl.Expr)
    assert_type(df.lazy().select(model.predict(), model.log_density()), pl.LazyFrame)
    assert_type(model.score(df) + model.score(df.lazy()), float)
    assert_type(model.to_frame(), pl.DataFrame)


def travels(model: pg.GaussianMixture) -> None:
    series = model.to_struct()
    assert_type(series, pl.Series)
    value: dict[str, object] = series[0]
    assert_type(model.pack(), bytes)
    assert_type(model.to_json(), str)
    with tempfile.TemporaryDirectory() as folder:
        model.write_json(Path(folder) / "model.json")
        model.write_json(f"{folder}/model.json")
        copies = [
            pg.GaussianMixture.read_json(Path(folder) / "model.json"),
            pg.GaussianMixture.from_json(model.to_json()),
            pg.GaussianMixture.from_struct(series),
            pg.GaussianMixture.from_struct(value),
            pg.GaussianMixture.unpack(model.pack()),
            pg.GaussianMixture.from_sklearn(model.to_sklearn(), features=["x", "y"]),
        ]
    assert_type(copies, list[pg.GaussianMixture])
    copies.append(pickle.loads(pickle.dumps(model)))
    assert all(np.array_equal(copy.means, model.means) for copy in copies)
    assert {copies[0], model} == {model}


def errors() -> None:
    try:
        pg.GaussianMixture([0.5, 0.6], [[0.0], [1.0]], np.ones((2, 1, 1)), features=["x"])
    except pg.GmmError as error:
        assert_type(error, pg.GmmError)
        sentences: list[ValueError] = [error]
        print(*sentences)
    else:
        raise AssertionError("weights of sum 1.1 are no mixture")
    assert_type(pg.FitInterrupted().model, pg.GaussianMixture | None)
    warning: type[UserWarning] = pg.ConvergenceWarning
    print(warning)
    assert_type(pg.__version__, str)


if __name__ == "__main__":
    fitted = frames()
    streams(fitted)
    expressions(fitted)
    values(fitted)
    travels(fitted)
    errors()
