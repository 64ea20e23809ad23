"""Plans and models travel: to other processes, through files, and to later versions.

The files `data/model-format-1.*` were written once, by the first version, and stay as they are:
`.venv/bin/python tests/test_travel.py` writes those that are missing, and no others.
"""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from polars_gmm import GaussianMixture, GmmError
from registry import EXPRESSIONS, INPUTS, rows_frame, statistics_frame, the_model
from support import ComputeError, bits, run_python, says

DATA = Path(__file__).parent / "data"
ENGINES: tuple[Any, ...] = ("in-memory", "streaming")
xy = INPUTS["rows"]


# Plans


def plans() -> dict[str, pl.LazyFrame]:
    """Lazy queries with every expression, with models in the options and in columns."""
    queries = {f"select {it}": it.frame().lazy().select(it.expr()) for it in EXPRESSIONS}
    lf = rows_frame().lazy()
    with_model = lf.with_columns(m=pl.lit(the_model().pack()))
    grouped = {
        f"group_by {it}": it.frame().lazy().group_by("g", maintain_order=True).agg(it.expr())
        for it in EXPRESSIONS
        if it.shape == "aggregate"
    }
    return (
        queries
        | grouped
        | {
            "model column": with_model.select(
                xy.gmm.log_density("m"), r=xy.gmm.responsibilities("m")
            ),
            "fit over": lf.select(xy.gmm.fit_predict(2, max_iter=3).over("g")),
            "the model's own": lf.with_columns(the_model().predict(), the_model().log_density()),
            "fit, join, score": lf.join(
                lf.group_by("g").agg(m=xy.gmm.fit(2, max_iter=3).gmm.pack()),
                on="g",
                maintain_order="left",
            ).select("g", xy.gmm.log_density("m")),
            "statistics, merged": lf.group_by("h")
            .agg(s=xy.gmm.statistics(the_model()))
            .sort("h")
            .select(pl.col("s").gmm.merge().gmm.maximize()),
        }
    )


RUNS_PLANS = """
import io, pickle, sys
import polars as pl
if "import" in sys.argv[2:]:
    import polars_gmm
with open(sys.argv[1], "rb") as file:
    pickled, serialized = pickle.load(file)
for name, plan in pickled.items():
    other = pl.LazyFrame.deserialize(io.BytesIO(serialized[name]))
    for lf in (pickle.loads(plan), other):
        for engine in ("in-memory", "streaming"):
            out = lf.collect(engine=engine)
            print(name, out.schema == lf.collect_schema(), repr(out.to_dict(as_series=False)))
assert ("polars_gmm" in sys.modules) == ("import" in sys.argv[2:])
"""


@pytest.mark.parametrize("imported", [True, False])
def test_plans_run_in_a_fresh_process(imported: bool, tmp_path: Path) -> None:
    """Polars finds the compiled library by itself, whether or not the package is imported."""
    queries = plans()
    pickled = {name: pickle.dumps(lf) for name, lf in queries.items()}
    serialized = {name: lf.serialize() for name, lf in queries.items()}
    (tmp_path / "plans").write_bytes(pickle.dumps((pickled, serialized)))
    arguments = [str(tmp_path / "plans"), "import"][: 1 + imported]
    printed = run_python(RUNS_PLANS, *arguments).splitlines()
    expected = [
        f"{name} True {lf.collect(engine='in-memory').to_dict(as_series=False)!r}"
        for name, lf in queries.items()
        for _ in range(4)
    ]
    assert printed == expected


def test_expressions_pickle() -> None:
    for it in EXPRESSIONS:
        expr = pickle.loads(pickle.dumps(it.expr()))
        assert bits(it.frame().select(expr)) == bits(it.frame().select(it.expr()))
    model = pickle.loads(pickle.dumps(the_model()))
    df = rows_frame()
    assert bits(df.select(model.responsibilities())) == bits(
        df.select(the_model().responsibilities())
    )


