"""Fits by passes over a source: the result of memory, whoever cuts the rows where."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.io.plugins import register_io_source

import polars_gmm as pg
from datasets import array_column
from polars_gmm import _engine, _fit, _stream, _stream_search
from polars_gmm._lib import Scan
from polars_gmm._options import fit_options
from polars_gmm._plugin import call
from support import bits, run_python, says

N = 30_000
NAMES = ["a", "b", "c"]


def rows() -> pl.DataFrame:
    rng = np.random.default_rng(7)
    group = rng.integers(3, size=N)
    centers = np.array([[0, 0, 0], [4, 1, 0], [-3, 3, 2]])
    values = centers[group] + rng.normal(size=(N, 3))
    return (
        pl.DataFrame(values, schema=NAMES)
        .with_columns(
            pl.Series("w", rng.integers(0, 4, size=N).astype(float)),
            pl.Series("z", group.astype(np.uint32)),
            pl.Series("key", rng.integers(50, size=N)),
            array_column("r", np.eye(3)[group] * 0.7 + 0.1),
            array_column("v", values),
            pl.Series("some", np.where(rng.random(N) < 0.1, group, -1)).replace(-1, None),
        )
        .with_columns(l=pl.col("v").arr.to_list(), q=pl.col("a").round(1))
    )


DF = rows()
K3: dict[str, Any] = {"k": 3, "max_iter": 4, "tol": 0, "n_init": 1}


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "rows.parquet"
    DF.write_parquet(path, row_group_size=5000)
    return path


@pytest.fixture(scope="module")
def in_memory() -> pg.GaussianMixture:
    return DF.gmm.fit(*NAMES, **K3)


def fitting(options: dict[str, Any]) -> dict[str, Any]:
    """K3 with these options; a start that is given is not drawn."""
    given = not isinstance(options.get("init", ""), str)
    return {**K3, **({"n_init": None} if given else {}), **options}


def streamed(frame: pl.LazyFrame, *features: Any, **options: Any) -> pg.GaussianMixture:
    return frame.gmm.fit(*features, **fitting(options), engine="streaming")


def io_source(read: Callable[[], Iterator[pl.DataFrame]]) -> pl.LazyFrame:
    """A Python source that hands over what `read` yields, each time it is read."""
    schema = DF.select(NAMES).schema

    def source(
        with_columns: list[str] | None, predicate: Any, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        for batch in read():
            yield batch if with_columns is None else batch.select(with_columns)

    return register_io_source(source, schema=schema)


# The result of memory


def test_every_source_gives_the_model_of_memory(
    tmp_path: Path, parquet: Path, in_memory: pg.GaussianMixture
) -> None:
    df = DF.select(NAMES)
    df.write_csv(tmp_path / "rows.csv", float_precision=None)
    df.write_ipc(tmp_path / "rows.arrow", record_batch_size=3000)
    df.write_ndjson(tmp_path / "rows.ndjson")
    for i in range(4):
        part = df.slice(i * 7500, 7500)
        part.write_parquet(tmp_path / f"part-{i}.parquet", row_group_size=1100)
    sources = {
        "parquet": pl.scan_parquet(parquet),
        "csv": pl.scan_csv(tmp_path / "rows.csv"),
        "ipc": pl.scan_ipc(tmp_path / "rows.arrow"),
        "ndjson": pl.scan_ndjson(tmp_path / "rows.ndjson"),
        "glob": pl.scan_parquet(tmp_path / "part-*.parquet"),
        "frame": df.lazy(),
        "python": io_source(lambda: iter([df.head(999), df.slice(999, 1), df.slice(1000)])),
    }
    for name, source in sources.items():
        model = streamed(source, *NAMES)
        assert model == in_memory, name
        assert model.history is not None
        assert in_memory.history is not None
        assert model.history.drop("seconds").equals(in_memory.history.drop("seconds"))


def test_filters_and_new_columns_are_part_of_the_query(parquet: Path) -> None:
    def chosen(frame: Any) -> Any:
        return frame.filter(pl.col("a") + pl.col("b") > 0.5).with_columns(s=pl.col("a") * 2)

    expected = chosen(DF).gmm.fit("s", "c", **K3)
    assert streamed(chosen(pl.scan_parquet(parquet)), "s", "c") == expected
    none = pl.scan_parquet(parquet).filter(pl.col("a") > 1e9)
    with says(pg.GmmError, "k=3 components needs at least as many rows .* got 0"):
        streamed(none, "a")


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "w"},
        {"weights": "w", "covariance_type": "diag", "seed": 3},
        {"init": pl.col("z")},
        {"init": pl.col("r"), "weights": "w", "covariance_type": "tied"},
        {"labels": "some"},
        {"init": "random", "covariance_type": "spherical"},
        {"tol": 1e-5, "max_iter": 1000, "n_init": None},
        {"prior": pg.NormalInverseWishart()},
    ],
    ids=str,
)
def test_every_option_gives_the_model_of_memory(parquet: Path, options: dict[str, Any]) -> None:
    expected = DF.gmm.fit(*NAMES, **fitting(options))
    assert streamed(pl.scan_parquet(parquet), *NAMES, **options) == expected


@pytest.mark.parametrize("features", [["v"], ["l"], ["a"], ["q", "z"]], ids=str)
def test_every_kind_of_feature_column_streams(parquet: Path, features: list[str]) -> None:
    assert streamed(pl.scan_parquet(parquet), *features) == DF.gmm.fit(*features, **K3)


def test_a_given_model_is_matched_by_name(parquet: Path) -> None:
    start = DF.gmm.fit("c", "a", "b", k=3, max_iter=1, tol=0)
    expected = DF.gmm.fit(*NAMES, **fitting({"init": start}))
    assert streamed(pl.scan_parquet(parquet), *NAMES, init=start) == expected


def test_rows_with_nulls_are_dropped_as_in_memory() -> None:
    holes = DF.with_columns(a=pl.when(pl.col("key") > 2).then("a"))
    expected = holes.gmm.fit(*NAMES, nulls="drop", **K3)
    assert streamed(holes.lazy(), *NAMES, nulls="drop") == expected


def test_rows_in_no_order_fit_as_well(parquet: Path) -> None:
    start = DF.gmm.fit("a", "b", k=3, max_iter=0)
    other = pl.LazyFrame({"key": np.arange(50), "f": np.arange(50) % 5 / 10})
    lf = pl.scan_parquet(parquet).join(other, on="key").with_columns(pl.col("a") + pl.col("f"))
    options: dict[str, Any] = {"init": start, "k": 3, "tol": 1e-6}
    expected = lf.collect().gmm.fit("a", "b", **options)
    model = lf.gmm.fit("a", "b", **options, engine="streaming")
    np.testing.assert_allclose(model.means, expected.means, rtol=1e-9)
    np.testing.assert_allclose(model.covariances, expected.covariances, rtol=1e-9)
    assert model.n_iter == expected.n_iter


CUT = """
import sys
import polars as pl, polars_gmm as pg
lf = pl.scan_parquet(sys.argv[1])
options = {"tol": 0, "n_init": 1, "engine": "streaming"}
for model in (
    lf.gmm.fit("a", "b", "c", k=3, max_iter=4, **options),
    lf.gmm.fit("a", "b", "c", k=50, max_iter=2, init="random", **options),
    lf.gmm.fit("a", "b", "c", k=3, covariance_type="diag", labels="some", max_iter=2, **options),
):
    print(model.pack().hex())
