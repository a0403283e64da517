"""One file scored: read, scored by worker processes, and written in the order of its rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from bundleserver.batch.jobs.messages import Done, Job, Ready, Task, packed, unpacked
from bundleserver.batch.jobs.pool import Pool
from bundleserver.batch.models import Local
from bundleserver.batch.outputs import with_identity
from bundleserver.batch.questions import STEP
from bundleserver.batch.tables.pieces import Piece, Reader
from bundleserver.batch.tables.sinks import check_carried
from bundleserver.batch.tables.writing import TableWriter
from bundleserver.bundle.trust import TRUST_ANY, Trust
from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput

ROW, REASON, LINE = "row", "reason", "line"
"""The columns of rejected rows beside their own; ``line`` has the text of those without them."""
_AHEAD = 2
"""Batches that wait, for each process."""


@dataclass(frozen=True)
class Scoring:
    """What to score, and how.

    Attributes:
        model: the model's files.
        keep: columns of the table to carry through.
        columns: those that a model without names takes.
        method: a method in the place of the model's outputs.
        jobs: how many processes.
        batch_rows: rows of a batch; None lets the width of a row decide.
        device: where torch models run.
        trust: what the model's files may do.
    """

    model: Local
    keep: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    method: str | None = None
    jobs: int = 1
    batch_rows: int | None = None
    device: str = "cpu"
    trust: Trust = TRUST_ANY


@dataclass
class Counts:
    """How far a run has come.

    Attributes:
        read: rows of the input that are scored or rejected.
        written: rows of the output, of which a forecast has several for one.
        rejected: rows that are not valid.
        model: the facts of the model; empty before it is open.
        identity: its name in messages.
        rows_independent: whether a row's result has the same bits in every batch.
        has_outputs: whether the outputs are known without any row.
    """

    read: int = 0
    written: int = 0
    rejected: int = 0
    identity: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    rows_independent: bool = False
    has_outputs: bool = False


Tell = Callable[[Counts], None]


def score_table(
    scoring: Scoring,
    reader: Reader,
    output: TableWriter,
    rejects: TableWriter | None,
    counts: Counts,
    tell: Tell = lambda counts: None,
) -> None:
    """Score a table from its first row to its last; the caller completes the files.

    Args:
        scoring: what to score, and how.
        reader: the table.
        output: where the scores go.
        rejects: where rows go that are not valid; without it the first one ends the run.
        counts: how far it has come, also if it fails.
        tell: told after each batch.

    Raises:
        InvalidInput: the table lacks a column, is damaged, or has a row that is not valid.
        BundleServerError: the model cannot be opened or raised; a process ended.
    """
    if rejects is not None and (clashing := set(_told(reader)) & set(_own(reader))):
        raise InvalidInput(
            f"the table has the columns {quoted(sorted(clashing))}, which rejected rows get beside "
            "their own; rename them"
        )
    _check_carried(scoring, reader, output, rejects)
    job = Job(
        scoring.model,
        scoring.device,
        scoring.trust,
        reader.schema.serialize().to_pybytes(),
        reader.is_text,
        scoring.keep,
        scoring.columns,
        scoring.method,
        rejects is None,
    )
    with Pool(job, scoring.jobs) as pool:
        ready = pool.first_ready()
        counts.facts, counts.identity = ready.facts, ready.identity
        counts.rows_independent = ready.rows_independent
        known = pa.ipc.read_schema(pa.py_buffer(ready.outputs))
        counts.has_outputs = bool(set(known.names) - {STEP})
        _check_names(scoring.keep, known.names)
        run = _Run(scoring, ready, reader, output, rejects, counts, tell)
        taken, keep = ready.wanted.columns, scoring.keep
        if not reader.is_lines:
            own = _own(reader) if rejects is not None else ()
            taken, keep = tuple(dict.fromkeys([*taken, *keep, *own])), ()
        wanted = replace(
            ready.wanted,
            columns=taken,
            kept=keep,
            kept_for=output.form.name,
            texts=rejects is not None,
        )
        run.through(pool, reader.pieces(wanted, scoring.batch_rows), scoring.jobs)
        run.finish(known)


def _told(reader: Reader) -> tuple[str, ...]:
    """Return the columns of rejected rows that tell of them."""
    return (ROW, REASON, LINE) if reader.is_text or reader.is_lines else (ROW, REASON)


def _own(reader: Reader) -> tuple[str, ...]:
    """Return the table's columns that rejected rows have."""
    return () if reader.is_lines else tuple(reader.schema.names)


def _check_carried(
    scoring: Scoring, reader: Reader, output: TableWriter, rejects: TableWriter | None
) -> None:
    """Refuse what an output's format has not; names that the table lacks are said later."""
    if reader.is_lines:
        return
    table = reader.schema
    known = [name for name in scoring.keep if name in table.names]
    check_carried(table, known, output.form, "--keep")
    if rejects is not None:
        check_carried(table, _own(reader), rejects.form, "--rejects")


