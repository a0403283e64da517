"""Long work on a file ends when nobody waits for it any more."""

from __future__ import annotations

import importlib
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from bundleserver.errors import RequestCancelled, RequestTimedOut
from bundleserver.frameworks import LoadContext, framework_named, giving_up, isolated_code
from bundleserver.frameworks.giving_up import Abandoned, checked_by, turn
from bundleserver.tensors.budget import Budget, spending


class GivenUp(Abandoned):
    """What a check raises."""


def give_up() -> None:
    """Say that nobody waits."""
    raise GivenUp


@contextmanager
def held(lock):
    """Hold a lock in another thread."""
    has, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            has.set()
            assert release.wait(120)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        assert has.wait(120)
        try:
            yield
        finally:
            release.set()
            holding.result(120)


def test_a_load_that_was_given_up_ends_as_that(tmp_path):
    """It is no fault of the file that nobody waits for it any more."""
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([f"w{at}" for at in range(200_000)]))

    with checked_by(give_up), pytest.raises(GivenUp):
        framework_named("sklearn").load(path, LoadContext())


@pytest.mark.parametrize("wait", ["turn", "isolated code", "torch"])
@pytest.mark.parametrize("who", ["load", "late request", "cancelled request"])
def test_a_wait_ends_with_whoever_waits(tmp_path, monkeypatch, wait, who):
    """What another version holds for ever delays nobody longer than he has time."""
    monkeypatch.setattr(giving_up, "_ASK_SECONDS", 0.01)
    lock, own = threading.Lock(), lambda: turn(lock, "another")
    if wait == "isolated code":
        lock, own = isolated_code._LOCK, isolated_code.IsolatedCode(tmp_path).active
    if wait == "torch":
        torch = pytest.importorskip("torch")
        framework = importlib.import_module("bundleserver.frameworks.torch.framework")
        path = tmp_path / "model.pt"
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(path))
        lock = framework._READING
        own = lambda: closing(framework.load(path, LoadContext()))  # noqa: E731
    late, cancelled = Budget(deadline=time.monotonic() + 0.05), Budget()
    cancelled.cancel()
    waiting, expected = {
        "load": (checked_by(give_up), GivenUp),
        "late request": (spending(late), RequestTimedOut),
        "cancelled request": (spending(cancelled), RequestCancelled),
    }[who]

    with held(lock), waiting, pytest.raises(expected), own():
        pytest.fail("two had the turn at once")
    with own():
        pass


def test_a_long_wait_is_logged(monkeypatch, caplog):
    """Who waits longer than usual says what for, and goes on once it is his turn."""
    monkeypatch.setattr(giving_up, "_ASK_SECONDS", 0.01)
    monkeypatch.setattr(giving_up, "_TELL_SECONDS", 0.0)
    lock, told = threading.Lock(), threading.Event()
    monkeypatch.setattr(caplog.handler, "emit", lambda _record: told.set())

    def wait() -> bool:
        with turn(lock, "one file at a time"):
            return told.is_set()

    with ThreadPoolExecutor(1) as pool:
        with held(lock):
            waiting = pool.submit(wait)
            assert told.wait(120)
        assert waiting.result(120)
