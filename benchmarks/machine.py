"""Where a figure was measured: without it, no figure is kept."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

_PACKAGES = (
    "duckdb",
    "fastapi",
    "httptools",
    "msgspec",
    "pyarrow",
    "pydantic",
    "sqlalchemy",
    "uvicorn",
    "uvloop",
)
_SYNCS = 50


def machine(folder: Path) -> dict[str, Any]:
    """The machine, the versions and the commit; `folder` is on the disk that is written to."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "sync_ms": round(_sync_ms(folder), 3),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _sync_ms(folder: Path) -> float:
    """The median time of a synced write of 4 KiB: no acknowledgement can be faster."""
    times_s: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            began_s = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            times_s.append(time.perf_counter() - began_s)
    return 1000 * sorted(times_s)[_SYNCS // 2]


def _commit() -> str:
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(("git", *arguments), cwd=root, capture_output=True, text=True)
        return done.stdout.strip()

    # The results themselves are written while a run goes on.
    code = ("src", "kernel", "benchmarks", ":!benchmarks/results")
    changed = "" if not git("status", "--porcelain", *code) else ", with changes"
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + changed
