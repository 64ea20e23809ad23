"""The promises: same bits, weights are repetitions, units do not matter, EM only climbs."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
import polars_gmm as pg
from datasets import array_column, blobs, faithful, frame
from oracle import STRUCTURES, distance
from support import (
    as_model,
    bits,
    in_chunks,
    parameters_of,
    run_python,
    statistics_distance,
    the_value,
)

xy = pl.struct("x0", "x1")
structures = st.sampled_from(STRUCTURES)
seeds = st.integers(0, 2**32 - 1)
cuts = st.lists(st.integers(0, 20_000), max_size=12)


def start_of(structure: str, seed: int = 5) -> pg.GaussianMixture:
    rng = np.random.default_rng(seed)
    parameters = oracle.random_model(rng, 3, 2, structure)
    return as_model(parameters._replace(means=parameters.means * 3), structure=structure)


# 1. Same data, same seed: the same bits.


@cache
def many_rows() -> pl.DataFrame:
    rows, labels = blobs(20_000, seed=1)
    rng = np.random.default_rng(1)
    return frame(rows).with_columns(
        pl.Series("w", rng.uniform(size=len(rows))),
        pl.Series("z", labels.astype(np.uint32)),
        array_column("r", rng.dirichlet(np.ones(3), size=len(rows))),
    )


def everything(df: pl.DataFrame) -> str:
    model = start_of("full")
    steps = df.select(
        s=xy.gmm.statistics(model, weights="w"),
        e=xy.gmm.em_step(model),
        m=xy.gmm.m_step("r", weights="w", covariance_type="tied"),
        f=xy.gmm.fit(3, max_iter=3, tol=0, weights="w"),
        z=xy.gmm.fit(3, max_iter=3, tol=0, init=pl.col("z")),
    )
    scores = df.select(r=xy.gmm.responsibilities(model), z=xy.gmm.fit_predict(3, max_iter=2, tol=0))
    return bits(steps) + str(scores.hash_rows().to_numpy().tobytes())


@given(cuts, cuts)
@settings(max_examples=15)
def test_same_bits_however_columns_are_cut(first: list[int], second: list[int]) -> None:
    df = many_rows()
    cut = pl.DataFrame(
        [in_chunks(column, second if column.name == "x1" else first) for column in df]
    )
    assert everything(cut) == everything(df)


@given(cuts)
@settings(max_examples=5)
def test_frame_methods_do_not_see_chunks(at: list[int]) -> None:
    df = many_rows().select("x0", "x1", "w")
    cut = pl.DataFrame([in_chunks(column, at) for column in df])
    expected = df.gmm.fit(k=3, weights="w", max_iter=3, tol=0)
    assert cut.gmm.fit(k=3, weights="w", max_iter=3, tol=0) == expected
    assert cut.lazy().gmm.fit(k=3, weights="w", max_iter=3, tol=0) == expected


PRINTS_EVERYTHING = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
import polars as pl
from test_promises import everything, many_rows
df = many_rows()
model = df.gmm.fit("x0", "x1", k=4, weights="w", n_init=3, max_iter=4, tol=0)
print(pl.thread_pool_size(), hashlib.sha256(everything(df).encode() + model.pack()).hexdigest())
"""


def test_same_bits_for_any_number_of_threads() -> None:
    printed = []
    for threads in ("1", "2"):
        here = str(Path(__file__).parent)
        output = run_python(PRINTS_EVERYTHING, here, POLARS_MAX_THREADS=threads)
        printed.append(output.split())
    assert [threads for threads, _ in printed] == ["1", "2"]
    assert printed[0][1] == printed[1][1]


