"""A cache whose volume hangs keeps no state, and holds up no poll of a registry that answers."""

from __future__ import annotations

import logging
import threading

from bundleserver.sources.registry import state
from bundleserver.sources.registry.cache import Cache
from bundleserver.sources.registry.state import LastKnown, StoredState
from bundleserver.sources.registry.values import RegisteredModel


def test_a_state_that_cannot_be_stored_in_time_fails_no_poll(tmp_path, monkeypatch, caplog):
    """It is logged once, and stored by the first poll after the volume is back."""
    gate = threading.Event()
    written = state.remember

    def slow(known, directory):
        gate.wait()
        written(known, directory)

    monkeypatch.setattr(state, "remember", slow)
    stored = StoredState(Cache(tmp_path, "fraud", "the test's"))
    model = RegisteredModel("fraud")
    with caplog.at_level(logging.WARNING):
        for second in range(3):
            with stored.poll():
                stored.remember(LastKnown(model, float(100 * second)))
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "reads":
            thread.join(10)
    for _ in range(2):
        with stored.poll():
            stored.remember(LastKnown(model, 1000.0))

    assert 1 == caplog.text.count("is not stored for an outage")
    with stored.poll():
        assert 1000.0 == stored.recall().as_of
