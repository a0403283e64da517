"""Writing fitted objects as a bundle: files, digests, library versions and examples."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib import metadata as distributions
from pathlib import Path

import orjson

from bundleserver.bundle.integrity import file_sha256
from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.reading import read_manifest
from bundleserver.errors import StoreError
from bundleserver.frameworks import framework_for, framework_named, frameworks
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES
from bundleserver.frameworks.pickles.by_value import carries_code
from bundleserver.manifest import (
    BUNDLE,
    MANIFEST_NAME,
    MANIFEST_VERSION,
    MODEL,
    Component,
    Manifest,
)
from bundleserver.store.methods import check_methods, with_methods
from bundleserver.store.sampling import plain_json, record_example, written_examples
from bundleserver.store.staging import replace_file
from bundleserver.tensors.breaking import Interface
from bundleserver.tensors.signature import Signature

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """The contents of a new version: fitted objects, and the rest of its manifest.

    ``described`` is the manifest's JSON without components and examples; ``examples`` are as the
    notebook gave them.
    """

    name: str
    models: Mapping[str, object]
    frameworks: Mapping[str, str]
    options: Mapping[str, Mapping[str, object]]
    described: Mapping[str, object]
    examples: object = None

    @classmethod
    def plan(
        cls,
        name: str,
        models: Mapping[str, object],
        described: Mapping[str, object],
        *,
        options: Mapping[str, Mapping[str, object]] | None = None,
        frameworks: Mapping[str, str] | None = None,
        examples: object = None,
    ) -> Recording:
        """Validate everything before a file is written.

        Raises:
            StoreError: no framework can save an object, or a name is not a component.
            FrameworkError: a framework is unknown or its library is not installed.
            ManifestError: the arguments make no valid manifest; lists every problem.
        """
        chosen = choose_frameworks(models, frameworks or {})
        check_names("options", options or {}, models)
        for key, framework in chosen.items():
            if not is_member(models[key]):
                framework_named(framework).imported()
        requirements = _requirements([(model, chosen[key]) for key, model in models.items()])
        everything = {**described, "requirements": requirements}
        recording = cls(name, models, chosen, options or {}, everything, examples)
        recording._manifest({key: recording._member(key) or {"path": key} for key in models})
        recording._refuse_rows_for_members()
        return recording

    def write(self, directory: Path, methods: Sequence[str] = ()) -> tuple[Manifest, Interface]:
        """Write the components' files, open them, run the examples; return the manifest.

        And what clients of it rely on.

        Args:
            directory: where the files go.
            methods: those of the last component that make the outputs; none is its first.

        Raises:
            StoreError: an object cannot be written.
            BundleServerError: the bundle does not open, or an example fails.
        """
        files = {name: self._write_component(name, directory) for name in self.models}
        manifest = with_methods(directory, self._manifest(files), methods)
        if self.examples is not None and not manifest.examples:
            manifest = record_example(directory, manifest, self.examples)
        with closing(open_bundle(directory, manifest, version="new")) as new:
            return manifest, new.interface()

    def _member(self, name: str) -> dict[str, object]:
        """Return the manifest's entry of a component that is another model; else nothing."""
        model = self.models[name]
        if not isinstance(model, Mapping) or not is_member(model):
            return {}
        options = {"options": self.options[name]} if name in self.options else {}
        return {str(key): value for key, value in model.items()} | options

    def _refuse_rows_for_members(self) -> None:
        members = [name for name, framework in self.frameworks.items() if framework == MODEL]
        if members and self.examples is not None and written_examples(self.examples) is None:
            raise StoreError(
                f"the examples have no outputs, and cannot be run here: component '{members[0]}' "
                "is another model of a server; use examples=[{'inputs': {…}, 'outputs': {…}}]"
            )

    def _write_component(self, name: str, directory: Path) -> dict[str, object]:
        if member := self._member(name):
            return member
        framework = framework_named(self.frameworks[name])
        path, options = framework.save(self.models[name], directory, name)
        if carries_code(path, PICKLE_SUFFIXES):
            LOG.warning(
                "component '%s' has classes or functions that were pickled by value, as their "
                "code; a server opens it with --pickle_policy=any only: move them to a package "
                "that is installed there",
                name,
            )
        return {
            "path": path.relative_to(directory).as_posix(),
            "sha256": file_sha256(path),
            "size": path.stat().st_size,
            "options": {**options, **self.options.get(name, {})},
        }

    def _manifest(self, files: Mapping[str, Mapping[str, object]]) -> Manifest:
        components = {
            name: {"framework": self.frameworks[name]} | {k: v for k, v in file.items() if v != {}}
            for name, file in files.items()
        }
        document = {
            "format": MANIFEST_VERSION,
            "name": self.name,
            "components": components,
            "examples": written_examples(self.examples) or [],
            **self.described,
        }
        plain = plain_json(document, f"the manifest of '{self.name}'")
        return Manifest.from_json(orjson.dumps(plain), f"the manifest of '{self.name}'")


