"""The routes of a model's form: its fields, and the history that a forecast's plot begins with."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from markupsafe import Markup

from bundleserver.errors import BundleServerError
from bundleserver.frameworks.forecasting.history import MOST_POINTS
from bundleserver.serving.administration.discretion import Discretion
from bundleserver.serving.errors import answer_for
from bundleserver.serving.models import ServingManager
from bundleserver.serving.page.form_curl import example_curl
from bundleserver.serving.page.form_data import FormData
from bundleserver.serving.page.query import Query
from bundleserver.serving.rest.http import Answer, answer_of_error, json_answer
from bundleserver.versions.lifecycle import State

_MOST_CURL = 20_000
_FIRST_SECONDS = 1.0
"""How long the page itself waits for an example; the form asks for it again."""

_LATER = "The form needs JavaScript."


class FormRoutes:
    """Answers what the form asks for; called on the event loop."""

    def __init__(self, manager: ServingManager) -> None:
        self._manager = manager
        self._data = FormData(manager)

    async def first(self, model: str) -> dict[str, object]:
        """Return what the page has in the form's place before its script runs."""
        try:
            mark = _mark(self._choices(model))
        except BundleServerError:  # it went a moment ago
            mark = ""
        return {"mark": mark, **await self._first(model)}

    async def _first(self, model: str) -> dict[str, object]:
        try:
            form = await self._data.form(model, None, _FIRST_SECONDS)
        except BundleServerError:
            return {"curl": "", "why": f"{_LATER} No version answers by default now."}
        curl = example_curl(form)
        if not curl or len(curl) > _MOST_CURL:
            return {"curl": "", "why": f"{_LATER} There is no short example for this model."}
        # Escaped here, since a long text would lose its middle in the template.
        return {"curl": Markup.escape(curl), "why": ""}

    async def answer(self, what: str, model: str, query: Query, is_whole: bool) -> Answer:
        """Answer ``form`` or ``history`` for the version of the query, else the default one.

        ``is_whole``: whether the client may read the reasons that are for administrators.
        """
        version = query.text("version") or None
        try:
            if what == "form":
                return json_answer(await self._form(model, version))
            points = query.number("points") or MOST_POINTS
            return json_answer(await self._data.history(model, version, points))
        except BundleServerError as error:
            return answer_of_error(answer_for(Discretion(is_on=not is_whole).error(error)))

    async def _form(self, model: str, version: str | None) -> dict[str, object]:
        # First, so that the form is asked for again if a version comes meanwhile.
        choices = self._choices(model)
        form = await self._data.form(model, version)
        ready = [name for name, _ in choices.ready]
        others = {"versions": ready, "default": choices.default, "labels": dict(choices.labels)}
        return {**form.document(), **others, "mark": _mark(choices)}

    def _choices(self, model: str) -> _Choices:
        status = self._manager.status(model)
        ready = [each for each in status.versions if each.state is State.READY]
        digests = [(each.version, str(each.metadata.get("digest"))) for each in ready]
        # A label of a version that is not ready is no choice, nor for everybody to see.
        names = {each.version for each in ready}
        labels = tuple(sorted(pair for pair in status.labels.items() if pair[1] in names))
        return _Choices(tuple(digests), status.default, labels)


class _Choices(NamedTuple):
    """What a form offers: the ready versions with their digests, the default one, the labels."""

    ready: tuple[tuple[str, str], ...]
    default: str | None
    labels: tuple[tuple[str, str], ...]


def _mark(choices: _Choices) -> str:
    """Return a short text that is another one for other choices."""
    return hashlib.sha256(repr(choices).encode(errors="replace")).hexdigest()[:16]
