"""Loads and unloads, the index and the metrics of all worker processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import cast

from prometheus_client import CollectorRegistry

from bundleserver.errors import NotReady
from bundleserver.serving.metadata import repository_index
from bundleserver.serving.metrics.exposition import write
from bundleserver.serving.metrics.page import Page, PageWriter
from bundleserver.serving.models import ServingManager
from bundleserver.serving.stopping import StoppableManager
from bundleserver.serving.workers.lines import Line
from bundleserver.serving.workers.member import Answers, Call, Member
from bundleserver.serving.workers.merging import Entry, MergedMetrics, merge_index
from bundleserver.serving.workers.remainder import REMAINDER

_SECONDS = 1.0
"""Timeout of another worker process's answer; it is left out after that, and counted as silent."""


class ClusterManager(StoppableManager):
    """A manager that loads and unloads in every worker process."""

    def __init__(self, manager: ServingManager, member: Member) -> None:
        super().__init__(manager)
        self._member = member

    def load(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until a model or version is READY in every worker process; raises why not."""
        self._change("load", model, version, timeout_seconds)

    def unload(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until it is unloaded in every worker process; raises why not."""
        self._change("unload", model, version, timeout_seconds)

    def change_here(self, verb: str, about: Line) -> None:
        """Load or unload in this worker process, as another one requests."""
        change = self._manager.load if verb == "load" else self._manager.unload
        version = cast("str | None", about["version"])
        change(str(about["model"]), version, timeout_seconds=cast(float, about["seconds"]))

    def _change(self, verb: str, model: str, version: str | None, seconds: float) -> None:
        about: Line = {"model": model, "version": version, "seconds": seconds}
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ask-workers") as asking:
            others = asking.submit(self._member.ask, verb, about, seconds + 1)
            self.change_here(verb, about)
            answers = others.result()
        for number, why in answers.errors.items():
            raise NotReady(f"model '{model}'", f"worker process {number}: {why}")
        for number in answers.silent:
            raise NotReady(f"model '{model}'", f"worker process {number} did not answer; retry")


class Peers:
    """Calls all worker processes, including this one, and merges their answers. On the event loop.

    Attributes:
        manager: loads and unloads in all of them.
    """

    def __init__(
        self, member: Member, manager: ServingManager, registry: CollectorRegistry
    ) -> None:
        self.manager = ClusterManager(manager, member)
        self._member = member
        self._registry = registry
        self._pages, self._writing = PageWriter(), threading.Lock()
        self._history: Callable[[list[str]], list[list[object]]] = lambda _: []

    def tell_history(self, rows: Callable[[list[str]], list[list[object]]]) -> None:
        """Set what tells other worker processes of the last minutes of some models."""
        self._history = rows

    def start(self, on_join: Callable[[], None], on_lost: Callable[[], None]) -> None:
        """Answer calls of other worker processes; the callbacks are those of ``Member.start``."""
        calls: dict[str, Call] = {
            "index": lambda _: repository_index(self.manager, ready_only=False),
            "metrics": lambda _: self._own_metrics(),
            "load": partial(self.manager.change_here, "load"),
            "unload": partial(self.manager.change_here, "unload"),
            "history": lambda about: self._history(cast("list[str]", about["models"])),
        }
        self._member.start(calls, on_join, on_lost)
        self._beat()

    def say_listening(self) -> None:
        """Tell the supervisor that this worker process listens."""
        self._member.say_listening()

    def _beat(self) -> None:
        self._member.note_turn()
        asyncio.get_running_loop().call_later(self._member.beat_seconds / 2, self._beat)

    async def index(self, ready_only: bool) -> list[Entry]:
        """List every version of every model, merged from all worker processes."""
        answers = await self._ask("index")
        indexes = {n: cast("list[Entry]", found) for n, found in answers.values.items()}
        indexes[self._member.number] = repository_index(self.manager, ready_only=False)
        return merge_index(indexes, ready_only=ready_only, silent=answers.silent)

    async def write_metrics(self, accept: str, accept_encoding: str) -> Page:
        """Write the metrics of all worker processes."""
        own = await asyncio.to_thread(self._own_metrics)
        # The supervisor keeps it, in case that this process ends.
        answers = await self._ask("metrics", {"page": own})
        silent, values = len(answers.silent) + len(answers.late), {**answers.values}
        remainder = cast("list[str]", values.pop(REMAINDER, []))
        merged = MergedMetrics([own, *map(str, values.values())], silent, remainder)
        return await self._pages.write(merged, accept, accept_encoding)

    async def history(self, models: Collection[str]) -> list[list[object]]:
        """Return the last minutes of some models in every worker process that answers in time."""
        names = list(models)
        answers = await self._ask("history", {"models": names})
        others = (cast("list[list[object]]", rows) for rows in answers.values.values())
        own = await asyncio.to_thread(self._history, names)
        return [*own, *chain.from_iterable(others)]

    def _own_metrics(self) -> str:
        with self._writing:
            return write(self._registry, open_metrics=True)

    async def _ask(self, name: str, about: Line | None = None) -> Answers:
        return await asyncio.to_thread(self._member.ask, name, about or {}, _SECONDS)