# Models of format 1

FIGURES: dict[str, Any] = {
    "log_likelihood": -1234.5678901234567,
    "entropy": 0.1 + 0.2,
    "n_rows": 2**53 + 1,
    "total_weight": 272.5,
    "n_iter": 2,
    "converged": True,
}
HISTORY: dict[str, list[Any]] = {
    "iteration": [0, 1, 2],
    "log_likelihood": [-1300.25, -1234.75, -1234.5678901234567],
    "change": [None, 65.5 / 272.5, 6.683e-4],
    "seconds": [0.125, 1e-3, 5e-324],
}
FEATURES = ["eruptions", "wärme [°C]"]
WEIGHTS = [0.3, 0.7]
MEANS = [[2.03639, -54.478528], [1e150, 0.1 + 0.7]]
COVARIANCES: dict[str, Any] = {
    "full": [[[0.069169, 0.435177], [0.435177, 33.6973]], [[1e300, 0.0], [0.0, 1e-300]]],
    "tied": [[[0.069169, 0.435177], [0.435177, 33.6973]]],
    "diag": [[[0.069169, 33.6973]], [[1e300, 1e-300]]],
    "spherical": [[[0.069169]], [[1e-300]]],
}
STATISTICS: dict[str, Any] = {
    "version": 1,
    "features": FEATURES,
    "weight": [81.75, 190.75],
    "mean": MEANS,
    "scatter": [[[5.5, 0.25], [0.25, 2700.125]], [[1.5, 0.0], [0.0, 1e-3]]],
    "log_likelihood": -1234.5678901234567,
    "entropy": 0.1 + 0.2,
    "n_rows": 2**53 + 1,
    "total_weight": 272.5,
}


def struct_of(structure: str) -> dict[str, Any]:
    """The model of format 1 as Polars gives it."""
    return {
        "version": 1,
        "features": FEATURES,
        "covariance_type": structure,
        "weights": WEIGHTS,
        "means": MEANS,
        "covariances": COVARIANCES[structure],
        **FIGURES,
    }


def document(structure: str) -> dict[str, Any]:
    """The model of format 1 as JSON has it."""
    parameters = struct_of(structure)
    return {
        "format": "gaussian mixture",
        "version": 1,
        **{name: parameters[name] for name in list(parameters)[1:6]},
        "training": FIGURES,
        "history": HISTORY,
    }


def assert_format_1(model: GaussianMixture, structure: str = "full") -> None:
    """Every parameter and figure to the bit."""
    assert model.features == FEATURES
    assert model.covariance_type == structure
    assert model.weights.tolist() == WEIGHTS
    assert model.means.tolist() == MEANS
    for component, covariance in enumerate(model.covariances):
        compact = np.asarray(COVARIANCES[structure][component % len(COVARIANCES[structure])])
        written_out = (
            compact if compact.shape == (2, 2) else np.diag([*compact[0], *compact[0]][:2])
        )
        assert covariance.tolist() == written_out.tolist()
    for name, value in FIGURES.items():
        assert getattr(model, name) == value
        assert type(getattr(model, name)) is type(value)


def assert_history(model: GaussianMixture) -> None:
    assert model.history is not None
    assert model.history.to_dict(as_series=False) == HISTORY
    assert model.history.schema == {
        "iteration": pl.UInt32,
        "log_likelihood": pl.Float64,
        "change": pl.Float64,
        "seconds": pl.Float64,
    }


def test_a_pickle_of_format_1() -> None:
    model = pickle.loads((DATA / "model-format-1.pickle").read_bytes())
    assert type(model) is GaussianMixture
    assert_format_1(model)
    assert_history(model)


def test_json_of_format_1() -> None:
    model = GaussianMixture.read_json(DATA / "model-format-1.json")
    assert_format_1(model)
    assert_history(model)
    assert json.loads(model.to_json()) == document("full")