# Threads of a pool have names; others have that of the process.
COUNTS_THREADS = """
from pathlib import Path
import polars as pl, polars_gmm as pg
row = pl.int_range(200_000, eager=True)
df = pl.DataFrame({"x": row % 97 / 7, "y": row % 89 / 5})
unit = [[1.0, 0.0], [0.0, 1.0]]
model = pg.GaussianMixture([0.5, 0.5], [[0.0, 0.0], [9.0, 9.0]], [unit, unit], features=["x", "y"])
many = pg.GaussianMixture([0.1] * 10, [[c, c] for c in range(10)], [unit] * 10, features=["x", "y"])
def unnamed():
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return names.count(Path("/proc/self/comm").read_text())
before = unnamed()
for n in (12_000, 60_000, 200_000):
    rows = df.head(n)
    for given in (model, many):
        rows.gmm.em_step(given)
        rows.select(pl.struct("x", "y").gmm.em_step(given))
        for seen, max_iter in ((print, 3), (None, 3), (None, 20)):
            rows.gmm.fit(
                "x", "y", k=given.k, init=given, tol=0, max_iter=max_iter, on_iteration=seen
            )
print(unnamed() - before)
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_no_threads_but_those_of_the_pool(threads: str) -> None:
    *_, more = run_python(COUNTS_THREADS, POLARS_MAX_THREADS=threads).split()
    # One that has just been made may not have its name yet when they are counted first.
    assert int(more) <= 0


def test_expression_and_frame_method_fit_the_same_model() -> None:
    df = many_rows()
    for options in [{}, {"weights": "w"}, {"init": "random", "covariance_type": "diag"}]:
        model = df.gmm.fit("x0", "x1", k=3, max_iter=5, tol=0, **options)
        column = df.select(m=xy.gmm.fit(3, max_iter=5, tol=0, **options))
        assert the_value(column.select(pl.col("m").gmm.pack())) == model.pack()


# 2. A row of integer weight w is that row w times.


def weighted_and_repeated(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    rows, labels = blobs(150, seed=seed)
    df = frame(rows).with_columns(
        pl.Series("w", rng.integers(0, 5, size=len(rows))),
        pl.Series("z", labels),
        array_column("r", rng.dirichlet(np.ones(3), size=len(rows))),
    )
    return df, df.filter(pl.col("w") > 0).select(pl.all().repeat_by("w").explode())


@given(seeds, structures)
def test_weights_repeat_rows_in_statistics_and_steps(seed: int, structure: str) -> None:
    weighted, repeated = weighted_and_repeated(seed)
    model = start_of(structure, seed)
    a = the_value(weighted.select(xy.gmm.statistics(model, weights="w")))
    b = the_value(repeated.select(xy.gmm.statistics(model)))
    assert statistics_distance(a, b) <= 1e-10
    assert a["n_rows"] == weighted.filter(pl.col("w") > 0).height
    assert a["total_weight"] == repeated.height
    for with_weights, without in [
        (xy.gmm.em_step(model, weights="w"), xy.gmm.em_step(model)),
        (
            xy.gmm.m_step("r", weights="w", covariance_type=structure),
            xy.gmm.m_step("r", covariance_type=structure),
        ),
    ]:
        a, b = the_value(weighted.select(with_weights)), the_value(repeated.select(without))
        oracle.assert_same_parameters(oracle.parameters(a), oracle.parameters(b), 1e-10)
        assert a["n_rows"] == weighted.filter(pl.col("w") > 0).height
        assert a["total_weight"] == repeated.height


@given(seeds, structures, st.sampled_from(["model", "labels", "responsibilities"]))
def test_weights_repeat_rows_in_fits_from_a_given_start(
    seed: int, structure: str, start: str
) -> None:
    weighted, repeated = weighted_and_repeated(seed)
    init = {
        "model": start_of(structure, seed),
        "labels": pl.col("z"),
        "responsibilities": pl.col("r"),
    }[start]
    options: dict[str, Any] = {
        "k": 3,
        "covariance_type": structure,
        "init": init,
        "max_iter": 20,
        "tol": 0,
    }
    a = weighted.gmm.fit("x0", "x1", weights="w", **options)
    b = repeated.gmm.fit("x0", "x1", **options)
    oracle.assert_same_parameters(parameters_of(a), parameters_of(b), 1e-10)
    assert distance(a.log_likelihood, b.log_likelihood) <= 1e-10
    assert distance(a.bic, b.bic) <= 1e-10
    assert a.n_rows == weighted.filter(pl.col("w") > 0).height
    assert a.total_weight == b.total_weight == b.n_rows == repeated.height


# 3. Units and origins do not matter.


def flat_cluster(rows: oracle.Array, labels: Any) -> oracle.Array:
    """The rows with all of one cluster in one point, so that the covariance floor holds it up."""
    return np.where((labels == 1)[:, None], rows[labels == 1][0], rows)


@given(
    structures,
    st.integers(0, 99),
    st.tuples(st.floats(-8, 8), st.floats(-8, 8)),
    st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)),
    st.sampled_from(["k-means++", "k-means", "random"]),
    st.booleans(),
)
@settings(max_examples=60)
def test_rescaled_and_shifted_features(
    structure: str,
    seed: int,
    exponents: tuple[float, float],
    shifts: tuple[float, float],
    init: str,
    flat: bool,
) -> None:
    rows, labels = blobs(300, seed)
    if flat:
        rows = flat_cluster(rows, labels)
    scale = 10.0 ** np.array(exponents)
    if structure == "spherical":
        scale[:] = scale[0]
    shift = np.array(shifts)
    options: dict[str, Any] = {"k": 3, "covariance_type": structure, "init": init}
    here = frame(rows).gmm.fit(**options)
    there = frame((rows + shift) * scale).gmm.fit(**options)
    assert distance(there.weights, here.weights) <= 1e-6
    assert distance(there.means / scale - shift, here.means) <= 1e-6
    assert distance(there.covariances / np.outer(scale, scale), here.covariances) <= 1e-6
    moved = here.log_likelihood - len(rows) * np.log(scale).sum()
    assert abs(there.log_likelihood - moved) <= 1e-6 * len(rows)
    assert there.n_iter == here.n_iter


# 4. The objective never falls, and what is reported belongs to the model returned.


@pytest.mark.filterwarnings("ignore:the fit ended at max_iter:polars_gmm.ConvergenceWarning")
@given(
    structures,
    seeds,
    st.sampled_from(["k-means++", "k-means", "random"]),
    st.sampled_from([0.0, 1e-6, 1e-2]),
    st.booleans(),
)
@settings(max_examples=40)
def test_the_likelihood_never_falls_and_is_that_of_the_model(
    structure: str, seed: int, init: str, floor: float, flat: bool
) -> None:
    rows, labels = blobs(200, seed)
    if flat and floor > 0:
        rows = flat_cluster(rows, labels)
    rows += np.random.default_rng(seed).normal(size=2)
    df = frame(rows)
    model = df.gmm.fit(
        k=3,
        covariance_type=structure,
        init=init,
        covariance_floor=floor,
        seed=seed,
        tol=1e-9,
        max_iter=300,
    )
    history = model.history
    likelihoods = history["log_likelihood"].to_numpy()
    size = float(np.abs(df.select(xy.gmm.log_density(model)).to_series()).sum())
    assert (np.diff(likelihoods) >= -1e-12 * size).all()
    recomputed = df.select(xy.gmm.log_density(model)).to_series().sum()
    assert abs(model.log_likelihood - recomputed) <= 1e-12 * size
    assert history["log_likelihood"][-1] == model.log_likelihood
    assert history["iteration"][-1] == model.n_iter
    assert (history["iteration"].cast(pl.Int64).diff().drop_nulls() >= 1).all()


@pytest.mark.parametrize("structure", STRUCTURES)
def test_statistics_tell_the_likelihood_and_entropy_of_a_fit(structure: str) -> None:
    df = faithful()
    model = df.gmm.fit(k=3, covariance_type=structure)
    row = the_value(df.select(pl.struct(pl.all()).gmm.statistics(model)))
    assert distance(model.log_likelihood, row["log_likelihood"]) <= 1e-12
    assert distance(model.entropy, row["entropy"]) <= 1e-9
    assert model.n_rows == row["n_rows"] == df.height


# Statistics add up in any order; components have no order.


@given(seeds, structures, st.lists(st.integers(1, 399), min_size=2, max_size=9, unique=True))
def test_statistics_add_up_in_any_order(seed: int, structure: str, at: list[int]) -> None:
    rng = np.random.default_rng(seed)
    rows, _ = blobs(400, seed=seed)
    df, model = frame(rows + 100), start_of(structure, seed)
    whole = the_value(df.select(s=xy.gmm.statistics(model)))
    edges = [0, *sorted(at), 400]
    parts = pl.concat([df[a:b].select(s=xy.gmm.statistics(model)) for a, b in pairwise(edges)])
    merged = the_value(parts.select(pl.col("s").gmm.merge()))
    shuffled = the_value(parts[rng.permutation(len(parts))].select(pl.col("s").gmm.merge()))
    left = pl.concat([parts[:2].select(pl.col("s").gmm.merge()), parts[2:]])
    right = pl.concat([parts[:-2], parts[-2:].select(pl.col("s").gmm.merge())])
    for other in (merged, shuffled):
        assert statistics_distance(other, whole) <= 1e-12
        assert other["n_rows"] == whole["n_rows"] == 400
        assert other["features"] == whole["features"]
    for grouped in (left, right):
        value = the_value(grouped.select(pl.col("s").gmm.merge()))
        assert statistics_distance(value, merged) <= 1e-12


@given(seeds, structures)
def test_two_statistics_commute(seed: int, structure: str) -> None:
    rows, _ = blobs(100, seed=seed)
    df, model = frame(rows), start_of(structure, seed)
    parts = pl.concat([part.select(s=xy.gmm.statistics(model)) for part in (df[:30], df[30:])])
    one = the_value(parts.select(pl.col("s").gmm.merge()))
    other = the_value(parts.reverse().select(pl.col("s").gmm.merge()))
    assert statistics_distance(one, other) <= 1e-13


@given(seeds, structures, st.permutations([0, 1, 2]))
def test_permuted_components_permute_the_result(
    seed: int, structure: str, order: list[int]
) -> None:
    rows, _ = blobs(200, seed=seed)
    df, model = frame(rows), start_of(structure, seed)
    permuted = as_model(
        oracle.Parameters(*(part[order] for part in parameters_of(model))), structure=structure
    )

    def after(start: pg.GaussianMixture) -> list[oracle.Parameters]:
        step = oracle.parameters(the_value(df.select(xy.gmm.em_step(start))))
        fit = df.gmm.fit(k=3, covariance_type=structure, init=start, max_iter=5, tol=0)
        return [step, parameters_of(fit)]

    for one, other in zip(after(model), after(permuted), strict=True):
        reordered = oracle.Parameters(*(part[order] for part in one))
        oracle.assert_same_parameters(other, reordered, 1e-10)
    r = df.select(xy.gmm.responsibilities(model)).to_series().to_numpy()
    s = df.select(xy.gmm.responsibilities(permuted)).to_series().to_numpy()
    assert np.abs(s - r[:, order]).max() <= 1e-13


# 5. A fit never holds a number for each row and component.


MEASURES_MEMORY = """
import resource, sys
import numpy as np
import polars as pl
import polars_gmm as pg