"""
# From 48 components on, rows are put in order within larger leaves.
K50: dict[str, Any] = {"k": 50, "max_iter": 2, "tol": 0, "init": "random", "n_init": 1}
LABELLED: dict[str, Any] = {**K3, "covariance_type": "diag", "labels": "some", "max_iter": 2}


@pytest.fixture(scope="module")
def models_in_memory(in_memory: pg.GaussianMixture) -> list[pg.GaussianMixture]:
    return [in_memory, *(DF.gmm.fit(*NAMES, **options) for options in (K50, LABELLED))]


@pytest.mark.parametrize(
    ("morsel", "threads"),
    [("1000", "3"), ("1000000", "1"), ("7777", "2"), ("65536", "4"), ("250000", "2")],
)
def test_morsels_and_threads_change_no_bit(
    parquet: Path, models_in_memory: list[pg.GaussianMixture], morsel: str, threads: str
) -> None:
    printed = run_python(
        CUT, str(parquet), POLARS_IDEAL_MORSEL_SIZE=morsel, POLARS_MAX_THREADS=threads
    )
    assert printed.split() == [model.pack().hex() for model in models_in_memory]


def test_row_groups_change_no_bit(
    tmp_path: Path, models_in_memory: list[pg.GaussianMixture]
) -> None:
    path = tmp_path / "rows.parquet"
    for size in (77, 4096, 10_001, 262_144):
        DF.write_parquet(path, row_group_size=size)
        for options, expected in zip((K3, K50, LABELLED), models_in_memory, strict=True):
            model = pl.scan_parquet(path).gmm.fit(*NAMES, **options, engine="streaming")
            assert model == expected, (size, options)


# What goes wrong


def spoilt(**columns: Any) -> pl.DataFrame:
    return DF.with_columns(**columns)


AT = pl.int_range(pl.len())
BAD: list[tuple[pl.DataFrame, tuple[str, ...], dict[str, Any]]] = [
    (spoilt(b=pl.when(AT.is_in([17_000, 29_000])).then(None).otherwise("b")), ("a", "b"), {}),
    (spoilt(b=pl.when(AT == 29_000).then(float("nan")).otherwise("b")), ("a", "b"), {}),
    (spoilt(w=pl.when(AT > 29_990).then(-1.0).otherwise("w")), ("a",), {"weights": "w"}),
    (spoilt(w=pl.when(AT == 5).then(None).otherwise("w")), ("a",), {"weights": "w"}),
    (spoilt(z=pl.when(AT > 12_345).then(7).otherwise("z")), ("a",), {"init": pl.col("z")}),
    (spoilt(z=pl.when(AT > 12_345).then(7).otherwise("z")), ("a",), {"labels": "z"}),
    (spoilt(z=pl.when(AT > 12_345).then(None).otherwise("z")), ("a",), {"init": pl.col("z")}),
    (spoilt(r=pl.when(AT == 9000).then(None).otherwise("r")), ("a",), {"init": pl.col("r")}),
    (spoilt(l=pl.when(AT == 9000).then([1.0]).otherwise("l")), ("l",), {}),
    (DF.head(2), ("a",), {}),
    (DF.with_columns(w=0.0), ("a",), {"weights": "w"}),
    (DF, ("a", "nope"), {}),
    (DF, ("a",), {"init": pl.lit(0).cast(pl.UInt32).repeat_by(1).explode()}),
    (DF, ("a",), {"prior": pg.NormalInverseWishart(mean=[1.0, 2.0])}),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_errors_are_those_of_memory(case: int, tmp_path: Path) -> None:
    df, features, options = BAD[case]
    with pytest.raises(pg.GmmError) as expected:
        df.gmm.fit(*features, **fitting(options))
    df.write_parquet(tmp_path / "bad.parquet", row_group_size=3000)
    with pytest.raises(pg.GmmError) as got:
        streamed(pl.scan_parquet(tmp_path / "bad.parquet"), *features, **options)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda df: df.head(N - 1), "number of rows was 30000 and is 29999"),
        (lambda df: df.with_columns(pl.col("b") + 0.001), 'mean of "b"'),
        (lambda df: df.with_columns(pl.col("c") * 1.001), 'of "c"'),
        (lambda df: df.with_columns(a=pl.when(AT == 7).then(None).otherwise("a")), "that count"),
        (lambda df: df.with_columns(pl.col("b").reverse()), 'covariance of "a" and "b"'),
        (lambda df: df.with_columns(pl.col("c").shift(1).fill_null(df["c"][-1])), 'and "c"'),
    ],
    ids=["fewer", "shifted", "scaled", "nulls", "reversed", "rolled"],
)
@pytest.mark.parametrize("structure", ["full", "diag"])
def test_a_source_that_changes_is_an_error(
    change: Callable[[pl.DataFrame], pl.DataFrame], what: str, structure: Any
) -> None:
    df, reads = DF.select(NAMES), 0

    def read() -> Iterator[pl.DataFrame]:
        nonlocal reads
        reads += 1
        yield df if reads < 3 else change(df)

    with says(pg.GmmError, "rows are not those this fit began with", what):
        streamed(io_source(read), *NAMES, covariance_type=structure)


CLUSTERS = pg.make_blobs(20_000, centers=5, seed=1)
LABELS: dict[str, pl.Expr] = {
    "shuffled": pl.col("label").shuffle(1),
    "fewer": pl.when(AT != 0).then("label"),
    "others": (4 - pl.col("label")).cast(pl.UInt32).alias("label"),
}


@pytest.mark.parametrize("structure", ["full", "tied", "diag"])
@pytest.mark.parametrize("change", LABELS)
def test_labels_that_change_are_an_error(change: str, structure: Any) -> None:
    reads = 0

    def read(df: pl.DataFrame) -> pl.DataFrame:
        nonlocal reads
        reads += 1
        return df.with_columns(LABELS[change]) if reads > 3 else df

    lf = CLUSTERS.lazy().map_batches(read, schema=CLUSTERS.schema)
    options: dict[str, Any] = {"k": 5, "labels": "label", "covariance_type": structure}
    assert CLUSTERS.gmm.fit("x0", "x1", **options).n_iter >= 2
    with says(pg.GmmError, "rows are not those this fit began with", "rows labelled"):
        lf.gmm.fit("x0", "x1", **options, tol=0, max_iter=9, engine="streaming")
    assert reads > 3


def test_labels_that_appear_are_an_error() -> None:
    reads = 0

    def read(df: pl.DataFrame) -> pl.DataFrame:
        nonlocal reads
        reads += 1
        return df if reads > 3 else df.with_columns(label=pl.lit(None, pl.UInt32))

    lf = CLUSTERS.lazy().map_batches(read, schema=CLUSTERS.schema)
    with says(pg.GmmError, "the weight of the rows labelled 0 was 0 and is 4000"):
        lf.gmm.fit("x0", "x1", k=5, labels="label", tol=0, max_iter=9, engine="streaming")


@pytest.mark.parametrize("structure", ["full", "diag"])
def test_tiny_weights_are_no_other_rows(structure: Any) -> None:
    df = DF.with_columns(pl.col("w") * 1e-320)
    options: dict[str, Any] = {"weights": "w", "covariance_type": structure, "labels": "some"}
    model = streamed(df.lazy(), *NAMES, **options)
    assert model == df.gmm.fit(*NAMES, **K3, **options)


@pytest.mark.parametrize("name", ["polars_gmm:row", "row", "a:row"])
def test_a_feature_may_have_any_name(name: str) -> None:
    df = DF.select(pl.col("a").alias(name))
    assert df.lazy().gmm.fit(**K3, engine="streaming") == df.gmm.fit(**K3)


WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "parquet": pl.DataFrame.write_parquet,
    "ipc": pl.DataFrame.write_ipc,
    "csv": pl.DataFrame.write_csv,
    "ndjson": pl.DataFrame.write_ndjson,
}
SCANS: dict[str, Callable[[Path], pl.LazyFrame]] = {
    "parquet": pl.scan_parquet,
    "ipc": pl.scan_ipc,
    "csv": pl.scan_csv,
    "ndjson": pl.scan_ndjson,
}
CHANGES: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda _: None,
    "emptied": lambda _: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "overwritten": lambda content: bytes(byte ^ 0x5A for byte in content),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_is_an_error_of_this_package(
    tmp_path: Path, kind: str, change: str
) -> None:
    path = tmp_path / "rows"
    WRITERS[kind](DF.select(NAMES), path)
    content = CHANGES[change](path.read_bytes())

    def spoil(report: pg.FitReport) -> None:
        if report.iteration == 2:
            path.unlink()
            if content is not None:
                path.write_bytes(content)

    fit = SCANS[kind](path).gmm.fit
    words = "could not be read again in pass 5: .*; it may have changed|the number of rows was"
    with says(pg.GmmError, words):
        fit(*NAMES, **K3, engine="streaming", on_iteration=spoil)


def test_the_original_error_is_the_cause(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    DF.write_parquet(path)
    with pytest.raises(pg.GmmError) as caught:
        streamed(pl.scan_parquet(path), *NAMES, on_iteration=lambda _: path.unlink(missing_ok=True))
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(FileNotFoundError):  # a first pass says it as Polars does
        streamed(pl.scan_csv(path, schema=DF.select(NAMES).schema), *NAMES)


def test_an_interruption_of_a_later_pass_is_no_failure_of_the_source() -> None:
    reads = 0

    def read() -> Iterator[pl.DataFrame]:
        nonlocal reads
        reads += 1
        yield DF.select(NAMES)
        if reads == 4:
            raise KeyboardInterrupt

    with pytest.raises(pg.FitInterrupted) as caught:
        streamed(io_source(read), *NAMES)
    assert caught.value.model is not None


def test_an_error_of_the_source_is_its_own() -> None:
    def read() -> Iterator[pl.DataFrame]:
        yield DF.select(NAMES).head(100)
        raise RuntimeError("the bucket is gone")

    with pytest.raises(Exception, match="the bucket is gone"):
        streamed(io_source(read), *NAMES)


# Which rows are read, how often, by whom


def test_passes_are_counted() -> None:
    reads = 0

    def read() -> Iterator[pl.DataFrame]:
        nonlocal reads
        reads += 1
        yield from DF.select(NAMES).iter_slices(4000)

    model = streamed(io_source(read), *NAMES)
    assert model.n_passes == reads >= 6  # the first, the start, and an iteration each
    assert pickle.loads(pickle.dumps(model)).n_passes == reads
    assert DF.gmm.fit("a", k=2).n_passes is None


@pytest.mark.parametrize("structure", ["full", "diag"])
def test_what_a_pass_left_out_is_read_again(structure: Any) -> None:
    """A start of which one component is so far away that a pass takes all its shares for zero."""
    means = np.repeat([[0.0], [60.0]], 3, axis=1)
    covariances = {"full": np.stack([np.eye(3) * 9] * 2), "diag": np.full((2, 3), 9.0)}[structure]
    start = pg.GaussianMixture(
        [0.5, 0.5], means, covariances, features=NAMES, covariance_type=structure
    )
    options: dict[str, Any] = {
        "k": 2, "init": start, "covariance_type": structure, "max_iter": 3, "acceleration": None
    }  # fmt: skip
    plain = DF.gmm.fit(*NAMES, **options, tol=0)
    streamed = DF.lazy().gmm.fit(*NAMES, **options, tol=0, engine="streaming")
    assert 0 < plain.weights[1] < 0.1
    assert plain == streamed
    first, once_more = 1, 1
    assert streamed.n_passes == first + plain.history.height + once_more


def test_auto_streams_what_is_large(monkeypatch: pytest.MonkeyPatch, parquet: Path) -> None:
    lf = pl.scan_parquet(parquet)
    assert lf.gmm.fit(*NAMES, **K3).n_passes is None
    assert lf.gmm.search(*NAMES, k=[1], max_iter=1, tol=0).height == 1
    at_limit = N * 3 * 8
    for limit, streams in ((at_limit, False), (at_limit - 8, True)):
        monkeypatch.setattr(_engine, "SMALL", limit)
        for features in (NAMES, ["v"], ["l"]):
            model = lf.gmm.fit(*features, **K3)
            assert (model.n_passes is not None) == streams, (limit, features)
        assert DF.gmm.fit(*NAMES, **K3).n_passes is None
        assert lf.gmm.fit(*NAMES, **K3, engine="in-memory").n_passes is None
    with says(pg.GmmError, r"engine must be one of \['auto', 'in-memory', 'streaming'\]"):
        lf.gmm.fit("a", k=1, engine="fast")  # type: ignore[arg-type]


def test_the_threshold_is_the_documented_one() -> None:
    assert f"at most {_engine.SMALL // 2**20} MiB" in (inspect.getdoc(pl.LazyFrame.gmm.fit) or "")


def source_of(frame: pl.LazyFrame, packed: pl.Expr) -> _stream.Source:
    return _stream.Source(frame, packed, extras=[], features=None)


def first_pass() -> Scan:
    return Scan.survey([], [pickle.dumps(fit_options(1)[0])], None)


def test_the_plan_is_optimised_as_usual(parquet: Path) -> None:
    frame = pl.scan_parquet(parquet).filter(pl.col("z") == 1)
    scan = first_pass()
    query = source_of(frame, pl.struct("a", "b"))._query(scan)
    plan = query.explain(engine="streaming")
    assert "PROJECT 3/" in plan or "PROJECT 2/" in plan, plan
    assert "SELECTION:" in plan


def test_the_guard_knows_what_a_plan_collects(parquet: Path) -> None:
    source = source_of(pl.scan_parquet(parquet), pl.struct("a", "b"))
    scan = first_pass()
    assert not source._collects(source._query(scan))
    numbered = source._rows.with_row_index(source._row)
    morsel = pl.struct(pl.nth(1), pl.nth(0))
    for flags in ({}, {"scalar": True}, {"shrinks": True}):
        query = numbered.select(call("scan", [morsel], kwargs={"scan": scan.id}, **flags))
        assert source._collects(query), flags
    # What the user's own query collects is not held against it.
    sorted_source = source_of(pl.scan_parquet(parquet).sort("a").reverse(), pl.struct("a", "b"))
    assert not sorted_source._collects(sorted_source._query(scan))


def test_batches_are_the_way_out(
    monkeypatch: pytest.MonkeyPatch, parquet: Path, in_memory: pg.GaussianMixture
) -> None:
    monkeypatch.setattr(_stream.Source, "_collects", lambda *_: True)
    assert streamed(pl.scan_parquet(parquet), *NAMES) == in_memory
    expected = DF.gmm.fit("v", **fitting({"init": pl.col("r"), "weights": "w"}))
    assert streamed(pl.scan_parquet(parquet), "v", init=pl.col("r"), weights="w") == expected
    df, features, options = BAD[0]
    with says(pg.GmmError, 'feature "b" is null in 2 rows, the first is row 17000'):
        streamed(df.lazy(), *features, **options)


def test_rows_that_are_lost_or_repeated_are_an_error(
    monkeypatch: pytest.MonkeyPatch, parquet: Path
) -> None:
    lf = pl.scan_parquet(parquet)
    read = _stream.Source._read
    monkeypatch.setattr(
        _stream.Source, "_read", lambda self, scan: read(self, scan) + read(self, scan)
    )
    with says(pg.GmmError, "not numbered from 0 on without gaps"):
        streamed(lf, *NAMES)
    monkeypatch.setattr(_stream.Source, "_read", lambda self, scan: read(self, scan) - 1)
    with says(pg.GmmError, "counted 29999 rows and got 30000", "engine='in-memory'"):
        streamed(lf, *NAMES)


def test_a_query_of_a_pass_that_is_over_says_so(parquet: Path) -> None:
    source = source_of(pl.scan_parquet(parquet), pl.struct("a", "b"))
    query = source._query(first_pass())
    with says(pl.exceptions.ComputeError, "in the process of that fit"):
        query.collect()


# Watching


def test_reports_say_how_fast_and_how_long(parquet: Path) -> None:
    reports: list[pg.FitReport] = []
    lf = pl.scan_parquet(parquet)
    model = lf.gmm.fit(*NAMES, k=3, init="random", engine="streaming", on_iteration=reports.append)
    assert model.converged
    assert all(report.rows_per_second == N / report.seconds for report in reports)
    assert reports[0].iterations_left is None
    left = [report.iterations_left for report in reports if report.iterations_left is not None]
    assert len(left) > len(reports) // 2
    assert left[-1] == 0
    assert 1 <= min(left[:-1]) <= left[-2] <= 3
    report = next(report for report in reports if report.iterations_left is not None)
    assert report.seconds_left == (report.iterations_left or 0) * report.seconds
    assert pickle.loads(pickle.dumps(report)).model.n_passes == report.model.n_passes
    assert [r.model.n_passes for r in reports] == sorted(r.model.n_passes or 0 for r in reports)


def test_the_estimate_is_right_for_a_geometric_rise() -> None:
    options, _ = fit_options(2, tol=1e-6, max_iter=500)
    changes = [float("nan"), *(0.5**j for j in range(8))]
    # What is left after j more is 2^-7 2^-(j + 1) * 2 < 1e-6 from j = 13 on.
    assert _fit._iterations_left(changes, 8, options) == 13
    assert _fit._iterations_left(changes, 495, options) == 5
    assert _fit._iterations_left([float("nan"), 1.0], 1, options) is None
    assert _fit._iterations_left([float("nan"), 1.0, 2.0], 2, options) is None
    assert _fit._iterations_left(changes, 8, {**options, "tol": 0.0}) == 492


def test_progress_shows_speed_and_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], parquet: Path
) -> None:
    monkeypatch.setattr(_fit, "progress_bar", lambda *_, **__: None)
    streamed(pl.scan_parquet(parquet), *NAMES, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["EM, first pass", "EM, start"]
    lines = lines[2:]
    assert len(lines) == 4
    assert all("log-likelihood" in line and "rows/s, about" in line for line in lines)


def test_a_callback_may_stop_a_stream(parquet: Path) -> None:
    model = streamed(pl.scan_parquet(parquet), *NAMES, on_iteration=lambda r: r.iteration < 2)
    assert model.n_iter == 2
    assert model == DF.gmm.fit(*NAMES, **{**K3, "max_iter": 2})


INTERRUPTED = """
import os, signal, sys, threading, time
import polars as pl
import polars_gmm as pg
from polars_gmm import _stream