def test_a_packed_model_of_format_1() -> None:
    """Other bytes are another format: raise its number and write its files beside these."""
    packed = (DATA / "model-format-1.bin").read_bytes()
    model = GaussianMixture.unpack(packed)
    assert_format_1(model)
    assert model.pack() == packed
    assert packed[:5] == b"pgmm\x01"


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_columns_of_format_1(suffix: str) -> None:
    path = DATA / f"model-format-1.{suffix}"
    df = pl.read_parquet(path) if suffix == "parquet" else pl.read_ipc(path)
    assert df["structure"].to_list() == [*COVARIANCES, "none"]
    for structure, row, packed in df.select("structure", "model", "packed").head(4).rows():
        assert row == struct_of(structure)
        assert_format_1(GaussianMixture.from_struct(row), structure)
        assert_format_1(GaussianMixture.unpack(packed), structure)
    assert df.row(4) == ("none", None, None, None)
    repacked = df.lazy().select(pl.col("model").gmm.pack()).collect(engine="streaming")
    assert repacked.to_series().to_list() == df["packed"].to_list()
    assert df["statistics"].to_list() == [STATISTICS] * 4 + [None]
    merged = df.select(pl.col("statistics").gmm.merge()).to_series()[0]
    assert merged["weight"] == [4 * w for w in STATISTICS["weight"]]
    assert merged["n_rows"] == 4 * STATISTICS["n_rows"]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_columns_of_format_1_score(suffix: str) -> None:
    path = DATA / f"model-format-1.{suffix}"
    scan = pl.scan_parquet(path) if suffix == "parquet" else pl.scan_ipc(path)
    rows = pl.DataFrame({FEATURES[0]: [2.0], FEATURES[1]: [-54.0]})
    for engine in ENGINES:
        out = scan.join(rows.lazy(), how="cross").select(
            "structure",
            a=pl.struct(FEATURES).gmm.log_density("model"),
            b=pl.struct(FEATURES).gmm.log_density("packed"),
        )
        scores = out.collect(engine=engine)
        for structure, a, b in scores.head(4).rows():
            model = GaussianMixture.from_struct(struct_of(structure))
            assert a == b == rows.select(model.log_density()).item()
        assert scores.row(4) == ("none", None, None)


# Models of other formats

REMEDIES = {0: "it was not written by this package", 2: "upgrade", 255: "upgrade"}


@pytest.mark.parametrize("version", REMEDIES)
def test_other_formats_are_refused_by_a_sentence(version: int) -> None:
    words = (rf"format version {version}\b", "versions 1 to 1", REMEDIES[version])
    packed = (DATA / "model-format-1.bin").read_bytes()
    other = packed[:4] + bytes([version]) + packed[5:]
    text = json.dumps({**document("full"), "version": version})
    pickled = (DATA / "model-format-1.pickle").read_bytes()
    assert pickled.count(b'"version": 1,') == 1
    later = pickled.replace(b'"version": 1,', b'"version": %d,' % (version % 10))
    struct = {**struct_of("full"), "version": version}
    for read in (
        lambda: GaussianMixture.unpack(other),
        lambda: GaussianMixture.from_json(text),
        lambda: GaussianMixture.from_struct(struct),
        lambda: GaussianMixture.from_struct(pl.Series([other])),
    ):
        with says(GmmError, *words):
            read()
    with says(GmmError, rf"format version {version % 10}\b", "versions 1 to 1", REMEDIES[version]):
        pickle.loads(later)
    models = pl.DataFrame({"b": [other], "m": [struct], "s": [{**STATISTICS, "version": version}]})
    rows = pl.struct(pl.lit(2.0).alias(FEATURES[0]), pl.lit(-54.0).alias(FEATURES[1]))
    for expr in (
        rows.gmm.log_density("b"),
        rows.gmm.log_density("m"),
        rows.gmm.em_step("b"),
        rows.gmm.statistics("m"),
        pl.col("m").gmm.pack(),
        pl.col("b").gmm.pack(),
        pl.col("s").gmm.merge(),
        pl.col("s").gmm.maximize(),
    ):
        with says(ComputeError, *words):
            models.select(expr)


