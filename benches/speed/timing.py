"""Seconds of several sides, taken in turns.

A side runs in blocks of calls, as long for all sides, and the sides take turns, so that a busy
moment of the machine hits all of them. The threads of a BLAS spin for some milliseconds after a
call, waiting for the next one, and would take the cores of whoever comes then: hence blocks, and a
pause before each.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

from blas import Work, on_its_threads

Result = dict[str, Any]


class Effort(NamedTuple):
    """Turns, seconds of calls of one side in a turn (at least one call), pauses."""

    rounds: int = 3
    block: float = 0.2
    pause: float = 0.15


LONG, TOO_LONG = 0.5, 10.0  # seconds
FULL, QUICK = Effort(), Effort(rounds=1, block=0.03, pause=0.05)


def seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(sides: dict[str, Work], effort: Effort) -> dict[str, list[list[float]]]:
    """Seconds of each call, by side and round."""
    turns: dict[str, list[list[float]]] = {name: [] for name in sides}
    calls = {}
    for name, work in sides.items():
        with on_its_threads(work):
            # Fills caches and starts threads; counts only for what takes too long to be repeated.
            first = seconds(work)
            usual = first if first > LONG else min(first, seconds(work))
        calls[name] = max(1, round(effort.block / usual))
        if first > TOO_LONG:
            turns[name].append([first])
    repeated = [name for name in sides if not turns[name]]
    for _ in range(effort.rounds):
        for name in repeated:
            work = sides[name]
            time.sleep(effort.pause)
            with on_its_threads(work):
                if calls[name] > 1:
                    work()
                turns[name].append([seconds(work) for _ in range(calls[name])])
    return turns


def measured(turns: list[list[float]]) -> Result:
    """Median of all calls, and the lowest and highest median of a turn."""
    middles = [statistics.median(calls) for calls in turns]
    every = [call for calls in turns for call in calls]
    return {
        "seconds": statistics.median(every),
        "low": min(middles),
        "high": max(middles),
        "calls": len(every),
    }


def compared(sides: dict[str, Work], effort: Effort) -> Result:
    """The figures of each side, and how many times those of the first ("ours") each other takes."""
    turns = in_turns(sides, effort)
    figures = {name: measured(calls) for name, calls in turns.items()}
    ours, *others = figures
    ratios = {}
    for name in others:
        by_round = [
            statistics.median(theirs) / statistics.median(mine)
            for mine, theirs in zip(turns[ours], turns[name], strict=False)
        ]
        ratio = figures[name]["seconds"] / figures[ours]["seconds"]
        ratios[name] = {"ratio": ratio, "low": min(by_round), "high": max(by_round)}
    return {"times": figures, "ratios": ratios}