lf = pl.scan_parquet([sys.argv[1]] * 40).select("a", "b", "c")
start = lf.head(20_000).gmm.fit(k=30, init="random", n_init=1, max_iter=1, tol=0)
if sys.argv[2] == "batches":
    _stream.Source._collects = lambda *_: True

waited, iterations = [], []
for delay in (0.15, 0.6, 1.1):
    pressed = []

    def press():
        pressed.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(delay, press).start()
    try:
        lf.gmm.fit(k=30, tol=0, max_iter=1_000_000, init=start, engine="streaming")
    except pg.FitInterrupted as stopped:
        waited.append(time.perf_counter() - pressed[0])
        iterations.append(-1 if stopped.model is None else stopped.model.n_iter)
    assert lf.select(pl.len()).collect(engine="streaming").item() == 40 * 30_000
print(max(waited) < 0.3, len(waited), iterations[-1] >= 0, waited)
"""


@pytest.mark.parametrize("way", ["morsels", "batches"])
def test_ctrl_c_ends_a_stream_at_once(parquet: Path, way: str) -> None:
    assert run_python(INTERRUPTED, str(parquet), way).startswith("True 3 True"), way


# Memory

# Pages of a file that Polars maps are not the fit's: anonymous memory is watched.
PEAK = """
import sys
import threading
import polars as pl
import polars_gmm as pg

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("RssAnon"))