class _Run:
    def __init__(
        self,
        scoring: Scoring,
        ready: Ready,
        reader: Reader,
        output: TableWriter,
        rejects: TableWriter | None,
        counts: Counts,
        tell: Tell,
    ) -> None:
        self._scoring, self._ready, self._reader = scoring, ready, reader
        self._output, self._rejects = output, rejects
        self._counts, self._tell = counts, tell
        self._has_written = self._has_rejected = False
        self._kept = reader.schema

    def through(self, pool: Pool, pieces: Iterator[Piece], jobs: int) -> None:
        """Give out the batches, and write what comes back in their order."""
        waiting: deque[tuple[int, Piece]] = deque()
        done: dict[int, Done] = {}
        ahead: tuple[Task, Piece] | None = None
        number, read, is_end = 0, 0, False
        while True:
            if ahead is None and not is_end and len(waiting) < jobs * (1 + _AHEAD):
                piece = next(pieces, None)
                is_end = piece is None
                if piece is not None:
                    taken = piece.batch.select(list(self._ready.wanted.columns))
                    ahead = (
                        Task(number, (read + 1, read + taken.num_rows), packed(taken), piece.bad),
                        piece,
                    )
                    number, read = number + 1, read + taken.num_rows
            if ahead is not None and pool.has_idle:
                pool.begin(ahead[0])
                waiting.append((ahead[0].number, ahead[1]))
                ahead = None
                continue
            if not waiting and ahead is None:
                return
            done |= {one.number: one for one in pool.done()}
            while waiting and waiting[0][0] in done:
                at, piece = waiting.popleft()
                self._write(piece, done.pop(at))
                self._tell(self._counts)

    def _write(self, piece: Piece, done: Done) -> None:
        start = self._counts.read
        if done.problems and self._rejects is None:
            row = min(done.problems)
            self._counts.read += row
            raise InvalidInput(f"row {start + row + 1}: {done.problems[row]}")
        outputs = unpacked(done.batch)
        if outputs.num_rows:
            _check_names(self._scoring.keep, outputs.schema.names)
            self._output.write(self._assembled(piece, outputs, done.rows))
            self._has_written = True
        elif piece.kept is not None:
            self._kept = piece.kept.schema
        if done.problems:
            self._reject(piece, done.problems, start)
        self._counts.read += piece.batch.num_rows
        self._counts.written += outputs.num_rows
        self._counts.rejected += len(done.problems)

    def _assembled(self, piece: Piece, outputs: Any, rows: bytes | None) -> pa.RecordBatch:
        carried: Any = piece.batch if piece.kept is None else piece.kept
        kept = {name: carried.column(name) for name in self._scoring.keep}
        if rows is not None:
            places = pa.array(np.frombuffer(rows, np.int64))
            kept = {name: column.take(places) for name, column in kept.items()}
        made = {name: outputs.column(name) for name in outputs.schema.names}
        known = None if piece.kept is None else piece.kept.schema
        return with_identity({**kept, **made}, self._ready.facts, known)

    def _reject(self, piece: Piece, problems: dict[int, str], start: int) -> None:
        places = sorted(problems)
        lines = (piece.lines.get(place) for place in places)
        texts = [None if line is None else _line(line) for line in lines]
        told = {
            ROW: pa.array([start + place + 1 for place in places], pa.int64()),
            REASON: pa.array([problems[place] for place in places], pa.string()),
            LINE: pa.array(texts, pa.string()),
        }
        batch: Any = piece.batch
        own = {name: batch.column(name).take(pa.array(places)) for name in _own(self._reader)}
        self._write_rejected({**{name: told[name] for name in _told(self._reader)}, **own})

    def _write_rejected(self, columns: dict[str, Any]) -> None:
        if self._rejects is not None:
            self._rejects.write(pa.RecordBatch.from_pydict(columns))
            self._has_rejected = True

    def finish(self, known: pa.Schema) -> None:
        """Write the columns of tables that have no rows, so that their readers find them."""
        table = self._reader.schema
        if not self._has_written:
            keep = self._scoring.keep
            empty = {name: pa.nulls(0, self._kept.field(name).type) for name in keep}
            empty |= {one.name: pa.nulls(0, one.type) for one in known}
            self._output.write(with_identity(empty, self._ready.facts))
        if not self._has_rejected:
            # pa.array would import pandas, for nothing.
            types = {ROW: pa.int64(), REASON: pa.string(), LINE: pa.string()}
            told = {name: pa.nulls(0, types[name]) for name in _told(self._reader)}
            own = {name: pa.nulls(0, table.field(name).type) for name in _own(self._reader)}
            self._write_rejected({**told, **own})


def _line(line: bytes) -> str:
    """Return the text of a line without its end; bytes that are no text as escapes."""
    return line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def _check_names(keep: tuple[str, ...], outputs: list[str]) -> None:
    if taken := [name for name in keep if name in outputs]:
        raise InvalidInput(
            f"--keep: {quoted(taken)} is also the name of an output; rename the table's column"
        )
