"""How near the kernels come to the fused multiply-adds of the machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import ours
from timing import QUICK, Effort, Result, seconds

from data import NEAR, mixture
from polars_gmm._lib import fma_peak

SHAPES = (
    (200_000, 16, 16),
    (100_000, 32, 16),
    (50_000, 50, 64),
    (50_000, 64, 16),
    (50_000, 128, 16),
)


STRETCH = 0.01  # seconds of multiply-adds in registers; their fastest 0.1 ms counts
BLOCK = 0.1  # seconds of iterations between two stretches
BLOCKS = 15


def fractions(effort: Effort, threads: int) -> Iterator[Result]:
    """Iterations on overlapping data; each counts d(d+1) multiply-adds a row and component.

    What else runs on the processors changes the machine's own rate too. It is taken before and
    after each block of iterations, and the figures are medians of the blocks.
    """
    for n, d, k in SHAPES:
        data = mixture(n // 10 if effort == QUICK else n, d, k, NEAR)
        work = ours.em_step(data)
        calls = max(1, round(min(BLOCK, effort.block) / min(seconds(work), seconds(work))))
        rates, peaks, lanes = [], [], 0
        for _ in range(3 if effort == QUICK else BLOCKS):
            before, lanes = fma_peak(threads, STRETCH)
            took = statistics.median(seconds(work) for _ in range(calls))
            after, _ = fma_peak(threads, STRETCH)
            rates.append(data.matrix.size * k * (d + 1) / took)
            peaks.append((before + after) / 2)
        yield {
            "n": len(data.matrix),
            "d": d,
            "k": k,
            "entropy": data.entropy(),
            "peak": statistics.median(peaks),
            "lanes": lanes,
            "rate": statistics.median(rates),
            "fraction": statistics.median(r / p for r, p in zip(rates, peaks, strict=True)),
            "goal": 0.4,
        }
