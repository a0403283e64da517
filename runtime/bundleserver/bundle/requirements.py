"""What a bundle needs of the environment, as far as its manifest says, and what is lacking here.

Nothing is ever installed while a server runs: reasons have the line for the image's Dockerfile.
"""

from __future__ import annotations

import platform
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from bundleserver.bundle.libraries import mismatches, name_here
from bundleserver.errors import BundleError, IntegrityError, Problem
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES
from bundleserver.frameworks.pickles.by_value import carries_code
from bundleserver.manifest import BUNDLE, Manifest, Requirements


def pip_install(packages: Mapping[str, str]) -> str:
    """Return the line of a Dockerfile that adds packages to the server's image."""
    listed = " ".join(shlex.quote(f"{name}=={version}") for name, version in packages.items())
    return f"RUN pip install {listed}"


def refuse_differences(what: str, manifest: Manifest, problems: Sequence[Problem]) -> None:
    """Refuse a bundle that was saved with other libraries, with the line that installs them.

    Raises:
        IntegrityError: names each with both versions.
    """
    named = {problem.where for problem in problems}
    other = {n: v for n, v in manifest.requirements.packages.items() if n in named}
    line = f", which are installed by a line in its image's Dockerfile ({pip_install(other)})"
    raise IntegrityError(f"{what} was saved with other libraries{line if other else ''}", problems)


def refuse_other_python(directory: Path, manifest: Manifest) -> None:
    """Refuse classes and functions that were saved as code of another minor version of Python.

    Their code is Python's bytecode, which another version takes for something else, or crashes on.

    Raises:
        IntegrityError: names the components, with both versions.
    """
    wanted = manifest.requirements.python
    if wanted is None or not mismatches(Requirements(wanted)):
        return
    problems = [
        Problem(
            path,
            f"has classes or functions as code of Python {wanted}, and here it is "
            f"{platform.python_version()}; serve it with an image of Python {wanted}, or save it "
            "again with this one",
        )
        for path in files_with_code(directory, manifest)
    ]
    if problems:
        raise IntegrityError(f"{directory} was saved with another Python", problems)


def files_with_code(directory: Path, manifest: Manifest) -> Iterator[str]:
    """Yield the files of a bundle, not of those inside of it, that have Python's bytecode.

    Raises:
        LoadError: a file cannot be read.
    """
    for component in manifest.components.values():
        if component.path is None or component.framework == BUNDLE:
            continue
        if carries_code(directory / component.path, PICKLE_SUFFIXES):
            yield component.path


@contextmanager
def telling_of_lacking(manifest: Manifest) -> Iterator[None]:
    """Let an error of what is opened say which recorded packages are not installed here."""
    try:
        yield
    except BundleError as error:
        lacking = {n: v for n, v in manifest.requirements.packages.items() if _is_lacking(n)}
        if lacking and len(error.args) == 1:
            error.args = (_with_versions(str(error.args[0]), lacking),)
        raise


def _with_versions(reason: str, lacking: Mapping[str, str]) -> str:
    """Add the line that installs what is lacking; where the reason has one, it gets the version."""
    left = dict(lacking)
    for name, version in lacking.items():
        spelled = re.escape(canonicalize_name(name)).replace(r"\-", "[-_.]")
        line = pip_install({name: version})
        pattern = rf"RUN pip install {spelled}(?![-=.\w])"
        reason, count = re.subn(pattern, line, reason, flags=re.IGNORECASE)
        if count:
            del left[name]
    if not left:
        return reason
    listed = ", ".join(f"'{name}' {version}" for name, version in left.items())
    return (
        f"{reason}; it was saved with {listed}, not installed here: a line '{pip_install(left)}' "
        "in the image's Dockerfile adds it"
    )


def _is_lacking(name: str) -> bool:
    try:
        metadata.distribution(name_here(name))
    except metadata.PackageNotFoundError:
        return True
    return False
