"""Checkpoints: a fit goes on from its file to the bits of a fit that was not interrupted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import polars_gmm as pg
from datasets import by_quantile, faithful
from support import says

K3: dict[str, Any] = {"k": 3, "init": pl.col("start")}
ENGINES = ("in-memory", "streaming")


def frame() -> pl.LazyFrame:
    return faithful().with_columns(by_quantile(faithful()["waiting"], 3)).lazy()


def same_course(a: pg.GaussianMixture, b: pg.GaussianMixture) -> bool:
    assert a.history is not None
    assert b.history is not None
    return a == b and a.history.drop("seconds").equals(b.history.drop("seconds"))


@pytest.mark.parametrize(
    ("engine", "stops"), [("in-memory", (1, 2, 6, 30)), ("streaming", (1, 5, 30))]
)
def test_a_fit_goes_on_from_any_iteration(tmp_path: Path, engine: Any, stops: Any) -> None:
    whole = frame().gmm.fit(**K3, engine=engine)
    assert whole.n_iter is not None
    path = tmp_path / "fit.json"
    for stop in stops:

        def enough(report: pg.FitReport, stop: int = stop) -> bool:
            return report.iteration < stop

        kept: dict[str, Any] = {"engine": engine, "checkpoint": path}
        partial = frame().gmm.fit(**K3, **kept, on_iteration=enough)
        assert partial.n_iter is not None
        assert partial.n_iter >= min(stop, whole.n_iter)
        seen: list[pg.FitReport] = []
        model = frame().gmm.fit(**K3, **kept, resume=True, on_iteration=seen.append)
        assert same_course(model, whole)
        assert all(report.iteration > partial.n_iter for report in seen)
        assert model.n_passes == (None if engine == "in-memory" else whole.n_passes)
    again = frame().gmm.fit(**K3, **kept, resume=True)  # it had ended
    assert same_course(again, whole)
    assert list(tmp_path.iterdir()) == [path]


def test_engines_go_on_from_each_other(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    whole = frame().gmm.fit(**K3)
    for first, second in (ENGINES, ENGINES[::-1]):
        frame().gmm.fit(**K3, engine=first, checkpoint=path, on_iteration=lambda r: r.iteration < 4)
        assert same_course(
            frame().gmm.fit(**K3, engine=second, checkpoint=path, resume=True), whole
        )


def test_without_a_file_a_fit_begins(tmp_path: Path) -> None:
    path = str(tmp_path / "fit.json")
    assert frame().gmm.fit(**K3, checkpoint=path, resume=True) == frame().gmm.fit(**K3)
    with says(pg.GmmError, "resume=True needs the checkpoint"):
        frame().gmm.fit(**K3, resume=True)
    with says(pg.GmmError, "checkpoint must be the path of a file; got 3"):
        frame().gmm.fit(**K3, checkpoint=3)  # type: ignore[arg-type]


UNREAD = "no row is read before the path is checked"


def unreadable() -> pl.LazyFrame:
    def read(df: pl.DataFrame) -> pl.DataFrame:
        raise AssertionError(UNREAD)

    return frame().map_batches(read, schema=frame().collect_schema())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere/fit.json", "cannot be written: No such file or directory"),
        (".", "is a directory; name a file, such as"),
        ("file/fit.json", "cannot be written: Not a directory"),
        ("a\0b", "cannot be written: .*null"),
        ("x" * 300, "cannot be written: File name too long"),
        ("pipe", "is no regular file"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Exception, match=UNREAD):
        unreadable().gmm.fit(**K3, checkpoint=tmp_path / "fine.json", engine="streaming")
    with says(pg.GmmError, words):
        unreadable().gmm.fit(**K3, checkpoint=f"{tmp_path}/{name}", engine="streaming")
    for empty in ("", b"fit.json"):
        with says(pg.GmmError, "checkpoint must be the path of a file"):
            frame().gmm.fit(**K3, checkpoint=empty)  # type: ignore[arg-type]


def test_the_file_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    (here / ".fit.json.tmp").write_text("left by a kill")
    frame().gmm.fit(**K3, checkpoint="fit.json", on_iteration=lambda _: monkeypatch.chdir(there))
    assert [path.name for path in here.iterdir()] == ["fit.json"]
    assert not list(there.iterdir())
    words = "could not be written after iteration .* no state is left"
    with says(pg.GmmError, words):
        frame().gmm.fit(
            **K3, checkpoint=here / "fit.json", on_iteration=lambda _: shutil.rmtree(here, True)
        )


def test_no_other_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    frame().collect().write_csv(path)
    content = path.read_bytes()
    with says(pg.GmmError, "would replace .*rows.csv', which is no checkpoint; give another path"):
        unreadable().gmm.fit(**K3, checkpoint=path, engine="streaming")
    with says(pg.GmmError, "is not a checkpoint that can be gone on from"):
        frame().gmm.fit(**K3, checkpoint=path, resume=True)
    assert path.read_bytes() == content
    path.write_bytes(b"")
    model = frame().gmm.fit(**K3, checkpoint=path)
    assert frame().gmm.fit(**K3, checkpoint=path) == model


def test_a_disk_that_fills_up_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "fit.json", 0
    sync = os.fsync

    def fsync(file: int) -> None:
        nonlocal synced
        synced += 1
        if synced == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", fsync)
    with says(pg.GmmError, "could not be written after iteration 2: No space left"):
        frame().gmm.fit(**K3, checkpoint=path)
    assert list(tmp_path.iterdir()) == [path]
    assert frame().gmm.fit(**K3, checkpoint=path, resume=True) == frame().gmm.fit(**K3)


def test_a_link_stays_one(tmp_path: Path) -> None:
    path, link = tmp_path / "fit.json", tmp_path / "link.json"
    link.symlink_to(path)
    model = frame().gmm.fit(**K3, checkpoint=link)
    assert link.is_symlink()
    assert frame().gmm.fit(**K3, checkpoint=path, resume=True) == model


def stopped(path: Path, **options: Any) -> None:
    """Leave the checkpoint of a fit that has not ended."""
    frame().gmm.fit(
        **{**K3, **options}, checkpoint=path, on_iteration=lambda report: report.iteration < 4
    )


OTHER_ROWS = {
    "fewer": frame().head(270),
    "other values": frame().with_columns(pl.col("waiting") * 1.001),
    "another row": frame().with_columns(
        eruptions=pl.when(pl.int_range(pl.len()) == 9).then(1.0).otherwise("eruptions")
    ),
    "other pairs": frame().with_columns(pl.col("waiting").reverse()),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("other", OTHER_ROWS)
def test_other_rows_are_refused(tmp_path: Path, other: str, ended: bool, engine: Any) -> None:
    path = tmp_path / "fit.json"
    if ended:
        frame().gmm.fit(**K3, checkpoint=path)
    else:
        stopped(path)
    with says(pg.GmmError, "rows are not those this fit began with: .* was .* and is"):
        OTHER_ROWS[other].gmm.fit(**K3, checkpoint=path, resume=True, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("structure", ["full", "diag"])
def test_other_rows_are_refused_after_a_start_that_was_drawn(
    tmp_path: Path, structure: Any, engine: Any
) -> None:
    path = tmp_path / "fit.json"
    options: dict[str, Any] = {"k": 3, "covariance_type": structure, "checkpoint": path}
    rows = frame().select("eruptions", "waiting")
    rows.gmm.fit(**options, init="random", on_iteration=lambda report: report.iteration < 4)
    for other, frames in OTHER_ROWS.items():
        with says(pg.GmmError, "rows are not those this fit began with"):
            frames.select("eruptions", "waiting").gmm.fit(
                **options, init="random", resume=True, engine=engine
            )
        assert other


def known(shift: int = 0, every: int = 4) -> pl.Expr:
    """The component of some rows."""
    known = (pl.col("eruptions").rank("ordinal") + shift) % every == 0
    return pl.when(known).then((pl.col("waiting") > 67).cast(pl.UInt32)).alias("known")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ended", [False, True])
def test_other_labels_are_refused(tmp_path: Path, ended: bool, engine: Any) -> None:
    path = tmp_path / "fit.json"
    rows, names = frame(), ("eruptions", "waiting")
    options: dict[str, Any] = {"k": 3, "init": "random", "checkpoint": path}

    def enough(report: pg.FitReport) -> bool:
        return ended or report.iteration < 4

    model = rows.gmm.fit(*names, **options, labels=known(), on_iteration=enough)
    assert model.converged == ended
    for other in (known(1), known(0, 5), pl.lit(None, pl.UInt32).repeat_by(272).explode()):
        with says(pg.GmmError, "the rows labelled . was .* and is"):
            rows.gmm.fit(*names, **options, labels=other, resume=True, engine=engine)
    with says(pg.GmmError, "with labels, but this one has no column beside the features"):
        rows.gmm.fit(*names, **options, resume=True, engine=engine)
    same = rows.with_columns(known().alias("l")).gmm.fit(
        *names, **options, labels="l", resume=True, engine=engine
    )
    assert same_course(same, rows.gmm.fit(*names, k=3, init="random", labels=known()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ended", [False, True])
def test_another_column_of_the_start_is_refused(tmp_path: Path, ended: bool, engine: Any) -> None:
    path = tmp_path / "fit.json"
    if ended:
        frame().gmm.fit(**K3, checkpoint=path)
    else:
        stopped(path)
    options: dict[str, Any] = {"k": 3, "checkpoint": path, "resume": True, "engine": engine}
    for other in (pl.col("start").reverse(), 2 - pl.col("start").cast(pl.Int8)):
        with says(pg.GmmError, "the start is not the one this fit began with"):
            frame().gmm.fit("eruptions", "waiting", **options, init=other)
    same = frame().gmm.fit("eruptions", "waiting", **options, init=pl.col("start") * 1.0)
    assert same_course(same, frame().gmm.fit(**K3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"covariance_type": "tied"}, "covariance_type='full', but this one has .*'tied'"),
        ({"tol": 1e-3}, "tol=1e-06, but this one has tol=0.001"),
        ({"max_iter": 5}, "max_iter=1000, but this one has max_iter=5"),
        ({"seed": 1}, "seed=0, but this one has seed=1"),
        ({"init": "k-means++"}, "init='column', but this one has init='k-means"),
        ({"k": 2}, "k=3, but this one has k=2"),
        ({"weights": "waiting"}, "with init, but this one has weights and init"),
        ({"prior": pg.NormalInverseWishart()}, "prior=None, but this one has prior="),
        ({"acceleration": None}, "acceleration='quasi-newton', but this one has .*None"),
    ],
    ids=str,
)
def test_other_options_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    path = tmp_path / "fit.json"
    stopped(path)
    with says(pg.GmmError, words, "resume=False to begin anew"):
        frame().gmm.fit(**{**K3, **options}, checkpoint=path, resume=True)


def test_other_features_and_another_start_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    stopped(path)
    with says(
        pg.GmmError, r"features \['eruptions', 'waiting'\], but this one is to \['waiting'\]"
    ):
        frame().gmm.fit("waiting", **K3, checkpoint=path, resume=True)
    plane = frame().select("eruptions", "waiting")
    starts = [frame().gmm.fit(**K3, max_iter=n, tol=0) for n in (0, 1)]
    plane.gmm.fit(k=3, init=starts[0], checkpoint=path)
    with says(pg.GmmError, "another model to start from"):
        plane.gmm.fit(k=3, init=starts[1], checkpoint=path, resume=True)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    stopped(path)
    text = path.read_text()
    content = json.loads(text)
    content["loop"]["em"]["iteration"] += 1
    later = {**json.loads(text), "version": 2}
    changed = [
        json.dumps(content),
        json.dumps({**json.loads(text), "survey": {}}),
        json.dumps({**json.loads(text), "seconds": []}),
        text.replace('"minima":[', '"minima":[0.5,'),
        text.replace('"seed": 0', '"seed": 1'),
    ]
    damaged = {
        "it is cut short": text[: len(text) // 2],
        "something else": "{}",
        "its version is 2": json.dumps(later),
    }
    for words, written in [
        *damaged.items(),
        *(("was changed after it was written", it) for it in changed),
    ]:
        assert written != text
        path.write_text(written)
        with says(pg.GmmError, "not a checkpoint that can be gone on from", words):
            frame().gmm.fit(**K3, checkpoint=path, resume=True)
        path.write_text(text)
    assert frame().gmm.fit(**K3, checkpoint=path, resume=True) == frame().gmm.fit(**K3)


@pytest.mark.parametrize("structure", ["full", "diag"])
@pytest.mark.parametrize(
    "given", [{"init": pl.col("key") % 3}, {"labels": "some"}], ids=["init", "labels"]
)
def test_sums_that_differ_by_rounding_are_the_same_rows(
    tmp_path: Path, given: dict[str, Any], structure: Any
) -> None:
    """Groups come in any order, and what is summed up over them in any order of their rows."""
    path = tmp_path / "fit.json"
    df = pg.make_blobs(60_000, centers=3, std=2.0, seed=2).drop("label")
    df = df.with_columns(key=pl.int_range(pl.len()) // 2 % 3000)

    def summed(order: int) -> pl.LazyFrame:
        some = pl.when(pl.col("key") % 7 == 0).then(pl.col("x1") > 0).cast(pl.UInt8)
        rows = df.sample(fraction=1, shuffle=True, seed=order).lazy()
        rounded = pl.col("x0", "x1").sum() + 1e5 * order - 1e5 * order
        sums = rows.group_by("key", maintain_order=order == 1).agg(rounded)
        return sums.with_columns(some.alias("some"))

    options: dict[str, Any] = {"k": 3, "covariance_type": structure, "checkpoint": path, **given}
    first, second = (summed(order).collect().sort("key") for order in (1, 2))
    assert not first["x0"].equals(second["x0"])
    for ended in (False, True):
        summed(1).gmm.fit(
            "x0", "x1", **options, on_iteration=lambda _, ended=ended: ended, engine="streaming"
        )
        for engine in ENGINES:
            model = summed(2).gmm.fit(
                "x0", "x1", **options, resume=True, engine=engine, max_iter=1000
            )
            assert model.converged


KILLED = """
import sys
import polars as pl, polars_gmm as pg

