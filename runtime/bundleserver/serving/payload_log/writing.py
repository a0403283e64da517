"""What the payload log's thread does: requests become tables, and tables files, in time."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence

import pyarrow as pa

from bundleserver.errors import BundleServerError
from bundleserver.serving.models import ServingManager
from bundleserver.serving.payload_log.entries import Entry
from bundleserver.serving.payload_log.files import LogFiles
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics
from bundleserver.serving.payload_log.naming import said_of, signature_of, version_of
from bundleserver.serving.payload_log.places import Place, hour_of
from bundleserver.serving.payload_log.rows.blocks import Block, blocks_of
from bundleserver.serving.payload_log.rows.buffers import Buffer
from bundleserver.serving.payload_log.rows.schemas import TooManyColumns, VersionSchema
from bundleserver.serving.payload_log.rows.tables import table_of
from bundleserver.serving.payload_log.unknown_columns import UnknownColumns

LOG = logging.getLogger(__name__)

FILE_BYTES = 16 * 2**20
"""A file has about so many bytes at most, before they are compressed."""

KEPT_BYTES = 32 * 2**20
"""All tables that are not written yet have so many bytes at most."""

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

_MOST_TOLD = 1_000  # versions
_TIDY_SECONDS = 60.0
_PAUSES_SECONDS = (1.0, 5.0, 15.0, 30.0)


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
        self._buffers: dict[Place, Buffer] = {}
        self._made_id, self._made = secrets.token_hex(6), 0
        self._schemas: dict[tuple[str, str | None], VersionSchema] = {}
        self._told: set[tuple[str, str | None]] = set()
        self._failures, self._try_at, self._lost = 0, 0.0, 0
        self._tidied, self._is_full = -_TIDY_SECONDS, False

    def begin(self) -> None:
        """Look for what an earlier process left."""
        self._tidy(self._clock())

    def add(self, entries: Sequence[Entry]) -> None:
        """Turn requests into tables."""
        groups: dict[tuple[Place, object], list[tuple[Block, str]]] = {}
        for entry in entries:
            try:
                version = version_of(entry, self._manager)
                place = Place(entry.request.model, version, hour_of(entry.at))
                request_id = entry.request.id or self._new_id()
                for block in list(blocks_of(entry, self._options.columns)):
                    groups.setdefault((place, block.kind), []).append((block, request_id))
                if entry.taker is not None:
                    self._schema(place).declare(entry.taker.signature)
            except _UNREADABLE as error:
                self._unreadable(entry, error)
        for (place, _), found in groups.items():
            self._keep(place, [block for block, _ in found], [own for _, own in found])

    def rotate(self, *, everything: bool = False) -> None:
        """Write what is due, and remove what is old; never raises for the disk's sake."""
        now = self._clock()
        due = [place for place in self._buffers if everything or self._is_due(place, now)]
        if now >= self._try_at or everything:
            for place in due:
                if place in self._buffers and not self._write(place):
                    break
        self._bound()
        if everything and self._buffers:
            self._drop([*self._buffers], "disk")
        if everything and self._lost:
            LOG.warning(
                "payload log: '%s' cannot be written: %d requests are lost",
                self.directory,
                self._lost,
            )
        if now - self._tidied >= _TIDY_SECONDS:
            self._tidy(now)
        self._unknown.check()

    def waiting(self) -> int:
        """Count the requests that are in no file yet; called from another thread at the end."""
        return sum(buffer.requests for buffer in [*self._buffers.values()])

    def _is_due(self, place: Place, now: float) -> bool:
        buffer = self._buffers[place]
        is_old = now - buffer.since >= self._options.rotate_seconds
        return is_old or buffer.is_full(FILE_BYTES) or place.hour != hour_of(self._now())

    def _schema(self, place: Place) -> VersionSchema:
        """Return the columns of a place's version, which stay while this process runs."""
        version = (place.model, place.version)
        if version not in self._schemas:
            if len(self._schemas) >= _MOST_TOLD:
                del self._schemas[next(iter(self._schemas))]
            schema = self._schemas[version] = VersionSchema(self._options.columns)
            signature = signature_of(place, self._manager)
            if signature is not None:
                schema.declare(signature)
        return self._schemas[version]

    def _keep(self, place: Place, blocks: Sequence[Block], ids: Sequence[str]) -> None:
        requests = len({id(block.entry) for block in blocks})
        try:
            made = table_of(blocks, ids, self._schema(place))
        except TooManyColumns:
            self._metrics.dropped("kinds", requests)
            return
        except _UNREADABLE as error:
            self._unreadable(blocks[0].entry, error, requests)
            return
        buffer = self._buffers.get(place)
        if buffer is None:
            about = said_of(place, self._manager)
            buffer = self._buffers[place] = Buffer(self._clock(), about)
        buffer.add(made, requests)
        if buffer.is_full(FILE_BYTES) and self._clock() >= self._try_at:
            self._write(place)
        self._bound()

    def _write(self, place: Place) -> bool:
        """Write a buffer as a file; False if the disk does not take it now."""
        buffer = self._buffers[place]
        try:
            table = buffer.table(self._schema(place).schema())
            size = self._files.write(place, table)
        except OSError as error:
            self._failed(error)
            return False
        except Exception as error:
            LOG.exception("payload log: a table of '%s' cannot be written: %s", place.model, error)
            self._drop([place], "unreadable")
            return True
        del self._buffers[place], buffer
        rows = table.num_rows
        del table
        pa.default_memory_pool().release_unused()
        self._metrics.rows.inc(rows)
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
            largest = max(self._buffers, key=lambda place: self._buffers[place].size)
            if self._clock() < self._try_at or not self._write(largest):
                self._drop([largest], "disk")

    def _drop(self, places: Sequence[Place], reason: str) -> None:
        for place in places:
            requests = self._buffers.pop(place).requests
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
