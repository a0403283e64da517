"""Supervisor side of the worker protocol.

Collects reports, broadcasts the agreed set, forwards calls.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import cast

from bundleserver.serving.workers import lines
from bundleserver.serving.workers.agreement import Agreement
from bundleserver.serving.workers.lines import Line

LOG = logging.getLogger(__name__)

_ASKING_SECONDS = 5.0
"""How long a new worker process waits for the manual loads and unloads."""
_CHECK_SECONDS = 0.5
"""How often the heartbeats of worker processes are checked."""


class Hub:
    """Serves every worker process over one Unix-domain socket. Lives on one event loop."""

    def __init__(
        self,
        on_listening: Callable[[int], None],
        on_hung: Callable[[int], None] = lambda _: None,
        heartbeat_seconds: float = 0.0,
    ) -> None:
        """Prepare to serve.

        Args:
            on_listening: called when a worker process listens.
            on_hung: called when one that listened was not heard of for ``heartbeat_seconds``.
            heartbeat_seconds: 0 for ever.
        """
        self._on_listening = on_listening
        self._on_hung = on_hung
        self._heartbeat_seconds = heartbeat_seconds
        # Checks since the last heartbeat, and not seconds: a supervisor that was stopped itself,
        # as with its whole container, has not checked.
        self._checks: dict[int, int] = {}
        self._agreement = Agreement()
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._joined: set[int] = set()
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Queue[tuple[int, Line]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen for worker processes."""
        self._server = await asyncio.start_unix_server(self._serve, path, limit=lines.MOST_BYTES)
        if self._heartbeat_seconds:
            self._begin(self._check_heartbeats())

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
            self._begin(self._welcome(number))
            while data := await reader.readline():
                self._receive(number, lines.decode(data))
        except (OSError, ValueError, KeyError) as error:
            LOG.warning("worker process %s sent an invalid line: %s", number, error)
        finally:
            self._forget(number, writer)

    async def _welcome(self, number: int) -> None:
        """Send a new worker process the manual orders, and the agreed set."""
        # One that hangs answers late or never.
        known = sorted(self._agreement.joined - {number}, key=lambda n: (self._checks.get(n, 0), n))
        known = known[:1]
        values = await self._gather("manual_orders", {}, known, _ASKING_SECONDS)
        orders = next((line["value"] for line in values.values() if "value" in line), {})
        agreed = lines.encode_keys(self._agreement.agreed)
        self._send(number, {"welcome": {"manual_orders": orders, "agreed": agreed}})

    def _receive(self, number: int, line: Line) -> None:
        if "opened" in line:
            opened = lines.decode_keys(line["opened"])
            self._agreement.report(number, opened, lines.decode_failures(line["failed"]))
            self._broadcast()
        elif "ask" in line:
            self._begin(self._pass_on(number, line))
        elif "reply" in line:
            waiting = self._answers.get(cast(int, line["reply"]))
            if waiting is not None:
                waiting.put_nowait((number, line))
        elif "listening" in line:
            self._checks[number] = 0
            self._on_listening(number)
        elif "alive" in line:
            self._checks[number] = 0

    def _broadcast(self) -> None:
        """Send every worker process the agreed set, and "join" to those that have joined."""
        agreed = lines.encode_keys(self._agreement.agreed)
        for number in list(self._writers):
            failed = lines.encode_failures(self._agreement.failed_elsewhere(number))
            self._send(number, {"agreed": agreed, "failed": failed})
            if number in self._agreement.joined and number not in self._joined:
                self._joined.add(number)
                self._send(number, {"join": True})

    async def _pass_on(self, number: int, line: Line) -> None:
        """Forward a call of one worker process to all others, and send it their answers."""
        others = [other for other in self._writers if other != number]
        seconds = cast(float, line["seconds"])
        found = await self._gather(str(line["name"]), line["about"], others, seconds)
        counting = {n: f for n, f in found.items() if n in self._agreement.joined}
        self._send(
            number,
            {
                "answers": line["ask"],
                "values": [[n, f["value"]] for n, f in counting.items() if "value" in f],
                "errors": [[n, f["error"]] for n, f in counting.items() if "error" in f],
                "silent": [n for n in others if n in self._agreement.joined and n not in found],
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

    async def _check_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for number, checks in list(self._checks.items()):
                self._checks[number] = checks + 1
                if checks * _CHECK_SECONDS >= self._heartbeat_seconds:
                    del self._checks[number]
                    self._on_hung(number)

    def _send(self, number: int, line: Line) -> None:
        writer = self._writers.get(number)
        if writer is not None and not writer.is_closing():
            writer.write(lines.encode(line))

    def _forget(self, number: int, writer: asyncio.StreamWriter) -> None:
        writer.close()
        if self._writers.get(number) is writer:
            del self._writers[number]
            self._checks.pop(number, None)
            self._joined.discard(number)
            self._agreement.leave(number)
            self._broadcast()

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
