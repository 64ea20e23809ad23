"""What tests share that know the package: models from parameters, exact comparison, errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import oracle
import polars_gmm as pg

ComputeError = pl.exceptions.ComputeError


def as_model(
    parameters: oracle.Parameters,
    features: Sequence[str] | None = None,
    structure: str = "full",
) -> pg.GaussianMixture:
    """A GaussianMixture with these parameters; features x0, x1, ... unless named."""
    names = features or [f"x{j}" for j in range(parameters.means.shape[1])]
    return pg.GaussianMixture(*parameters, features=names, covariance_type=structure)


def parameters_of(model: pg.GaussianMixture) -> oracle.Parameters:
    """The parameters of a GaussianMixture."""
    return oracle.Parameters(model.weights, model.means, model.covariances)


def the_value(df: pl.DataFrame) -> Any:
    """The only value of a frame with one row and one column."""
    assert df.shape == (1, 1)
    return df.to_series()[0]


def bits(values: pl.Series | pl.DataFrame) -> str:
    """Every value to the last bit: equal strings mean equal values (NaN included)."""
    if isinstance(values, pl.DataFrame):
        return repr([(column.name, column.to_list()) for column in values])
    return repr(values.to_list())


def nulled(column: pl.Series, rows: Sequence[int]) -> pl.Series:
    """The same column with null in these rows."""
    return column.to_frame().select(
        pl.when(~pl.int_range(pl.len()).is_in(rows)).then(column.name).alias(column.name)
    )[column.name]


def in_chunks(column: pl.Series, cuts: Sequence[int]) -> pl.Series:
    """The same column in many chunks."""
    edges = [0, *sorted(cuts), len(column)]
    pieces = [column.slice(a, b - a).rechunk() for a, b in pairwise(edges) if b > a]
    whole = pieces[0].clone()
    for piece in pieces[1:]:
        whole.append(piece)
    return whole


def statistics_distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Largest normwise difference of two statistics structs, `n_rows` left out."""
    k, d = np.shape(a["mean"])
    total = b["total_weight"] or 1.0
    pairs = [
        (a["weight"], b["weight"]),
        (a["mean"], b["mean"]),
        (a["scatter"], b["scatter"]),
        (a["total_weight"], b["total_weight"]),
        (a["log_likelihood"], b["log_likelihood"]),
        ((a["entropy"] + total), (b["entropy"] + total)),
    ]
    assert np.shape(b["mean"]) == (k, d)
    return max(oracle.distance(x, y) for x, y in pairs)


@contextmanager
def says(kind: type[Exception] | tuple[type[Exception], ...], *patterns: str) -> Iterator[None]:
    """The block raises `kind` with a message that matches every pattern, and nothing panicked."""
    with pytest.raises(kind) as caught:
        yield
    text = str(caught.value)
    assert "panicked" not in text, text
    for pattern in patterns:
        assert re.search(pattern, text, flags=re.IGNORECASE), f"no {pattern!r} in: {text}"


def run_python(code: str, *args: str, **env: str) -> str:
    """Run code in a fresh interpreter and give what it prints.

    It runs in this folder, so that it imports the installed package and not the source beside it.
    """
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        cwd=Path(__file__).parent,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
