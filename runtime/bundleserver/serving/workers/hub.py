"""Supervisor side of the worker protocol.

Collects reports, broadcasts the agreed set, forwards calls.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import cast

from bundleserver.manager.admission import VersionKey
from bundleserver.serving.workers import lines
from bundleserver.serving.workers.agreement import Agreement
from bundleserver.serving.workers.lines import Line
from bundleserver.serving.workers.remainder import Remainder
from bundleserver.serving.workers.trials import Trials

LOG = logging.getLogger(__name__)

_ASKING_SECONDS = 5.0
"""How long a new worker process waits for the manual loads and unloads."""
_CHECK_SECONDS = 0.5
"""How often the heartbeats of worker processes are checked, at the least."""
START_SECONDS = 5.0
"""Time beyond the heartbeat in which a worker process imports, and loads what the others have."""
_MOST_DOUBLINGS = 6
_LAST_LINES_SECONDS = 2.0
"""How long the last lines of a worker process that has exited are waited for."""


class Hub:
    """Serves every worker process over one Unix-domain socket. Lives on one event loop."""

    def __init__(
        self,
        on_listening: Callable[[int], None],
        on_hung: Callable[[int, float], None] = lambda _, __: None,
        heartbeat_seconds: float = 0.0,
        on_failed: Callable[[str], None] = lambda _: None,
        start_seconds: float = START_SECONDS,
        first_pauses_seconds: Sequence[float] | None = None,
    ) -> None:
        """Prepare to serve.

        Args:
            on_listening: called when a worker process listens.
            on_hung: called when one was not heard of for ``heartbeat_seconds``, and with how many
                it had; twice as many after each that hung at its start, up to a limit.
            heartbeat_seconds: 0 for ever.
            on_failed: called with the reason if the first load has failed for good.
            start_seconds: how many more one has until it listens.
            first_pauses_seconds: see ``Trials``.
        """
        self._on_listening = on_listening
        self._on_failed = on_failed
        self._on_hung = on_hung
        self._heartbeat_seconds = heartbeat_seconds
        self._start_seconds = start_seconds
        self._check_seconds = min(_CHECK_SECONDS, heartbeat_seconds / 8 or _CHECK_SECONDS)
        # Checks since the last heartbeat, and not seconds: a supervisor that was stopped itself,
        # as with its whole container, has not checked.
        self._checks: dict[int, int] = {}
        self._starting: set[int] = set()
        self._hung_starts: Counter[int] = Counter()
        self._leaving: set[int] = set()
        self._readers: dict[int, asyncio.Task[None]] = {}
        self._trials = Trials(first_pauses_seconds=first_pauses_seconds)
        self._barred: dict[VersionKey, str] = {}
        self._agreement, self._remainder = Agreement(), Remainder()
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._joined: set[int] = set()
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Queue[tuple[int, Line]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen for worker processes."""
        self._server = await asyncio.start_unix_server(self._serve, path, limit=lines.MOST_BYTES)
        self._begin(self._check_all())

    def close(self) -> None:
        """Stop listening, and close all connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers.values():
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one worker process until it exits."""
        number = 0
        try:
            number = cast(int, lines.decode(await reader.readline())["hello"])
            self._writers[number] = writer
            self._readers[number] = cast("asyncio.Task[None]", asyncio.current_task())
            self._begin(self._welcome(number))
            while data := await reader.readline():
                self._receive(number, lines.decode(data))
        except (OSError, ValueError, KeyError) as error:
            LOG.warning("worker process %s sent an invalid line: %s", number, error)
        finally:
            writer.close()
            if self._writers.get(number) is writer:
                del self._writers[number]

    async def _welcome(self, number: int) -> None:
        """Send a new worker process the manual orders, and the agreed set."""
        # One that hangs answers late or never.
        known = sorted(self._agreement.joined - {number}, key=lambda n: (self._checks.get(n, 0), n))
        values = await self._gather("manual_orders", {}, known[:1], _ASKING_SECONDS)
        orders = next((line["value"] for line in values.values() if "value" in line), {})
        agreed = lines.encode_keys(self._agreement.agreed)
        self._send(number, {"welcome": {"manual_orders": orders, "agreed": agreed}})

    def _receive(self, number: int, line: Line) -> None:
        if "opened" in line:
            opened = lines.decode_keys(line["opened"])
            failed = lines.decode_failures(line["failed"])
            self._agreement.report(number, opened, failed)
            self._trials.note_known(number, [*opened, *failed])
            self._broadcast()
        elif "want" in line:
            for key in lines.decode_keys(line["want"]):
                self._trials.want(number, key)
            self._grant()
        elif "end" in line:
            for key in lines.decode_keys(line["end"]):
                self._trials.end(number, key)
            self._grant()
        elif "ask" in line:
            self._remainder.note_asking(number, line)
            self._begin(self._pass_on(number, line))
        elif "reply" in line:
            self._remainder.note_answer(number, line)
            waiting = self._answers.get(cast(int, line["reply"]))
            if waiting is not None:
                waiting.put_nowait((number, line))
        elif "listening" in line:
            self._checks[number] = 0
            self._starting.discard(number)
            self._hung_starts.pop(number, None)
            self._trials.join(number)
            self._on_listening(number)
            self._grant()
        elif "first load failed" in line:
            if not self._trials.has_served:
                self._on_failed(str(line["first load failed"]))
        elif "alive" in line and number in self._checks:
            self._checks[number] = 0
        elif "leaving" in line:
            self._leaving.add(number)
            self._checks.pop(number, None)

    def _broadcast(self) -> None:
        """Send every worker process the agreed set, and "join" to those that have joined."""
        agreed = lines.encode_keys(self._agreement.agreed)
        barred = lines.encode_failures(self._barred)
        for_good = lines.encode_keys(self._trials.barred_for_good)
        for number in list(self._writers):
            failed = lines.encode_failures(self._agreement.failed_elsewhere(number))
            told = {"agreed": agreed, "failed": failed, "barred": barred, "for good": for_good}
            self._send(number, {**told})
            if number in self._agreement.joined and number not in self._joined:
                self._joined.add(number)
                self._send(number, {"join": True})
        self._grant()

    def _grant(self) -> None:
        """Let worker processes begin loads whose turn it is."""
        for number, key in self._trials.grant(self._agreement.agreed):
            self._send(number, {"grant": lines.encode_keys([key])})

    async def _pass_on(self, number: int, line: Line) -> None:
        """Forward a call of one worker process to all others, and send it their answers."""
        others = [other for other in self._writers if other != number]
        seconds = cast(float, line["seconds"])
        found = await self._gather(str(line["name"]), line["about"], others, seconds)
        counting = {n: f for n, f in found.items() if n in self._agreement.joined}
        values = {n: f["value"] for n, f in counting.items() if "value" in f}
        values |= self._remainder.answers(str(line["name"]), {number, *values})
        self._send(
            number,
            {
                "answers": line["ask"],
                "values": [*values.items()],
                "errors": [[n, f["error"]] for n, f in counting.items() if "error" in f],
                "silent": [n for n in others if n in self._agreement.joined and n not in found],
                "late": self._late(),
            },
        )

    async def _gather(
        self, name: str, about: object, numbers: Collection[int], seconds: float
    ) -> dict[int, Line]:
        """Call worker processes; those that exit or exceed the timeout are left out."""
        ticket = next(self._numbers)
        replies = self._answers[ticket] = asyncio.Queue()
        for number in numbers:
            self._send(number, {"call": ticket, "name": name, "about": about})
        found: dict[int, Line] = {}
        until = asyncio.get_running_loop().time() + seconds
        while any(number in self._agreement.joined and number not in found for number in numbers):
            # In short waits, since a worker process may exit without an answer.
            left = until - asyncio.get_running_loop().time()
            try:
                number, line = await asyncio.wait_for(replies.get(), min(0.2, max(0.0, left)))
                found[number] = line
            except asyncio.TimeoutError:
                if left <= 0:
                    break
        del self._answers[ticket]
        return found

    async def _check_all(self) -> None:
        while True:
            await asyncio.sleep(self._check_seconds)
            self._bar()
            self._grant()
            for number, checks in list(self._checks.items()):
                self._checks[number] = checks + 1
                seconds = self._seconds(number)
                if checks * self._check_seconds >= seconds:
                    del self._checks[number]
                    self._hung_starts[number] += number in self._starting
                    self._on_hung(number, seconds)

    def _seconds(self, number: int) -> float:
        """Return how long a worker process may be silent; infinity without heartbeats."""
        if not self._heartbeat_seconds:
            return math.inf
        if number not in self._starting:
            return self._heartbeat_seconds
        return (self._heartbeat_seconds + self._start_seconds) * (
            1 << min(self._hung_starts[number], _MOST_DOUBLINGS)
        )

    def _late(self) -> list[int]:
        """Return the worker processes that should have begun to answer by now."""
        return [
            number
            for number in self._starting
            if self._checks.get(number, 0) * self._check_seconds > self._heartbeat_seconds > 0
        ]

    def _bar(self) -> None:
        """Tell all what may not be loaded, if that has changed."""
        barred = self._trials.barred
        if barred != self._barred:
            self._barred = barred
            self._agreement.bar(barred)
            self._broadcast()

    def _send(self, number: int, line: Line) -> None:
        writer = self._writers.get(number)
        if writer is not None and not writer.is_closing():
            writer.write(lines.encode(line))

    def begin(self, number: int) -> None:
        """Watch a worker process that has started."""
        self._starting.add(number)
        self._checks[number] = 0

    async def end(self, number: int, how: str, *, is_sure: bool) -> frozenset[VersionKey]:
        """Forget a worker process that has exited; returns the loads that ended it.

        Args:
            number: the worker process.
            how: what a load did to it, if it was one; an empty string if it ended in order.
            is_sure: nobody else can have ended it.
        """
        reader = self._readers.pop(number, None)
        if reader is not None:
            # What it said before its end; a child of it may hold the connection open.
            await asyncio.wait({reader}, timeout=_LAST_LINES_SECONDS)
            reader.cancel()
        how = "" if number in self._leaving else how
        agreed = self._agreement.agreed
        blamed = self._trials.leave(number, agreed, how, is_sure=is_sure)
        for known in (self._starting, self._leaving, self._joined):
            known.discard(number)
        self._checks.pop(number, None)
        self._barred = self._trials.barred
        self._agreement.bar(self._barred)
        self._agreement.leave(number)
        self._remainder.end(number)  # with leaving: a page is of what counts, or in it
        self._broadcast()
        return blamed

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
