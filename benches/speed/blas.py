"""The threads of NumPy's and scikit-learn's BLAS.

They have as many as we have. But small products are slower on several threads than on one, much
slower where others use the cores too; so whoever uses a BLAS is measured with one thread as well.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import NamedTuple

from threadpoolctl import ThreadpoolController

Work = Callable[[], object]


class OneThread(NamedTuple):
    """Work whose BLAS is to have one thread."""

    work: Work

    def __call__(self) -> object:
        return self.work()


def on_its_threads(work: Work) -> AbstractContextManager[object]:
    return controller().limit(limits=1) if isinstance(work, OneThread) else nullcontext()


def both_ways(name: str, work: Work) -> dict[str, Work]:
    return {name: work, f"{name}, one BLAS thread": OneThread(work)}


@cache
def controller() -> ThreadpoolController:
    return ThreadpoolController()
