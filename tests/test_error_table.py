"""The table of bad input, cell by cell: every kind of input at every entry point.

A cell is a sentence, word by word, or what the entry point gives instead. What the schema tells is
told by `collect_schema`, and by methods of frames, before a source is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.io.plugins import register_io_source

import oracle
import polars_gmm as pg
from datasets import array_column, blobs, frame
from support import ComputeError, as_model

N = 60
BAD = [17, 41]  # of the rows 0 to 59: one in group 0, one in group 2
GROUP = 20
xy = pl.struct("x", "y")


@cache
def the_model() -> pg.GaussianMixture:
    return as_model(oracle.random_model(np.random.default_rng(0), 3, 2, "full"), ["x", "y"])


@cache
def good() -> pl.DataFrame:
    """Features x and y, weights w, responsibilities r, labels z, models m; groups g of 20 rows."""
    rows, labels = blobs(N)
    gamma = np.random.default_rng(1).dirichlet(np.ones(3), size=N)
    return (
        frame(rows)
        .rename({"x0": "x", "x1": "y"})
        .with_columns(
            array_column("r", gamma),
            w=pl.lit(1.0),
            z=pl.Series(labels, dtype=pl.Int64),
            g=pl.int_range(pl.len()) // GROUP,
            m=pl.lit(the_model().to_struct()).first(),
        )
    )


def spoiled(**bad: Any) -> pl.DataFrame:
    """Rows 17 and 41 hold something else in these columns."""
    at = pl.int_range(pl.len()).is_in(BAD)
    return good().with_columns(
        pl.when(at).then(value).otherwise(name).alias(name) for name, value in bad.items()
    )


# Entry points: what is called on a frame, of the columns x and y unless a cell says otherwise.

Call = Callable[[pl.DataFrame | pl.LazyFrame], Any]


def scoring(rows: pl.Expr = xy, model: Any = None) -> dict[str, pl.Expr]:
    x, by = rows.gmm, the_model() if model is None else model
    return {
        "responsibilities": x.responsibilities(by),
        "log_responsibilities": x.responsibilities(by, log=True),
        "predict": x.predict(by),
        "log_density": x.log_density(by),
    }


def fits(rows: pl.Expr = xy, **options: Any) -> dict[str, pl.Expr]:
    options = {"k": 2, "max_iter": 5, **options}
    return {"fit": rows.gmm.fit(**options), "fit_predict": rows.gmm.fit_predict(**options)}


def steps(rows: pl.Expr = xy, *, model: Any = None, **weights: Any) -> dict[str, pl.Expr]:
    x, by = rows.gmm, the_model() if model is None else model
    return {
        "statistics": x.statistics(by, **weights),
        "em_step": x.em_step(by, **weights),
        "m_step": x.m_step("r", **weights),
    }


def passes(rows: pl.Expr = xy, model: Any = None) -> dict[str, pl.Expr]:
    """The steps that are given a model."""
    return {name: expr for name, expr in steps(rows, model=model).items() if name != "m_step"}


def said(run: Callable[[], Any]) -> str:
    """The sentence with which a call fails, without what Polars adds."""
    with pytest.raises((ComputeError, pg.GmmError)) as error:
        run()
    text = str(error.value)
    assert "panic" not in text
    return text.removeprefix("the plugin failed with message: ").split("\n\n")[0]


def grouped(df: pl.DataFrame, expr: pl.Expr) -> list[Any]:
    """One value a group."""
    return df.group_by("g", maintain_order=True).agg(out=expr)["out"].to_list()


def whole(value: Any) -> bool:
    """Whether a group came out: a model, or labels without a null."""
    return value is not None and (isinstance(value, dict) or None not in value)


IN_A_BATCH = re.compile(r"\d+ of a batch of \d+ rows")  # whose size is the streaming engine's


def fails_everywhere(df: pl.DataFrame, exprs: dict[str, pl.Expr], sentence: str) -> None:
    """Each expression fails with the sentence, in a select and in a lazy query of either engine."""
    for name, expr in exprs.items():
        for run in (
            lambda expr=expr: df.select(expr),
            lambda expr=expr: df.lazy().select(expr).collect(engine="in-memory"),
        ):
            assert said(run) == sentence, name
        text = said(lambda expr=expr: df.lazy().select(expr).collect(engine="streaming"))
        assert IN_A_BATCH.sub("", text) == IN_A_BATCH.sub("", sentence), name


def fails_in_frames(df: pl.DataFrame, sentence: str, *features: Any, **options: Any) -> None:
    for source in (df, df.lazy(), pl.concat([df.lazy(), df.lazy().clear()])):
        with pytest.raises(pg.GmmError) as error:
            source.gmm.fit(*(features or ("x", "y")), **{"k": 2, **options})
        assert str(error.value) == sentence


def fails_in_groups(df: pl.DataFrame, exprs: dict[str, pl.Expr], *sentences: str) -> None:
    """Each expression fails in `group_by` and in `over`, for one of the groups at fault."""
    for name, expr in exprs.items():
        for run in (
            lambda expr=expr: grouped(df, expr),
            lambda expr=expr: df.select(expr.over("g")),
            lambda expr=expr: df.lazy().group_by("g").agg(expr).collect(engine="streaming"),
        ):
            assert said(run) in sentences, name


def leaves_other_groups(df: pl.DataFrame, exprs: dict[str, pl.Expr], at_fault: list[int]) -> None:
    """The groups at fault are null, and the others what they are alone."""
    alone = {g: df.filter(g=g) for g in range(3)}
    for name, expr in exprs.items():
        values = grouped(df, expr)
        assert [not whole(value) for value in values] == [g in at_fault for g in range(3)], name
        over = df.select(out=expr.over("g"), g="g")
        for g in range(3):
            out = over.filter(g=g)["out"]
            assert out.null_count() == (GROUP if g in at_fault else 0), name
            if g not in at_fault:
                expected = alone[g].select(out=expr)["out"].to_list()
                assert values[g] == (expected if name == "fit_predict" else expected[0]), name


# Null in a feature

NULL = 'feature "y" is null in {}, the first is row {}; drop or fill them, or fit with nulls="drop"'


def nulls_and_nan() -> list[Any]:
    return [None, float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("column", [False, True])
def test_null_scores_null(column: bool) -> None:
    for name, expr in scoring(model="m" if column else None).items():
        for engine in ("in-memory", "streaming"):
            out = spoiled(y=None).lazy().select(out=expr).collect(engine=engine)["out"]
            assert out.is_null().arg_true().to_list() == BAD, name
            kept = pl.Series(~np.isin(np.arange(N), BAD))
            expected = good().select(out=expr)["out"]
            assert out.filter(kept).to_list() == expected.filter(kept).to_list(), name


def test_null_ends_a_fit() -> None:
    fails_in_frames(spoiled(y=None), NULL.format("2 rows", 17))
    fails_everywhere(spoiled(y=None), fits(), NULL.format("2 rows", 17))
    sentences = [NULL.format("1 row", 17), NULL.format("1 row", 1)]
    fails_in_groups(spoiled(y=None), fits(), *sentences)
    fails_in_groups(spoiled(y=None), fits(on_failure="raise"), *sentences)


def test_null_makes_a_null_model_where_that_is_asked_for() -> None:
    leaves_other_groups(spoiled(y=None), fits(on_failure="null"), [0, 2])


def test_null_rows_may_be_dropped_from_fits() -> None:
    df = spoiled(y=None)
    start = {"init": the_model(), "k": 3, "max_iter": 5, "tol": 0}
    for source in (df, df.lazy()):
        model = source.gmm.fit("x", "y", nulls="drop", **start)
        assert model.n_rows == model.total_weight == N - 2
        expected = df.drop_nulls().gmm.fit("x", "y", **start)
        assert oracle.distance(model.means, expected.means) < 1e-12
    models, labels = (grouped(df, expr) for expr in fits(nulls="drop").values())
    assert [model["n_rows"] for model in models] == [19, 20, 19]
    assert [[i for i, z in enumerate(group) if z is None] for group in labels] == [[17], [], [1]]


@pytest.mark.parametrize("start", ["z", "r"])
def test_dropped_rows_need_no_start_and_may_have_one(start: str) -> None:
    options: dict[str, Any] = {
        "k": 3,
        "nulls": "drop",
        "init": pl.col(start),
        "max_iter": 5,
        "tol": 0,
    }
    without = spoiled(y=None).drop_nulls("y").gmm.fit("x", "y", **options)
    for df in (spoiled(y=None), spoiled(y=None, **{start: None})):
        model = df.gmm.fit("x", "y", **options)
        assert model.n_rows == N - 2
        assert oracle.distance(model.means, without.means) < 1e-12


def test_null_rows_are_left_out_of_steps() -> None:
    df = spoiled(y=None, r=None)
    kept = good().filter(~pl.int_range(pl.len()).is_in(BAD))
    for name, expr in steps().items():
        value, expected = (rows.select(out=expr)["out"][0] for rows in (df, kept))
        assert value["n_rows"] == value["total_weight"] == N - 2, name
        mean = "mean" if name == "statistics" else "means"
        assert oracle.distance(np.array(value[mean]), np.array(expected[mean])) < 1e-12


def test_null_in_features_or_responsibilities_alone_ends_an_m_step() -> None:
    m_step = {"m_step": steps()["m_step"]}
    one_sided = (
        'features and responsibilities "r" must be null in the same rows, but in {} only one of '
        "them is null, the first is row {}; drop these rows or fill the nulls"
    )
    for df in (spoiled(y=None), spoiled(r=None)):
        fails_everywhere(df, m_step, one_sided.format("2 rows", 17))
        fails_in_groups(df, m_step, *(one_sided.format("1 row", row) for row in (17, 1)))


# NaN and infinity in a feature

NOT_FINITE = 'feature "y" is NaN or infinite in {}, the first is row {}; filter or fill them first'
not_finite = pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])


@not_finite
@pytest.mark.parametrize("column", [False, True])
def test_nan_scores_nan_and_has_no_label(bad: float, column: bool) -> None:
    hole: dict[str, Any] = {"predict": None, "log_density": "nan"}
    for name, expr in scoring(model="m" if column else None).items():
        expected = good().select(out=expr)["out"].to_list()
        for row in BAD:
            expected[row] = hole.get(name, ["nan"] * 3)
        for engine in ("in-memory", "streaming"):
            out = spoiled(y=bad).lazy().select(out=expr).collect(engine=engine)["out"].to_list()
            assert repr(out) == repr(expected).replace("'nan'", "nan"), name


@not_finite
def test_nan_ends_fits_and_steps(bad: float) -> None:
    df = spoiled(y=bad)
    fails_in_frames(df, NOT_FINITE.format("2 rows", 17))
    fails_in_frames(df, NOT_FINITE.format("2 rows", 17), nulls="drop")
    exprs = {**fits(), **steps(), "weighted": xy.gmm.statistics(the_model(), weights="w")}
    fails_everywhere(df, exprs, NOT_FINITE.format("2 rows", 17))
    sentences = [NOT_FINITE.format("1 row", 17), NOT_FINITE.format("1 row", 1)]
    fails_in_groups(df, exprs, *sentences)


@not_finite
def test_nan_makes_a_null_model_where_that_is_asked_for(bad: float) -> None:
    leaves_other_groups(spoiled(y=bad), fits(on_failure="null"), [0, 2])


@pytest.mark.parametrize("bad", nulls_and_nan())
def test_positions_of_lists_are_named_too(bad: float | None) -> None:
    df = spoiled(y=bad).select("g", v=pl.concat_list("x", "y"), a=pl.concat_arr("x", "y"))
    words = NULL if bad is None else NOT_FINITE
    for name in ("v", "a"):
        sentence = words.format("2 rows", 17).replace('"y"', f'"{name}[1]"')
        fails_everywhere(df, fits(pl.col(name)), sentence)
        fails_in_frames(df, sentence, name)


# Too few rows, and no weight

TOO_FEW = (
    "a mixture of k=2 components needs at least as many rows of positive weight, got {}; "
    "lower k or add rows"
)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_end_a_fit_of_a_frame(rows: int) -> None:
    fails_in_frames(good().head(rows), TOO_FEW.format(rows))
    weighted = good().with_columns(w=(pl.int_range(pl.len()) < rows).cast(pl.Float64))
    fails_in_frames(weighted, TOO_FEW.format(rows), weights="w")
    nulled = good().with_columns(y=pl.when(pl.int_range(pl.len()) < rows).then("y"))
    fails_in_frames(nulled, TOO_FEW.format(rows), nulls="drop")


@pytest.mark.parametrize("on_failure", ["raise", "null"])
def test_too_few_rows_make_a_null_model_and_harm_no_other_group(on_failure: Any) -> None:
    at = pl.col("g") == 1
    options: dict[str, Any] = {"on_failure": on_failure}
    weightless = good().with_columns(w=pl.when(at).then(0.0).otherwise(1.0))
    leaves_other_groups(weightless, fits(weights="w", **options), [1])
    dropped = good().with_columns(y=pl.when(~at).then("y"))
    models, labels = (grouped(dropped, expr) for expr in fits(nulls="drop", **options).values())
    assert [whole(value) for value in models] == [whole(value) for value in labels]
    assert [whole(value) for value in models] == [True, False, True]
    few = good().filter(~at | (pl.int_range(pl.len()) == 20))
    for expr in fits(**options).values():
        assert [whole(value) for value in grouped(few, expr)] == [True, False, True]
        assert good().head(1).select(expr).to_series().to_list() == [None]


def test_steps_take_few_rows_and_no_weight() -> None:
    one = good().head(1)
    for name, expr in steps().items():
        assert one.select(out=expr)["out"][0]["n_rows"] == 1, name
    weightless = good().with_columns(w=pl.lit(0.0))
    for name, expr in steps(weights="w").items():
        for df in (weightless, good().clear()):
            value = df.select(out=expr)["out"][0]
            if name == "statistics":
                assert value["n_rows"] == value["total_weight"] == 0
            else:
                assert value is None, name


# Data without spread


FLAT = ("constant", "duplicates", "collinear", "more columns than rows")


def flat(name: str) -> tuple[pl.DataFrame, pl.Expr]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=36)
    rows = {
        "constant": np.column_stack([x, np.full(36, 7.0)]),
        "duplicates": np.repeat([[1.0, 2.0], [3.0, 1.0], [4.0, 4.0]], 12, axis=0),
        "collinear": np.column_stack([x, 2 * x - 1]),
        "more columns than rows": rng.normal(size=(9, 12)),
    }[name]
    df = frame(rows)
    features = pl.struct(df.columns)
    gamma = rng.dirichlet(np.ones(2), size=len(rows))
    return df.with_columns(array_column("r", gamma), g=pl.int_range(pl.len()) // 3), features


@pytest.mark.parametrize("name", FLAT)
def test_data_without_spread_fit_and_score_finitely(name: str) -> None:
    df, rows = flat(name)
    features = rows.meta.root_names()
    values = [
        df.gmm.fit(*features, k=2).to_struct()[0],
        df.lazy().gmm.fit(*features, k=2).to_struct()[0],
        df.select(rows.gmm.m_step("r")).to_series()[0],
        *(grouped(df, rows.gmm.fit(2))),
    ]
    model = df.gmm.fit(*features, k=2)
    values += [df.select(rows.gmm.em_step(model)).to_series()[0]]
    for value in values:
        for part in ("weights", "means", "covariances"):
            assert np.isfinite(np.array(value[part])).all()
    summed = df.select(rows.gmm.statistics(model)).to_series()[0]
    assert np.isfinite(np.array(summed["scatter"])).all()
    assert np.isfinite(summed["log_likelihood"])
    scores = df.select(**scoring(rows, model))
    assert scores["log_density"].is_finite().all()
    assert scores["responsibilities"].explode().is_finite().all()


def test_a_singular_model_cannot_score() -> None:
    struct = the_model().to_struct().struct.unnest()
    singular = struct.with_columns(
        covariances=pl.Series([[[[1.0, 1.0], [1.0, 1.0]]] * 3])
    ).to_struct("m")
    df = good().with_columns(m=pl.lit(singular).first())
    exprs = {**scoring(model="m"), **passes(model=pl.col("m"))}
    for name, expr in exprs.items():
        text = said(lambda expr=expr: df.select(expr))
        assert "the covariance of component 0 must be positive definite" in text, name
        assert "covariance_floor" in text, name
    with pytest.raises(pg.GmmError, match="component 0 must be positive definite"):
        pg.GaussianMixture.from_struct(singular)


# Weights

WEIGHTS = (
    'weights "w" must be finite numbers >= 0 and not null, but in {} they are {}, '
    "the first is row {}; repair or filter these rows"
)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (-1e-300, "negative"),
        (float("nan"), "NaN or infinite"),
        (float("inf"), "NaN or infinite"),
        (float("-inf"), "negative"),
        (None, "null"),
    ],
)
def test_bad_weights_end_everything(bad: float | None, word: str) -> None:
    df = spoiled(w=bad)
    fails_in_frames(df, WEIGHTS.format("2 rows", word, 17), weights="w")
    weighted = {**fits(weights="w"), **steps(weights="w")}
    fails_everywhere(df, weighted, WEIGHTS.format("2 rows", word, 17))
    tolerant = fits(weights=pl.col("w"), on_failure="null")
    sentences = [WEIGHTS.format("1 row", word, row) for row in (17, 1)]
    fails_in_groups(df, {**tolerant, **steps(weights="w")}, *sentences)


def test_what_is_wrong_with_a_row_of_weight_zero_does_not_count() -> None:
    wrong = [float("nan"), None]
    for bad in wrong:
        df = spoiled(w=0.0, y=bad, z=-1)
        kept = good().filter(~pl.int_range(pl.len()).is_in(BAD))
        options: dict[str, Any] = {"weights": "w", "k": 3, "init": pl.col("z"), "max_iter": 5}
        model = df.gmm.fit("x", "y", **options)
        assert model.n_rows == model.total_weight == N - 2
        expected = kept.gmm.fit("x", "y", **options)
        assert oracle.distance(model.means, expected.means) < 1e-12
        for name, expr in steps(weights="w").items():
            value, alone = (rows.select(out=expr)["out"][0] for rows in (df, kept))
            assert value["n_rows"] == N - 2, name
            mean = "mean" if name == "statistics" else "means"
            assert oracle.distance(np.array(value[mean]), np.array(alone[mean])) < 1e-12


def test_a_computed_weight_is_called_by_its_name() -> None:
    sentence = WEIGHTS.format("60 rows", "negative", 0)
    named = {"-w": (-pl.col("w"), '"w"'), "u": ((-pl.col("w")).alias("u"), '"u"')}
    for weights, name in named.values():
        expr = {"statistics": xy.gmm.statistics(the_model(), weights=weights)}
        fails_everywhere(good(), expr, sentence.replace('"w"', name))
    unnamed = {"statistics": xy.gmm.statistics(the_model(), weights=-pl.col("^w$"))}
    fails_everywhere(good(), unnamed, sentence.replace(' "w"', ""))


# Responsibilities and labels

GAMMA = (
    'responsibilities "r" must be finite numbers >= 0, but in {} some are {}, the first is row {}; '
    "repair or filter these rows"
)


@pytest.mark.parametrize(
    ("bad", "word"),
    [(-1.0, "negative"), (float("nan"), "NaN or infinite"), (float("inf"), "NaN or infinite")],
)
def test_bad_responsibilities_end_m_steps_and_starts(bad: float, word: str) -> None:
    row = pl.lit(pl.Series([[0.5, 0.5, bad]], dtype=pl.Array(pl.Float64, 3))).first()
    df = spoiled(r=row)
    sentence = GAMMA.format("2 rows", word, 17)
    fails_in_frames(df, sentence, k=3, init=pl.col("r"))
    start = fits(k=3, init=pl.col("r"), on_failure="null")
    fails_everywhere(df, {"m_step": xy.gmm.m_step("r"), **start}, sentence)
    fails_in_groups(df, start, *(GAMMA.format("1 row", word, row) for row in (17, 1)))


LABELS = (
    'labels "z" must be integers from 0 to 2 (k=3), but in {} they are not, the first is row {} '
    'with {}; map the labels to 0 .. k-1, for example with rank("dense") - 1'
)
NULL_START = (
    "{} must not be null where the features are not, but in {} they are, the first is row {}; "
    "drop these rows or fill the nulls"
)


@pytest.mark.parametrize("bad", [-1, 3, 2**62, 1.5, float("nan")])
def test_bad_labels_end_a_fit(bad: float) -> None:
    df = spoiled(z=bad)
    shown = "NaN" if bad != bad else str(bad)
    fails_in_frames(df, LABELS.format("2 rows", 17, shown), k=3, init=pl.col("z"))
    start = fits(k=3, init=pl.col("z"), on_failure="null")
    fails_everywhere(df, start, LABELS.format("2 rows", 17, shown))
    fails_in_groups(df, start, *(LABELS.format("1 row", row, shown) for row in (17, 1)))


@pytest.mark.parametrize(("start", "what"), [("z", 'labels "z"'), ("r", 'responsibilities "r"')])
def test_a_start_is_null_only_where_the_features_are(start: str, what: str) -> None:
    df = spoiled(**{start: None})
    sentence = NULL_START.format(what, "2 rows", 17)
    fails_in_frames(df, sentence, k=3, init=pl.col(start))
    fails_everywhere(df, fits(k=3, init=pl.col(start)), sentence)
    leaves_other_groups(df, fits(k=3, init=pl.col(start), on_failure="null"), [0, 2])


# What the schema tells: before data are read


def unread(df: pl.DataFrame) -> pl.LazyFrame:
    """A source with the schema of a frame, which must not be read."""

    def read(*_: Any) -> Iterator[pl.DataFrame]:
        raise AssertionError("a source was read before its schema was checked")
        yield

    return register_io_source(read, schema=df.schema)


def test_the_source_that_must_not_be_read_can_tell() -> None:
    with pytest.raises((AssertionError, ComputeError), match="before its schema was checked"):
        unread(good()).select(xy.gmm.fit(2)).collect()


def wrong_schemas() -> dict[str, tuple[pl.DataFrame, dict[str, pl.Expr], str]]:
    text = pl.lit("a").alias("y")
    df = good()
    wide = df.with_columns(a=pl.concat_arr("x", "y", "x"), q=pl.concat_arr("x", "y"))
    a, start = pl.col("a"), the_model()
    renamed = pl.struct("x", u="y")
    more = pl.struct("x", "y", u="x")
    return {
        "a field of the wrong dtype": (
            df.with_columns(text),
            {**scoring(), **fits(), **steps()},
            'feature "y" must be numeric, but it has dtype str; '
            "cast it to a number or leave it out",
        ),
        "a column of the wrong dtype": (
            df.with_columns(text),
            {**scoring(pl.col("y"), "m"), **fits(pl.col("y")), **steps(pl.col("y"))},
            "features must be a struct of numeric fields, an Array or List of numbers, or one "
            'numeric column, but column "y" has dtype str; '
            "select or cast the numeric columns first",
        ),
        "an Array of no width": (
            df.with_columns(e=pl.Series([[]] * N, dtype=pl.Array(pl.Float64, 0))),
            {**scoring(pl.col("e")), **fits(pl.col("e")), **steps(pl.col("e"))},
            'column "e" has no features; give at least one numeric field',
        ),
        "a missing field": (
            df,
            {**scoring(renamed), **passes(renamed), **fits(renamed, k=3, init=start)},
            'the model needs feature "y", but the columns given are ["x", "u"]; '
            "add it or rename a column",
        ),
        "a field too many": (
            df,
            {**scoring(more), **passes(more), **fits(more, k=3, init=start)},
            'the model has 2 features (["x", "y"]), but the columns given are ["x", "y", "u"]; '
            'leave out ["u"]',
        ),
        "another width": (
            wide,
            {**scoring(a), **passes(a), **fits(a, k=3, init=start)},
            'features must have width 2, but column "a" has width 3; give every row 2 numbers',
        ),
        "one column for two features": (
            df,
            {**scoring(pl.col("x")), **passes(pl.col("x")), **fits(pl.col("x"), k=3, init=start)},
            'features must have width 2, but column "x" has width 1; give every row 2 numbers',
        ),
        "weights of the wrong dtype": (
            df.with_columns(w=pl.lit("a")),
            {**fits(weights="w"), **steps(weights="w")},
            'weights "w" must be numeric, but their column has dtype str; cast it to a number',
        ),
        "responsibilities of the wrong dtype": (
            df.with_columns(r=pl.lit("a")),
            {"m_step": xy.gmm.m_step("r")},
            'responsibilities "r" must be a List or Array column of numbers, as '
            "responsibilities(model) makes, but their column has dtype str; give such a column",
        ),
        "a start of the wrong dtype": (
            df.with_columns(z=pl.lit("a")),
            fits(init=pl.col("z")),
            'init "z" must be a column of integer labels or of responsibilities (List or Array of '
            "k numbers), but it has dtype str; map it to labels 0 .. k-1",
        ),
        "a start of another width": (
            wide,
            fits(k=3, init=pl.col("q")),
            'responsibilities must have width 3, but column "q" has width 2; '
            "give every row 3 numbers",
        ),
        "no model": (
            df,
            {**scoring(model="w"), **passes(model="w"), "pack": pl.col("w").gmm.pack()},
            "a model must be a struct made by fit, m_step or maximize, or its packed Binary, but "
            'column "w" has dtype f64; give a GaussianMixture, such a column, or its name',
        ),
        "a model without a field": (
            df.with_columns(m=pl.struct(version=1)),
            {**scoring(model="m"), **passes(model="m"), "pack": pl.col("m").gmm.pack()},
            'a model must be a struct with field "features", but column "m" has dtype struct[1]; '
            "it is made by fit, m_step, em_step or maximize",
        ),
        "a model with a field of the wrong dtype": (
            df.with_columns(pl.col("m").struct.with_fields(weights=pl.lit("a"))),
            {**scoring(model="m"), **passes(model="m"), "pack": pl.col("m").gmm.pack()},
            'field "weights" of a model must have dtype list[f64], but in column "m" it has dtype '
            "str; it is made by fit, m_step, em_step or maximize",
        ),
        "no statistics": (
            df,
            {"merge": pl.col("m").gmm.merge(), "maximize": pl.col("m").gmm.maximize()},
            'statistics must be a struct with field "weight", but column "m" has dtype struct[12]; '
            "it is made by statistics or merge",
        ),
    }


@pytest.mark.parametrize("name", wrong_schemas())
def test_the_schema_tells_before_data_are_read(name: str) -> None:
    df, exprs, sentence = wrong_schemas()[name]
    for method, expr in exprs.items():
        lf = unread(df)
        for query in (
            lf.select(expr),
            lf.with_columns(out=expr.over("g")),
            lf.group_by("g").agg(out=expr),
        ):
            assert said(query.collect_schema) == sentence, method
        assert said(lambda lf=lf, expr=expr: lf.select(expr).collect()) == sentence, method
        assert said(lambda expr=expr: df.select(expr)) == sentence, method


FRAME_OPTIONS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "a field of the wrong dtype": (("x", "y"), {}),
    "a column of the wrong dtype": (("y",), {}),
    "an Array of no width": (("e",), {}),
    "a missing field": (("x", pl.col("y").alias("u")), {"k": 3, "init": the_model()}),
    "a field too many": (("x", "y", pl.col("x").alias("u")), {"k": 3, "init": the_model()}),
    "another width": (("a",), {"k": 3, "init": the_model()}),
    "one column for two features": (("x",), {"k": 3, "init": the_model()}),
    "weights of the wrong dtype": (("x", "y"), {"weights": "w"}),
    "a start of the wrong dtype": (("x", "y"), {"init": pl.col("z")}),
    "a start of another width": (("x", "y"), {"k": 3, "init": pl.col("q")}),
}


@pytest.mark.parametrize("name", FRAME_OPTIONS)
def test_frames_tell_it_before_data_are_read(name: str) -> None:
    df, _, sentence = wrong_schemas()[name]
    features, options = FRAME_OPTIONS[name]
    for source in (df, unread(df)):
        with pytest.raises(pg.GmmError) as error:
            source.gmm.fit(*features, **{"k": 2, **options})
        assert str(error.value) == sentence


def test_columns_that_are_not_there() -> None:
    sentence = (
        "there is no column {}: name columns of this frame, whose numeric columns are "
        "['x', 'y', 'w', 'z', 'g']"
    )
    for source in (good(), unread(good())):
        for features, options, missing in [
            (("x", "nope"), {}, "'nope'"),
            (("x", "y"), {"weights": "heavy"}, "'heavy'"),
            (("x", "y"), {"init": pl.col("start")}, "'start'"),
            ((), {"weights": "heavy"}, "'heavy'"),
        ]:
            with pytest.raises(pg.GmmError) as error:
                source.gmm.fit(*features, **{"k": 2, **options})
            assert str(error.value) == sentence.format(missing)
    lf = unread(good())
    for expr in (
        *scoring(pl.struct("x", "nope")).values(),
        *fits(weights="nope").values(),
        *fits(init=pl.col("nope")).values(),
        *steps(weights="nope").values(),
        xy.gmm.predict("nope"),
        xy.gmm.m_step("nope"),
    ):
        with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nope"):
            lf.select(expr).collect_schema()


def test_options_name_one_column() -> None:
    several = "{} must be one column, but the expression selects {}: {}"
    for source in (good(), unread(good())):
        for options, words in [
            ({"weights": pl.col("w", "z")}, ("weights", 2, ["w", "z"])),
            ({"weights": pl.col("^nope$")}, ("weights", 0, [])),
            ({"init": pl.col("z", "w")}, ("init", 2, ["z", "w"])),
        ]:
            for features in ((), ("x", "y")):
                with pytest.raises(pg.GmmError) as error:
                    source.gmm.fit(*features, **{"k": 2, **options})
                assert str(error.value) == several.format(*words)
    none = "{} must be one column, but the expression selects none; name a column"
    nope = pl.col("^nope$")
    lf = unread(good())
    for what, exprs in [
        ("weights", {**fits(weights=nope), **steps(weights=nope)}),
        ("init", fits(init=nope)),
        ("responsibilities", {"m_step": xy.gmm.m_step(nope)}),
    ]:
        for expr in exprs.values():
            assert said(lf.select(expr).collect_schema) == none.format(what)


@pytest.mark.parametrize("option", ["weights", "init"])
def test_columns_of_another_length(option: str) -> None:
    for source in (good(), good().lazy()):
        with pytest.raises(pg.GmmError, match=r"must have a value for every row, but .*length"):
            source.gmm.fit("x", "y", **{"k": 3, option: pl.col("z").head(3)})


# What only data tell of lists and models


def test_lists_of_another_length() -> None:
    v = pl.concat_list("x", "y")
    df = good().with_columns(
        v=pl.when(pl.int_range(pl.len()).is_in(BAD)).then(pl.concat_list("x")).otherwise(v)
    )
    sentence = (
        'features must have width 2, but column "v" has width 1 in row 17; give every row 2 numbers'
    )
    exprs = {**fits(pl.col("v")), **steps(pl.col("v"))}
    fails_everywhere(df, exprs, sentence)
    fails_in_frames(df, sentence, "v")
    of_a_batch = sentence.replace("row 17", "row 17 of a batch of 60 rows")
    fails_everywhere(df, {**scoring(pl.col("v")), **scoring(pl.col("v"), "m")}, of_a_batch)


def test_responsibilities_of_another_length() -> None:
    gamma = good()["r"].arr.to_list().to_list()
    gamma[17] = gamma[41] = [0.5, 0.5]
    df = good().with_columns(r=pl.Series(gamma))
    sentence = (
        'responsibilities must have width 3, but column "r" has width 2 in row 17; '
        "give every row 3 numbers"
    )
    fails_everywhere(df, {"m_step": xy.gmm.m_step("r"), **fits(k=3, init=pl.col("r"))}, sentence)
    fails_in_frames(df, sentence, k=3, init=pl.col("r"))


def test_models_that_are_none() -> None:
    packed = good().select(pl.col("m").gmm.pack())["m"].to_list()
    packed[17] = packed[41] = b"nonsense"
    df = good().with_columns(m=pl.Series(packed))
    reason = (
        "this is not a Gaussian mixture: the bytes do not begin as a packed model does; "
        "give what GaussianMixture.pack, to_json or to_struct made"
    )
    batch = f'column "m" in row 17 of a batch of 60 rows: {reason}'
    fails_everywhere(df, {**scoring(model="m"), "pack": pl.col("m").gmm.pack()}, batch)
    exprs = passes(model=pl.col("m").get(17))
    fails_everywhere(df, exprs, f'column "m" in row 0: {reason}')


def test_models_that_differ_in_a_group() -> None:
    exprs = passes(model="m")
    other = as_model(oracle.random_model(np.random.default_rng(1), 3, 2, "full"), ["x", "y"])
    df = spoiled(m=pl.lit(other.to_struct()).first())
    sentence = (
        "one model is needed here, but the model column holds several in this group; "
        "group by what separates them, or take one with .first()"
    )
    fails_everywhere(df, exprs, sentence)
    fails_in_groups(df, exprs, sentence)


def test_statistics_that_do_not_add_up() -> None:
    swapped = as_model(oracle.random_model(np.random.default_rng(0), 2, 2, "full"), ["x", "y"])
    parts = [good().select(s=xy.gmm.statistics(model)) for model in (the_model(), swapped)]
    text = said(lambda: pl.concat(parts).select(pl.col("s").gmm.merge()))
    assert text.startswith(
        'column "s" in row 1: statistics can be merged only if they have the same components'
    )
    negative = parts[0].with_columns(pl.col("s").struct.with_fields(total_weight=-1.0))
    df = pl.concat([parts[0], negative])
    reason = "a total_weight that is negative"
    assert reason in said(lambda: df.select(pl.col("s").gmm.merge()))
    assert 'column "s" in row 1: ' in said(lambda: df.select(pl.col("s").gmm.merge()))
    assert 'column "s" in row 1 of a batch of 2 rows: ' in said(
        lambda: df.select(pl.col("s").gmm.maximize())
    )