n, k = 400_000, 100
rows = np.random.default_rng(0).normal(size=(n, 2))
df = pl.DataFrame(rows, schema=["x0", "x1"])
xy = pl.struct("x0", "x1")
df.head(1_000).gmm.fit(k=3)
start = df.head(1_000).gmm.fit(k=k, max_iter=1, tol=0)
unit = 1 if sys.platform == "darwin" else 1024

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

before = peak()
df.gmm.fit(k=k, max_iter=2, tol=0)
df.gmm.fit(k=k, init=start, max_iter=2, tol=0)
df.select(xy.gmm.fit(k, init=start, max_iter=2, tol=0))
df.select(xy.gmm.em_step(start), s=xy.gmm.statistics(start))
print((peak() - before) / (n * k * 8))
"""


MEASURES_MEMORY_OF_MODELS = """
import resource, sys
import numpy as np
import polars as pl
import polars_gmm as pg

rng = np.random.default_rng(0)
n, d, k = 20_000, 128, 16
df = pl.DataFrame({f"x{j}": rng.normal(size=n) for j in range(d)})
df.head(1_000).gmm.fit(k=3, n_init=1, max_iter=1, tol=0)
unit = 1 if sys.platform == "darwin" else 1024

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

before = peak()
df.gmm.fit(k=k, n_init=1, max_iter=4, tol=0)
print((peak() - before) / 2**20)
"""


def test_a_fit_of_large_covariances_holds_no_more_than_64_mib() -> None:
    assert float(run_python(MEASURES_MEMORY_OF_MODELS)) < 64


def test_a_fit_holds_no_matrix_of_responsibilities() -> None:
    assert float(run_python(MEASURES_MEMORY)) < 0.2
