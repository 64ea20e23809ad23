"""How near the kernels come to the fused multiply-adds of the machine."""

from __future__ import annotations

from collections.abc import Iterator

import ours
from timing import QUICK, Effort, Result, compared

from data import NEAR, mixture
from polars_gmm._lib import fma_peak

SHAPES = (
    (200_000, 16, 16),
    (100_000, 32, 16),
    (50_000, 50, 64),
    (50_000, 64, 16),
    (50_000, 128, 16),
)


def fractions(effort: Effort, threads: int) -> Iterator[Result]:
    """Iterations on overlapping data; each counts d(d+1) multiply-adds a row and component."""
    for n, d, k in SHAPES:
        data = mixture(n // 10 if effort == QUICK else n, d, k, NEAR)
        before, lanes = fma_peak(threads, effort.block)
        figures = compared({"ours": ours.em_step(data)}, effort)
        after, _ = fma_peak(threads, effort.block)
        peak = max(before, after)
        rate = data.matrix.size * k * (d + 1) / figures["times"]["ours"]["seconds"]
        yield {
            "n": len(data.matrix),
            "d": d,
            "k": k,
            "entropy": data.entropy(),
            "peak": peak,
            "lanes": lanes,
            "rate": rate,
            "fraction": rate / peak,
            "goal": 0.4,
        }
