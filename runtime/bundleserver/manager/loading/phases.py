"""The spans of a load: one for each state on its way, below that of the load."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, TracebackType

from bundleserver.spans import Span, begin
from bundleserver.versions.lifecycle import State

NAMES: Mapping[State, str] = MappingProxyType(
    {
        State.FETCHING: "fetch",
        State.VERIFYING: "verify",
        State.LOADING: "open",
        State.WARMING: "probe",
    }
)


class LoadSpans:
    """The spans of one load, which one thread works on; nothing where nothing is traced.

    They are no one's current span: the calls of a probe are hundreds.
    """

    def __init__(self, model: str, version: str) -> None:
        self._facts = {"bundleserver.model": model, "bundleserver.version": version}
        self._load: Span | None = None
        self._phase: Span | None = None

    def enter(self, state: State) -> None:
        """End the phase before, and begin that of a state."""
        if self._load is not None:
            if self._phase is not None:
                self._phase.end()
            self._phase = self._load.child(NAMES.get(state, state.value.lower()))

    def __enter__(self) -> None:
        self._load = begin("load", **self._facts)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the load, and the phase that it is in, with what it failed with."""
        for span in (self._phase, self._load):
            if span is not None:
                if error is not None:
                    span.fail(error)
                span.end()
