"""Where the machine has no more threads, what needed one is refused or tried again."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import pytest

from bundleserver.errors import NotReady
from bundleserver.serving.execution.small_first import SmallFirst
from bundleserver.serving.traffic.canary_state import STATE_NAME, Progress
from bundleserver.serving.traffic.canary_store import ProgressStore
from bundleserver.tensors.budget import Budget
from tests.end_to_end.processes import eventually


@contextmanager
def no_threads():
    """Let no thread be started meanwhile, as where the machine allows no more."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def test_large_work_is_refused_and_not_kept():
    """Who is refused is not run later; the next one is run."""
    ran = []
    work = SmallFirst(2, "test")

    async def run():
        with no_threads(), pytest.raises(NotReady, match="no thread is available"):
            await work.run(10, lambda: ran.append("refused"), Budget())
        await work.run(20, lambda: ran.append("next"), Budget())

    asyncio.run(run())

    assert ["next"] == ran


@pytest.mark.parametrize("when", ["read", "written"])
def test_a_canary_goes_on_when_there_are_threads_again(tmp_path, when):
    """Its file is read, and written, at the next request that finds a thread."""
    store = ProgressStore(lambda *_: None)
    (tmp_path / "2").mkdir()
    if when == "written":
        store.find("m", tmp_path, "2", "files")
        eventually(lambda: store.find("m", tmp_path, "2", "files"), "its file is read")
    with no_threads():
        if when == "read":
            assert store.find("m", tmp_path, "2", "files") is None
        else:
            store.keep("m", tmp_path, "2", Progress("files", step=1))
        store.retry("m")
    store.retry("m")

    if when == "read":
        eventually(lambda: store.find("m", tmp_path, "2", "files"), "its file is read")
    else:
        eventually(lambda: (tmp_path / STATE_NAME).exists(), "its file is written")
