"""What the payload log's thread does: requests become tables, and tables files, in time."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from bundleserver.errors import BundleServerError
from bundleserver.serving.models import ServingManager
from bundleserver.serving.payload_log.entries import Entry, Taker
from bundleserver.serving.payload_log.files import LogFiles
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics
from bundleserver.serving.payload_log.naming import said_of, version_of
from bundleserver.serving.payload_log.places import Place, hour_of
from bundleserver.serving.payload_log.tables import Block, blocks_of, table_of
from bundleserver.serving.payload_log.unknown_columns import UnknownColumns

if TYPE_CHECKING:
    import pyarrow as pa

LOG = logging.getLogger(__name__)

FILE_BYTES = 32 * 2**20
"""A file has about so many bytes at most, before they are compressed."""

KEPT_BYTES = 64 * 2**20
"""All tables that are not written yet have so many bytes at most."""

MOST_KINDS = 16
"""Different sets of columns of one version, until the next files; lenient models have some."""


class Key(NamedTuple):
    """What the rows of one file have in common: place, signature (its identity) and columns."""

    place: Place
    signature: int | None
    kind: tuple[object, ...]


_FAILED = (False,)
"""The kind of failed requests, which have no columns of inputs and outputs."""

_UNREADABLE = (
    BundleServerError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What comes of values that are no columns: a model may answer with anything."""

_MOST_PIECES = 64
_MOST_TOLD = 1_000  # versions
_PIECE_BYTES = 4_000  # what a table weighs beside its values
_TIDY_SECONDS = 60.0
_PAUSES_SECONDS = (1.0, 5.0, 15.0, 30.0)


@dataclass
class _Buffer:
    """Tables of one kind, for one file."""

    since: float
    about: Mapping[str, str]
    taker: Taker | None  # its signature's identity is in the key
    pieces: list[pa.Table] = field(default_factory=list)
    size: int = 0
    requests: int = 0


