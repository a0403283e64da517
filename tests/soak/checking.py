"""What is lost and what is wrong: decided from an exchange, the book of versions, the kills."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

GOOD, LOST, WRONG, RESET = "good", "lost", "wrong", "reset by kill"

KILLED_WITHIN_SECONDS = 3.0
"""How long after a kill a client may still find out that its connection has ended."""


@dataclass(frozen=True)
class Exchange:
    """One request and what came of it; times are of the machine's monotonic clock.

    ``failure`` says how it ended without an answer; an answer with an error status, which no good
    request may get, is one too. ``is_reset`` tells that the connection ended.
    """

    client: int
    protocol: str
    server: str
    model: str
    rows: tuple[int, ...]
    sent: float
    ended: float
    version: str = ""
    values: tuple[float, ...] = ()
    failure: str = ""
    is_reset: bool = False


@dataclass(frozen=True)
class Kill:
    """A worker process that was killed, the clients connected to it, and when it was gone.

    Linux closes the connections of a killed process before its listening socket, so a client that
    connects again in between may get into the queue of the dying socket, and is reset once more.
    """

    server: str
    at: float
    clients: frozenset[int]
    gone: float = 0.0


class Book:
    """The values that each good version of each model gives for the known rows.

    A version is written before it is published, so an answer of a version that is not there, as a
    broken one, is wrong.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[tuple[str, str], tuple[float, ...]] = {}

    def write(self, model: str, version: str, values: Iterable[float]) -> None:
        """Record a version that is about to be published; it appears complete."""
        path = self._path(model, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_suffix(".new")
        staging.write_text(json.dumps([*map(float, values)]))
        staging.replace(path)

    def values(self, model: str, version: str) -> tuple[float, ...] | None:
        """Return what a version gives for each row, or nothing if it is not a good version."""
        key = model, version
        if key not in self._known:
            path = self._path(model, version)
            if "/" in version or not version or not path.is_file():
                return None
            self._known[key] = tuple(json.loads(path.read_text()))
        return self._known[key]

    def versions(self, model: str) -> list[str]:
        """Return the good versions of a model, in no order."""
        return [path.stem for path in (self.directory / model).glob("*.json")]

    def _path(self, model: str, version: str) -> Path:
        return self.directory / model / f"{version}.json"


def judge(
    exchange: Exchange, book: Book, tolerance: float, member: str | None = None
) -> tuple[str, str]:
    """Return what an exchange was, and what was expected if it was not good.

    Args:
        exchange: the request and its answer.
        book: the good versions.
        tolerance: how far a value may be from the book's, relatively.
        member: the model whose values the asked one passes on; any of its versions may answer.
    """
    if exchange.failure:
        return LOST, "expected an answer"
    if (own := book.values(exchange.model, exchange.version)) is None:
        return WRONG, f"'{exchange.version}' is not a good version of {exchange.model}"
    known = [(exchange.version, own)]
    if member is not None:
        labels = book.versions(member)
        known = [(label, book.values(member, label) or ()) for label in reversed(labels)]
    for _, values in known:
        if _are_close([values[row] for row in exchange.rows], exchange.values, tolerance):
            return GOOD, ""
    label, values = known[0]
    expected = [values[row] for row in exchange.rows]
    return WRONG, f"expected {expected} of {member or exchange.model} {label}"


def _are_close(expected: list[float], seen: tuple[float, ...], tolerance: float) -> bool:
    return len(expected) == len(seen) and all(
        math.isclose(a, b, rel_tol=tolerance) for a, b in zip(expected, seen, strict=True)
    )


@dataclass
class Excuses:
    """Tells the requests that a kill has reset from those that were lost.

    A closed loop has one request in flight, so each client that was connected to the killed
    process may lose one, once, and only because its connection ended; and whoever asked while the
    process died may have connected to it.
    """

    kills: list[Kill] = field(default_factory=list)
    _used: set[tuple[float, int]] = field(default_factory=set)

    def excuse(self, exchange: Exchange) -> bool:
        """Return whether a kill explains this failure, which it then does not do again."""
        if not exchange.is_reset:
            return False
        for kill in self.kills:
            last = kill.at + KILLED_WITHIN_SECONDS
            if exchange.server != kill.server or not kill.at <= exchange.ended <= last:
                continue
            if kill.at <= exchange.sent <= kill.gone:
                return True
            key = kill.at, exchange.client
            if exchange.client in kill.clients and key not in self._used:
                self._used.add(key)
                return True
        return False


def outlived(
    last_sent: Mapping[tuple[str, str, str], float], retired: Mapping[tuple[str, str], float]
) -> list[str]:
    """Return the answers of versions that were no more when their request was sent.

    Args:
        last_sent: when the last request was sent that a version answered, by server, model and
            version.
        retired: when a version had been unloaded everywhere for good, by model and version.
    """
    return [
        f"{model} {version} answered on {server} {sent - retired[model, version]:.2f} s after "
        "it had been unloaded"
        for (server, model, version), sent in last_sent.items()
        if (model, version) in retired and sent > retired[model, version]
    ]
