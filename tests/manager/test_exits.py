"""Code that runs while a version is loaded may raise anything, and exit."""

from __future__ import annotations

import pytest

from bundleserver.manager import Manager
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions.lifecycle import State
from tests.fakes import FakeBundle

DEADLINE_SECONDS = 20.0


class Panic(BaseException):
    """What extensions written in other languages raise: no Exception."""


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), SystemExit(0), GeneratorExit(), Panic("core")], ids=repr
)
def test_a_load_that_ends_oddly_is_failed_once(tmp_path, end):
    """The version says why, is tried again after its pause only, and the other model serves."""
    for model in ("bad", "good"):
        (tmp_path / model / "v1").mkdir(parents=True)
        (tmp_path / model / "v1" / "manifest.json").write_text(
            '{"format": "bundle/v1", "components": {"m": {"framework": "model", "model": "x"}}}'
        )
    loads = []

    def open_bundle(candidate, enter):
        loads.append(candidate.model)
        if candidate.model == "bad":
            raise end
        return FakeBundle(candidate.model, candidate.version.label)

    manager = Manager(DirectorySource(tmp_path), open_bundle=open_bundle, load_threads=1)
    for _ in range(5):
        manager.reconcile()
        assert manager.wait_for_loads(DEADLINE_SECONDS)
    (version,) = manager.status("bad").versions
    manager.close()

    assert State.FAILED is version.state
    assert type(end).__name__ in version.reason
    assert ["bad", "good"] == sorted(loads)


def test_a_bundle_whose_closing_ends_oddly_is_closed_all_the_same(tmp_path, caplog):
    """The watcher's thread goes on, and the next version is loaded and served."""

    class Stubborn(FakeBundle):
        def close(self):
            super().close()
            raise Panic("will not close")

    def open_bundle(candidate, enter):
        return Stubborn(candidate.model, candidate.version.label)

    for label in ("v1", "v2"):
        (tmp_path / "m" / label).mkdir(parents=True)
        (tmp_path / "m" / label / "manifest.json").write_text(
            '{"format": "bundle/v1", "components": {"m": {"framework": "model", "model": "x"}}}'
        )
        if label == "v1":
            manager = Manager(DirectorySource(tmp_path), open_bundle=open_bundle)
        manager.reconcile()
        assert label == manager.status("m").default
    manager.close()

    assert "will not close" in caplog.text
