"""Train a forest, and score a million generated rows with ``bundleserver predict``.

Run it with ``make batch-demo``, or ``python examples/batch_demo.py``. It prints what the command
prints, then the figures of the run beside those of the library alone, which reads the whole file
into memory, and shows the first scores and what the file says of itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore
from demo_screen import CONSOLE, command, heading

DIRECTORY = Path(__file__).resolve().parents[1] / "build" / "batch-demo"
COLUMNS = ("amount", "age_days", "hour", "distance_km", "items", "discount", "visits", "returns")
ROW_GROUP = 128 << 10
SEED = 0
MARK = ".made-by-the-demo"
"""This file in a directory says that the demo may delete it."""

BY_LIBRARY = """
import sys, joblib, pyarrow.parquet as pq
scaler, forest = joblib.load(sys.argv[1])
rows = pq.read_table(sys.argv[2]).drop_columns("id").to_pandas()
scores = forest.decision_function(scaler.transform(rows))
import pyarrow as pa
pq.write_table(pa.table({"score": scores}), sys.argv[3])
"""


@dataclass(frozen=True)
class Figures:
    """What a process took: seconds, and the most memory of all its processes together in MiB."""

    seconds: float
    peak: float


def main() -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where files go")
    arguments = parser.parse_args()
    root = clean_directory(arguments.directory)
    # One thread per library: the command's processes share the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    heading("A model and a table")
    save_model(root)
    write_table(root / "payments.parquet", arguments.rows)
    heading("Scoring it")
    ours = score(root)
    theirs = run([sys.executable, "-c", BY_LIBRARY, *_paths(root)])
    heading("The figures")
    show_figures(arguments.rows, {"bundleserver predict": ours, "the library alone": theirs})
    show_scores(root)
    return 0


def clean_directory(directory: Path) -> Path:
    """Make an empty directory; what an earlier run of the demo left in it is deleted."""
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARK).exists():
            raise SystemExit(f"{directory} was not made by this demo; choose another --directory")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARK).touch()
    return directory


def draw_payments(rows: int, seed: int) -> pd.DataFrame:
    """Return payments, of which about one in fifty is unusual."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, len(COLUMNS)))
    values[generator.random(rows) < 0.02] *= 4
    return pd.DataFrame(values, columns=list(COLUMNS))


def save_model(root: Path) -> None:
    """Fit a scaler and an isolation forest, and save them as one model."""
    known = draw_payments(20_000, SEED)
    scaler = StandardScaler().fit(known)
    forest = IsolationForest(n_estimators=100, random_state=SEED).fit(scaler.transform(known))
    payment = {"name": "payment", "datatype": "FP64", "shape": [-1, len(COLUMNS)]}
    steps = [
        {
            "component": "scaler",
            "method": "transform",
            "inputs": ["payment"],
            "outputs": ["scaled"],
        },
        {
            "component": "model",
            "method": "decision_function",
            "inputs": ["scaled"],
            "outputs": ["score"],
        },
    ]
    version = BundleStore(root / "models").save(
        "payments",
        {"scaler": scaler, "model": forest},
        inputs=[{**payment, "columns": list(COLUMNS)}],
        steps=steps,
        examples=known[:3],
    )
    joblib.dump((scaler, forest), root / "library.joblib")
    CONSOLE.print(f"[green]✓[/] models/payments/{version}: a scaler and an isolation forest")


def write_table(path: Path, rows: int) -> None:
    """Write payments with a key, a row group at a time."""
    schema = pa.schema([("id", pa.string()), *((name, pa.float64()) for name in COLUMNS)])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, ROW_GROUP):
            payments = draw_payments(min(ROW_GROUP, rows - first), SEED + 1 + first)
            payments["id"] = [f"p{at:07d}" for at in range(first, first + len(payments))]
            writer.write_table(pa.Table.from_pandas(payments, schema, preserve_index=False))
    size = path.stat().st_size / 2**20
    CONSOLE.print(f"[green]✓[/] {path.name}: {rows:,} rows, {size:.0f} MiB")


def score(root: Path) -> Figures:
    """Score the table with the command, whose progress and summary go to the screen."""
    words = ["predict", root / "models" / "payments", "--input", root / "payments.parquet"]
    words += ["--output", root / "scores.parquet", "--keep", "id"]
    command(shlex.join(["bundleserver", *map(str, words)]))
    return run([sys.executable, "-m", "bundleserver", *map(str, words)])


def run(words: list[str]) -> Figures:
    """Run a command to its end, and sample the memory of it and its children.

    Raises:
        SystemExit: it failed.
    """
    peak, began = [0.0], time.perf_counter()
    with subprocess.Popen(words) as process:  # noqa: S603  # the command is our own
        sampling = threading.Thread(target=_sample, args=(process, peak))
        sampling.start()
        code = process.wait()
        sampling.join()
    if code:
        raise SystemExit(code)
    return Figures(time.perf_counter() - began, peak[0])


def show_figures(rows: int, all_figures: dict[str, Figures]) -> None:
    """Print a line for each way of scoring."""
    table = Table()
    for name in ("", "rows", "seconds", "rows per second", "peak RSS, MiB"):
        table.add_column(name, justify="right" if name else "left")
    for name, figures in all_figures.items():
        rate, peak = f"{rows / figures.seconds:,.0f}", f"{figures.peak:,.0f}"
        table.add_row(name, f"{rows:,}", f"{figures.seconds:.1f}", rate, peak)
    CONSOLE.print(table)
    CONSOLE.print("[dim]both with their starts, reading and writing[/]")


def show_scores(root: Path) -> None:
    """Print the first scores, what the file says of itself, and whether both are equal."""
    scores = pq.read_table(root / "scores.parquet")
    heading("scores.parquet")
    CONSOLE.print(scores.slice(0, 5).to_pandas().to_string(index=False))
    said = {key.decode(): text.decode() for key, text in (scores.schema.metadata or {}).items()}
    about = {key: text for key, text in said.items() if key.startswith("bundleserver.")}
    CONSOLE.print(json.dumps(about, indent=2), soft_wrap=True)
    expected = pq.read_table(root / "by-library.parquet")["score"]
    if scores["score"].equals(expected):
        CONSOLE.print("[green]✓[/] every score is the library's, to the bit")
    else:
        raise SystemExit("the command's scores differ from the library's")


def _paths(root: Path) -> list[str]:
    names = ("library.joblib", "payments.parquet", "by-library.parquet")
    return [str(root / name) for name in names]


def _sample(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    root = psutil.Process(process.pid)
    while process.poll() is None:
        resident = 0
        for one in (root, *root.children(recursive=True)):
            try:
                resident += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        peak[0] = max(peak[0], resident / 2**20)
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
