"""Two million rows: ``bundleserver predict`` beside the library's own ``predict``.

``python benchmarks/batch.py [--rows N] [--rounds N]`` writes ``batch.md`` and ``docs/batch.png``.
Each measurement is in a process of its own, by turns. The library has the whole table in memory
before its time begins, and that time ends with the call; the command's is that of the whole
process, with its start, reading and writing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from batch_picture import draw
from machine import facts
from models import COLUMNS, SEED, TREES, Site, draw_rows
from report import Table
from rich.console import Console
from rich.progress import Progress
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent / "build" / "bench" / "batch"
ROW_GROUP = 128 << 10
NAMES = tuple(f"x{position}" for position in range(COLUMNS))
GOAL = 0.9
SAMPLED_EVERY_SECONDS = 0.05
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Run:
    """One process tree that scored the table.

    Attributes:
        seconds: the time that counts.
        whole: seconds from start to end of the process.
        cpu: seconds of the cores that all its processes took, which neighbours hardly change.
        memory: MiB of all its processes together, each ``SAMPLED_EVERY_SECONDS``.
    """

    seconds: float
    whole: float
    cpu: float
    memory: list[float]


Runs = dict[tuple[str, str], list[Run]]
"""By model and by way."""

WAYS = {
    "library, one thread": 1,
    "command, one process": 1,
    "library, all cores": CORES,
    "command, all cores": CORES,
}
"""Each way of scoring, and how many cores it may use."""


def main() -> None:
    """Measure, compare the answers, print the table, write page and picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE / "batch.md")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "batch.png")
    arguments = parser.parse_args()
    shutil.rmtree(ROOT, ignore_errors=True)
    site, about = Site(ROOT), facts()
    models = save_models(site)
    write_rows(ROOT / "rows.parquet", arguments.rows)
    runs: Runs = {(model, way): [] for model in models for way in WAYS}
    with Progress(console=Console(stderr=True)) as progress:
        for model, way in progress.track(list(runs) * arguments.rounds):
            runs[model, way].append(score(site, model, way))
            compare(*(ROOT / f"{model}-{who}.parquet" for who in ("library", "command")))
    tables = report(runs, arguments.rows)
    for table in tables:
        table.show(Console())
    lines = "\n".join(f"- {name}: {value}" for name, value in about.items())
    head = f"# Batch\n\nWritten by `benchmarks/batch.py`.\n\n{lines}\n"
    arguments.output.write_text("\n".join([head, *(table.markdown() for table in tables)]))
    draw({way: runs["forest", way] for way in WAYS}, arguments.rows, arguments.picture)


def save_models(site: Site) -> tuple[str, ...]:
    """Save two forests, boosting and a linear pipeline, as bundles and with joblib."""
    rows = pd.DataFrame(draw_rows(20_000), columns=list(NAMES))
    labels = (rows["x0"] * rows["x1"] + rows["x2"] > 0).astype(np.int64)
    isolation = IsolationForest(n_estimators=TREES, random_state=SEED)
    fitted = {
        "forest": make_pipeline(StandardScaler(), isolation),
        "random-forest": RandomForestClassifier(TREES, min_samples_leaf=20, random_state=SEED),
        "boosting": HistGradientBoostingClassifier(max_iter=TREES, random_state=SEED),
        "linear": make_pipeline(StandardScaler(), LogisticRegression()),
    }
    site.pickles.mkdir(parents=True)
    for name, model in fitted.items():
        model.fit(rows, labels)
        BundleStore(site.store).save(name, model, examples=rows[:3])
        joblib.dump(model, site.pickles / f"{name}.joblib")
    return tuple(fitted)


def write_rows(path: Path, rows: int) -> None:
    """Write a table with a key and the models' columns, a row group at a time."""
    schema = pa.schema([("id", pa.int64()), *((name, pa.float64()) for name in NAMES)])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, ROW_GROUP):
            values = draw_rows(min(ROW_GROUP, rows - first), seed=SEED + 1 + first)
            keys = np.arange(first, first + len(values))
            writer.write_table(pa.table([keys, *values.T], schema=schema))


def score(site: Site, model: str, way: str) -> Run:
    """Score the table in one way, and watch its processes."""
    cores, table = WAYS[way], ROOT / "rows.parquet"
    if way.startswith("library"):
        script, pickle = HERE / "batch_library.py", site.pickles / f"{model}.joblib"
        words = [sys.executable, script, pickle, table, ROOT / f"{model}-library.parquet", cores]
    else:
        words = [sys.executable, "-m", "bundleserver", "predict", site.store / model]
        words += ["--input", table, "--output", ROOT / f"{model}-command.parquet", "--force"]
        words += ["--keep", "id", "--jobs", cores, "--json"]
    # The command's processes share the cores; a library has threads.
    threads = cores if way.startswith("library") else 1
    return watched(list(map(str, words)), {**os.environ, "OMP_NUM_THREADS": str(threads)})


