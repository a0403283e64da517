"""Names of ``--log_columns`` that no model has as an input: told, since nothing would be logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from bundleserver.documents.forms import did_you_mean
from bundleserver.errors import BundleServerError
from bundleserver.serving.models import ServingManager
from bundleserver.serving.payload_log.rows.schemas import ALL
from bundleserver.versions.lifecycle import State

LOG = logging.getLogger(__name__)


class UnknownColumns:
    """Warns once of each such name, after the models that are served were read."""

    def __init__(self, columns: Sequence[str], manager: ServingManager) -> None:
        self._left = [] if ALL in columns else list(columns)
        self._manager = manager

    def check(self) -> None:
        """Look at the versions that are READY, if any name is not known yet."""
        if not self._left or not self._manager.is_server_ready():
            return
        known = set(self._known())
        unknown = [name for name in self._left if name not in known]
        for name in unknown:
            LOG.warning(
                "--log_columns: no model has an input '%s'%s", name, did_you_mean(name, known)
            )
        self._left = []

    def _known(self) -> Iterator[str]:
        for model in self._manager.models():
            try:
                versions = self._manager.status(model).versions
            except BundleServerError:
                continue
            for found in versions:
                if found.state is State.READY and found.signature is not None:
                    for spec in found.signature.inputs:
                        yield spec.name
                        yield from spec.columns
