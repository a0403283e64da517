"""BundleModel outside a server: what it refuses, and how it ends."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest

from bundleserver import BundleModel


def test_an_unknown_version_policy_is_refused_at_once(tmp_path):
    """A wrong policy is an error of the constructor, not of a thread."""
    with pytest.raises(ValueError, match="newest"):
        BundleModel("sums", tmp_path, version_policy="newest")


def test_a_model_says_why_it_is_not_for_kserves_workers(tmp_path):
    """Kserve pickles its models for worker processes; the refusal says what to do."""
    with pytest.raises(TypeError, match=r"'sums' .* workers=1"):
        pickle.dumps(BundleModel("sums", tmp_path))


def test_a_model_that_never_started_can_be_stopped(tmp_path):
    """Stopping waits for no thread that was not started, and is done by the end."""
    model = BundleModel("sums", tmp_path)
    assert model.ready

    model.stop()

    for thread in threading.enumerate():
        if thread.name == "close sums":
            thread.join(10)
            assert not thread.is_alive()
    assert not model.ready
    assert not asyncio.run(model.healthy())
