"""Shapes of data: however the rows lie, every expression gives what plain rows give."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.linalg import solve_triangular
from scipy.special import logsumexp, softmax

import oracle
import polars_gmm as pg
from datasets import array_column, frame
from oracle import STRUCTURES, assert_same_parameters, distance
from polars_gmm import GmmError
from registry import (
    EXPRESSIONS,
    MODEL,
    ON_ROWS,
    SCORING,
    STATISTICS,
    TAKING_A_MODEL,
    Expression,
    parameters,
    rows_frame,
    the_model,
)
from support import ComputeError, as_model, bits, in_chunks, nulled, parameters_of, says, the_value

ENGINES: tuple[Any, ...] = ("in-memory", "streaming")
engines = pytest.mark.parametrize("engine", ENGINES)
xy = pl.struct("x", "y")
HOLES = [3, 17, 60]

LEAVING_OUT = [it for it in ON_ROWS if it.on_null != "error"]
REFUSING = [it for it in ON_ROWS if it.on_null == "error"]


def each(expressions: Sequence[Expression]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("it", expressions, ids=str)


def everywhere(df: pl.DataFrame, *exprs: pl.Expr) -> pl.DataFrame:
    """What eager frames give, once lazy ones have given the same in both engines."""
    out = df.select(*exprs)
    for engine in ENGINES:
        lazy = df.lazy().select(*exprs).collect(engine=engine)
        assert lazy.schema == out.schema
        assert bits(lazy) == bits(out)
    return out


def refused(df: pl.DataFrame, expr: pl.Expr, *patterns: str) -> None:
    """The sentence comes from eager frames and from both engines."""
    with says(ComputeError, *patterns):
        df.select(expr)
    for engine in ENGINES:
        with says(ComputeError, *patterns):
            df.lazy().select(expr).collect(engine=engine)


def without_names(column: pl.Series) -> str:
    """Values without the names of features, which differ between structs and arrays."""
    if isinstance(column.dtype, pl.Struct):
        return bits(column.struct.unnest().drop("features"))
    return bits(column)


# Chunks


def many(it: Expression) -> pl.DataFrame:
    """At least a thousand rows, or values, of what an expression reads."""
    if it.reads == "rows":
        return rows_frame(1_200)
    return pl.concat([it.frame()] * 100, rechunk=True)


@each(EXPRESSIONS)
def test_a_thousand_chunks_are_one(it: Expression) -> None:
    df = many(it)
    cut = pl.DataFrame([in_chunks(column, range(1, 1_000)) for column in df])
    assert cut.n_chunks("all") == [1_000] * cut.width
    assert bits(everywhere(cut, it.expr())) == bits(df.select(it.expr()))


@each([it for it in ON_ROWS if it.variant in ("", "weighted")])
@pytest.mark.parametrize("pack", [pl.concat_arr, pl.concat_list])
def test_a_thousand_chunks_of_vectors_are_one(it: Expression, pack: Any) -> None:
    df = rows_frame(1_200).with_columns(v=pack("x", "y"))
    cut = pl.DataFrame([in_chunks(column, range(1, 1_000)) for column in df])
    rows = pl.col("v")
    assert bits(everywhere(cut, it.expr(rows=rows))) == bits(df.select(it.expr(rows=rows)))


def test_a_fit_of_a_frame_in_a_thousand_chunks() -> None:
    df = rows_frame(1_200).select("x", "y", "w")
    cut = pl.DataFrame([in_chunks(column, range(1, 1_000)) for column in df])
    expected = df.gmm.fit(k=3, weights="w", max_iter=5, tol=0)
    assert cut.gmm.fit(k=3, weights="w", max_iter=5, tol=0) == expected
    assert cut.lazy().gmm.fit(k=3, weights="w", max_iter=5, tol=0) == expected


# No columns, no rows, one row


def test_a_frame_without_columns() -> None:
    for source in (pl.DataFrame(), pl.LazyFrame()):
        with says(GmmError, "feature|numeric column"):
            source.gmm.fit(k=1)
    with says(GmmError, "feature", "column"):
        rows_frame().gmm.fit([], k=1)


@each(ON_ROWS)
@pytest.mark.parametrize(
    "empty",
    [
        pl.Series("v", [[]] * 4, dtype=pl.Array(pl.Float64, 0)),
        pl.Series("v", [[]] * 4, dtype=pl.List(pl.Float64)),
        pl.Series("v", [{}] * 4, dtype=pl.Struct({})),
    ],
    ids=["array", "list", "struct"],
)
def test_rows_of_no_numbers(it: Expression, empty: pl.Series) -> None:
    df = rows_frame().head(4).with_columns(empty)
    refused(df, it.expr(rows=pl.col("v")), r'"v" has no features|feature "x"|width 2')


@each(ON_ROWS)
@engines
def test_a_filter_that_leaves_nothing(it: Expression, engine: Any) -> None:
    lf = rows_frame().lazy().filter(pl.col("x") > 1e9)
    for rows in (xy, pl.concat_arr("x", "y"), pl.concat_list("x", "y")):
        out = lf.select(it.expr(rows=rows)).collect(engine=engine)
        assert out.schema == {"out": it.dtype}
        assert bits(out) == bits(rows_frame().clear().select(it.expr()))
    grouped = lf.group_by("g").agg(it.expr()).collect(engine=engine)
    assert grouped.height == 0


@each(SCORING)
@engines
def test_scores_of_a_filter_that_leaves_nothing_by_a_column_of_models(
    it: Expression, engine: Any
) -> None:
    lf = rows_frame().lazy().with_columns(m=pl.lit(the_model().pack()))
    out = lf.filter(pl.col("x") > 1e9).select(it.expr("m")).collect(engine=engine)
    assert out.schema == {"out": it.expected_dtype(model_is_column=True)}
    assert out.height == 0


@pytest.mark.parametrize("structure", STRUCTURES)
def test_one_row_is_a_mixture_of_one(structure: str) -> None:
    df = pl.DataFrame({"x": [3.0], "y": [-2.0]})
    for source in (df, df.lazy()):
        model = source.gmm.fit(k=1, covariance_type=structure)
        assert model.means.tolist() == [[3.0, -2.0]]
        assert model.n_rows == 1
        assert np.isfinite(model.log_likelihood)
    assert the_value(everywhere(df, xy.gmm.fit(1, covariance_type=structure)))["means"] == [
        [3.0, -2.0]
    ]


# Slices


@cache
def with_holes() -> pl.DataFrame:
    """The usual rows, three of them null in their features, the responsibilities and the labels."""
    df = rows_frame()
    there = ~pl.int_range(pl.len()).is_in(HOLES)
    return df.with_columns(pl.when(there).then(pl.col("x", "y", "r", "z")))


FORMS: dict[str, pl.Expr] = {
    "array": pl.concat_arr("x", "y"),
    "list": pl.concat_list("x", "y"),
}


def vectors(form: str, df: pl.DataFrame) -> pl.DataFrame:
    """Column v of vectors, null where x is, and r in the same form."""
    v = pl.when(pl.col("x").is_not_null()).then(FORMS[form])
    r = pl.col("r") if form == "array" else pl.col("r").arr.to_list()
    return df.with_columns(v=v, r=r)


def kept(it: Expression) -> pl.DataFrame:
    """Rows an expression takes: with nulls, if it takes nulls."""
    return rows_frame() if it.method in ("fit", "fit_predict") else with_holes()


@each(ON_ROWS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("offset", [0, 1, 7, 64, 130])
def test_sliced_vectors_start_where_they_start(it: Expression, form: str, offset: int) -> None:
    part = kept(it).slice(offset, 97)
    sliced = vectors(form, kept(it)).slice(offset, 97)
    out = everywhere(sliced, it.expr(rows=pl.col("v")))["out"]
    assert without_names(out) == without_names(part.select(it.expr())["out"])


@each(ON_ROWS)
def test_what_lies_outside_a_slice_has_no_say(it: Expression) -> None:
    df = vectors("list", kept(it))
    ragged = df.head(5).with_columns(
        v=pl.Series([[], [np.nan], None, [1.0, 2.0, 3.0], [None, 1.0]], dtype=df["v"].dtype),
        r=pl.Series([[], [-1.0], None, [np.inf] * 4, [None]], dtype=df["r"].dtype),
    )
    around = pl.concat([ragged, df, ragged], rechunk=True)
    out = everywhere(around.slice(5, df.height), it.expr(rows=pl.col("v")))["out"]
    assert without_names(out) == without_names(df.select(it.expr(rows=pl.col("v")))["out"])


@each(LEAVING_OUT)
def test_null_lists_may_have_numbers_beneath(it: Expression) -> None:
    df = rows_frame().with_columns(v=pl.concat_list("x", "y"))
    there = ~pl.int_range(pl.len()).is_in(HOLES)
    # The null of the struct is pushed onto its field, whose offsets stay what they were.
    hidden = df.with_columns(v=pl.when(there).then(pl.struct("v")).struct.field("v"))
    out = everywhere(hidden, it.expr(rows=pl.col("v")))["out"]
    expected = with_holes().select(it.expr(rows=FORMS["list"]))["out"]
    assert without_names(out) == without_names(expected)


@pytest.mark.parametrize("source", ["eager", "lazy"])
def test_a_fit_of_a_frame_of_sliced_vectors(source: str) -> None:
    for form in FORMS:
        sliced = vectors(form, with_holes()).slice(10, 200)
        given = sliced.lazy() if source == "lazy" else sliced
        model = given.gmm.fit("v", k=3, nulls="drop", weights="w", max_iter=5, tol=0)
        plain = with_holes().slice(10, 200)
        expected = plain.gmm.fit("x", "y", k=3, nulls="drop", weights="w", max_iter=5, tol=0)
        assert model.features == ["v[0]", "v[1]"]
        assert_same_parameters(parameters_of(model), parameters_of(expected), 0.0)


# Ragged lists


@each(ON_ROWS)
@pytest.mark.parametrize("width", [0, 1, 3])
def test_ragged_lists(it: Expression, width: int) -> None:
    df = rows_frame().with_columns(
        v=pl.when(pl.int_range(pl.len()).is_in([17, 41]))
        .then(pl.lit([0.5] * width, dtype=pl.List(pl.Float64)))
        .otherwise(pl.concat_list("x", "y"))
    )
    rows = it.expr(rows=pl.col("v"))
    refused(df, rows, '"v"', rf"width {width}\b", "in row 17", r"\b2\b")


@pytest.mark.parametrize("method", ["m_step", "fit"])
def test_ragged_responsibilities(method: str) -> None:
    df = rows_frame().with_columns(
        r=pl.when(pl.int_range(pl.len()) == 17)
        .then(pl.lit([0.5, 0.5]))
        .otherwise(pl.col("r").arr.to_list())
    )
    expr = xy.gmm.m_step("r") if method == "m_step" else xy.gmm.fit(3, init=pl.col("r"))
    refused(df, expr, "responsibilities", "width 2", "in row 17", r"\b3\b")


# Null structs, null fields


def null_forms() -> dict[str, pl.DataFrame]:
    """Struct columns s whose rows are null outside, in one field, in the other, in all."""
    df = rows_frame()
    there = ~pl.int_range(pl.len()).is_in(HOLES)
    return {
        "struct": df.with_columns(s=pl.when(there).then(xy)),
        "x": df.with_columns(s=pl.struct(pl.when(there).then("x"), "y")),
        "y": df.with_columns(s=pl.struct("x", pl.when(there).then("y"))),
        "both": df.with_columns(s=pl.struct(pl.when(there).then(pl.col("x", "y")))),
    }


@each(LEAVING_OUT)
@pytest.mark.parametrize("form", ["struct", "x", "y", "both"])
def test_null_structs_and_null_fields_are_the_same(it: Expression, form: str) -> None:
    out = everywhere(null_forms()[form], it.expr(rows=pl.col("s")))
    assert bits(out) == bits(with_holes().select(it.expr()))


@each(REFUSING)
@pytest.mark.parametrize("form", ["struct", "x", "y", "both"])
def test_null_structs_and_null_fields_are_refused_alike(it: Expression, form: str) -> None:
    df = null_forms()[form].with_columns(w=pl.lit(1.0))
    role = "responsibilities" if it.method == "m_step" else f'"{"y" if form == "y" else "x"}"'
    refused(df, it.expr(rows=pl.col("s")), role, r"\b3\b", r"row 3\b")


@pytest.mark.parametrize("form", ["struct", "x", "y", "both"])
def test_dropped_nulls_of_either_form(form: str) -> None:
    df = null_forms()[form]
    for weights in (None, "w"):
        fit = pl.col("s").gmm.fit(3, nulls="drop", weights=weights, max_iter=4, tol=0)
        expected = xy.gmm.fit(3, nulls="drop", weights=weights, max_iter=4, tol=0)
        assert bits(everywhere(df, fit.alias("out"))) == bits(
            with_holes().select(expected.alias("out"))
        )
        labels = everywhere(df, pl.col("s").gmm.fit_predict(3, nulls="drop", weights=weights))
        assert labels.to_series().is_null().arg_true().to_list() == HOLES


# Names


def test_a_feature_named_twice() -> None:
    df = rows_frame()
    for features in (["x", "x"], ["x", pl.col("y").alias("x")], [pl.col("x"), pl.all()]):
        with says(GmmError, r"\bx\b", "duplicate|twice|differ"):
            df.gmm.fit(features, k=2)
    with says((ComputeError, pl.exceptions.DuplicateError), r"\bx\b"):
        df.select(pl.struct("x", pl.col("y").alias("x")).gmm.fit(2))


@each(ON_ROWS)
def test_a_struct_with_two_fields_of_one_name(it: Expression) -> None:
    twice = xy.struct.rename_fields(["x", "x"])
    kinds = (ComputeError, pl.exceptions.DuplicateError)
    for engine in ENGINES:
        with says(kinds, r"\bx\b"):
            rows_frame().lazy().select(it.expr(rows=twice)).collect(engine=engine)


ROLES = ["w", "r", "z", "rows", "weight", "weights", "responsibility", "label", "start", "model"]


@pytest.mark.parametrize("name", ROLES)
def test_features_may_be_named_like_roles(name: str) -> None:
    df = rows_frame()
    plain = pl.struct("x", "y")
    named = pl.struct(pl.col("x").alias(name), "y")
    model = as_model(parameters(), [name, "y"])
    for make in (
        lambda rows, _: rows.gmm.fit(3, weights="w", max_iter=3, tol=0),
        lambda rows, _: rows.gmm.fit(3, weights="w", init=pl.col("z"), max_iter=3, tol=0),
        lambda rows, _: rows.gmm.m_step("r", weights="w"),
        lambda rows, model: rows.gmm.em_step(model, weights="w"),
        lambda rows, model: rows.gmm.statistics(model, weights="w"),
    ):
        out = everywhere(df, make(named, model).alias("out"))["out"]
        expected = df.select(make(plain, the_model()).alias("out"))["out"]
        assert the_value(out.to_frame())["features"] == [name, "y"]
        assert without_names(out) == without_names(expected)


def test_a_column_may_be_feature_and_weight_at_once() -> None:
    df = rows_frame()
    model = df.gmm.fit("w", "y", k=2, weights="w", max_iter=3, tol=0)
    renamed = df.with_columns(v="w").gmm.fit("v", "y", k=2, weights="w", max_iter=3, tol=0)
    assert model.features == ["w", "y"]
    assert_same_parameters(parameters_of(model), parameters_of(renamed), 0.0)
    alone = the_value(everywhere(df, pl.col("w").gmm.fit(2, weights="w", max_iter=3, tol=0)))
    again = the_value(df.select(pl.col("w").alias("v").gmm.fit(2, weights="w", max_iter=3, tol=0)))
    assert alone["means"] == again["means"]


# Wide and many


@cache
def wide(d: int, structure: str, n: int = 40) -> tuple[pl.DataFrame, oracle.Parameters]:
    """Rows of d features about two means, responsibilities r, and a model of the structure."""
    rng = np.random.default_rng(d)
    means = rng.normal(size=(2, d))
    spread = rng.uniform(0.5, 2.0, size=(2, d))
    if structure == "spherical":
        spread[:] = spread[:, :1]
    if structure == "tied":
        spread[1] = spread[0]
    covariances = np.einsum("kd,de->kde", spread, np.eye(d))
    if structure in ("full", "tied"):
        direction = rng.normal(size=d) / np.sqrt(d)
        covariances += np.outer(direction, direction)
    model = oracle.Parameters(np.array([0.4, 0.6]), means, covariances)
    rows = means[np.arange(n) % 2] + rng.normal(size=(n, d))
    return frame(rows).with_columns(array_column("r", rng.dirichlet(np.ones(2), size=n))), model


def log_joint(rows: oracle.Array, model: oracle.Parameters) -> oracle.Array:
    """log(pi_k) + log N(x; mu_k, Sigma_k) by one Cholesky factor a component: fast for large d."""
    columns = []
    for weight, mean, covariance in zip(*model, strict=True):
        factor = np.linalg.cholesky(covariance)
        z = solve_triangular(factor, (rows - mean).T, lower=True)
        log_det = 2 * np.log(np.diag(factor)).sum()
        size = len(mean) * np.log(2 * np.pi)
        columns.append(np.log(weight) - 0.5 * (size + log_det + (z**2).sum(axis=0)))
    return np.stack(columns, axis=1)


def rows_of(df: pl.DataFrame) -> tuple[pl.Expr, oracle.Array]:
    names = [name for name in df.columns if name.startswith("x")]
    return pl.struct(names), df.select(names).to_numpy()


WIDTHS = [1, 2, 3, 8, 9, 31, 32, 33, 100, 1_000]


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("d", WIDTHS)
def test_one_to_a_thousand_features(d: int, structure: str) -> None:
    df, parameters = wide(d, structure)
    model = as_model(parameters, structure=structure)
    features, rows = rows_of(df)
    out = everywhere(
        df,
        features.gmm.log_density(model).alias("l"),
        features.gmm.responsibilities(model).alias("r"),
        features.gmm.predict(model).alias("z"),
    )
    joint = log_joint(rows, parameters)
    log_density = logsumexp(joint, axis=1)
    assert distance(out["l"].to_numpy(), log_density) <= 1e-10
    # A responsibility is exp of a difference of log-densities, which grow with d.
    assert np.abs(out["r"].to_numpy() - np.exp(joint - log_density[:, None])).max() <= 1e-9
    assert out["z"].to_list() == joint.argmax(axis=1).tolist()
    step = the_value(
        df.select(features.gmm.m_step("r", covariance_type=structure, covariance_floor=0))
    )
    expected = oracle.m_step(rows, df["r"].to_numpy(), structure)
    assert_same_parameters(oracle.parameters(step), expected)


@pytest.mark.parametrize("d", WIDTHS)
def test_statistics_of_one_to_a_thousand_features(d: int) -> None:
    df, parameters = wide(d, "diag")
    features, rows = rows_of(df)
    summed = df.select(s=features.gmm.statistics(as_model(parameters, structure="diag")))
    row = the_value(summed)
    joint = log_joint(rows, parameters)
    gamma = softmax(joint, axis=1)
    means = gamma.T @ rows / gamma.sum(axis=0)[:, None]
    scatter = [g @ (rows - mean) ** 2 for g, mean in zip(gamma.T, means, strict=True)]
    assert distance(np.asarray(row["scatter"])[:, 0], scatter) <= 1e-9
    assert distance(row["mean"], means) <= 1e-9
    assert distance(row["log_likelihood"], logsumexp(joint, axis=1).sum()) <= 1e-10


@pytest.mark.parametrize("structure", ["full", "diag"])
@pytest.mark.parametrize("d", [33, 300])
def test_more_features_than_rows_fit_above_the_floor(d: int, structure: str) -> None:
    df, _ = wide(d, "diag", n=12)
    features, rows = rows_of(df)
    labels = pl.Series("z", np.arange(12) % 2)
    options: dict[str, Any] = {
        "covariance_type": structure,
        "init": pl.col("z"),
        "max_iter": 1,
        "tol": 0,
    }
    model = df.with_columns(labels).gmm.fit(features, k=2, **options)
    unit = np.sqrt(rows.var(axis=0))
    for covariance in model.covariances:
        smallest = np.linalg.eigvalsh(covariance / np.outer(unit, unit)).min()
        assert smallest >= 1e-6 * (1 - 1e-6)
    assert distance(model.means, [rows[0::2].mean(axis=0), rows[1::2].mean(axis=0)]) <= 1e-10
    assert np.isfinite(model.log_likelihood)


def test_a_thousand_features_fit() -> None:
    df, _ = wide(1_000, "diag", n=12)
    features, rows = rows_of(df)
    diagonal = df.gmm.fit(features, k=2, covariance_type="diag", max_iter=3, tol=0)
    whole = df.gmm.fit(features, k=1, covariance_type="full", max_iter=1, tol=0)
    assert (diagonal.d, whole.d) == (1_000, 1_000)
    assert distance(whole.means[0], rows.mean(axis=0)) <= 1e-12
    for model in (diagonal, whole):
        total = df.select(features.gmm.log_density(model)).to_series().sum()
        assert distance(model.log_likelihood, total) <= 1e-10


@pytest.mark.parametrize("k", [1, 2, 31, 32, 33, 1_000])
def test_one_to_a_thousand_components(k: int) -> None:
    rng = np.random.default_rng(k)
    parameters = oracle.random_model(rng, k, 2, "full")
    parameters = parameters._replace(weights=rng.dirichlet(np.ones(k)))
    model = as_model(parameters)
    rows, _ = oracle.draw(rng, parameters, 70)
    df = frame(rows).with_columns(array_column("r", rng.dirichlet(np.ones(k), size=70)))
    features = pl.struct("x0", "x1")
    out = everywhere(
        df,
        features.gmm.responsibilities(model).alias("r"),
        features.gmm.log_density(model).alias("l"),
        features.gmm.predict(model).alias("z"),
    )
    assert out.schema["r"] == pl.Array(pl.Float64, k)
    assert distance(out["r"].to_numpy(), oracle.responsibilities(rows, parameters)) <= 1e-11
    assert distance(out["l"].to_numpy(), oracle.log_density(rows, parameters)) <= 1e-12
    assert out["z"].to_list() == oracle.log_joint(rows, parameters).argmax(axis=1).tolist()
    by_column = df.with_columns(m=pl.lit(model.pack())).select(features.gmm.responsibilities("m"))
    assert bits(by_column.to_series()) == bits(out["r"])
    for step, expected in [
        (features.gmm.em_step(model, covariance_floor=0), oracle.em_step(rows, parameters)),
        (
            features.gmm.m_step("r", covariance_floor=0),
            oracle.m_step(rows, df["r"].to_numpy()),
        ),
    ]:
        assert_same_parameters(oracle.parameters(the_value(df.select(step))), expected, 1e-9)


@pytest.mark.parametrize("n", [1_000, 1_500])
def test_a_thousand_components_fit(n: int) -> None:
    df = frame(np.random.default_rng(n).normal(size=(n, 2)))
    model = df.gmm.fit(k=1_000, max_iter=2, tol=0)
    assert (model.k, model.n_rows) == (1_000, n)
    assert abs(model.weights.sum() - 1) < 1e-12
    assert np.isfinite(model.covariances).all()
    assert (np.diff(model.means[:, 0]) >= 0).all()
    with says(GmmError, r"k=1001\b", r"\b1000\b"):
        df.head(1_000).gmm.fit(k=1_001)


# Literals


@each(ON_ROWS)
def test_literal_fields_are_columns_of_one_value(it: Expression) -> None:
    df = rows_frame().with_columns(y=pl.lit(0.25))
    literal = pl.struct("x", pl.lit(0.25).alias("y"))
    assert bits(everywhere(df, it.expr(rows=literal))) == bits(df.select(it.expr()))


@pytest.mark.parametrize("weight", [pl.lit(2.0), pl.lit(2), pl.lit(2.0).first()])
def test_literal_weights_are_columns_of_one_value(weight: pl.Expr) -> None:
    df = rows_frame().with_columns(two=pl.lit(2.0))
    for make in (
        lambda w: xy.gmm.fit(3, weights=w, max_iter=3, tol=0),
        lambda w: xy.gmm.fit_predict(3, weights=w, max_iter=3, tol=0),
        lambda w: xy.gmm.statistics(the_model(), weights=w),
        lambda w: xy.gmm.em_step(the_model(), weights=w),
        lambda w: xy.gmm.m_step("r", weights=w),
    ):
        assert bits(everywhere(df, make(weight))) == bits(df.select(make("two")))
    options: dict[str, Any] = {"k": 3, "max_iter": 3, "tol": 0}
    assert df.gmm.fit("x", "y", weights=weight, **options) == df.gmm.fit(
        "x", "y", weights="two", **options
    )


def test_literal_responsibilities_and_labels() -> None:
    df = rows_frame().with_columns(r=pl.lit([0.2, 0.8]), zero=pl.lit(0))
    literal = xy.gmm.m_step(pl.lit([0.2, 0.8])).alias("out")
    assert bits(everywhere(df, literal)) == bits(df.select(xy.gmm.m_step("r").alias("out")))
    start = xy.gmm.fit(1, init=pl.lit(0), max_iter=2).alias("out")
    assert bits(everywhere(df, start)) == bits(
        df.select(xy.gmm.fit(1, init=pl.col("zero"), max_iter=2).alias("out"))
    )


@each(SCORING)
def test_rows_that_are_a_literal(it: Expression) -> None:
    literal = pl.struct(pl.lit(0.5).alias("x"), pl.lit(-1.0).alias("y"))
    row = pl.DataFrame({"x": [0.5], "y": [-1.0]})
    expected = row.select(it.expr())["out"]
    assert bits(rows_frame().select(it.expr(rows=literal))["out"]) == bits(expected)
    repeated = rows_frame().with_columns(it.expr(rows=literal))["out"]
    assert bits(repeated) == bits(expected.gather([0] * 240))


@each(SCORING)
def test_one_row_and_a_column_of_models(it: Expression) -> None:
    literal = pl.struct(pl.lit(0.5).alias("x"), pl.lit(-1.0).alias("y"))
    shifted = as_model(parameters()._replace(means=parameters().means + 1), ["x", "y"])
    models = pl.DataFrame({"m": [the_model().pack(), shifted.pack(), None, the_model().pack()]})
    out = everywhere(models, it.expr("m", literal))["out"]
    row = pl.DataFrame({"x": [0.5], "y": [-1.0]})
    one, other = (row.select(it.expr(m))["out"].to_list()[0] for m in (the_model(), shifted))
    assert out.to_list() == [one, other, None, one]


@each(TAKING_A_MODEL)
def test_a_model_of_length_one_serves_all_rows(it: Expression) -> None:
    df = rows_frame()
    expected = bits(df.select(it.expr()))
    for model in (
        pl.lit(the_model().pack()),
        pl.lit(the_model().to_struct()),
        pl.lit(the_model().to_struct()).first().gmm.pack(),
    ):
        assert bits(everywhere(df, it.expr(model))) == expected


@each(SCORING)
def test_models_and_rows_of_other_lengths(it: Expression) -> None:
    models = pl.Series("m", [the_model().pack()] * 7)
    with pytest.raises((ComputeError, pl.exceptions.ShapeError), match=r"\b7\b"):
        rows_frame().select(it.expr(pl.lit(models)))


# Null models


@each(SCORING)
@pytest.mark.parametrize("packed", [False, True])
def test_null_models_score_null(it: Expression, packed: bool) -> None:
    df = rows_frame()
    models = the_model().to_struct().alias("m").gather([0] * df.height)
    df = df.with_columns(nulled(models, HOLES))
    if packed:
        df = df.with_columns(pl.col("m").gmm.pack())
    out = everywhere(df, it.expr("m"))["out"]
    assert bits(out) == bits(nulled(rows_frame().select(it.expr())["out"], HOLES))


@each(TAKING_A_MODEL)
@pytest.mark.parametrize("packed", [False, True])
def test_a_group_whose_model_is_null_gives_null(it: Expression, packed: bool) -> None:
    dtype = pl.Binary if packed else MODEL
    value = pl.lit(the_model().pack()) if packed else pl.lit(the_model().to_struct()).first()
    df = rows_frame().with_columns(
        m=pl.when(pl.col("g") != "b").then(value).otherwise(pl.lit(None, dtype=dtype))
    )
    for engine in ENGINES:
        for model in (pl.col("m"), pl.col("m").first()):
            grouped = df.lazy().group_by("g").agg(it.expr(model)).sort("g")
            out = grouped.collect(engine=engine)
            for g in ("a", "b", "c"):
                column = out.filter(g=g)["out"]
                if it.shape != "aggregate":
                    column = column.explode()
                if g == "b":
                    assert column.null_count() == len(column)
                else:
                    alone = df.filter(g=g).select(it.expr())["out"]
                    assert bits(column) == bits(alone)


@each(TAKING_A_MODEL)
def test_a_column_of_no_models_gives_nothing(it: Expression) -> None:
    df = rows_frame()
    for null in (
        pl.lit(None),
        pl.lit(None, dtype=pl.Binary),
        pl.lit(None, dtype=MODEL),
    ):
        out = everywhere(df, it.expr(null))["out"]
        assert out.dtype == it.expected_dtype(model_is_column=True)
        assert out.null_count() == len(out) > 0


def test_null_models_and_statistics_pack_merge_and_maximize_to_null() -> None:
    nothing = pl.DataFrame(
        {"m": pl.Series([None] * 3, dtype=MODEL), "s": pl.Series([None] * 3, dtype=STATISTICS)}
    )
    out = everywhere(nothing, pl.col("m").gmm.pack(), pl.col("s").gmm.maximize())
    assert out.null_count().row(0) == (3, 3)
    assert the_value(everywhere(nothing, pl.col("s").gmm.merge())) is None


def test_a_fit_over_groups_of_any_size() -> None:
    sizes = [0, 1, 2, 3, 50]
    df = pl.concat([rows_frame().head(n).with_columns(size=pl.lit(n)) for n in sizes])
    for engine in ENGINES:
        fitted = df.lazy().group_by("size").agg(m=xy.gmm.fit(2, max_iter=2)).sort("size")
        out = fitted.collect(engine=engine)
        assert out["m"].is_null().to_list() == [True, False, False, False]
        for n, model in zip(sizes[2:], out["m"].drop_nulls(), strict=True):
            alone = rows_frame().head(n).select(xy.gmm.fit(2, max_iter=2))
            assert model == the_value(alone)


def test_models_of_any_shape_share_a_column() -> None:
    rng = np.random.default_rng(8)
    shapes = [(1, 1), (3, 1), (2, 2), (5, 3), (40, 2)]
    models = []
    for index, (k, d) in enumerate(shapes):
        structure = STRUCTURES[index % 4]
        model = oracle.random_model(rng, k, d, structure)
        models.append(as_model(model, structure=structure))
    column = pl.concat([model.to_struct() for model in models]).alias("m")
    back = [pg.GaussianMixture.from_struct(column[i : i + 1]) for i in range(len(models))]
    assert back == models
    packed = everywhere(column.to_frame(), pl.col("m").gmm.pack())["m"]
    assert packed.to_list() == [model.pack() for model in models]


def test_many_models_in_one_query_are_not_mixed_up() -> None:
    df = rows_frame(1_200)
    rng = np.random.default_rng(9)
    models = []
    for _ in range(20):
        shift = rng.normal(size=(3, 2))
        models.append(as_model(parameters()._replace(means=parameters().means + shift), ["x", "y"]))
    alone = [df.select(xy.gmm.log_density(model)).to_series().to_list() for model in models]
    assert len({repr(scores) for scores in alone}) == 20
    order = [*range(20), *rng.permutation(20).tolist()]
    exprs = [xy.gmm.log_density(models[i]).alias(str(n)) for n, i in enumerate(order)]
    for engine in ENGINES:
        together = df.lazy().select(exprs).collect(engine=engine)
        assert [column.to_list() for column in together] == [alone[i] for i in order]
    grouped = df.group_by("g", maintain_order=True).agg(
        xy.gmm.statistics(models[i]).alias(str(n)) for n, i in enumerate(order)
    )
    for n, i in enumerate(order):
        by_column = df.with_columns(m=pl.lit(models[i].pack())).group_by("g", maintain_order=True)
        assert bits(grouped[str(n)]) == bits(by_column.agg(s=xy.gmm.statistics("m"))["s"])
