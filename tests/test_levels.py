"""Every instruction set of this machine gives the figures of the plain code."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from support import run_python

FIGURES = """
import sys
import numpy as np
import polars as pl
import polars_gmm as pg

arrays = {}
# d, k, rows, distance of two means: sums of all kinds, and components near and far.
SHAPES = [
    (1, 3, 700, 2), (2, 20, 900, 3), (2, 20, 900, 40), (4, 16, 900, 3), (6, 9, 900, 3),
    (8, 8, 900, 3), (8, 64, 3000, 60), (4, 256, 6000, 60), (24, 3, 700, 3), (30, 20, 900, 3),
    (50, 64, 1500, 3), (50, 64, 1500, 60), (129, 5, 400, 3), (129, 5, 400, 60),
]
for d, k, n, distance in SHAPES:
    rng = np.random.default_rng([d, k, n])
    names = [f"x{j}" for j in range(d)]
    means = rng.normal(scale=distance / np.sqrt(2 * d), size=(k, d))
    a = np.eye(d) + np.tril(rng.normal(scale=0.2 / np.sqrt(d), size=(k, d, d)))
    covariances = a @ a.transpose(0, 2, 1)
    rows = rng.normal(size=(n, d)) + means[rng.integers(k, size=n)]
    halves = pl.Series(rng.integers(3, size=n) * 0.5)
    frame = pl.DataFrame(rows, schema=names).with_columns(w=halves)
    for structure in ("full", "tied", "diag", "spherical"):
        matrices = {
            "full": covariances,
            "tied": covariances.mean(0),
            "diag": np.einsum("kii->ki", covariances).copy(),
            "spherical": np.einsum("kii->k", covariances) / d,
        }[structure]
        weights = rng.dirichlet(np.full(k, 5.0))
        model = pg.GaussianMixture(
            weights, means, matrices, features=names, covariance_type=structure
        )
        scored = frame.select(
            r=model.responsibilities(), p=model.log_density(), c=model.predict()
        )
        stepped = frame.gmm.em_step(model, weights="w", covariance_floor=0 if n > d * k else 1e-3)
        given = frame.with_columns(scored["r"]).gmm.m_step(
            *names, responsibilities="r", weights="w", covariance_type=structure,
            covariance_floor=0 if n > d * k else 1e-3,
        )
        key = f"{structure} {d} {k} {distance}"
        arrays[f"{key} responsibilities"] = scored["r"].to_numpy()
        arrays[f"{key} log density"] = scored["p"].to_numpy()
        arrays[f"{key} component"] = scored["c"].to_numpy().astype(float)
        for name, made in (("em", stepped), ("m", given)):
            arrays[f"{key} {name} weights"] = made.weights
            arrays[f"{key} {name} means"] = made.means
            arrays[f"{key} {name} covariances"] = made.covariances
np.savez(sys.argv[1], **arrays)
"""

REFUSED = """
try:
    import polars_gmm
except ImportError as error:
    print(error)
"""


def refused(name: str) -> str:
    return run_python(REFUSED, GMM_SIMD=name).strip()


@cache
def levels() -> list[str]:
    """Give the instruction sets of this machine, which the sentence about another names."""
    found = re.search(r"of this machine are ([a-z0-9, ]+);", refused("abacus"))
    assert found is not None
    return found[1].split(", ")


@pytest.mark.parametrize("name", ["abacus", "AVX2", "sse9", "avx2 "])
def test_an_unknown_instruction_set_is_an_error(name: str) -> None:
    assert levels()[0] == "scalar"
    assert refused(name) == (
        f'the environment variable GMM_SIMD is "{name}", but the instruction sets of this machine '
        f"are {', '.join(levels())}; set it to one of them, or unset it"
    )


def test_no_name_is_no_choice() -> None:
    assert refused("") == ""


def test_every_instruction_set_gives_the_same_figures(tmp_path: Path) -> None:
    figures = {}
    for level in levels():
        path = tmp_path / f"{level}.npz"
        run_python(FIGURES, str(path), GMM_SIMD=level)
        figures[level] = dict(np.load(path))
    plain = figures.pop("scalar")
    for level, found in figures.items():
        assert found.keys() == plain.keys()
        for key, expected in plain.items():
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                found[key], expected, rtol=0, atol=1e-11 * scale, err_msg=f"{level} {key}"
            )
