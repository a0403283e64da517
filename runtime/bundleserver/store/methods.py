"""``BundleStore.save(…, methods=[…])``: the methods of a model that make a version's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import BundleError, StoreError
from bundleserver.manifest import Manifest


def check_methods(methods: Sequence[str], sections: Mapping[str, object]) -> None:
    """Refuse methods that are no array of different names, or beside ``steps``.

    Raises:
        StoreError: says what is wrong.
    """
    if not methods:
        return
    if isinstance(methods, str) or not all(isinstance(name, str) for name in methods):
        raise StoreError(
            f"methods is {methods!r}; expected names in an array, such as "
            "['predict', 'predict_proba']"
        )
    twice = next((name for name in methods if [*methods].count(name) > 1), None)
    if twice is not None:
        raise StoreError(f"methods has '{twice}' twice; names must be unique")
    if sections.get("steps") is not None:
        raise StoreError(
            "methods and steps cannot both be given; steps say which methods make the outputs"
        )


def with_methods(directory: Path, manifest: Manifest, methods: Sequence[str]) -> Manifest:
    """Return the manifest of a directory with steps whose outputs are those of methods.

    Raises:
        StoreError: the last component lacks a method, or methods cannot be chosen.
        BundleServerError: the bundle does not open.
    """
    if not methods:
        return manifest
    undeclared = replace(manifest, outputs=(), examples=())
    with closing(open_bundle(directory, undeclared, version="new", probe="off")) as bundle:
        try:
            steps = bundle.methods.steps(methods)
        except BundleError as error:
            raise StoreError(str(error)) from error
    # Read again, since outputs that were declared must be among those of the steps.
    document = replace(manifest, steps=steps).to_json()
    return Manifest.from_json(document, f"the manifest of '{manifest.name}'")
