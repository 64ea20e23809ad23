"""A user's program with a mistake on every line that says so; mypy and pyright must find each."""

from __future__ import annotations

import polars as pl

import polars_gmm as pg

df = pg.make_blobs(100, centers=2)
model = pg.gmm(df).fit("x0", "x1", k=2)
rows = pg.gmm(pl.struct("x0", "x1"))

rows.responsibilites(model)  # wrong: a misspelt method of an expression
rows.fit_predit(2)  # wrong: another
rows.predict(model, log=True)  # wrong: an option of another method
rows.responsibilities(model, True)  # wrong: an option by position
rows.log_density(model.weights)  # wrong: no model
rows.fit("2")  # wrong: k as text
rows.fit()  # wrong: no k
rows.fit(2, covariance="diag")  # wrong: a misspelt option
rows.fit(2, covariance_type="diagonal")  # wrong: a covariance type that does not exist
rows.fit(2, init="kmeans")  # wrong: a start that does not exist
rows.fit(2, on_failure="ignore")  # wrong: a value that does not exist
rows.fit(2, 3)  # wrong: an option by position
rows.m_step(weights="w")  # wrong: no responsibilities
rows.em_step(model, covariance_floor="no")  # wrong: text for a number
rows.merge("s")  # wrong: an argument too many
rows.maximise()  # wrong: British spelling

pg.gmm(df).fti("x0", k=2)  # wrong: a misspelt method of a frame
pg.gmm(df).fit("x0")  # wrong: no k
pg.gmm(df).fit("x0", k=2, max_iters=3)  # wrong: a misspelt option
pg.gmm(df).fit(1, k=2)  # wrong: a feature by number
pg.gmm(df).fit("x0", k=2, nulls="skip")  # wrong: a value that does not exist
pg.gmm(df).fit("x0", k=2, on_iteration=lambda: None)  # wrong: a callback without a report
pg.gmm(df).search("x0", k="1:9")  # wrong: k as text
pg.gmm(df).search("x0", covariance_type=["ful"])  # wrong: a covariance type that does not exist
pg.gmm(df).search("x0", criterion="BIC")  # wrong: a criterion that does not exist
pg.gmm(df).search("x0", init=model)  # wrong: a given start
pg.gmm(df).m_step("x0", "r")  # wrong: responsibilities by position
pg.gmm(df).em_step("model")  # wrong: the name of a column of models
pg.gmm(df.lazy()).em_step(model)  # wrong: a call on a frame that is not there yet
pg.gmm(df.lazy()).predict(model)  # wrong: a method of expressions
pg.gmm(df["x0"])  # wrong: a series
pg.gmn(df)  # wrong: a misspelt function

print(model.mean)  # wrong: a misspelt attribute
model.predict(df)  # wrong: scoring a frame, as in scikit-learn
model.bic + 1.0  # wrong: None unless fitted
model.sample(3, random_state=1)  # wrong: an option of scikit-learn
model.score("x0")  # wrong: a name for a frame
model.k = 3  # wrong: models are immutable
pg.GaussianMixture([1.0], [[0.0]], [[[1.0]]])  # wrong: no features
pg.GaussianMixture.read_jsn("model.json")  # wrong: a misspelt constructor
