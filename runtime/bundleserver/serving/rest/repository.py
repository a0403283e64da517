"""The repository's routes: its index, loads and unloads, each for those whom it is open to."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bundleserver.serving.addresses import bracketed
from bundleserver.serving.administration import Administration, Asked
from bundleserver.serving.codecs import json_body
from bundleserver.serving.execution.limits import Limits
from bundleserver.serving.metadata import Index, own_index, refuse_files
from bundleserver.serving.models import ServingManager
from bundleserver.serving.rest.heavy_work import HeavyWork
from bundleserver.serving.rest.http import Answer, Handlers, Request, json_answer


class RepositoryRoutes:
    """Handles requests on the event loop; loads and unloads block separate threads.

    Nothing of a request is read before it is admitted, not even whether there is such a model.

    Attributes:
        heavy: decodes large bodies, one at a time; other routes use the same.
        discretion: what requests to other routes are told.
    """

    def __init__(
        self,
        manager: ServingManager,
        administration: Administration | None = None,
        *,
        index: Index | None = None,
        limits: Limits | None = None,
        load_timeout_seconds: float = 600.0,
    ) -> None:
        """Ask ``administration``; None refuses every change."""
        self._manager = manager
        self._administration = administration or Administration()
        self.discretion = self._administration.discretion
        self._index_of = index or own_index(manager)
        self._limits = limits or Limits()
        self._load_timeout_seconds = load_timeout_seconds
        self._loaders = ThreadPoolExecutor(max_workers=4, thread_name_prefix="rest-load")
        self.heavy = HeavyWork()

    def find(self, segments: list[str]) -> Handlers:
        """Find the handlers of a path below ``/v2/repository``."""
        match segments:
            case ["index"]:
                return {"POST": self._index}
            case ["models", model, ("load" | "unload") as verb]:
                return {"POST": partial(self._change, verb, model, None)}
            case ["models", model, "versions", version, ("load" | "unload") as verb]:
                return {"POST": partial(self._change, verb, model, version)}
        return {}

    async def _index(self, request: Request) -> Answer:
        await self._administration.admit_index(asked_by(request))
        document = await self._optional_body(request)
        ready_only = json_body.optional_bool(document, "ready", "")
        return json_answer(await self._index_of(bool(ready_only)))

    async def _change(self, verb: str, model: str, version: str | None, request: Request) -> Answer:
        await self._administration.admit_change(verb, model, version, asked_by(request))
        document = await self._optional_body(request)
        refuse_files(json_body.optional_object(document, "parameters", ""), verb)
        change = self._manager.load if verb == "load" else self._manager.unload
        work = partial(change, model, version, timeout_seconds=self._load_timeout_seconds)
        await asyncio.get_running_loop().run_in_executor(self._loaders, work)
        return json_answer({"name": model, verb: True})

    async def _optional_body(self, request: Request) -> dict[str, object]:
        body = await request.body()
        budget = self._limits.budget()
        if request.is_encoded:
            body = await request.decompressed(body, budget)
        decode = partial(json_body.decode_object, body, request.most_values)
        return await self.heavy.run(len(body), decode, budget) if body.strip() else {}


def asked_by(request: Request) -> Asked:
    """Return what a request shows of whoever sends it."""
    host, port = request.client or ("an unknown address", 0)
    return Asked("rest", f"{bracketed(host)}:{port}", request.pairs)
