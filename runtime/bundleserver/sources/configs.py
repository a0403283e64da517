"""The ``serving.json`` of each model, parsed when it changes and not at every poll."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundleserver.bundle.metadata_files import CONFIG_BYTES, read_metadata
from bundleserver.errors import ConfigError
from bundleserver.versions.serving_config import CONFIG_NAME, ServingConfig


@dataclass(frozen=True)
class _Read:
    """A file as it was read, and what it says or what is wrong with it."""

    data: bytes
    config: ServingConfig | None
    problem: str | None


class Configs:
    """What the files said when they were last read. For one thread."""

    def __init__(self) -> None:
        self.known: dict[Path, _Read] = {}

    def read(self, root: Path) -> tuple[ServingConfig | None, str | None]:
        """Return what a model's ``serving.json`` says, or why it is invalid; or neither."""
        path = root / CONFIG_NAME
        try:
            data = read_metadata(path, CONFIG_BYTES)
        except FileNotFoundError:
            self.known.pop(path, None)
            return None, None
        except OSError as error:
            return None, f"'{path}' cannot be read: {error.strerror or error}"
        known = self.known.get(path)
        if known is None or known.data != data:
            known = self.known[path] = _parsed(data, path)
        return known.config, known.problem


def _parsed(data: bytes, path: Path) -> _Read:
    try:
        return _Read(data, ServingConfig.from_json(data, str(path)), None)
    except ConfigError as error:
        return _Read(data, None, str(error))
