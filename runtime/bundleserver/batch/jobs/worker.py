"""A worker process: opens the model once, and scores one batch after the other."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import closing
from multiprocessing.connection import Connection

import numpy as np
import pyarrow as pa

from bundleserver.batch.binding import bind
from bundleserver.batch.jobs.messages import Done, Failed, Job, Ready, Task, packed, unpacked
from bundleserver.batch.models import open_local
from bundleserver.batch.scoring import Scorer
from bundleserver.batch.tables.pieces import Wanted
from bundleserver.bundle import Bundle
from bundleserver.errors import BundleServerError, InvalidInput, PredictionError
from bundleserver.frameworks.interface import first_line

LOG = logging.getLogger(__name__)


def main(descriptor: int) -> None:
    """Serve the process at the other end of a socket until it closes that."""
    # Ctrl-C goes to the command, which ends its worker processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(descriptor) as connection:
        try:
            job: Job = connection.recv()
            _serve(connection, job)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            # The command has ended; nothing that the model has begun is waited for.
            os._exit(0)


def _serve(connection: Connection, job: Job) -> None:
    try:
        bundle = open_local(job.model, device=job.device, trust=job.trust)
    except (BundleServerError, OSError) as error:
        connection.send(Failed(_said(error)))
        return
    with closing(bundle):
        try:
            scorer, ready = _prepared(bundle, job)
        except BundleServerError as error:
            connection.send(Failed(_said(error), isinstance(error, InvalidInput)))
            return
        connection.send(ready)
        while True:
            task: Task = connection.recv()
            connection.send(_scored(scorer, task, job))


def _prepared(bundle: Bundle, job: Job) -> tuple[Scorer, Ready]:
    schema = pa.ipc.read_schema(pa.py_buffer(job.schema))
    binding = bind(bundle, schema, keep=job.keep, columns=job.columns, is_text=job.is_text)
    scorer = Scorer(bundle, binding, job.method, is_text=job.is_text)
    wanted = Wanted(
        tuple(use.column for use in binding.uses),
        # 0 and 1 may stand for booleans, which the model's own validation knows.
        {u.column: None if u.is_flag else u.datatype or u.text_datatype for u in binding.uses},
        {use.column: bool(use.shape) for use in binding.uses if use.shape is not None},
    )
    outputs = pa.schema(list(scorer.sample_columns().items())).serialize().to_pybytes()
    independent = scorer.rows_independent
    return scorer, Ready(bundle.identity, scorer.facts, wanted, outputs, independent)


def _scored(scorer: Scorer, task: Task, job: Job) -> Done | Failed:
    try:
        batch = unpacked(task.batch)
        scored = scorer.score(batch, task.bad, first=job.first)
    except (BundleServerError, pa.ArrowException, MemoryError) as error:
        return Failed(_said(error), isinstance(error, InvalidInput))
    rows = None if np.array_equal(scored.rows, np.arange(batch.num_rows)) else scored.rows.tobytes()
    made = pa.RecordBatch.from_pydict(scored.columns)
    return Done(task.number, packed(made), rows, scored.problems)


def _said(error: BaseException) -> str:
    if isinstance(error, PredictionError):
        # Its own message refers to a server's log.
        return f"{error.identity} failed: {error.cause}"
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    return first_line(error) if isinstance(error, MemoryError) else str(error)
