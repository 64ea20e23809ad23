"""Settings shared by all tests; importing the package here registers `.gmm`."""

from __future__ import annotations

from hypothesis import settings

import polars_gmm as pg

settings.register_profile(
    "polars_gmm", deadline=None, derandomize=True, max_examples=20, database=None
)
settings.load_profile("polars_gmm")

assert pg.__version__

collect_ignore = ["typing"]  # programs of users, wrong ones too
