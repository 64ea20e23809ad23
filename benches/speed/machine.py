"""What ran, and where."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path

from peers import PEERS
from timing import Result

PACKAGES = ("polars-gmm", "polars", "scikit-learn", "numpy", "scipy")


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    found["python"] = platform.python_version()
    return found | {p.NAME: version for p in PEERS if (version := p.version()) is not None}


def absent() -> list[str]:
    return [peer.NAME for peer in PEERS if peer.version() is None]


def machine(threads: int, peak: tuple[float, int]) -> Result:
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "fma_per_second": peak[0],
        "lanes": peak[1],
    }


def processor() -> str:
    """What Linux calls it, or Python."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return named[1] if named else platform.processor()
