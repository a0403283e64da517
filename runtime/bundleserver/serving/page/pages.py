"""The page's routes: an overview, a page for each model, what its plots draw, and its files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

import bundleserver
from bundleserver.documents.printable import printable
from bundleserver.errors import Forbidden, ModelNotFound, Unauthenticated
from bundleserver.serving.administration import Administration
from bundleserver.serving.models import ServingManager
from bundleserver.serving.page.activity import WINDOW_SECONDS, Activities
from bundleserver.serving.page.facts import Facts, ModelFacts, Overview, Traffic
from bundleserver.serving.page.form_routes import FormRoutes
from bundleserver.serving.page.history import Row, steps_of
from bundleserver.serving.page.query import MOST_QUERY_BYTES, Query
from bundleserver.serving.page.rendering import HEADERS, Renderer
from bundleserver.serving.page.static_files import FORM_SCRIPTS, read_static_files, static_answer
from bundleserver.serving.rest.http import Answer, Request, error_answer, json_answer
from bundleserver.serving.rest.repository import asked_by

T = TypeVar("T")

Rows = Callable[[Collection[str]], Awaitable[list[Row]]]
"""Reads the last minutes of some models, of all worker processes."""


class Pages:
    """Answers the page's requests on the event loop; what takes long is made in one thread."""

    def __init__(
        self,
        manager: ServingManager,
        traffic: Traffic,
        rows: Rows,
        administration: Administration,
    ) -> None:
        self._manager = manager
        self._rows = rows
        self._administration = administration
        self._facts = Facts(manager, traffic)
        self._form = FormRoutes(manager)
        self._static = read_static_files()
        self._renderer = Renderer({name: file.mark for name, file in self._static.items()})
        # One, so that pages never take more than one CPU from predictions.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="page")

    async def answer(self, request: Request, raw_path: bytes, query: bytes) -> Answer:
        """Answer a request whose path is ``/`` or begins with ``/page``.

        Raises:
            Unauthenticated, Forbidden: it has a token that does not admit it.
        """
        if request.method != "GET":
            return _with_headers(
                error_answer(405, "the page is read-only; expected GET or HEAD", _ALLOWED)
            )
        if len(query) > MOST_QUERY_BYTES:
            why = f"the query has {len(query)} bytes; expected at most {MOST_QUERY_BYTES}"
            return _with_headers(error_answer(414, why))
        asked = Query(query)
        # Relative, since a proxy may serve this under a path of its own.
        root = "../" * (raw_path.partition(b"?")[0].count(b"/") - 1) or "./"
        match list(request.segments):
            case []:
                return await self._overview(request, asked, root)
            case ["page", "data"]:
                return await self._overview_data(request, asked)
            case ["page", "models", name]:
                return await self._model(request, name, root)
            case ["page", "models", name, "data"]:
                return await self._model_data(request, name)
            case ["page", "models", name, ("form" | "history") as what]:
                is_whole = await self._may_see_all(request)
                return _with_headers(await self._form.answer(what, name, asked, is_whole))
            case ["page", "static", name] if name in self._static:
                known = request.header(b"if-none-match")
                answer = static_answer(self._static[name], asked.text("v"), known)
                return _with_headers(answer)
        return await self._nothing("there is no such page", root)

    async def _overview(self, request: Request, asked: Query, root: str) -> Answer:
        is_whole = await self._may_see_all(request)
        shown = await self._shown(asked, is_whole)
        return await self._render(
            "overview.html",
            root=root,
            shown=shown,
            wanted=asked.text("filter"),
            only=asked.text("only"),
            why_none=self._manager.why_no_models() if is_whole and not shown.all else "",
            is_whole=is_whole,
        )

    async def _overview_data(self, request: Request, asked: Query) -> Answer:
        is_whole = await self._may_see_all(request)
        shown = await self._shown(asked, is_whole)
        models = await self._run(lambda: [_figures(model) for model in shown.models])
        document = {"models": models, "matching": shown.matching, "seconds": WINDOW_SECONDS}
        return _with_headers(json_answer(document))

    async def _shown(self, asked: Query, is_whole: bool) -> Overview:
        wanted, first, only = asked.text("filter"), asked.number("from"), asked.text("only")
        shown = await self._run(lambda: self._facts.overview(wanted, first, only, is_whole))
        return shown.with_activities(await self._activities([model.name for model in shown.models]))

    async def _model(self, request: Request, name: str, root: str) -> Answer:
        is_whole = await self._may_see_all(request)
        try:
            found = await self._run(lambda: self._facts.model(name, is_whole))
        except ModelNotFound:
            return await self._nothing(f"there is no model '{name}'", root)
        model = replace(found, activities=await self._activities([name]))
        return await self._render(
            "model.html",
            root=root,
            model=model,
            is_whole=is_whole,
            form=await self._form.first(name),
            form_scripts=FORM_SCRIPTS,
        )

    async def _model_data(self, request: Request, name: str) -> Answer:
        if not self._manager.knows(name):
            return _with_headers(error_answer(404, "there is no such model"))
        activities = await self._activities([name])
        plots = await self._run(activities.of_model(name).plots)
        return _with_headers(json_answer({"name": printable(name), "plots": plots}))

    async def _activities(self, names: Collection[str]) -> Activities:
        rows: Iterable[Row] = await self._rows(names)
        return Activities(await self._run(lambda: steps_of(rows)))

    async def _may_see_all(self, request: Request) -> bool:
        """Ask whether whoever asks may read the index; a token that is none is refused.

        Raises:
            Unauthenticated, Forbidden: there is a token, and it does not admit.
        """
        needs = self._administration.index_asks
        if needs == "nothing":
            return True
        has_token = b"authorization" in request.raw_headers
        if needs == "closed" or (needs == "token" and not has_token):
            return False
        try:
            await self._administration.admit_index(asked_by(request))
        except (Unauthenticated, Forbidden):
            if has_token:
                raise
            return False
        return True

    async def _nothing(self, why: str, root: str) -> Answer:
        return await self._render("nothing.html", status=404, root=root, why=why)

    async def _render(self, name: str, status: int = 200, **values: object) -> Answer:
        asks = self._administration.index_asks
        common: Mapping[str, object] = {"asks": asks, "server": bundleserver.__version__}
        return await self._run(partial(self._renderer.page, name, status, **{**common, **values}))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


_ALLOWED = {"allow": "GET, HEAD"}


def _figures(model: ModelFacts) -> dict[str, object]:
    activity = model.activity
    return {
        "name": printable(model.name),
        "state": model.state,
        "default_version": model.status.default,
        "requests_per_second": activity.per_second,
        "p50_seconds": activity.p50,
        "p99_seconds": activity.p99,
        "failed": activity.sum.failed,
        "problems": [printable(problem) for problem in model.problems],
    }


def _with_headers(answer: Answer) -> Answer:
    return answer._replace(headers={**HEADERS, **answer.headers})
