"""The progress of canaries, stored beside the versions if that directory is writable."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import orjson

from bundleserver.bundle.metadata_files import read_metadata
from bundleserver.errors import StoreError
from bundleserver.sources.own_files import location_of
from bundleserver.store.staging import replace_file
from bundleserver.versions import Version

LOG = logging.getLogger(__name__)

STATE_NAME = ".canary.json"
_FORMAT = "canary/v1"
_MOST = 100


class Phase(str, Enum):
    """A canary's state."""

    RUNNING = "running"
    PROMOTED = "promoted"
    DEMOTED = "demoted"


@dataclass(frozen=True)
class Progress:
    """One version's progress as a canary.

    Args:
        files: changes when the version is published again, which resets its progress.
        step: the index of its step in the rules.
        reason: why it is there.
    """

    files: str
    phase: Phase = Phase.RUNNING
    step: int = 0
    reason: str = "just started"


def read_progress(root: Path | None) -> dict[str, Progress]:
    """Read the progress of each version; empty if there is none, or it cannot be read."""
    if root is None:
        return {}
    path = root / STATE_NAME
    try:
        document = orjson.loads(read_metadata(path))
        if document["format"] != _FORMAT:
            raise ValueError(f"format is {document['format']!r}; expected '{_FORMAT}'")
        return {version: _progress(entry) for version, entry in document["versions"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        LOG.warning("%s cannot be read, canaries start again: %s", path, error)
        return {}


def write_progress(root: Path | None, version: str, progress: Progress) -> Progress:
    """Write a version's progress; returns what applies, as another replica may have demoted it.

    For one thread per directory. If the directory is not writable, nothing is stored and a restart
    starts the canary again.
    """
    if root is None or not location_of(root, Version(version)).is_dir():
        return progress
    known = read_progress(root)
    other = known.pop(version, None)
    if other is not None and other.files == progress.files and other.phase is Phase.DEMOTED:
        return other
    # The newest are last, so that the oldest are dropped.
    _keep(root, dict([*known.items(), (version, progress)][-_MOST:]))
    return progress


def _keep(root: Path, versions: Mapping[str, Progress]) -> None:
    entries = {version: asdict(progress) for version, progress in versions.items()}
    document = {"format": _FORMAT, "versions": entries}
    try:
        replace_file(root / STATE_NAME, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    except StoreError as error:
        LOG.info("%s; a restart will start the canary again", error)


def _progress(entry: dict[str, object]) -> Progress:
    files, phase, step, reason = (entry[key] for key in ("files", "phase", "step", "reason"))
    if not (isinstance(files, str) and isinstance(step, int) and step >= 0):
        raise ValueError(f"{entry} is not a valid canary state")
    return Progress(files, Phase(phase), step, str(reason))
