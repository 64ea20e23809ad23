"""The threads of NumPy's and scikit-learn's BLAS.

Small products are slower on several threads than on one, much slower where others use the cores
too. So whoever uses a BLAS is tried with one thread and with all, and measured with what is faster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController
from timing import seconds

TRIES = 3
LONG = 0.5  # seconds, after which one try must do


@cache
def controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def faster_threads(*work: Callable[[], object]) -> Iterator[int]:
    """Set, and give, the number of threads on which this work takes less time."""
    most = int(os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count() or 1))
    best = min(sorted({1, most}), key=lambda threads: shortest(threads, work))
    with controller().limit(limits=best):
        yield best


def shortest(threads: int, work: tuple[Callable[[], object], ...]) -> float:
    best = float("inf")
    with controller().limit(limits=threads):
        for _ in range(TRIES):
            last = sum(map(seconds, work))
            best = min(best, last)
            if last > LONG:
                break
    return best
