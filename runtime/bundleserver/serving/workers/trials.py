"""Which worker process may load which version when: the pure part of loads that end a process.

Once something answers, a version is first loaded in one worker process, and in the others after
that; so a load that crashes, or keeps the interpreter, ends one process and not all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from bundleserver.manager.admission import VersionKey
from bundleserver.versions.lifecycle import retry_pause

PAUSES_SECONDS = (60.0, 300.0, 900.0)
"""Backoff of a version whose load has ended its worker process; after that its files must change.

A process may also have been killed by somebody else during a load.
"""
_RECOVERY_SECONDS = 60.0
"""How long new versions wait at most for the process that takes the place of a lost one."""
_MOST_REMEMBERED = 10_000


@dataclass
class _Record:
    """A version in whose load a process ended.

    Attributes:
        deaths: how many processes ended while it was the only new version that they loaded.
        why: why it counts as failed; an empty string while it does not.
        retry_at: when it is loaded again; None is never.
    """

    deaths: int = 0
    why: str = ""
    retry_at: float | None = None


class Trials:
    """The loads that worker processes want, have begun and have survived; used by one thread."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        first_pauses_seconds: Sequence[float] | None = None,
    ) -> None:
        """Begin without any.

        Args:
            clock: monotonic seconds.
            first_pauses_seconds: backoff before anything was served, after which a version waits
                for other files; None is that of later.
        """
        self._clock = clock
        self._first_pauses_seconds = first_pauses_seconds
        self._wanted: dict[tuple[int, VersionKey], None] = {}
        self._loading: dict[int, set[VersionKey]] = {}
        self._survived: dict[VersionKey, None] = {}
        self._proven: dict[VersionKey, None] = {}
        self._suspects: dict[VersionKey, _Record] = {}
        self._recovering: dict[int, float] = {}
        self._has_served = False

    @property
    def barred(self) -> dict[VersionKey, str]:
        """The versions that no process may load now, and why."""
        now = self._clock()
        return {
            key: it.why
            for key, it in self._suspects.items()
            if it.why and (it.retry_at is None or now < it.retry_at)
        }

    @property
    def barred_for_good(self) -> frozenset[VersionKey]:
        """Those of them that no process loads before their files change."""
        return frozenset(k for k, it in self._suspects.items() if it.why and it.retry_at is None)

    @property
    def has_served(self) -> bool:
        """Whether all processes have ever had a version loaded."""
        return self._has_served

    def want(self, number: int, key: VersionKey) -> None:
        """Let a worker process wait for its turn to load a version."""
        self._wanted[number, key] = None

    def end(self, number: int, key: VersionKey) -> None:
        """Note that a worker process has loaded a version, or has failed to, and is alive."""
        self._wanted.pop((number, key), None)
        if key in self._loading.get(number, ()):
            self._loading[number].discard(key)
            self._suspects.pop(key, None)
            self._remember(key)

    def note_known(self, number: int, keys: Collection[VersionKey]) -> None:
        """Note what a process has reported as open or failed, though its load may go on."""
        for key in keys:
            if key in self._loading.get(number, ()):
                self._suspects.pop(key, None)
            if key not in self._suspects:
                self._remember(key)

    def join(self, number: int) -> None:
        """Note that a worker process has loaded what the others have, and listens."""
        self._recovering.pop(number, None)

    def leave(
        self, number: int, agreed: Collection[VersionKey], how: str = "", *, is_sure: bool = False
    ) -> frozenset[VersionKey]:
        """Remove a worker process; returns the new versions that it was loading.

        Args:
            number: the worker process.
            agreed: what all worker processes have loaded, which is never to blame.
            how: what the load did to the process; an empty string if it stopped as it was told to.
            is_sure: nobody else can have ended it, so one death is enough; else two are, no version
                is barred for ever, and one that all have had loaded once only for a short while.
        """
        self._wanted = {(n, key): None for n, key in self._wanted if n != number}
        loading = self._loading.pop(number, set()) - set(agreed)
        if not how or not loading:
            return frozenset()
        self._recovering[number] = self._clock() + _RECOVERY_SECONDS
        blamed = {key for key in loading if key not in self._survived} or loading
        for key in blamed:
            self._survived.pop(key, None)
            record = self._suspects.setdefault(key, _Record())
            if len(blamed) == 1:
                self._blame(record, how, is_sure, key in self._proven)
        _limit(self._suspects)
        return frozenset(blamed)

    def _blame(self, record: _Record, how: str, is_sure: bool, is_proven: bool) -> None:
        if self._first_pauses_seconds is not None and not self._has_served:
            self._blame_at_start(record, how, self._first_pauses_seconds)
            return
        record.deaths += 1
        if not is_sure and record.deaths < 2:
            return
        last = None if is_sure else PAUSES_SECONDS[-1]
        pause = dict(enumerate(PAUSES_SECONDS, 1)).get(record.deaths, last)
        if is_proven and not is_sure:
            pause = PAUSES_SECONDS[0]
        self._bar(record, how, pause)

    def _blame_at_start(self, record: _Record, how: str, pauses: Sequence[float]) -> None:
        if record.why and (record.retry_at is None or self._clock() < record.retry_at):
            return  # the same try, in another process
        record.deaths += 1
        self._bar(record, how, retry_pause(record.deaths, pauses))

    def _bar(self, record: _Record, how: str, pause: float | None) -> None:
        again = "its files change" if pause is None else f"{pause:g} s have passed"
        record.why = f"FAILED: its load {how}; it is not loaded again before {again}"
        record.retry_at = None if pause is None else self._clock() + pause

    def grant(self, agreed: Collection[VersionKey]) -> list[tuple[int, VersionKey]]:
        """Begin every wanted load that may begin now, and return them."""
        now, barred = self._clock(), self.barred
        self._has_served = self._has_served or bool(agreed)
        self._proven.update(dict.fromkeys(agreed))
        _limit(self._proven)
        self._recovering = {n: until for n, until in self._recovering.items() if now < until}
        granted = []
        # A version that is suspected is loaded alone, so it comes last.
        for number, key in sorted(self._wanted, key=lambda item: item[1] in self._suspects):
            is_known = key in agreed or key in self._survived
            if key not in barred and (is_known or self._may_try(number, key)):
                self._loading.setdefault(number, set()).add(key)
                del self._wanted[number, key]
                granted.append((number, key))
        return granted

    def _may_try(self, number: int, key: VersionKey) -> bool:
        """Ask whether a process may load a version that no process has loaded yet."""
        is_suspected = key in self._suspects
        if not self._has_served and not self._suspects:
            return True
        trials = [
            (other, it)
            for other, loading in self._loading.items()
            for it in loading
            if it not in self._survived
        ]
        if self._recovering or is_suspected:
            return not (self._recovering or trials)
        return all(other == number and it not in self._suspects for other, it in trials)

    def _remember(self, key: VersionKey) -> None:
        self._survived[key] = None
        _limit(self._survived)


def _limit(remembered: dict[VersionKey, None] | dict[VersionKey, _Record]) -> None:
    while len(remembered) > _MOST_REMEMBERED:
        del remembered[next(iter(remembered))]
