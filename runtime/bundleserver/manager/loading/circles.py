"""Circles: models that call each other would wait for each other, or call each other for ever."""

from __future__ import annotations

from collections.abc import Collection

from bundleserver.errors import BundleError
from bundleserver.manager.shared import Shared


def note_calls(shared: Shared, model: str, version: str, called: Collection[str]) -> None:
    """Record which models a version that is being loaded calls.

    Raises:
        BundleError: one of them calls the model, itself or by way of others.
    """
    with shared.change():
        circle = _circle(shared, model, called)
        for record in shared.models[model].versions.values() if model in shared.models else ():
            if record.version.label == version:
                record.calls, record.is_in_circle = frozenset(called), circle is not None
        if circle is not None:
            # Those that wait for it are a part of the circle, or will wait for something else.
            for other in shared.models.values():
                other.end_waits()
    if circle is not None:
        raise BundleError(f"models call each other in a cycle: {' → '.join(circle)}")


def retry_without_circle(shared: Shared) -> None:
    """Let versions that failed for a circle be loaded again once it is broken.

    It is when another model's files change, or another of its versions answers.
    """
    with shared.change():
        for name, model in shared.models.items():
            for record in model.versions.values():
                is_over = record.is_in_circle and not record.is_underway
                if is_over and _circle(shared, name, record.calls) is None:
                    record.forget_failure()
                    model.settle()


def _circle(shared: Shared, model: str, called: Collection[str]) -> list[str] | None:
    """Return the shortest way from a model back to itself; None if there is none."""
    ways = [[model, name] for name in sorted(called)]
    seen = set(called)
    for way in ways:
        if way[-1] == model:
            return way
        new = sorted(_called_by(shared, way[-1]) - seen)
        seen.update(new)
        ways += [[*way, name] for name in new]
    return None


def _called_by(shared: Shared, model: str) -> set[str]:
    """Return what a model's default version calls, or those that may become it."""
    found = shared.models.get(model)
    if found is None:
        return set()
    default = found.default
    records = found.versions.values() if default is None else [found.versions[default]]
    return {name for record in records for name in record.calls}
