"""The installed packages that a bundle needs, which its manifest records with their versions."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from bundleserver.bundle.libraries import name_here
from bundleserver.frameworks import facts_of_file, frameworks
from bundleserver.manifest.packages import numbered


def requirements_of(frameworks_used: Iterable[tuple[object, str]]) -> dict[str, object]:
    """Return what a manifest says of this environment, from objects with their frameworks."""
    names = {"numpy"}
    for model, framework in frameworks_used:
        row = frameworks().get(framework)
        names.update(row.distributions if row else ())
        names.add(name_here(type(model).__module__.partition(".")[0]))
    packages = numbered({name: _version(name) for name in sorted(names)})
    return {"python": "{}.{}".format(*sys.version_info[:2]), "packages": packages}


def modules_in(path: Path, framework: str) -> frozenset[str]:
    """Return the modules that a component's file names, as far as its framework tells.

    Raises:
        LoadError: the file cannot be read.
    """
    return facts_of_file(path, framework, "model").modules


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """Return the installed packages that have modules, with their versions.

    Of a framework's library all that the framework's own bundles record.
    """
    named: set[str] = set()
    others: set[str] = set()
    of_library = {row.library: row.distributions for row in frameworks().values() if row.library}
    for name in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names:
        known = of_library.get(name) or (name,)
        found = [one for one in known if _version(one)]
        named.update(found)
        if not found:
            others.add(name)
    # The question to all packages takes time.
    installed = metadata.packages_distributions() if others else {}
    named.update(each for name in others for each in installed.get(name, ()))
    return {name: version for name in sorted(named) if (version := _version(name))}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return None