def peak(work):
    before, most, done = anonymous(), [0.0], threading.Event()
    def watch():
        while not done.wait(0.002):
            most[0] = max(most[0], anonymous() - before)
    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return most[0]

path, out = sys.argv[1:]
lf = pl.scan_parquet([path] * 20)
start = pl.scan_parquet(path).head(1000).gmm.fit(k=2, max_iter=1, tol=0)
print(peak(lambda: lf.gmm.fit(k=2, init=start, max_iter=1, tol=0, engine="streaming")))
columns = lf.select("x0", "x1", "x2", "x3")
print(peak(lambda: columns.with_columns(z=start.predict()).select("z").sink_parquet(out)))
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    million = pl.DataFrame(rng.normal(size=(1_000_000, 4)), schema=[f"x{j}" for j in range(4)])
    million.write_parquet(tmp_path / "million.parquet", row_group_size=262_144)
    printed = run_python(
        PEAK, str(tmp_path / "million.parquet"), str(tmp_path / "z.parquet"), POLARS_MAX_THREADS="2"
    )
    fit, score = map(float, printed.split())
    assert 1 < fit < 300, "MiB; the columns have 610"
    assert score < 400


# A search


def test_candidates_share_the_passes(parquet: Path) -> None:
    reads = 0

    def read() -> Iterator[pl.DataFrame]:
        nonlocal reads
        reads += 1
        yield from DF.select(NAMES).iter_slices(4000)

    options: dict[str, Any] = {"k": [1, 2, 4], "covariance_type": ["full", "diag"], "tol": 1e-4}
    expected = DF.gmm.search(*NAMES, **options)
    table = io_source(read).gmm.search(*NAMES, **options, engine="streaming")
    assert bits(table) == bits(expected)
    assert reads < 2 * expected["n_iter"].max() + 3  # type: ignore[operator]
    weighted = pl.scan_parquet(parquet).gmm.search(
        *NAMES, weights="w", seed=1, **options, engine="streaming"
    )
    assert bits(weighted) == bits(DF.gmm.search(*NAMES, weights="w", seed=1, **options))


