"""A mixture per group: three species of iris, then ten thousand shops made at scale.

Run it where the package is installed: `.venv/bin/python examples/groups.py`.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl

import polars_gmm as pg

HERE = Path(__file__).parent


def main() -> None:
    print(species())
    print(shops(groups=10_000, rows=100))


def species() -> pl.DataFrame:
    """Fit each species of iris, and guess the species of each flower by the densest model."""
    iris = pl.read_csv(HERE / "iris.csv").with_row_index("flower")
    flower = pl.struct("sepal_length", "sepal_width", "petal_length", "petal_width")
    models = iris.group_by("species", maintain_order=True).agg(model=flower.gmm.fit(k=1))

    guesses = (
        iris.join(models.select(guess="species", model="model"), how="cross")
        .with_columns(density=flower.gmm.log_density("model"))
        .filter(pl.col("density") == pl.col("density").max().over("flower"))
    )
    right = guesses.group_by("species").agg(right=(pl.col("species") == pl.col("guess")).sum())
    bic = models.select("species", bic=pl.col("model").gmm.bic().round(2))
    return bic.join(right, on="species", maintain_order="left")


def shops(groups: int, rows: int) -> pl.DataFrame:
    """Fit a mixture to the baskets of each shop, and look for odd ones by its own measure."""
    rng = np.random.default_rng(1)
    shop = np.repeat(np.arange(groups), rows)
    lunch = rng.random(shop.size) < 0.4  # two kinds of basket, which differ from shop to shop
    usual = rng.uniform(10, 40, groups)[shop] * np.where(lunch, 0.3, 1.0)
    baskets = pl.DataFrame(
        {
            "shop": shop,
            "log_price": np.log(usual) + 0.25 * rng.normal(size=shop.size),
            "hour": np.where(lunch, 12.5, 17.5) + rng.normal(size=shop.size),
        }
    )
    basket = pl.struct("log_price", "hour")

    begun = time.perf_counter()
    models = baskets.group_by("shop").agg(
        model=basket.gmm.fit(k=2, prior=pg.NormalInverseWishart()).gmm.pack()
    )
    fitted = time.perf_counter() - begun

    begun = time.perf_counter()
    density = basket.gmm.log_density("model")
    scored = baskets.lazy().join(models.lazy(), on="shop").with_columns(density=density)
    odd = scored.filter(pl.col("density") < pl.col("density").quantile(0.01).over("shop"))
    found = odd.drop("model").collect()
    scoring = time.perf_counter() - begun
    return pl.DataFrame(
        {
            "shops": [groups],
            "baskets": [baskets.height],
            "fit, s": [round(fitted, 3)],
            "score and filter, s": [round(scoring, 3)],
            "odd baskets": [found.height],
        }
    )


if __name__ == "__main__":
    main()
