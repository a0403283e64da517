"""The spans of a load: one for each state on its way, below that of the load."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, TracebackType

from bundleserver.errors import ModelNotFound, NotReady
from bundleserver.spans import Sink, Span, begin
from bundleserver.versions.lifecycle import State

NAMES: Mapping[State, str] = MappingProxyType(
    {
        State.FETCHING: "fetch",
        State.VERIFYING: "verify",
        State.LOADING: "open",
        State.WARMING: "probe",
    }
)


WAITS = (NotReady, ModelNotFound)
"""What a load fails with that calls another model, which is not ready or not there."""


def wait_reason(error: object) -> str:
    """Return what a load waits for, as states and logs have it."""
    return f"waits: {error}"


class LoadSpans:
    """The spans of one load, which one thread works on; nothing where nothing is traced.

    They are no one's current span: the calls of a probe are hundreds. They are kept until the load
    ends: one that only waits for another model is retried often, and is a trace once for each
    reason.

    Attributes:
        waited_for: what the load before this one waited for; an empty string if for nothing.
    """

    def __init__(self, model: str, version: str, waited_for: str = "") -> None:
        self.waited_for = waited_for
        self._ended: list[Span] = []
        self._facts = {"bundleserver.model": model, "bundleserver.version": version}
        self._load: Span | None = None
        self._phase: Span | None = None
        self._sink: Sink

    def enter(self, state: State) -> None:
        """End the phase before, and begin that of a state."""
        if self._load is not None:
            if self._phase is not None:
                self._phase.end()
            self._phase = self._load.child(NAMES.get(state, state.value.lower()))

    def __enter__(self) -> None:
        self._load = begin("load", **self._facts)
        if self._load is not None:
            self._sink, self._load.trace.sink = self._load.trace.sink, self._ended.append

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the load, and the phase that it is in, with what it failed with.

        To wait for another model is no failure.
        """
        if self._load is None:
            return
        waits = isinstance(error, WAITS)
        for span in (self._phase, self._load):
            if span is not None:
                if error is not None:
                    span.fail(error, is_failed=not waits)
                span.end()
        if not (waits and self.waited_for == wait_reason(error)):
            for span in self._ended:
                self._sink(span)
