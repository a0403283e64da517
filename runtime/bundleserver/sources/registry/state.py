"""The registry's last known state, stored in the cache for a start in an outage."""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeVar

from bundleserver.bundle.metadata_files import read_json
from bundleserver.errors import SourceError
from bundleserver.sources.registry.cache import Cache, Entry
from bundleserver.sources.registry.values import RegisteredModel
from bundleserver.sources.slow_reads import SlowReads

T = TypeVar("T")

LOG = logging.getLogger(__name__)

_NAME = "registry.json"
_FORMAT = "registry-state/v1"
_REMEMBER_EVERY_SECONDS = 60.0
_LONGEST_HISTORY = 10
_MOST_BYTES = 64 << 20
_MOST_VALUES = 2_000_000


@dataclass(frozen=True)
class LastKnown:
    """A registry's state at one time.

    Attributes:
        as_of: seconds since the epoch.
        history: the versions that each label referred to, the current one first.
    """

    model: RegisteredModel
    as_of: float
    history: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def followed_by(
        self, model: RegisteredModel, as_of: float, labels: Mapping[str, str]
    ) -> LastKnown:
        """Return the next state, with ``labels`` added to the history."""
        history = dict(self.history)
        for label, number in labels.items():
            former = [known for known in history.get(label, ()) if known != number]
            history[label] = (number, *former)[:_LONGEST_HISTORY]
        return LastKnown(model, as_of, history)


class StoredState:
    """A model's last known state, in a cache whose volume may hang. For one thread."""

    def __init__(self, cache: Cache) -> None:
        """Set the cache; nothing is read yet."""
        self._cache = cache
        self._reads = SlowReads()
        self._written: LastKnown | None = None
        self._hangs = False
        self.poll = self._reads.poll

    def recall(self) -> LastKnown | None:
        """Return the state, or None if none is stored.

        Raises:
            SourceError: the volume hangs.
        """
        return self._within_timeout("state", lambda: recall(self._cache.root))

    def remember(self, known: LastKnown) -> None:
        """Store a state, unless it says what was stored a moment ago.

        A volume that hangs is only logged, once: the registry has answered.
        """
        last = self._written
        is_old = last is None or known.as_of - last.as_of >= _REMEMBER_EVERY_SECONDS
        if not is_old and last is not None and replace(last, as_of=known.as_of) == known:
            return

        def write() -> LastKnown:
            remember(known, self._cache.root)
            return known

        try:
            # An earlier one, if writing that took long.
            self._written, self._hangs = self._within_timeout("writing", write), False
        except SourceError as error:
            if not self._hangs:
                LOG.warning("%s; the registry's state is not stored for an outage", error)
            self._hangs = True

    def entries(self) -> tuple[Entry, ...]:
        """Return the cached versions.

        Raises:
            SourceError: the volume hangs.
        """
        return self._within_timeout("entries", self._cache.entries)

    def _within_timeout(self, what: str, read: Callable[[], T]) -> T:
        try:
            return self._reads.of(what, self._cache.root, read)
        except OSError as error:
            raise SourceError(
                f"the cache '{self._cache.root}' (--cache_dir) does not answer: "
                f"{error.strerror or error}"
            ) from error


def remember(known: LastKnown, directory: Path) -> None:
    """Store the registry's state; a failure is only logged."""
    # A name that nobody else knows, even in a container with the same process number.
    draft = directory / f".{_NAME}.{secrets.token_hex(8)}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with draft.open("x", encoding="utf-8") as file:
            if _write(known, file):
                draft.replace(directory / _NAME)
                return
        LOG.warning(
            "the %s versions of '%s' are too many to be stored for an outage",
            len(known.model.versions),
            known.model.name,
        )
    except OSError as error:
        LOG.warning("'%s' cannot be written: %s", directory, error.strerror or error)
    with suppress(OSError):
        draft.unlink(missing_ok=True)


def _write(known: LastKnown, file: IO[str]) -> bool:
    """Write a state within the limits of ``recall``; returns False where it exceeds them."""
    size = values = 0
    for piece in _pieces(known):
        size += len(piece)
        values += sum(map(piece.count, ",[{"))
        if size > _MOST_BYTES or values > _MOST_VALUES:
            return False
        file.write(piece)
    return True


def _pieces(known: LastKnown) -> Iterator[str]:
    """Write JSON in pieces, since one of megabytes would keep the interpreter meanwhile."""
    document = {
        "format": _FORMAT,
        "as_of": known.as_of,
        "history": {label: list(numbers) for label, numbers in known.history.items()},
    }
    # The versions come last in both objects.
    model = replace(known.model, versions=()).to_document()
    del model["versions"]
    yield f'{json.dumps(document)[:-1]}, "model": {json.dumps(model)[:-1]}, "versions": ['
    for at, version in enumerate(known.model.versions):
        yield (", " if at else "") + json.dumps(asdict(version))
    yield "]}}"


def recall(directory: Path) -> LastKnown | None:
    """Return the registry's last known state, or None if none is stored."""
    path = directory / _NAME
    try:
        document: Any = read_json(path, _MOST_BYTES, _MOST_VALUES)
        model = RegisteredModel.from_document(document["model"])
        history = {
            str(label): tuple(map(str, numbers)) for label, numbers in document["history"].items()
        }
        as_of = float(document["as_of"])
        if not math.isfinite(as_of):
            raise ValueError(f"as_of is {as_of}")
        return LastKnown(model, as_of, history)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        LOG.warning("'%s' cannot be read and is ignored: %s", path, error)
        return None
