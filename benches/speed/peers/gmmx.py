"""gmmx: mixtures in JAX, on this machine's processor."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import cache

from timing import Effort, Result, in_turns, measured

from data import Data

NAME = "gmmx"


@cache
def version() -> str | None:
    if importlib.util.find_spec("gmmx") is None:
        return None
    return importlib.metadata.version("gmmx")


def iteration(data: Data, effort: Effort) -> Result:
    import jax

    jax.config.update("jax_enable_x64", True)
    import gmmx

    model = gmmx.GaussianMixtureModelJax.from_squeezed(
        weights=data.model.weights, means=data.model.means, covariances=data.model.covariances
    )
    rows, fitter = jax.numpy.asarray(data.matrix), gmmx.EMFitter()

    @jax.jit
    def step(model, rows):
        _, log_responsibilities = fitter.e_step(rows, model)
        return fitter.m_step(rows, model, log_responsibilities)

    turns = in_turns({NAME: lambda: jax.block_until_ready(step(model, rows))}, effort)
    return measured(turns[NAME])
