"""Writing fitted objects as a bundle: files, digests, library versions and examples."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import orjson

from bundleserver.bundle.integrity import file_sha256
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import StoreError
from bundleserver.frameworks import framework_for, framework_named, frameworks
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES
from bundleserver.frameworks.pickles.by_value import modules_named, rebuilds
from bundleserver.manifest import MANIFEST_VERSION, MODEL, PYTHON, Manifest
from bundleserver.manifest.packages import numbered
from bundleserver.store.methods import check_methods, with_methods
from bundleserver.store.own_code import (
    Code,
    as_on_a_server,
    copy_code,
    packages_of,
    tell_of_left_out,
)
from bundleserver.store.packages import modules_in, requirements_of, versions_of
from bundleserver.store.sampling import plain_json, record_example, written_examples
from bundleserver.store.writing import with_digests
from bundleserver.tensors.breaking import Interface

LOG = logging.getLogger(__name__)

_MODULES = "modules"
"""The modules that a component's pickle names; no key of a manifest."""

_BY_VALUE = "pickled_by_value"
"""The metadata that name the components which have classes or functions as their code."""


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
    code: Code = ()

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
        code: Code = (),
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
            if framework != MODEL or written_framework(models[key]) is None:
                framework_named(framework).imported()
        requirements = requirements_of([(model, chosen[key]) for key, model in models.items()])
        everything = {**described, "requirements": requirements}
        recording = cls(name, models, chosen, options or {}, everything, examples, code)
        recording._manifest({key: recording._written(key) or {"path": key} for key in models})
        recording._refuse_rows_for_members()
        return recording

    def write(self, directory: Path, methods: Sequence[str] = ()) -> tuple[Manifest, Interface]:
        """Write the files, open them, run the examples; return the manifest, and its interface.

        Args:
            directory: where the files go.
            methods: those of the last component that make the outputs; none is its first.

        Raises:
            StoreError: an object cannot be written.
            BundleServerError: the bundle does not open, or an example fails.
        """
        code = copy_code(self.code, directory)
        files = {name: self._write_component(name, directory) for name in self.models}
        manifest = self._manifest(files, code, packages_of(directory, code))
        with as_on_a_server(directory):
            manifest = with_methods(directory, with_digests(directory, manifest), methods)
            if self.examples is not None and not manifest.examples:
                manifest = record_example(directory, manifest, self.examples)
            with closing(open_bundle(directory, manifest, version="new")) as new:
                return manifest, new.interface()

    def _written(self, name: str) -> dict[str, object]:
        """Return the manifest's entry of a component that is given as there; else nothing."""
        model = self.models[name]
        if not isinstance(model, Mapping) or written_framework(model) is None:
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
        if written := self._written(name):
            return written
        framework = framework_named(self.frameworks[name])
        path, options = framework.save(self.models[name], directory, name)
        modules = modules_named(path, PICKLE_SUFFIXES)
        tell_of_left_out(name, modules, directory)
        if any(map(rebuilds, modules)):
            LOG.warning(
                "component '%s' has classes or functions that were pickled by value, as their "
                "code; a server opens it with --pickle_policy=any only, and with Python %d.%d: "
                "move them to a module, and save that with it: code=['features.py']",
                name,
                *sys.version_info[:2],
            )
        return {
            "path": path.relative_to(directory).as_posix(),
            "sha256": file_sha256(path),
            "size": path.stat().st_size,
            "options": {**options, **self.options.get(name, {})},
            _MODULES: modules | modules_in(path, framework.name),
        }

    def _manifest(
        self,
        files: Mapping[str, Mapping[str, object]],
        code: Sequence[Mapping[str, object]] = (),
        packages: Mapping[str, str] = MappingProxyType({}),
    ) -> Manifest:
        components = {
            name: {"framework": self.frameworks[name]}
            | {key: value for key, value in file.items() if value != {} and key != _MODULES}
            for name, file in files.items()
        }
        named = {name: _modules_of(file) for name, file in files.items()}
        by_value = [name for name, modules in named.items() if any(map(rebuilds, modules))]
        document = {
            "format": MANIFEST_VERSION,
            "name": self.name,
            "components": components,
            "examples": written_examples(self.examples) or [],
            **self.described,
            "code": list(code),
        }
        plain = plain_json(document, f"the manifest of '{self.name}'")
        manifest = Manifest.from_json(orjson.dumps(plain), f"the manifest of '{self.name}'")
        saved = manifest.requirements
        known = {**packages, **versions_of(chain(*named.values()))}
        return replace(
            manifest,
            metadata={**manifest.metadata, **({_BY_VALUE: by_value} if by_value else {})},
            requirements=replace(saved, packages=numbered({**known, **saved.packages})),
        )


def _modules_of(file: Mapping[str, object]) -> Collection[str]:
    modules = file.get(_MODULES)
    return modules if isinstance(modules, frozenset) else ()


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
        name: written_framework(model) or given.get(name) or framework_for(model)
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
    is_single = framework_for(components) or written_framework(components)
    if not isinstance(components, Mapping) or is_single:
        return {"model": components}
    if not components:
        raise StoreError("there are no components to save; expected fitted objects by name")
    return {str(name): model for name, model in components.items()}


def written_framework(model: object) -> str | None:
    """Return the framework of a component that is given as in a manifest; None for an object.

    That is another model of the server, or a class in the code that is saved with the bundle.
    """
    framework = model.get("framework") if isinstance(model, Mapping) else None
    return str(framework) if framework in (MODEL, PYTHON) else None


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


def _class_of(model: object) -> str:
    kind = type(model)
    return (
        kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    )
