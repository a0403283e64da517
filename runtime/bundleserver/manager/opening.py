"""From a candidate to an open, warm bundle: the way up of a version, read downward."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from bundleserver.bundle import Bundle
from bundleserver.bundle.integrity import compare_requirements, verify_files
from bundleserver.bundle.members import Members
from bundleserver.errors import IntegrityError
from bundleserver.manifest import Manifest
from bundleserver.sources import Candidate, Source
from bundleserver.versions.lifecycle import State

LOG = logging.getLogger(__name__)

OpenBundle = Callable[[Candidate, Callable[[State], None]], Bundle]
"""Opens a candidate and says which state it enters; whoever calls it closes the bundle."""


class BundleOpener:
    """Brings the candidates of one source up. Several threads may call it at a time."""

    def __init__(
        self, source: Source, device: str, version_mismatch: str, members: Members
    ) -> None:
        self._source = source
        self._device = device
        self._version_mismatch = version_mismatch
        self._members = members

    def __call__(self, candidate: Candidate, enter: Callable[[State], None]) -> Bundle:
        """Fetch, verify, open and warm up a candidate; what was opened is closed on failure.

        Args:
            candidate: the version to open.
            enter: is told each state before its work begins.

        Raises:
            BundleServerError: why it cannot serve.
        """
        enter(State.FETCHING)
        directory, manifest = self._source.fetch(candidate)
        if manifest.inferred:
            _show_inferred(candidate, manifest)
        enter(State.VERIFYING)
        within = Path(directory.anchor) if candidate.links_lead_anywhere else None
        verify_files(directory, manifest, within=within)
        self._check_libraries(candidate, manifest)
        enter(State.LOADING)
        bundle = Bundle.open(
            directory,
            manifest,
            model=candidate.model,
            version=candidate.version.label,
            device=self._device,
            members=self._members,
        )
        try:
            enter(State.WARMING)
            bundle.warm_up()
        except BaseException:
            bundle.close()
            raise
        return bundle

    def _check_libraries(self, candidate: Candidate, manifest: Manifest) -> None:
        problems = compare_requirements(manifest.requirements)
        if problems and self._version_mismatch == "refuse":
            raise IntegrityError(
                f"'{candidate.model}' version {candidate.version} was saved with other libraries",
                problems,
            )
        if problems:
            LOG.warning(
                "%s %s: saved with other libraries: %s",
                candidate.model,
                candidate.version,
                "; ".join(map(str, problems)),
            )


def _show_inferred(candidate: Candidate, manifest: Manifest) -> None:
    written = json.dumps(json.loads(manifest.to_json()), ensure_ascii=False)
    LOG.info("%s %s: inferred manifest %s", candidate.model, candidate.version, written)
