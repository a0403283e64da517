"""What opening from a private copy costs: memory and seconds of a load, with and without a digest.

Each load is in a process of its own: ``python benchmarks/sealed.py [--mib 30 120]``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
from rich.console import Console
from sklearn.linear_model import LinearRegression

LOAD = """
import json, sys, time
from pathlib import Path
import sklearn.linear_model
from bundleserver.bundle.opening import open_bundle
began = time.perf_counter()
bundle = open_bundle(Path(sys.argv[1]), model="m")
seconds = time.perf_counter() - began
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
kib = {name: int(status[name].split()[0]) for name in ("VmRSS", "VmHWM")}
print(json.dumps({"seconds": seconds, "rss": kib["VmRSS"] / 1024, "peak": kib["VmHWM"] / 1024}))
"""


def main() -> None:
    """Write a model of each size, load it both ways in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, nargs="+", default=[1, 30, 120])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for mib in arguments.mib:
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place)
            digest = _write_model(directory, mib)
            found: dict[str, list[dict[str, float]]] = {"as it is": [], "from a copy": []}
            for _ in range(arguments.rounds):
                for way, listed in (("as it is", None), ("from a copy", digest)):
                    _write_manifest(directory, listed)
                    found[way].append(_load(directory))
        for way, loads in found.items():
            middle = {key: statistics.median(it[key] for it in loads) for key in loads[0]}
            Console(highlight=False).print(
                f"{mib:5d} MiB {way:12s} {middle['seconds'] * 1000:7.0f} ms, "
                f"RSS {middle['rss']:6.1f} MiB, at most {middle['peak']:6.1f} MiB"
            )


def _write_model(directory: Path, mib: int) -> str:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    model.padding_ = np.random.default_rng(0).random(mib << 17)
    joblib.dump(model, directory / "model.joblib")
    return hashlib.sha256((directory / "model.joblib").read_bytes()).hexdigest()


def _write_manifest(directory: Path, digest: str | None) -> None:
    component = {"framework": "sklearn", "path": "model.joblib"}
    component |= {"sha256": digest} if digest else {}
    document = {"format": "bundle/v1", "components": {"model": component}}
    (directory / "manifest.json").write_text(json.dumps(document))


def _load(directory: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(directory)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
