"""mclust, through Rscript: its E-step and M-step of VVV, timed by R."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from timing import Effort, Result, measured

from data import Data

NAME = "mclust"

SCRIPT = """
suppressMessages(library(mclust))
folder <- commandArgs(trailingOnly = TRUE)[1]
shape <- scan(file.path(folder, "shape"), quiet = TRUE)
n <- shape[1]; d <- shape[2]; k <- shape[3]
get <- function(name, count) readBin(file.path(folder, name), "double", count)
x <- matrix(get("rows", n * d), n, d)
sigma <- array(get("covariances", k * d * d), c(d, d, k))
factors <- array(apply(sigma, 3, chol), c(d, d, k))
parameters <- list(
  pro = get("weights", k), mean = matrix(get("means", k * d), d, k),
  variance = list(modelName = "VVV", d = d, G = k, sigma = sigma, cholsigma = factors))
step <- function() mstepVVV(x, estepVVV(x, parameters)$z)
seconds <- sapply(1:shape[4], function(i) {
  began <- proc.time()[["elapsed"]]
  for (j in 1:shape[5]) step()
  (proc.time()[["elapsed"]] - began) / shape[5]
})
cat("[", paste(format(seconds, digits = 10), collapse = ","), "]")
"""


@cache
def version() -> str | None:
    if shutil.which("Rscript") is None:
        return None
    ask = ["Rscript", "-e", 'cat(as.character(packageVersion("mclust")))']
    found = subprocess.run(ask, capture_output=True, text=True, check=False)
    return found.stdout if found.returncode == 0 else None


def iteration(data: Data, effort: Effort) -> Result:
    n, d, k = data.shape
    arrays = {
        "rows": np.asfortranarray(data.matrix).T,  # R's matrices lie column after column
        "weights": data.model.weights,
        "means": data.model.means,
        "covariances": data.model.covariances,
    }
    repeats = max(1, 1_000_000 // (n * k))  # R's clock has milliseconds
    with tempfile.TemporaryDirectory() as folder:
        for name, array in arrays.items():
            Path(folder, name).write_bytes(np.ascontiguousarray(array).tobytes())
        Path(folder, "shape").write_text(f"{n} {d} {k} {effort.rounds} {repeats}")
        script = Path(folder, "step.R")
        script.write_text(SCRIPT)
        run = subprocess.run(["Rscript", script, folder], capture_output=True, check=True)
    return measured([[seconds] for seconds in json.loads(run.stdout)])