def test_fields_that_are_not_known_are_ignored() -> None:
    """So a later version may add figures and still write format 1."""
    assert_format_1(GaussianMixture.from_json(json.dumps({**document("full"), "later": [1]})))
    assert_format_1(GaussianMixture.from_struct({**struct_of("full"), "later": "x"}))
    df = pl.DataFrame({"m": [{"later": 1.0, **struct_of("full")}]})
    assert (
        df.select(pl.col("m").gmm.pack()).item()
        == GaussianMixture.from_struct(struct_of("full")).pack()
    )


@pytest.mark.parametrize("form", ["parquet", "arrow", "json"])
def test_fits_go_through_files_to_the_bit(form: str, tmp_path: Path) -> None:
    df = rows_frame()
    fitted = pl.concat(
        [
            df.group_by("g", maintain_order=True).agg(
                m=xy.gmm.fit(k, covariance_type=structure, max_iter=4)
            )
            for k in (1, 3, 100)
            for structure in COVARIANCES
        ]
        + [df.group_by("g", maintain_order=True).agg(m=pl.col("x").gmm.fit(2, max_iter=4))]
    ).with_columns(b=pl.col("m").gmm.pack())
    assert fitted["m"].null_count() == 12
    path = tmp_path / f"models.{form}"
    if form == "parquet":
        fitted.write_parquet(path)
        back = pl.read_parquet(path)
    elif form == "arrow":
        fitted.write_ipc(path)
        back = pl.read_ipc(path)
    else:
        fitted.select("m").write_ndjson(path)
        back = pl.read_ndjson(path, schema={"m": fitted["m"].dtype})
        back = back.with_columns(b=pl.col("m").gmm.pack())
    packed = back.select(pl.col("m").gmm.pack()).to_series()
    assert packed.to_list() == back["b"].to_list() == fitted["b"].to_list()


def test_statistics_go_through_files_to_the_bit(tmp_path: Path) -> None:
    df = statistics_frame()
    df.write_parquet(tmp_path / "s.parquet")
    df.write_ipc(tmp_path / "s.arrow")
    expected = bits(df.select(pl.col("s").gmm.merge()))
    for lf in (pl.scan_parquet(tmp_path / "s.parquet"), pl.scan_ipc(tmp_path / "s.arrow")):
        for engine in ENGINES:
            assert bits(lf.select(pl.col("s").gmm.merge()).collect(engine=engine)) == expected


def write_missing() -> None:
    """Write the files of format 1 that are not there."""
    models = {
        structure: GaussianMixture.from_json(json.dumps(document(structure)))
        for structure in COVARIANCES
    }
    dtype = models["full"].to_struct().dtype
    statistics = rows_frame().select(xy.gmm.statistics(the_model())).to_series().dtype
    columns = pl.DataFrame(
        {
            "structure": [*models, "none"],
            "model": pl.Series([struct_of(s) for s in models] + [None], dtype=dtype),
            "packed": [model.pack() for model in models.values()] + [None],
            "statistics": pl.Series([STATISTICS] * 4 + [None], dtype=statistics),
        }
    )
    parquet, arrow = io.BytesIO(), io.BytesIO()
    columns.write_parquet(parquet)
    columns.write_ipc(arrow)
    for suffix, content in {
        "pickle": pickle.dumps(models["full"], protocol=4),
        "json": models["full"].to_json().encode(),
        "bin": models["full"].pack(),
        "parquet": parquet.getvalue(),
        "arrow": arrow.getvalue(),
    }.items():
        path = DATA / f"model-format-1.{suffix}"
        if not path.exists():
            path.write_bytes(content)


if __name__ == "__main__":
    write_missing()
