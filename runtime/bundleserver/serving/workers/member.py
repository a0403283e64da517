"""Worker side of the worker protocol, in separate threads."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
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
"""Answers a call of another worker process, in a thread; its value must be valid JSON."""

_POLL_SECONDS = 1.0
"""Maximum time between two checks of the manager's outcomes."""
_THREADS = 8


@dataclass(frozen=True)
class Answers:
    """The answers of the other worker processes, by number.

    Attributes:
        values: what they answered.
        errors: why they could not.
        silent: those that did not answer.
        late: those that have not begun to answer, and should have.
    """

    values: Mapping[int, object] = field(default_factory=dict)
    errors: Mapping[int, str] = field(default_factory=dict)
    silent: tuple[int, ...] = ()
    late: tuple[int, ...] = ()


class Member:
    """One worker process among several: reports what it has loaded, and calls the others.

    ``ask`` is called from any thread but the event loop's.

    Attributes:
        admission: which versions this process may serve; for the manager.
        manual_orders: the manual loads and unloads to start with; for the manager.
    """

    def __init__(self, identity: WorkerIdentity) -> None:
        """Connect to the supervisor, and wait for the agreed set.

        Raises:
            OSError: the supervisor is not running.
        """
        self.number = identity.number
        self.beat_seconds = identity.beat_seconds
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(identity.socket)
        self._incoming = self._socket.makefile("rb")
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)
        self._questions: dict[int, Future[Answers]] = {}
        self._calls: dict[str, Call] = {}
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="worker-call")
        self._has_turned = False
        self._on_join: Callable[[], None] = lambda: None
        self._on_lost: Callable[[], None] = lambda: None
        self._send({"hello": self.number})
        self._early, welcome = self._wait_for_welcome()
        self.admission = SharedAdmission(lines.decode_keys(welcome["agreed"]))
        self.manual_orders = cast("Mapping[str, Line]", welcome["manual_orders"])

    def manage(self, manager: Manager) -> None:
        """Set the manager; called before ``start``."""
        self._manager = manager
        self._calls["manual_orders"] = lambda _: manager.manual_orders()

    def start(
        self,
        calls: Mapping[str, Call],
        on_join: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Start to report and to answer calls.

        Args:
            calls: the calls that other worker processes may make.
            on_join: called when this one may listen.
            on_lost: called when the supervisor has exited.
        """
        self._calls.update(calls)
        self._on_join, self._on_lost = on_join, on_lost
        for run in (self._receive_all, self._report_all, self._note_all, self._beat_all):
            name = run.__name__.strip("_")
            threading.Thread(target=self._run, args=(run,), name=name, daemon=True).start()

    def say_listening(self) -> None:
        """Tell the supervisor that this worker process listens."""
        self._send({"listening": True})

    def say_leaving(self) -> None:
        """Tell the supervisor that this worker process ends as it should."""
        self._send({"leaving": True})

    def say_failed(self, why: str) -> None:
        """Tell the supervisor that the first load has failed for good."""
        self._send({"first load failed": why})

    def note_turn(self) -> None:
        """Note that the event loop turns; without it the supervisor takes this process for hung."""
        self._has_turned = True

    def ask(self, name: str, about: Line, seconds: float) -> Answers:
        """Call all other worker processes and wait for their answers."""
        question, ticket = Future[Answers](), next(self._numbers)
        self._questions[ticket] = question
        self._send({"ask": ticket, "name": name, "about": about, "seconds": seconds})
        try:
            return question.result(seconds + 1)
        except FutureTimeoutError:
            return Answers()
        finally:
            del self._questions[ticket]

    def _wait_for_welcome(self) -> tuple[list[Line], Line]:
        """Return the lines before the welcome, and the welcome."""
        early: list[Line] = []
        for data in self._incoming:
            line = lines.decode(data)
            if "welcome" in line:
                return early, cast(Line, line["welcome"])
            early.append(line)
        raise ConnectionError("the supervisor has exited")

    def _run(self, run: Callable[[], None]) -> None:
        """Run a thread, without which this process would be deaf or dumb."""
        try:
            run()
        except Exception:
            LOG.exception("the connection to the supervisor has failed; stopping")
            self._on_lost()

    def _receive_all(self) -> None:
        try:
            for line in self._early:
                self._receive(line)
            for data in self._incoming:
                self._receive(lines.decode(data))
        except OSError:
            pass
        self._on_lost()

    def _receive(self, line: Line) -> None:
        if "agreed" in line:
            agreed = lines.decode_keys(line["agreed"])
            failed, barred = (lines.decode_failures(line[name]) for name in ("failed", "barred"))
            self.admission.agree(agreed, failed, barred, lines.decode_keys(line["for good"]))
            self._manager.reconsider()
        elif "grant" in line:
            for key in lines.decode_keys(line["grant"]):
                self.admission.grant(key)
            self._manager.reconsider()
        elif "join" in line:
            self.admission.join()
            self._manager.reconsider()
            self._on_join()
        elif "call" in line:
            try:
                self._pool.submit(self._answer, line)
            except RuntimeError as error:  # no more threads; the one who asks does not wait for it
                LOG.warning("'%s' is not answered: %s", line["name"], error)
        elif "answers" in line:
            question = self._questions.get(cast(int, line["answers"]))
            if question is not None:
                answers = Answers(
                    dict(cast("list[tuple[int, object]]", line["values"])),
                    dict(cast("list[tuple[int, str]]", line["errors"])),
                    tuple(cast("list[int]", line["silent"])),
                    tuple(cast("list[int]", line["late"])),
                )
                question.set_result(answers)

    def _answer(self, line: Line) -> None:
        try:
            value = self._calls[str(line["name"])](cast(Line, line["about"] or {}))
            self._send({"reply": line["call"], "value": value})
        except Exception as error:  # noqa: BLE001  # the caller waits for it
            self._send({"reply": line["call"], "error": str(error) or type(error).__name__})

    def _report_all(self) -> None:
        known = None
        while True:
            found = self._manager.outcomes(known, _POLL_SECONDS)
            if found != known:
                opened = [key for key, why in found.items() if why is None]
                failed = {key: why for key, why in found.items() if why is not None}
                if not self._send(
                    {"opened": lines.encode_keys(opened), "failed": lines.encode_failures(failed)}
                ):
                    return
                known = found

    def _note_all(self) -> None:
        note = self.admission.notes.get()
        while self._send({note.verb: lines.encode_keys([note.key])}):
            note = self.admission.notes.get()

    def _beat_all(self) -> None:
        # Not from the event loop, which a supervisor that does not read would stop.
        connected = True
        while connected:
            time.sleep(self.beat_seconds)
            if self._has_turned:
                self._has_turned = False
                connected = self._send({"alive": True})

    def _send(self, line: Line) -> bool:
        """Send one line; returns whether the supervisor is still connected."""
        try:
            with self._writing:
                self._socket.sendall(lines.encode(line))
        except OSError:
            return False
        return True
