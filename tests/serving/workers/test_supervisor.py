"""The supervisor outlives its worker processes, however they end."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import pytest

from bundleserver.serving.workers import supervisor as supervisor_module
from bundleserver.serving.workers.hub import Hub
from bundleserver.serving.workers.identity import WorkerIdentity
from bundleserver.serving.workers.supervisor import Supervisor
from tests.end_to_end.processes import DEADLINE_SECONDS

_ENDS = """
import json, os, socket, sys
identity = json.loads(os.environ["BUNDLESERVER_WORKER"])
supervisor = socket.socket(socket.AF_UNIX)
supervisor.connect(identity["socket"])
supervisor.sendall(b'{"hello": %s}\\n{"listening": true}\\n' % str(identity["number"]).encode())
supervisor.recv(1)
os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.fixture
def no_pauses(monkeypatch):
    """Replace processes at once."""
    monkeypatch.setattr(supervisor_module, "PAUSES_SECONDS", (0.0,))


def run_until(supervisor, is_over):
    """Run a supervisor until something is true, and return its exit code."""

    async def run():
        running = asyncio.create_task(supervisor._run())
        end = time.monotonic() + DEADLINE_SECONDS
        while not (is_over() or running.done()) and time.monotonic() < end:
            await asyncio.sleep(0.02)
        if not running.done():
            supervisor._stop(0)
        return await asyncio.wait_for(running, DEADLINE_SECONDS)

    return asyncio.run(run())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGRTMIN + 1, signal.SIGRTMAX - 1])
def test_a_worker_process_may_end_by_any_signal(tmp_path, caplog, no_pauses, number):
    """Real-time signals have no names; the process is replaced all the same."""
    caplog.set_level("INFO")
    identity = WorkerIdentity(str(tmp_path / "socket"), 0, 0)
    supervisor = Supervisor([sys.executable, "-c", _ENDS, str(int(number))], 1, identity, 0.0)

    assert 0 == run_until(supervisor, lambda: caplog.text.count("listens: 1 of 1") > 1)
    assert "exited (ended by SIG" in caplog.text or f"(ended by signal {number})" in caplog.text


def test_a_worker_process_that_cannot_be_started_is_tried_again(
    tmp_path, caplog, no_pauses, monkeypatch
):
    """Once something has answered, a lack of processes or memory ends nothing."""
    caplog.set_level("INFO")
    identity = WorkerIdentity(str(tmp_path / "socket"), 0, 0)
    supervisor = Supervisor([sys.executable, "-c", _ENDS, "9"], 1, identity, 0.0)
    create, calls = asyncio.create_subprocess_exec, []

    async def sometimes(*command, **more):
        calls.append(command)
        if len(calls) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return await create(*command, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", sometimes)

    assert 0 == run_until(supervisor, lambda: caplog.text.count("listens: 1 of 1") > 1)
    assert "cannot be started: Resource temporarily unavailable" in caplog.text


@pytest.mark.parametrize(
    ("hung_starts", "seconds"), [(0, 15.0), (1, 30.0), (6, 960.0), (1_000_000, 960.0)]
)
def test_patience_with_a_start_has_an_end(hung_starts, seconds):
    """However often one has hung at its start, the next one is not waited for for ever."""
    hub = Hub(lambda _: None, heartbeat_seconds=10.0)
    hub.begin(1)
    hub._hung_starts[1] = hung_starts

    assert seconds == hub._seconds(1)


@pytest.mark.parametrize(
    ("workers", "cpus", "seconds"),
    [(1, 4.0, 15.0), (2, 2.0, 15.0), (2, 0.1, 110.0), (4, 0.5, 50.0)],
)
def test_patience_with_a_start_grows_where_cpus_are_few(tmp_path, workers, cpus, seconds):
    """Worker processes import at the same time: what each gets of the CPUs is what it is given."""
    identity = WorkerIdentity(str(tmp_path / "socket"), 0, 0)
    supervisor = Supervisor([], workers, identity, 0.0, 10.0, cpus)
    supervisor._hub.begin(1)

    assert seconds == supervisor._hub._seconds(1)


def test_a_hung_start_is_told_with_the_seconds_that_it_had():
    """They are more than the heartbeat's."""
    told = []

    async def run():
        hub = Hub(
            lambda _: None,
            lambda *what: told.append(what),
            heartbeat_seconds=0.05,
            start_seconds=0.05,
        )
        hub.begin(3)
        checking = asyncio.create_task(hub._check_all())
        end = time.monotonic() + DEADLINE_SECONDS
        while not told and time.monotonic() < end:
            await asyncio.sleep(0.01)
        checking.cancel()

    asyncio.run(run())
    assert [(3, 0.1)] == told


@pytest.mark.parametrize(("heartbeat", "beat"), [(0.0, 1.0), (1.0, 0.25), (2.0, 0.5), (60.0, 1.0)])
def test_four_beats_come_within_the_limit(monkeypatch, heartbeat, beat):
    """A process that turns is not killed for one late beat."""
    made = []

    def make(command, workers, identity, *_):
        made.append(WorkerIdentity.of(identity.environment(1)))
        raise InterruptedError

    monkeypatch.setattr(supervisor_module, "Supervisor", make)
    with pytest.raises(InterruptedError):
        supervisor_module.supervise(
            [], workers=2, http_port=0, grpc_port=None, grace_seconds=0.0,
            heartbeat_seconds=heartbeat, host=None,
        )  # fmt: skip

    assert [beat] == [identity.beat_seconds for identity in made]