def with_named_outputs(manifest: Manifest, signature: Signature) -> Manifest:
    """Write an inferred manifest's last outputs as its component named them when it was called."""
    names = tuple(spec.name for spec in signature.outputs)
    if manifest.inferred and manifest.steps and manifest.steps[-1].op is None:
        steps = (*manifest.steps[:-1], replace(manifest.steps[-1], outputs=names))
        manifest = replace(manifest, steps=steps)
    return replace(manifest, inferred=False)


def describe(
    metadata: Mapping[str, object] | None,
    metrics: Mapping[str, object] | None,
    sections: Mapping[str, object],
    methods: Sequence[str] = (),
) -> dict[str, object]:
    """Return a manifest's JSON without components and examples.

    Raises:
        StoreError: ``methods`` cannot be chosen so.
    """
    check_methods(methods, sections)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    known: dict[str, object] = {"trained_at": now, **(metadata or {})}
    if metrics is not None:
        known["metrics"] = metrics
    given = {key: value for key, value in sections.items() if value is not None}
    return {**given, "metadata": known}


def choose_frameworks(models: Mapping[str, object], given: Mapping[str, str]) -> dict[str, str]:
    """Return the framework of every object: the given one, else that of its class.

    Raises:
        StoreError: no framework can save an object; lists all such objects, and the frameworks.
    """
    check_names("frameworks", given, models)
    chosen = {
        name: MODEL if is_member(model) else given.get(name) or framework_for(model)
        for name, model in models.items()
    }
    unknown = [
        f"component '{name}' is a {_class_of(models[name])}"
        for name, framework in chosen.items()
        if framework is None
    ]
    if unknown:
        raise StoreError(
            f"{'; '.join(unknown)}, which no framework can save; frameworks: "
            f"{', '.join(sorted(frameworks()))}; save the fitted objects in it, each under its own "
            "name: BundleStore().save(name, {'scaler': scaler, 'model': model}), or set the "
            "framework: frameworks={'model': 'sklearn'}"
        )
    return {name: framework for name, framework in chosen.items() if framework is not None}


def components_of(components: Mapping[str, object] | object) -> dict[str, object]:
    """Return fitted objects by name; a single one (also an ensemble's dict) is ``model``."""
    is_single = framework_for(components) is not None or is_member(components)
    if not isinstance(components, Mapping) or is_single:
        return {"model": components}
    if not components:
        raise StoreError("there are no components to save; expected fitted objects by name")
    return {str(name): model for name, model in components.items()}


def is_member(model: object) -> bool:
    """Ask whether a component is another model of the server, as in a manifest."""
    return isinstance(model, Mapping) and model.get("framework") == MODEL


def check_names(what: str, given: Iterable[str], components: Iterable[str]) -> None:
    """Refuse names that are not components.

    Raises:
        StoreError: names the first of them, and the nearest component.
    """
    known = list(components)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            listed = ", ".join(f"'{entry}'" for entry in known)
            raise StoreError(
                f"{what} refers to unknown component '{name}'; components: {listed}{hint}"
            )


def with_digests(directory: Path, manifest: Manifest) -> Manifest:
    """Return the manifest with the digest and size of each of its files.

    A nested bundle's manifest is rewritten likewise; its digest covers its files.
    """
    components = {
        name: component if component.path is None else _measured(directory, component)
        for name, component in manifest.components.items()
    }
    return replace(manifest, components=components, inferred=False)


def _measured(directory: Path, component: Component) -> Component:
    path = directory / (component.path or "")
    if component.framework == BUNDLE:
        nested = read_manifest(path)
        if nested is None:
            return component
        write_manifest(path, with_digests(path, nested))
        path = path / MANIFEST_NAME
    return replace(component, sha256=file_sha256(path), size=path.stat().st_size)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` by one atomic rename."""
    replace_file(directory / MANIFEST_NAME, manifest.to_json().encode())


def _requirements(frameworks_used: Iterable[tuple[object, str]]) -> dict[str, object]:
    names = {"numpy"}
    for model, framework in frameworks_used:
        row = frameworks().get(framework)
        names.update(row.distributions if row else ())
        names.add(type(model).__module__.partition(".")[0])
    packages = {name: version for name in sorted(names) if (version := _installed(name))}
    return {"python": "{}.{}".format(*sys.version_info[:2]), "packages": packages}


def _installed(distribution: str) -> str | None:
    try:
        return distributions.version(distribution)
    except distributions.PackageNotFoundError:
        return None


def _class_of(model: object) -> str:
    kind = type(model)
    return (
        kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    )
