"""What the form of a version asks the server for: its fields with an example, and its history."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, TypeVar

from bundleserver.errors import NotReady
from bundleserver.serving.metadata import ready_version
from bundleserver.serving.models import ServingManager
from bundleserver.serving.page.form import Form, form_inputs, with_choices
from bundleserver.serving.page.form_examples import (
    choices_of,
    example_row,
    forecast_row,
    is_empty,
)
from bundleserver.serving.rest.forecast_route import MOST_STEPS, is_forecaster
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.signature import Signature

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.manager import VersionStatus

LOG = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_SECONDS = 10.0
"""How long a request waits for a form or a history."""

_SAMPLED_ROWS = 16
"""Rows of made-up values, in which there are so many different categories of a column."""

_MOST_KEPT = 64
_MOST_SAMPLED = 1 << 18
"""Values of a declared row above which nothing is made up."""


class FormData:
    """Makes forms and keeps some; called on the event loop, works in one thread of its own.

    The thread runs code of frameworks, which may take long: whoever waits for it gives up in time.
    """

    def __init__(self, manager: ServingManager) -> None:
        self._manager = manager
        self._forms: OrderedDict[tuple[object, ...], Future[Form]] = OrderedDict()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="form")

    async def form(
        self, model: str, version: str | None, patience_seconds: float = PATIENCE_SECONDS
    ) -> Form:
        """Return the form of a ready version, by version or label; None for the default one.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: it is not ready, or its example is not.
        """
        status = ready_version(self._manager, model, version)
        key = (model, status.version, status.loaded_at)
        made = self._forms.get(key)
        if made is None:
            made = self._forms[key] = self._thread.submit(self._make, model, status)
            if len(self._forms) > _MOST_KEPT:
                self._forms.popitem(last=False)
        return await _waited(made, f"the form of model '{model}'", patience_seconds)

    async def history(self, model: str, version: str | None, points: int) -> dict[str, object]:
        """Return the last points of the series that a forecaster was fitted on, as a JSON value.

        Without points ``reason`` says why there are none.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: it is not ready, or cannot be read in time.
        """
        status = ready_version(self._manager, model, version)
        asked = self._thread.submit(self._history, model, status.version, points)
        found = await _waited(asked, f"the history of model '{model}'", PATIENCE_SECONDS)
        return {"model": model, "version": status.version, **found}

    def _make(self, model: str, status: VersionStatus) -> Form:
        signature = status.signature or Signature()
        facts = _forecast_facts(status) if is_forecaster(signature) else None
        methods = status.metadata.get("methods")
        form = Form(
            model,
            status.version,
            signature.rowwise,
            form_inputs(signature),
            tuple(spec.name for spec in signature.outputs),
            tuple(map(str, methods)) if isinstance(methods, list) else (),
            forecast=facts,
            refused=dict(signature.refused),
        )
        try:
            with self._manager.acquire(model, status.version) as bundle:
                return _with_example(form, bundle, signature)
        except Exception:  # the framework's own code makes the example
            LOG.debug("%s %s: no example for its form", model, status.version, exc_info=True)
            return form

    def _history(self, model: str, version: str, points: int) -> Mapping[str, object]:
        with self._manager.acquire(model, version) as bundle:
            try:
                found = bundle.history(points)
            except Exception:  # the framework's own objects have it, as their file says
                LOG.debug("%s %s: no history for its plot", model, version, exc_info=True)
                return {"reason": "the series that the model was fitted on cannot be read"}
        if found is None:
            return {"reason": "the model does not keep the series that it was fitted on"}
        return found.document()


async def _waited(asked: Future[T], what: str, seconds: float) -> T:
    wrapped = asyncio.wrap_future(asked)
    done, _ = await asyncio.wait({wrapped}, timeout=seconds)
    if not done:
        raise NotReady(what, "the model's own code that makes it takes long; try again later")
    return wrapped.result()


def _forecast_facts(status: VersionStatus) -> dict[str, object]:
    components = status.metadata.get("components")
    entries = components.values() if isinstance(components, Mapping) else ()
    having = [entry for entry in entries if isinstance(entry, Mapping) and "max_horizon" in entry]
    facts = having[0] if len(having) == 1 else {}
    return {"max_horizon": facts.get("max_horizon", MOST_STEPS), "step": facts.get("step")}


def _with_example(form: Form, bundle: Bundle, signature: Signature) -> Form:
    form = replace(form, parameters=tuple(bundle.parameters))
    if _is_huge(signature):
        return form
    samples = bundle.samples(_SAMPLED_ROWS if form.rowwise else 1)
    if not samples:
        return form
    first, made_up = samples[0], not bundle.manifest.examples
    if form.forecast is not None:
        most = form.forecast["max_horizon"]
        row = forecast_row(form.inputs, first, most if isinstance(most, int) else 1)
    else:
        row = example_row(form.inputs, first, rounded=made_up)
    drawn: Sequence[NamedTensor] = samples[-1] if form.rowwise else ()
    inputs = tuple(
        with_choices(each, choices_of(each, drawn)) if form.rowwise else each
        for each in form.inputs
    )
    return replace(form, inputs=inputs, rows=() if is_empty(row) else (row,))


def _is_huge(signature: Signature) -> bool:
    """Ask whether a row is declared so large that an example is no help."""
    sizes = (prod(map(abs, spec.shape[1:])) for spec in signature.inputs if spec.shape)
    return sum(sizes) > _MOST_SAMPLED
