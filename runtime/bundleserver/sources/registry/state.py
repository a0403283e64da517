"""The registry's last known state, stored in the cache for a start in an outage."""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundleserver.bundle.metadata_files import read_json
from bundleserver.sources.registry.values import RegisteredModel

LOG = logging.getLogger(__name__)

_NAME = "registry.json"
_FORMAT = "registry-state/v1"
_LONGEST_HISTORY = 10
_MOST_BYTES = 64 << 20
_MOST_VALUES = 2_000_000


@dataclass(frozen=True)
class LastKnown:
    """A registry's state at one time.

    Attributes:
        as_of: seconds since the epoch.
        history: the versions that each label referred to, the current one first.
    """

    model: RegisteredModel
    as_of: float
    history: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def followed_by(
        self, model: RegisteredModel, as_of: float, labels: Mapping[str, str]
    ) -> LastKnown:
        """Return the next state, with ``labels`` added to the history."""
        history = dict(self.history)
        for label, number in labels.items():
            former = [known for known in history.get(label, ()) if known != number]
            history[label] = (number, *former)[:_LONGEST_HISTORY]
        return LastKnown(model, as_of, history)


def remember(known: LastKnown, directory: Path) -> None:
    """Store the registry's state; a failure is only logged."""
    document = {
        "format": _FORMAT,
        "as_of": known.as_of,
        "model": known.model.to_document(),
        "history": {label: list(numbers) for label, numbers in known.history.items()},
    }
    text = json.dumps(document)
    if len(text) > _MOST_BYTES or text.count(",") > _MOST_VALUES // 2:
        LOG.warning(
            "the %s versions of '%s' are too many to be stored for an outage",
            len(known.model.versions),
            known.model.name,
        )
        return
    # A name that nobody else knows, even in a container with the same process number.
    draft = directory / f".{_NAME}.{secrets.token_hex(8)}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
        draft.replace(directory / _NAME)
    except OSError as error:
        LOG.warning("'%s' cannot be written: %s", directory, error.strerror or error)
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def recall(directory: Path) -> LastKnown | None:
    """Return the registry's last known state, or None if none is stored."""
    path = directory / _NAME
    try:
        document: Any = read_json(path, _MOST_BYTES, _MOST_VALUES)
        model = RegisteredModel.from_document(document["model"])
        history = {
            str(label): tuple(map(str, numbers)) for label, numbers in document["history"].items()
        }
        as_of = float(document["as_of"])
        if not math.isfinite(as_of):
            raise ValueError(f"as_of is {as_of}")
        return LastKnown(model, as_of, history)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        LOG.warning("'%s' cannot be read and is ignored: %s", path, error)
        return None
