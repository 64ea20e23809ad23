"""The data sets of the tests, read from `tests/data`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"


def faithful() -> pl.DataFrame:
    """Old Faithful: 272 eruptions, `eruptions` and `waiting` in minutes."""
    return pl.read_csv(DATA / "faithful.csv", schema_overrides={"waiting": pl.Float64})


def iris() -> pl.DataFrame:
    """Iris: 150 flowers, four lengths in centimetres."""
    return pl.read_csv(DATA / "iris.csv")


def iris_species() -> NDArray[np.intp]:
    """The species of each flower, as 0, 1, 2."""
    return pl.read_csv(DATA / "iris_labelled.csv")["label"].to_numpy().astype(np.intp) - 1


def iris_families() -> dict[str, dict[str, Any]]:
    """M-step and converged EM of each structure, from `0.9 * onehot(species) + 0.1 / 3`."""
    families: dict[str, dict[str, Any]] = json.loads((DATA / "iris_families.json").read_text())
    return families


def by_quantile(values: pl.Series, k: int) -> pl.Series:
    """Labels 0..k-1 that cut a column at its quantiles: a start anyone can repeat."""
    x = values.to_numpy()
    labels = np.searchsorted(np.quantile(x, np.arange(1, k) / k), x)
    return pl.Series("start", labels, dtype=pl.UInt32)


def frame(rows: NDArray[np.float64], prefix: str = "x") -> pl.DataFrame:
    """Rows (n, d) as columns x0, x1, ..."""
    return pl.DataFrame({f"{prefix}{j}": rows[:, j] for j in range(rows.shape[1])})


def array_column(name: str, values: NDArray[np.float64]) -> pl.Series:
    """Rows (n, width) as one Array column."""
    return pl.Series(name, values.ravel()).reshape(values.shape)


def blobs(n: int = 300, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Three well separated clusters in the plane, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size=n)
    centres = np.array([[-6.0, 0.0], [0.0, 7.0], [5.0, -4.0]])
    spread = np.array([[1.0, 0.5], [0.6, 1.2], [1.1, 0.9]])
    return centres[labels] + spread[labels] * rng.normal(size=(n, 2)), labels
