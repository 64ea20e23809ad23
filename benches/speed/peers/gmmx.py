"""gmmx: mixtures in JAX, in single precision, on this machine's processor."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from functools import cache

from timing import Effort, Result, in_turns, measured

from data import Array, Data

NAME = "gmmx (32 bits)"


@cache
def version() -> str | None:
    if importlib.util.find_spec("gmmx") is None:
        return None
    return importlib.metadata.version("gmmx")


def iteration(data: Data, effort: Effort) -> Result:
    import gmmx
    import jax

    def single(array: Array) -> jax.Array:
        return jax.numpy.asarray(array, dtype=jax.numpy.float32)

    model = gmmx.GaussianMixtureModelJax.from_squeezed(
        weights=single(data.model.weights),
        means=single(data.model.means),
        covariances=single(data.model.covariances),
    )
    rows, fitter = single(data.matrix), gmmx.EMFitter()

    @jax.jit
    def step(model, rows):
        _, log_responsibilities = fitter.e_step(rows, model)
        return fitter.m_step(rows, model, log_responsibilities)

    def run() -> None:
        jax.block_until_ready(step(model, rows))

    run()  # compiles
    turns = in_turns({NAME: run}, effort)
    return measured(turns[NAME])
