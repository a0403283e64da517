"""What the command and its worker processes say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from bundleserver.batch.tables.pieces import Wanted
from bundleserver.bundle.trust import Trust


@dataclass(frozen=True)
class Job:
    """What a worker process is to score, and with what.

    ``schema``: the table's columns, serialized. ``first``: nothing but the first bad row matters.
    """

    directory: Path
    version: str | None
    device: str
    trust: Trust
    schema: bytes
    is_text: bool
    keep: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    method: str | None = None
    first: bool = False


@dataclass(frozen=True)
class Ready:
    """A worker process has opened the model: whose it is, and what it takes and gives.

    ``outputs``: those whose types are known already, as a serialized schema.
    """

    identity: str
    facts: dict[str, str]
    wanted: Wanted
    outputs: bytes
    rows_independent: bool


@dataclass(frozen=True)
class Failed:
    """A worker process cannot open the model, or not score a batch as a whole."""

    said: str
    is_input: bool = False


@dataclass(frozen=True)
class Task:
    """A batch to score, serialized; ``rows``: its first and last; ``bad`` as in ``Piece``."""

    number: int
    rows: tuple[int, int]
    batch: bytes
    bad: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """The outputs of a batch, serialized; see ``Scored``. ``rows`` is None where they are all."""

    number: int
    batch: bytes
    rows: bytes | None
    problems: dict[int, str]


def packed(batch: pa.RecordBatch) -> bytes:
    """Serialize a batch with its schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def unpacked(data: bytes) -> Any:
    """Return the batch of ``packed``, whose columns share its memory."""
    return pa.ipc.open_stream(data).read_next_batch()
