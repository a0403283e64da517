"""The files of a directory that are signed, and what is no part of a version."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from bundleserver.bundle.links import ABOUT_VERSIONS
from bundleserver.bundle.trust.statement import Statement
from bundleserver.bundle.trust.verification import SIGNATURE_NAME
from bundleserver.errors import Problem
from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.regular_files import kind_of
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.versions.serving_config import CONFIG_NAME

NEVER_SIGNED = (SIGNATURE_NAME, CONFIG_NAME)
"""Files of a version's directory that are no part of the version."""

_OF_GIT = frozenset({".git", ".gitattributes", ".github", ".gitignore"})
"""What the format itself leaves out at the top of a directory."""

_OF_MLFLOW = frozenset({"MLmodel", "requirements.txt"})
"""What ``push`` adds for MLflow, which reads them; here a manifest stands for both."""

_MOST_ENTRIES = 100_000


@dataclass
class Found:
    """What is in a directory.

    Attributes:
        files: regular files by their paths in it.
        problems: links and whatever else is no file.
        passed_over: names that are no part of any version, such as those of NFS.
    """

    files: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def find_files(
    directory: Path,
    statement: Statement | None = None,
    own_files: Collection[str] = (),
    beside: Collection[str] | None = None,
    only: Collection[str] | None = None,
) -> Found:
    """Find every file of a directory, hidden ones and those of directories in it included.

    Args:
        directory: links in it are not followed.
        statement: what was signed; beside its manifest MLflow's own files are passed over.
        own_files: names at the top that are no part of the version.
        beside: if it is a model's own directory, the names of those at the top that are other
            versions, unless they were signed; what is kept there about versions is no part either.
        only: the names at the top to look at; None is all.

    Raises:
        OSError: it cannot be read.
    """
    found = Found()
    waiting, count = [(directory, "")], 0
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            go_on()
            if not (prefix or only is None or entry.name in only):
                continue
            count += 1
            if count > _MOST_ENTRIES:
                found.problems.append(Problem("", f"has more than {_MOST_ENTRIES} files"))
                return found
            name = prefix + entry.name
            if _is_beside(name, beside, statement) or _is_no_part(
                name, entry, statement, own_files
            ):
                found.passed_over.append(name)
            elif not is_utf8(entry.name):
                found.problems.append(Problem(name, "has a name that is not UTF-8; rename it"))
            elif entry.is_symlink():
                what = "is a link; a signature covers files only, so put the file itself there"
                found.problems.append(Problem(name, what))
            elif entry.is_dir():
                waiting.append((Path(entry.path), f"{name}/"))
            elif entry.is_file():
                found.files[name] = Path(entry.path)
            else:
                kind = kind_of(entry.stat(follow_symlinks=False))
                found.problems.append(Problem(name, f"is {kind}; a signature covers files only"))
    return found


def is_utf8(name: str) -> bool:
    """Ask whether the name of a file is text, which signatures list."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_beside(name: str, beside: Collection[str] | None, statement: Statement | None) -> bool:
    """Ask whether an entry of a model's own directory is about other versions."""
    if beside is None or (statement is not None and _has(statement, name)):
        return False
    return name in beside or name.startswith(ABOUT_VERSIONS)


def _has(statement: Statement, name: str) -> bool:
    return name in statement.files or statement.has_below(name)


def _is_no_part(
    name: str, entry: os.DirEntry[str], statement: Statement | None, own_files: Collection[str]
) -> bool:
    """Ask whether an entry is no part of the version; nothing is opened from it then.

    Whoever signs cannot add to it: what else a signature leaves out, nobody vouches for.
    """
    if statement is not None and name in statement.files:
        return False
    if name in NEVER_SIGNED or name in own_files:
        return True
    if name in _OF_GIT:
        return statement is None or not statement.has_below(name)
    if name == "lost+found":
        return entry.is_dir(follow_symlinks=False)
    if entry.name.startswith(".nfs"):
        return entry.is_file(follow_symlinks=False)
    if statement is None:
        return False
    is_of_mlflow = name in _OF_MLFLOW and MANIFEST_NAME in statement.files
    return is_of_mlflow and entry.is_file(follow_symlinks=False)


def linked_directory(directory: Path) -> Path | None:
    """Return the directory whose files one has as links, and nothing else; None if it is not so.

    KServe's storage initializer and Kubernetes' own volumes make such links; names that begin with
    two dots are Kubernetes' own.
    """
    with os.scandir(directory) as entries:
        listed = [entry for entry in entries if not entry.name.startswith("..")]
    parents = set()
    for entry in listed:
        if not entry.is_symlink():
            return None
        target = directory / Path(entry.path).readlink()
        if target.name != entry.name:
            return None
        parents.add(target.parent.resolve())
    return parents.pop() if len(parents) == 1 else None