source, path, log = sys.argv[1:]
with open(log, "a", buffering=1) as file:
    model = pl.scan_parquet(source).gmm.fit(
        k=6, tol=0, max_iter=60, engine="streaming", checkpoint=path, resume=True,
        init="random", on_iteration=lambda report: print(report.iteration, file=file),
    )
    print("done", file=file)
"""


def test_kill_9_loses_at_most_one_pass(tmp_path: Path) -> None:
    source, path, log = (tmp_path / name for name in ("rows.parquet", "fit.json", "log"))
    df = pg.make_blobs(60_000, centers=6, std=3.0, seed=1).drop("label")
    df.write_parquet(source, row_group_size=9000)
    command = [sys.executable, "-c", KILLED, str(source), str(path), str(log)]
    kills = 0
    for wait in (0.03, 0.12, 0.21, 0.3, *[3600.0]):
        log.write_text("")
        with subprocess.Popen(command, cwd=Path(__file__).parent) as fit:
            until = time.perf_counter() + 60
            while not log.read_text() and fit.poll() is None and time.perf_counter() < until:
                time.sleep(0.005)
            try:
                fit.wait(wait)
            except subprocess.TimeoutExpired:
                fit.send_signal(signal.SIGKILL)
                kills += 1
        reported = log.read_text().split()
        iteration = json.loads(path.read_text())["loop"]["em"]["iteration"]
        if reported[-1] != "done":
            # The file holds the M-step of every iteration reported: what was under way is lost.
            assert iteration >= int(reported[-1])
    assert kills >= 1
    assert reported[-1] == "done"
    resumed = pl.scan_parquet(source).gmm.fit(
        k=6, tol=0, max_iter=60, init="random", engine="streaming", checkpoint=path, resume=True
    )
    assert same_course(resumed, df.gmm.fit(k=6, tol=0, max_iter=60, init="random"))
