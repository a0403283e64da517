"""Worker side of the worker protocol, in threads beside the event loop."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from bundleserver.serving.workers import lines
from bundleserver.serving.workers.admission import SharedAdmission
from bundleserver.serving.workers.identity import WorkerIdentity
from bundleserver.serving.workers.lines import Line

if TYPE_CHECKING:
    from bundleserver.manager import Manager

LOG = logging.getLogger(__name__)

Call = Callable[[Line], object]
"""Answers what another worker process asks, in a thread; its value must be ready for JSON."""

_NEWS_SECONDS = 1.0
"""How long news may take that nobody announces."""
_THREADS = 8


@dataclass(frozen=True)
class Answers:
    """What the other worker processes answered, by their numbers; ``silent`` did not."""

    values: Mapping[int, object] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    silent: tuple[int, ...] = ()


@dataclass
class _Question:
    answers: Answers = field(default_factory=Answers)
    answered: threading.Event = field(default_factory=threading.Event)


class Member:
    """One worker process among several: reports what it has open, and asks what the others have.

    ``ask`` is called from any thread but the event loop's.

    Attributes:
        admission: what may answer here; for the manager.
        manual_orders: the manual loads and unloads that the manager is to begin with.
    """

    def __init__(self, identity: WorkerIdentity) -> None:
        """Say hello to the supervisor, and wait for what the others have.

        Raises:
            OSError: there is no supervisor.
        """
        self.number = identity.number
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(identity.socket)
        self._incoming = self._socket.makefile("rb")
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self._calls: dict[str, Call] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="worker-call")
        self._on_join: Callable[[], None] = lambda: None
        self._on_lost: Callable[[], None] = lambda: None
        self._send({"hello": self.number})
        self._early, welcome = self._wait_for_welcome()
        self.admission = SharedAdmission(lines.read_keys(welcome["agreed"]))
        self.manual_orders = cast("Mapping[str, Line]", welcome["manual_orders"])

    def manage(self, manager: Manager) -> None:
        """Speak for a manager; before ``start``."""
        self._manager = manager
        self._calls["manual_orders"] = lambda _: manager.manual_orders()

    def start(
        self,
        calls: Mapping[str, Call],
        on_join: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Begin to report and to answer.

        Args:
            calls: what other worker processes may ask of this one.
            on_join: is told when this one may listen.
            on_lost: is told when the supervisor has ended.
        """
        self._calls.update(calls)
        self._on_join, self._on_lost = on_join, on_lost
        for run in (self._receive_all, self._report_all):
            threading.Thread(target=run, name=run.__name__.strip("_"), daemon=True).start()

    def say_listening(self) -> None:
        """Tell the supervisor that this worker process answers."""
        self._send({"listening": True})

    def ask(self, name: str, about: Line, seconds: float) -> Answers:
        """Ask all other worker processes one thing and wait for their answers."""
        question, ticket = _Question(), next(self._numbers)
        self._questions[ticket] = question
        self._send({"ask": ticket, "name": name, "about": about, "seconds": seconds})
        question.answered.wait(seconds + 1)
        del self._questions[ticket]
        return question.answers

    def _wait_for_welcome(self) -> tuple[list[Line], Line]:
        """Return what came before the welcome, for later, and what the others have."""
        early: list[Line] = []
        for data in self._incoming:
            line = lines.read(data)
            if "welcome" in line:
                return early, cast(Line, line["welcome"])
            early.append(line)
        raise ConnectionError("the supervisor has ended")

    def _receive_all(self) -> None:
        try:
            for line in self._early:
                self._receive(line)
            for data in self._incoming:
                self._receive(lines.read(data))
        except OSError:
            pass
        self._on_lost()

    def _receive(self, line: Line) -> None:
        if "agreed" in line:
            agreed, failed = lines.read_keys(line["agreed"]), lines.read_failures(line["failed"])
            self.admission.agree(agreed, failed)
            self._manager.reconsider()
        elif "join" in line:
            self.admission.join()
            self._manager.reconsider()
            self._on_join()
        elif "call" in line:
            self._pool.submit(self._answer, line)
        elif "answers" in line:
            question = self._questions.get(cast(int, line["answers"]))
            if question is not None:
                question.answers = Answers(
                    dict(cast("list[tuple[int, object]]", line["values"])),
                    dict(cast("list[tuple[int, str]]", line["errors"])),
                    tuple(cast("list[int]", line["silent"])),
                )
                question.answered.set()

    def _answer(self, line: Line) -> None:
        try:
            value = self._calls[str(line["name"])](cast(Line, line["about"] or {}))
            self._send({"reply": line["call"], "value": value})
        except Exception as error:  # noqa: BLE001  # whatever it is, somebody waits for it
            self._send({"reply": line["call"], "error": str(error) or type(error).__name__})

    def _report_all(self) -> None:
        known = None
        while True:
            found = self._manager.outcomes(known, _NEWS_SECONDS)
            if found != known:
                opened = [key for key, why in found.items() if why is None]
                failed = {key: why for key, why in found.items() if why is not None}
                if not self._send(
                    {"opened": lines.write_keys(opened), "failed": lines.write_failures(failed)}
                ):
                    return
                known = found

    def _send(self, line: Line) -> bool:
        """Send one line; returns whether the supervisor is still there."""
        try:
            with self._writing:
                self._socket.sendall(lines.write(line))
        except OSError:
            return False
        return True
