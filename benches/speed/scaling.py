"""How the time of an iteration grows with rows, features, components and threads.

`python benches/speed/scaling.py` prints the seconds of one shape with the threads it was given.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import beside_sklearn
import ours
from blas import both_ways
from timing import FULL, QUICK, Effort, Result, compared

from data import FAR, NEAR, mixture

GRIDS = {
    "n": [(n, 4, 16) for n in (1_000, 10_000, 100_000, 1_000_000)],
    "d": [(20_000, d, 16) for d in (1, 2, 4, 8, 16, 32, 64, 128)],
    "k": [(50_000, 4, k) for k in (2, 4, 8, 16, 32, 64, 128, 256)],
}
THREADS_SHAPE = (500_000, 8, 8)


def grids(effort: Effort) -> Iterator[Result]:
    for by, shapes in GRIDS.items():
        for n, d, k in shapes[:-3:2] if effort == QUICK else shapes:
            data = mixture(n // 10 if effort == QUICK else n, d, k, NEAR)
            theirs = beside_sklearn.one_iteration(data)
            sides = {"ours": ours.em_step(data), **both_ways("scikit-learn", theirs)}
            figures = compared(sides, effort._replace(rounds=1))
            yield {"by": by, "n": len(data.matrix), "d": d, "k": k} | figures


def many_components(effort: Effort) -> Iterator[Result]:
    """Separated components: 16 of them, and 256."""
    n = 50_000 if effort == QUICK else 1_000_000
    few, many = (mixture(n, 4, k, FAR) for k in (16, 256))
    sides = {"ours": ours.em_step(few), "256": ours.em_step(many)}
    yield {"n": n, "d": 4, "entropy": many.entropy(), "goal": 4} | compared(sides, effort)


def threads(effort: Effort, most: int) -> Iterator[Result]:
    """The same iteration in processes of 1, 2, 4, … threads."""
    n, d, k = THREADS_SHAPE
    n = n // 10 if effort == QUICK else n
    counts = [2**i for i in range(most.bit_length()) if 2**i < most]
    for count in [*counts, most]:
        environment = os.environ | dict.fromkeys(VARIABLES, str(count))
        command = [sys.executable, __file__, str(n), str(d), str(k)]
        output = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
        yield {"threads": count, "n": n, "d": d, "k": k} | json.loads(output)


# What sets the threads of Polars, and of every BLAS.
VARIABLES = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

if __name__ == "__main__":
    shape = [int(x) for x in sys.argv[1:]]
    rows = mixture(*shape, NEAR)
    print(json.dumps(compared({"ours": ours.em_step(rows)}, FULL)))