class Writer:
    """Makes the files of a payload log. Called from its thread only.

    Trouble with the disk is one warning; what is written later waits in memory, as far as its
    bound allows, and is dropped and counted beyond.
    """

    def __init__(
        self,
        options: LogOptions,
        manager: ServingManager,
        metrics: LogMetrics,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.directory = options.directory
        self._options = options
        self._manager = manager
        self._metrics = metrics
        self._clock, self._now = clock, now
        self._files = LogFiles(options.directory)
        self._unknown = UnknownColumns(options.columns, manager)
        self._buffers: dict[Key, _Buffer] = {}
        self._made_id, self._made = secrets.token_hex(6), 0
        self._schemas: dict[tuple[str, str | None], pa.Schema] = {}
        self._told: set[tuple[str, str | None]] = set()
        self._failures, self._try_at, self._lost = 0, 0.0, 0
        self._tidied, self._is_full = -_TIDY_SECONDS, False

    def begin(self) -> None:
        """Look for what an earlier process left."""
        self._tidy(self._clock())

    def add(self, entries: Sequence[Entry]) -> None:
        """Turn requests into tables."""
        groups: dict[Key, list[tuple[Block, str]]] = {}
        for entry in entries:
            try:
                version = version_of(entry, self._manager)
                place = Place(entry.request.model, version, hour_of(entry.at))
                request_id, taker = entry.request.id or self._new_id(), entry.taker
                for block in list(blocks_of(entry, self._options.columns)):
                    key = Key(place, taker and id(taker.signature), block.kind)
                    groups.setdefault(key, []).append((block, request_id))
            except _UNREADABLE as error:
                self._unreadable(entry, error)
        for key, found in groups.items():
            self._keep(key, [block for block, _ in found], [own for _, own in found])

    def rotate(self, *, everything: bool = False) -> None:
        """Write what is due, and remove what is old; never raises for the disk's sake."""
        now = self._clock()
        due = [key for key in self._buffers if everything or self._is_due(key, now)]
        if now >= self._try_at or everything:
            # Failed requests last: they join a file with others, if there is one.
            for key in sorted(due, key=_is_of_failed):
                if key in self._buffers and not self._write(key):
                    break
        self._bound()
        if everything and self._buffers:
            self._drop([*self._buffers], "disk")
        if now - self._tidied >= _TIDY_SECONDS:
            self._tidy(now)
        self._unknown.check()

    def _is_due(self, key: Key, now: float) -> bool:
        buffer, place = self._buffers[key], key.place
        is_old = now - buffer.since >= self._options.rotate_seconds
        return is_old or buffer.size >= FILE_BYTES or place.hour != hour_of(self._now())

    def _keep(self, key: Key, blocks: Sequence[Block], ids: Sequence[str]) -> None:
        place = key.place
        requests = len({id(block.entry) for block in blocks})
        buffer = self._buffers.get(key)
        if buffer is None:
            others = sum(1 for other in self._buffers if other.place == place)
            if others >= MOST_KINDS:
                self._metrics.dropped("kinds", requests)
                return
            buffer = self._buffers[key] = _Buffer(
                self._clock(), said_of(place, self._manager), blocks[0].entry.taker
            )
        try:
            table = table_of(blocks, ids, buffer.about)
        except _UNREADABLE as error:
            self._unreadable(blocks[0].entry, error, requests)
            if not buffer.pieces:
                del self._buffers[key]
            return
        buffer.pieces.append(table)
        buffer.size += table.nbytes + _PIECE_BYTES
        buffer.requests += requests
        if len(buffer.pieces) >= _MOST_PIECES:
            whole = _joined(buffer.pieces)
            buffer.pieces, buffer.size = [whole], whole.nbytes + _PIECE_BYTES
        if buffer.size >= FILE_BYTES and self._clock() >= self._try_at:
            self._write(key)
        self._bound()

    def _write(self, key: Key) -> bool:
        """Write a buffer as a file; False if the disk does not take it now."""
        buffer, place = self._buffers[key], key.place
        table = self._completed(key, _joined(buffer.pieces))
        try:
            size = self._files.write(place, table)
        except OSError as error:
            self._failed(error)
            return False
        except Exception as error:
            LOG.exception("payload log: a table of '%s' cannot be written: %s", place.model, error)
            self._drop([key], "unreadable")
            return True
        del self._buffers[key]
        self._buffers.pop(Key(place, None, _FAILED), None)
        self._metrics.rows.inc(table.num_rows)
        self._metrics.bytes.inc(size)
        if self._failures:
            LOG.warning(
                "payload log: '%s' is written again; %d requests were dropped meanwhile",
                self.directory,
                self._lost,
            )
        self._failures, self._try_at, self._lost = 0, 0.0, 0
        self._metrics.failing.set(0)
        return True

    def _completed(self, key: Key, table: pa.Table) -> pa.Table:
        """Return a table with the failed requests of its place, whose other columns are null.

        Readers take the columns from the first file that they find: each has all of them.
        """
        import pyarrow as pa

        version, failed = (key.place.model, key.place.version), table
        if _is_of_failed(key):
            table = self._schemas.get(version, failed.schema).empty_table()
        else:
            if version in self._schemas or len(self._schemas) < _MOST_TOLD:
                self._schemas[version] = table.schema
            buffer = self._buffers.get(Key(key.place, None, _FAILED))
            if buffer is None:
                return table
            failed = _joined(buffer.pieces)
        whole = pa.concat_tables([table, failed], promote_options="default")
        return whole.replace_schema_metadata(table.schema.metadata).combine_chunks()

    def _failed(self, error: OSError) -> None:
        if not self._failures:
            LOG.warning(
                "payload log: '%s' cannot be written: %s; requests are answered as before, and "
                "those that do not fit into memory meanwhile are not logged",
                self.directory,
                error,
            )
        self._metrics.failing.set(1)
        pause = _PAUSES_SECONDS[min(self._failures, len(_PAUSES_SECONDS) - 1)]
        self._failures += 1
        self._try_at = self._clock() + pause

    def _bound(self) -> None:
        """Keep the tables that wait within their bound: write the largest, or drop it."""
        while sum(buffer.size for buffer in self._buffers.values()) > KEPT_BYTES:
            largest = max(self._buffers, key=lambda key: self._buffers[key].size)
            if self._clock() < self._try_at or not self._write(largest):
                self._drop([largest], "disk")

    def _drop(self, keys: Sequence[Key], reason: str) -> None:
        for key in keys:
            requests = self._buffers.pop(key).requests
            self._metrics.dropped(reason, requests)
            self._lost += requests

    def _tidy(self, now: float) -> None:
        self._tidied = now
        try:
            self._files.remove_leftovers()
            removed = self._files.remove_oldest(self._options.max_bytes)
        except OSError as error:
            self._failed(error)
            return
        if removed:
            self._metrics.removed.inc(removed)
            # From now on there will be some to remove every minute.
            LOG.log(
                logging.DEBUG if self._is_full else logging.INFO,
                "payload log: removed %d bytes of the oldest files for --log_max_bytes",
                removed,
            )
            self._is_full = True

    def _unreadable(self, entry: Entry, error: Exception, requests: int = 1) -> None:
        """Count requests that cannot become rows; the first of a version is told."""
        self._metrics.dropped("unreadable", requests)
        model = entry.request.model
        version = entry.response.version if entry.response else None
        if (model, version) not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add((model, version))
            what = f"{type(error).__name__}: {error}"
            LOG.warning("%s %s: a request cannot be logged: %.500s", model, version, what)

    def _new_id(self) -> str:
        """Make an id for a request without one."""
        self._made += 1
        return f"{self._made_id}-{self._made}"


def _joined(pieces: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(pieces).combine_chunks()


def _is_of_failed(key: Key) -> bool:
    return key.kind == _FAILED