def test_labels_are_those_of_a_search_in_memory(parquet: Path) -> None:
    options: dict[str, Any] = {
        "k": [3, 4],
        "covariance_type": ["full", "spherical"],
        "labels": "some",
        "tol": 1e-4,
    }
    table = pl.scan_parquet(parquet).gmm.search(*NAMES, **options, engine="streaming")
    assert bits(table) == bits(DF.gmm.search(*NAMES, **options))
    with pytest.warns(pg.ConvergenceWarning, match="labels .*raise k"):
        few = pl.scan_parquet(parquet).gmm.search(
            *NAMES, **{**options, "k": [2, 3]}, engine="streaming"
        )
    assert few["model"].null_count() == 2


def test_a_search_says_what_it_does(
    parquet: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stream_search, "progress_bar", lambda *_, **__: None)
    pl.scan_parquet(parquet).gmm.search(
        *NAMES, k=[1, 2], tol=1e-3, progress=True, engine="streaming"
    )
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == ["search, first pass", "search, start 1 of 2", "search, start 2 of 2"]
    assert "search, pass 2, candidates left: 2" in lines


def test_a_candidate_that_cannot_be_fitted_leaves_the_others(parquet: Path) -> None:
    lf = pl.scan_parquet(parquet).with_columns(d=pl.col("a"))
    options: dict[str, Any] = {
        "k": [1, 2],
        "covariance_type": ["full", "diag"],
        "covariance_floor": 0,
        "max_iter": 3,
        "tol": 0,
    }
    with pytest.warns(pg.ConvergenceWarning, match="cannot be fitted"):
        expected = lf.collect().gmm.search("a", "d", **options)
    with pytest.warns(pg.ConvergenceWarning, match="cannot be fitted"):
        table = lf.gmm.search("a", "d", **options, engine="streaming")
    assert bits(table) == bits(expected)
    assert table["model"].null_count() > 0


def test_bad_rows_are_no_candidate_of_a_search() -> None:
    df, features, _ = BAD[0]
    with says(pg.GmmError, "is null in 2 rows, the first is row 17000"):
        df.lazy().gmm.search(*features, k=[1, 2], engine="streaming")


@pytest.mark.parametrize("k", [2, 12, 20])
def test_a_start_from_responsibilities_has_the_bits_of_memory_in_its_last_leaf_too(k: int) -> None:
    rng = np.random.default_rng(k)
    rows = rng.normal(size=(3000, 2)) + 5.0 * rng.integers(0, k, size=(3000, 1))
    df = pl.DataFrame(
        {"x": rows[:, 0], "y": rows[:, 1]},
    ).with_columns(r=pl.Series(rng.dirichlet(np.ones(k), size=3000), dtype=pl.Array(pl.Float64, k)))
    options = {"k": k, "init": pl.col("r"), "tol": 0.5}
    expected = df.gmm.fit("x", "y", **options)
    assert df.lazy().gmm.fit("x", "y", engine="streaming", **options) == expected
