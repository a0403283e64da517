"""What the numbers belong to: the machine, the commit, the versions."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("kserve", "fastapi", "uvicorn", "orjson", "pysimdjson", "numpy", "scikit-learn")
PACKAGES_OF_OTHERS = ("treelite", "torch", "prophet", "statsmodels", "grpcio")
PACKAGES_OF_OTHERS += ("xgboost-cpu", "lightgbm", "onnxruntime")


def facts() -> dict[str, str]:
    """Return what a reader has to know to judge or repeat a run."""
    packages = ", ".join(f"{name} {_version(name)}" for name in (*PACKAGES, *PACKAGES_OF_OTHERS))
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    memory = psutil.virtual_memory().total / 2**30
    return {
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{_processor()}, {os.cpu_count()} CPUs, {memory:.1f} GiB, "
        f"{platform.system()} {platform.release()}",
        "load average before": load,
        "Python": platform.python_version(),
        "packages": packages,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(absent)"


def _commit() -> str:
    name = _git("describe", "--always", "--abbrev=12")
    # The pages that the benchmarks write themselves change nothing.
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "*.py", "*.txt", "*.toml")
    return (f"{name}, changed" if changed else name) or "unknown"


def _git(*arguments: str) -> str:
    root = Path(__file__).parent.parent
    asked = subprocess.run(  # the command is our own
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
