"""How far canaries have come, kept beside the versions where that directory can be written."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import orjson

from bundleserver.errors import StoreError
from bundleserver.store.serving_json import replace_file

LOG = logging.getLogger(__name__)

STATE_NAME = ".canary.json"
_FORMAT = "canary/v1"
_MOST = 100
_LOCK = threading.Lock()


class Phase(str, Enum):
    """Where a canary stands."""

    RUNNING = "running"
    PROMOTED = "promoted"
    DEMOTED = "demoted"


@dataclass(frozen=True)
class Progress:
    """How far one version has come as a canary.

    Args:
        files: changes when the version is published again; what is known then holds no longer.
        step: which step of the rules, from 0.
        reason: why it stands there.
    """

    files: str
    phase: Phase = Phase.RUNNING
    step: int = 0
    reason: str = "it has just begun"


def read_progress(root: Path | None) -> dict[str, Progress]:
    """Read how far each version has come; nothing where nothing is known, or can be read."""
    if root is None:
        return {}
    path = root / STATE_NAME
    try:
        document = orjson.loads(path.read_bytes())
        if document["format"] != _FORMAT:
            raise ValueError(f"format is {document['format']!r}; expected '{_FORMAT}'")
        return {version: _progress(entry) for version, entry in document["versions"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        LOG.warning("%s cannot be used, canaries begin again: %s", path, error)
        return {}


def write_progress(root: Path | None, version: str, progress: Progress) -> Progress:
    """Write how far a version has come; returns what holds, as another replica may have demoted it.

    Where the directory cannot be written nothing is kept, and a restart begins again.
    """
    if root is None or not (root / version).is_dir():
        return progress
    with _LOCK:
        known = read_progress(root)
        other = known.pop(version, None)
        if other is not None and other.files == progress.files and other.phase is Phase.DEMOTED:
            return other
        # The newest stand last, so that the oldest go first.
        kept = dict([*known.items(), (version, progress)][-_MOST:])
        _keep(root, kept)
    return progress


def _keep(root: Path, versions: Mapping[str, Progress]) -> None:
    entries = {version: asdict(progress) for version, progress in versions.items()}
    document = {"format": _FORMAT, "versions": entries}
    try:
        replace_file(root / STATE_NAME, orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    except StoreError as error:
        LOG.info("%s; a restart begins the canary again", error)


def _progress(entry: dict[str, object]) -> Progress:
    files, phase, step, reason = (entry[key] for key in ("files", "phase", "step", "reason"))
    if not (isinstance(files, str) and isinstance(step, int) and step >= 0):
        raise ValueError(f"{entry} is no progress of a canary")
    return Progress(files, Phase(phase), step, str(reason))