def watched(words: list[str], environment: dict[str, str]) -> Run:
    """Run a command to its end, and sample the memory of it and of its children."""
    memory: list[float] = []
    began, cpu = time.perf_counter(), cpu_of_children()
    with subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        sampling = threading.Thread(target=sample, args=(process, memory.append))
        sampling.start()
        out, said = process.communicate()
    whole = time.perf_counter() - began
    sampling.join()
    cpu = cpu_of_children() - cpu
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{said}")
    document = json.loads(out)
    return Run(document.get("predict", whole), whole, cpu, memory)


def cpu_of_children() -> float:
    """Return the seconds of the cores that ended children took, and theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def sample(process: subprocess.Popen[str], tell: Callable[[float], object]) -> None:
    """Tell the resident MiB of a process and its children until it has ended."""
    root = psutil.Process(process.pid)
    while process.poll() is None:
        resident = 0
        for one in (root, *root.children(recursive=True)):
            try:
                resident += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        tell(resident / 2**20)
        time.sleep(SAMPLED_EVERY_SECONDS)


def compare(theirs: Path, ours: Path) -> None:
    """Hold that both files have the same keys and answers, to the bit, once both are there."""
    if not (theirs.exists() and ours.exists()):
        return
    expected, answered = pq.read_table(theirs), pq.read_table(ours)
    same = [a.equals(b) for a, b in zip(expected.columns, answered.columns, strict=True)]
    if not all(same):
        raise SystemExit(f"{ours} has other answers than {theirs}")


def report(runs: Runs, rows: int) -> list[Table]:
    """Return tables of rows per second, of ratios and of peaks, a line for each model."""
    models = list(dict.fromkeys(model for model, _ in runs))
    about = (
        f"{rows:,} rows of {COLUMNS} columns and a key from Parquet to Parquet, {CORES} cores; "
        "medians. The library's time is that of `predict` alone, with the table in memory; the "
        "command's is that of its whole process, with start, reading and writing."
    )
    rates = [
        (model, *(f"{rows / _median(runs[model, way], 'seconds'):,.0f}" for way in WAYS))
        for model in models
    ]
    ratios = (
        "Of rows per second, ours to the library's, in the same round; medians. "
        f"The goal is {GOAL:g}x for the forests, where both have their defaults: the library one "
        "thread, the command a process for each core. What is as fast as the linear "
        "pipeline pays for the start. In `whole` the library starts, reads and writes too."
    )
    compared = [(model, *_ratios(runs, model)) for model in models]
    peaks = "MiB of RSS, the sum of all processes, so that what they share counts for each."
    weights = [
        (model, *(f"{max(max(run.memory) for run in runs[model, way]):,.0f}" for way in WAYS))
        for model in models
    ]
    taken = "Seconds that all processes take of the cores, from start to end; medians."
    costs = [
        (model, *(f"{_median(runs[model, way], 'cpu'):.1f}" for way in WAYS)) for model in models
    ]
    pairs = ("defaults", "goal", "one core", "all cores", "one core, whole", "all cores, whole")
    return [
        Table("Rows per second", about, ("model", *WAYS), rates),
        Table("Ratios", ratios, ("model", *pairs), compared),
        Table("CPU", taken, ("model", *WAYS), costs),
        Table("Peak memory", peaks, ("model", *WAYS), weights),
    ]


def _ratios(runs: Runs, model: str) -> tuple[str, ...]:
    one, single, every, default = (runs[model, way] for way in WAYS)
    defaults = _ratio(one, default, "seconds")
    goal = "-" if "forest" not in model else "yes" if defaults >= GOAL else "no"
    others = [
        _ratio(theirs, ours, what)
        for what in ("seconds", "whole")
        for theirs, ours in ((one, single), (every, default))
    ]
    return (f"{defaults:.2f}x", goal, *(f"{ratio:.2f}x" for ratio in others))


def _ratio(theirs: list[Run], ours: list[Run], what: str) -> float:
    pairs = zip(theirs, ours, strict=True)
    return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)


def _median(runs: list[Run], what: str) -> float:
    return statistics.median(getattr(run, what) for run in runs)


if __name__ == "__main__":
    main()
