"""Armadillo's gmm_full, compiled here where its headers and a compiler are."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from timing import Effort, Result, measured

from data import Data

NAME = "Armadillo"
SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-std=c++17")
VERSION = "#include <armadillo>\nARMA_VERSION_MAJOR.ARMA_VERSION_MINOR.ARMA_VERSION_PATCH"


@cache
def version() -> str | None:
    if shutil.which("g++") is None:
        return None
    command = ["g++", "-E", "-P", "-x", "c++", "-"]
    found = subprocess.run(command, input=VERSION, capture_output=True, text=True, check=False)
    if found.returncode:
        return None
    return found.stdout.rstrip().splitlines()[-1].replace(" ", "")


def iteration(data: Data, effort: Effort) -> Result:
    arrays = {
        "rows": data.matrix,  # its matrices lie column after column, and its columns are rows
        "weights": data.model.weights,
        "means": data.model.means,
        "covariances": data.model.covariances,
    }
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "step")
        subprocess.run(["g++", *FLAGS, SOURCE, "-o", program, "-larmadillo"], check=True)
        for name, array in arrays.items():
            Path(folder, name).write_bytes(np.ascontiguousarray(array).tobytes())
        Path(folder, "shape").write_text(" ".join(map(str, data.shape)))
        run = subprocess.run(
            [program, folder, str(effort.rounds)], capture_output=True, check=True, text=True
        )
    return measured([[float(line)] for line in run.stdout.split()])
