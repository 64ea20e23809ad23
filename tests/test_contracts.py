"""What every expression promises, for every row of the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from polars_gmm import GaussianMixture
from polars_gmm._expr import GmmExpr
from registry import (
    AGGREGATES,
    EXPRESSIONS,
    ON_ROWS,
    ROWWISE,
    SCORING,
    TAKING_A_MODEL,
    Expression,
    parameters,
    rows_frame,
    the_model,
)
from support import ComputeError, as_model, bits, in_chunks, nulled, says, the_value

ENGINES = ("in-memory", "streaming")
GROUPS = ("a", "b", "c")


def each(expressions: Sequence[Expression]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("it", expressions, ids=str)


def by_group(it: Expression) -> dict[str, pl.Series]:
    """What the expression gives for each group alone."""
    df = it.frame()
    return {g: df.filter(g=g).select(it.expr())["out"] for g in GROUPS}


def without_names(column: pl.Series) -> Any:
    """Values without the names of features, which differ between structs and arrays."""
    if isinstance(column.dtype, pl.Struct):
        return bits(column.struct.unnest().drop("features"))
    return bits(column)


def test_every_public_expression_has_a_row() -> None:
    public = {name for name in dir(GmmExpr) if not name.startswith("_")}
    assert public == {it.method for it in EXPRESSIONS}


@each(EXPRESSIONS)
def test_dtype_and_length(it: Expression) -> None:
    df = it.frame()
    out = df.select(it.expr())["out"]
    assert out.dtype == it.dtype
    assert len(out) == (1 if it.shape == "aggregate" else df.height)
    assert out.null_count() == 0


@each(EXPRESSIONS)
@pytest.mark.parametrize("engine", ENGINES)
def test_lazy_is_eager(it: Expression, engine: Any) -> None:
    df = it.frame()
    lazy = df.lazy().select(it.expr()).collect(engine=engine)
    assert bits(lazy) == bits(df.select(it.expr()))
    assert lazy.schema == {"out": it.dtype}


@each(EXPRESSIONS)
@pytest.mark.parametrize("engine", ENGINES)
def test_group_by_is_each_group_alone(it: Expression, engine: Any) -> None:
    out = it.frame().lazy().group_by("g").agg(it.expr()).sort("g").collect(engine=engine)
    assert out["g"].to_list() == list(GROUPS)
    for g, alone in by_group(it).items():
        grouped = out.filter(g=g)["out"]
        if it.shape != "aggregate":
            grouped = grouped.explode()
        assert bits(grouped) == bits(alone)


@each(EXPRESSIONS)
@pytest.mark.parametrize("engine", ENGINES)
def test_over_is_each_group_alone(it: Expression, engine: Any) -> None:
    df = it.frame()
    out = df.lazy().select("g", it.expr().over("g")).collect(engine=engine)
    for g, alone in by_group(it).items():
        windowed = out.filter(g=g)["out"]
        if it.shape == "aggregate":
            alone = alone.gather(np.zeros(len(windowed), dtype=int))
        assert bits(windowed) == bits(alone)


@each(EXPRESSIONS)
def test_schema_is_known_before_anything_runs(it: Expression) -> None:
    lf = it.frame().lazy()
    grouped = it.dtype if it.shape == "aggregate" else pl.List(it.dtype)
    for query, dtype in [
        (lf.select(it.expr()), it.dtype),
        (lf.with_columns(it.expr().over("g")).select("out"), it.dtype),
        (lf.group_by("g").agg(it.expr()).select("out"), grouped),
    ]:
        assert query.collect_schema() == {"out": dtype}
        for engine in ENGINES:
            assert query.collect(engine=engine).schema == {"out": dtype}


@each(TAKING_A_MODEL)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_is_a_value_however_it_comes(it: Expression, engine: Any) -> None:
    df = rows_frame()
    series = the_model().to_struct()
    packed = series.to_frame("m").select(pl.col("m").gmm.pack()).to_series()
    lf = df.lazy().with_columns(
        m=pl.lit(series).first(), b=pl.lit(packed).first(), c=pl.lit(series).first().gmm.pack()
    )
    expected = bits(df.select(it.expr()))
    for model in [
        pl.lit(series),
        pl.lit(series).first(),
        pl.lit(packed),
        pl.lit(the_model().pack()),
        pl.col("m"),
        pl.col("m").first(),
        "m",
        pl.col("b"),
        "b",
        "c",
    ]:
        out = lf.select(it.expr(model)).collect(engine=engine)
        assert bits(out) == expected
        assert out.schema == {"out": it.expected_dtype(model_is_column=True)}


@each(TAKING_A_MODEL)
@pytest.mark.parametrize("packed", [False, True])
def test_each_group_may_bring_its_own_model(it: Expression, packed: bool) -> None:
    df = rows_frame()
    shifted = {
        g: as_model(parameters()._replace(means=parameters().means + j / 2), ["x", "y"])
        for j, g in enumerate(GROUPS)
    }
    models = pl.DataFrame({"g": GROUPS}).with_columns(
        pl.concat([model.to_struct() for model in shifted.values()]).alias("m")
    )
    if packed:
        models = models.with_columns(pl.col("m").gmm.pack())
    joined = df.join(models, on="g", maintain_order="left")
    for model in (pl.col("m"), pl.col("m").first()):
        out = joined.group_by("g", maintain_order=True).agg(it.expr(model))
        for g in GROUPS:
            grouped = out.filter(g=g)["out"]
            if it.shape != "aggregate":
                grouped = grouped.explode()
            assert bits(grouped) == bits(df.filter(g=g).select(it.expr(shifted[g]))["out"])


@each(ON_ROWS)
@pytest.mark.parametrize("engine", ENGINES)
def test_struct_array_and_list_are_the_same_rows(it: Expression, engine: Any) -> None:
    lf = rows_frame().lazy().with_columns(a=pl.concat_arr("x", "y"), l=pl.concat_list("x", "y"))
    expected = without_names(lf.select(it.expr()).collect()["out"])
    for name in ("a", "l"):
        out = lf.select(it.expr(rows=pl.col(name))).collect(engine=engine)
        assert without_names(out["out"]) == expected


@each(ON_ROWS)
def test_one_plain_column_is_a_struct_of_one(it: Expression) -> None:
    df = rows_frame().with_columns(a=pl.concat_arr("x"), l=pl.concat_list("x"))
    whole = parameters()
    model = as_model(
        whole._replace(means=whole.means[:, :1], covariances=whole.covariances[:, :1, :1]), ["x"]
    )
    expected = df.select(it.expr(model, pl.struct("x")))["out"]
    assert bits(df.select(it.expr(model, pl.col("x")))["out"]) == bits(expected)
    for name in ("a", "l"):
        out = df.select(it.expr(model, pl.col(name)))["out"]
        assert without_names(out) == without_names(expected)


@each(TAKING_A_MODEL)
def test_the_order_of_fields_does_not_matter(it: Expression) -> None:
    df = rows_frame()
    swapped = df.select(it.expr(rows=pl.struct("y", "x")))
    assert bits(swapped) == bits(df.select(it.expr()))


@each(EXPRESSIONS)
@pytest.mark.parametrize("seed", range(3))
def test_chunks_do_not_matter(it: Expression, seed: int) -> None:
    df = it.frame()
    rng = np.random.default_rng(seed)
    cut = pl.DataFrame(
        [in_chunks(column, rng.integers(0, df.height, size=seed * 5 + 1)) for column in df]
    )
    expected = bits(df.select(it.expr()))
    assert bits(cut.select(it.expr())) == expected
    for engine in ENGINES:
        assert bits(cut.lazy().select(it.expr()).collect(engine=engine)) == expected


@each(EXPRESSIONS)
def test_slices_start_where_they_start(it: Expression) -> None:
    df = it.frame()
    around = pl.concat([df.reverse(), df, df.head(3)], rechunk=True)
    part = around.slice(df.height, df.height)
    assert bits(part.select(it.expr())) == bits(df.select(it.expr()))


@each(EXPRESSIONS)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_frame(it: Expression, engine: Any) -> None:
    lf = it.frame().clear().lazy()
    out = lf.select(it.expr()).collect(engine=engine)
    assert out.schema == {"out": it.dtype}
    assert out.height == (1 if it.shape == "aggregate" else 0)
    grouped = lf.group_by("g").agg(it.expr()).collect(engine=engine)
    assert grouped.height == 0
    assert grouped.schema["out"] == (it.dtype if it.shape == "aggregate" else pl.List(it.dtype))
    assert lf.with_columns(it.expr().over("g")).collect(engine=engine).height == 0


@each(AGGREGATES)
def test_what_an_aggregate_makes_of_nothing(it: Expression) -> None:
    value = the_value(it.frame().clear().select(it.expr()))
    if it.nothing == "null":
        assert value is None
    else:
        assert value["n_rows"] == 0
        assert value["total_weight"] == 0
        assert value["weight"] == [0.0, 0.0, 0.0]


@each(ROWWISE)
def test_one_row_is_that_row_of_many(it: Expression) -> None:
    df = it.frame()
    whole = df.select(it.expr())
    for i in (0, 7, df.height - 1):
        assert bits(df[i : i + 1].select(it.expr())) == bits(whole[i : i + 1])


@each(AGGREGATES)
def test_one_row_in_an_aggregate(it: Expression) -> None:
    df = it.frame().filter(pl.col("w") > 0) if it.reads == "rows" else it.frame()
    value = the_value(df.head(1).select(it.expr()))
    if it.method == "fit":
        assert value is None
    elif it.method == "merge":
        assert value == df["s"][0]
    else:
        mean = value["mean"] if it.method == "statistics" else value["means"]
        assert np.abs(np.asarray(mean) - df.select("x", "y").row(0)).max() < 1e-12
        if it.method == "statistics":
            assert value["n_rows"] == 1
        else:
            assert np.isfinite(np.asarray(value["covariances"])).all()


def with_nulls(df: pl.DataFrame) -> tuple[pl.DataFrame, list[int]]:
    """Nulls in x, in y and in both; and the rows they are in."""
    i = pl.int_range(pl.len())
    return df.with_columns(
        x=pl.when(~i.is_in([3, 17])).then("x"), y=pl.when(~i.is_in([17, 60])).then("y")
    ), [3, 17, 60]


@each([it for it in ON_ROWS if it.on_null == "null"])
@pytest.mark.parametrize("column", [False, True])
def test_null_rows_score_null(it: Expression, column: bool) -> None:
    df, bad = with_nulls(rows_frame())
    outer = df.with_columns(
        s=pl.when(~pl.int_range(pl.len()).is_in(bad)).then(pl.struct("x", "y")),
        a=pl.concat_arr("x", "y"),
        l=pl.concat_list("x", "y"),
        outer=pl.when(~pl.int_range(pl.len()).is_in(bad)).then(pl.concat_arr("x", "y")),
    )
    model = pl.lit(the_model().to_struct()) if column else the_model()
    expected = nulled(rows_frame().select(it.expr(model))["out"], bad)
    for rows in (pl.struct("x", "y"), pl.col("s"), pl.col("a"), pl.col("l"), pl.col("outer")):
        out = outer.select(it.expr(model, rows))["out"]
        assert out.is_null().arg_true().to_list() == bad
        assert bits(out) == bits(expected)


@each([it for it in ON_ROWS if it.on_null == "left out"])
def test_null_rows_are_left_out_of_statistics(it: Expression) -> None:
    df, bad = with_nulls(rows_frame())
    kept = rows_frame().filter(~pl.int_range(pl.len()).is_in(bad))
    value, expected = (the_value(frame.select(it.expr())) for frame in (df, kept))
    assert value["n_rows"] == expected["n_rows"]
    assert value["total_weight"] == expected["total_weight"]
    for name in ("weight", "mean", "scatter", "weights", "means", "covariances"):
        if name in value:
            np.testing.assert_allclose(value[name], expected[name], rtol=1e-12, atol=1e-12)


def spoiled(column: str, bad: float | None) -> pl.DataFrame:
    """The usual rows with a bad value in rows 17 and 100, all rows of weight one."""
    return rows_frame().with_columns(
        pl.when(pl.int_range(pl.len()).is_in([17, 100])).then(bad).otherwise(column).alias(column),
        w=pl.lit(1.0),
    )


@each([it for it in ON_ROWS if it.on_null == "error"])
def test_null_rows_are_an_error_with_words(it: Expression) -> None:
    what = "responsibilit" if it.method == "m_step" else r"\bx\b"
    with says(ComputeError, "null", what, r"\b2\b", r"\b17\b"):
        spoiled("x", None).select(it.expr())


@each([it for it in EXPRESSIONS if it.reads != "rows" and it.shape == "rowwise"])
def test_null_values_stay_null(it: Expression) -> None:
    df = it.frame()
    name = "s" if it.reads == "statistics" else "m"
    holed = df.with_columns(nulled(df[name], [2, 5]))
    expected = nulled(df.select(it.expr())["out"], [2, 5])
    assert bits(holed.select(it.expr())["out"]) == bits(expected)


@each(SCORING)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_rows_that_are_not_finite_score_nan(it: Expression, bad: float) -> None:
    out = spoiled("x", bad).select(it.expr())["out"]
    hole = {"predict": None, "log_density": np.nan}.get(it.method, [np.nan] * 3)
    expected = rows_frame().select(it.expr())["out"].to_list()
    for i in (17, 100):
        expected[i] = hole
    assert repr(out.to_list()) == repr(expected)


@each([it for it in ON_ROWS if it.shape != "rowwise"])
@pytest.mark.parametrize(("bad", "word"), [(float("nan"), "nan"), (float("-inf"), "inf")])
def test_rows_that_are_not_finite_are_an_error_with_words(
    it: Expression, bad: float, word: str
) -> None:
    with says(ComputeError, word, r"\by\b", r"\b2\b", r"\b17\b"):
        spoiled("y", bad).select(it.expr())


NUMERIC: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    str(dtype): lambda c, dtype=dtype: c.round(0).cast(dtype)
    for dtype in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128)
} | {
    str(dtype): lambda c, dtype=dtype: (c.round(0) + 20).cast(dtype)
    for dtype in (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
}
NUMERIC["Float32"] = lambda c: c.cast(pl.Float32)
NUMERIC["Decimal"] = lambda c: ((c * 4).round(0) / 4).cast(pl.Decimal(12, 2))
NUMERIC["Boolean"] = lambda c: c > 0


@each(ON_ROWS)
@pytest.mark.parametrize("dtype", NUMERIC)
def test_equal_values_give_equal_bits_whatever_their_width(it: Expression, dtype: str) -> None:
    narrow = rows_frame().with_columns(NUMERIC[dtype](pl.col("x", "y")))
    wide = narrow.with_columns(pl.col("x", "y").cast(pl.Float64))
    expected = bits(wide.select(it.expr()))
    assert bits(narrow.select(it.expr())) == expected
    lists = narrow.with_columns(l=pl.concat_list("x", "y"))
    assert without_names(lists.select(it.expr(rows=pl.col("l")))["out"]) == without_names(
        wide.select(it.expr())["out"]
    )


@each([it for it in ON_ROWS if it.variant == "weighted"])
def test_weights_of_any_numeric_dtype(it: Expression) -> None:
    df = rows_frame().with_columns(pl.col("w").ceil())
    expected = bits(df.select(it.expr()))
    for dtype in (pl.UInt8, pl.Int64, pl.Float32, pl.Decimal(10, 1)):
        assert bits(df.with_columns(pl.col("w").cast(dtype)).select(it.expr())) == expected


def plan(lf: pl.LazyFrame) -> str:
    dot = lf.show_graph(engine="streaming", plan_stage="physical", raw_output=True, show=False)
    assert dot is not None
    return dot


STOPS_THE_STREAM = ("columnar-function", "in-memory-map")


@each(ROWWISE)
def test_what_is_rowwise_streams(it: Expression) -> None:
    dot = plan(it.frame().lazy().select(it.expr()))
    assert not any(word in dot for word in STOPS_THE_STREAM)


def test_the_plan_shows_what_does_not_stream() -> None:
    held = pl.col("x").map_batches(lambda s: s, return_dtype=pl.Float64)
    fitted = next(it for it in EXPRESSIONS if it.method == "fit_predict")
    for expr in (held, fitted.expr()):
        dot = plan(rows_frame().lazy().select(expr))
        assert any(word in dot for word in STOPS_THE_STREAM)


@each(ROWWISE)
def test_many_morsels_give_the_bits_of_one_chunk(it: Expression) -> None:
    times = 250_000 // it.frame().height if it in SCORING else 500
    df = pl.concat([it.frame()] * times, rechunk=True).select(pl.exclude("h", "r", "w", "z"))
    out = df.lazy().select(it.expr()).collect(engine="streaming")["out"]
    once = it.frame().select(it.expr())["out"]
    assert out.equals(pl.concat([once] * times))


@each(EXPRESSIONS)
def test_groups_from_a_scan(it: Expression, tmp_path: Any) -> None:
    path = tmp_path / "rows.parquet"
    it.frame().write_parquet(path, row_group_size=max(1, it.frame().height // 4))
    out = pl.scan_parquet(path).group_by("g").agg(it.expr()).sort("g").collect(engine="streaming")
    expected = it.frame().group_by("g").agg(it.expr()).sort("g")
    assert bits(out) == bits(expected)


def test_sliced_array_columns_with_nulls() -> None:
    dtype = pl.Array(pl.Float64, 2)
    rows = [[1.0, 2.0], None, [3.0, 4.0], [5.0, 7.0], None, [5.0, 6.0]]
    gamma = [[1.0, 0.0], None, [0.0, 1.0], [1.0, 0.0], None, [1.0, 0.0]]
    df = pl.DataFrame({"l": pl.Series(rows, dtype=dtype), "r": pl.Series(gamma, dtype=dtype)})
    model = GaussianMixture([1.0], [[0.0, 0.0]], [np.eye(2)], features=["l[0]", "l[1]"])
    rows_of_l = pl.col("l").gmm
    whole = df.select(rows_of_l.log_density(model)).to_series()
    for part, expected in ((df[1:5], whole[1:5]), (df.filter(pl.int_range(6) > 1), whole[2:])):
        assert part.select(rows_of_l.log_density(model)).to_series().to_list() == expected.to_list()
    step = df[1:].select(rows_of_l.m_step("r")).to_series().struct.field("means").to_list()
    assert step == [[[5.0, 6.5], [3.0, 4.0]]]
    assert df[1:].gmm.fit("l", k=1, nulls="drop").n_rows == 3
