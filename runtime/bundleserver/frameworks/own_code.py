"""The code that ships with a bundle, as what its files may use while they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundleserver.frameworks.isolated_code import IsolatedCode
from bundleserver.manifest import CODE, MANIFEST_NAME


@dataclass(frozen=True)
class OwnCode:
    """The modules of one open bundle.

    Attributes:
        modules: its modules, from a copy of what was verified.
        directory: the bundle's directory as its own code is given it: the copy of the code, and
            links to all other files.
        shown: the bundle's directory, for messages.
    """

    modules: IsolatedCode
    directory: Path
    shown: Path


def why_lacking(module: str, directory: Path) -> str:
    """Say that a bundle needs a module that it lacks, and what to do.

    Whose it is nobody knows: the line that installs a package is told of those that are recorded.

    Args:
        module: its name; nothing of that name is installed.
        directory: the bundle's.
    """
    package = module.partition(".")[0]
    for name in (f"{package}.py", package):
        if (directory / MANIFEST_NAME).is_file() and (directory / CODE / name).exists():
            return (
                f"needs the module '{package}', and '{CODE}/{name}' is not in the code list of "
                f"'{MANIFEST_NAME}'; list each of its files there, as save(…, code=…) does"
            )
    return (
        f"needs the module '{package}', which is neither in '{CODE}/' nor installed here; if it is "
        f"code of your own, save it with the model (code=['{package}.py'], or code_paths with "
        "MLflow), else install the package that has it, by a line in its image's Dockerfile"
    )
