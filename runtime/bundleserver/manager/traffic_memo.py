"""What decides who answers, kept until it changes: it is asked for every request."""

from __future__ import annotations

from bundleserver.manager.models import ModelRecord
from bundleserver.manager.status import TrafficStatus, traffic_status


class TrafficMemo:
    """The last answer for each model. Called under the manager's lock."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[object, ...], TrafficStatus]] = {}

    def of(self, model: ModelRecord) -> TrafficStatus:
        """Return what ``traffic_status`` does."""
        # Without the bundles themselves, which would outlive their end here.
        stands = (
            model.configuration,
            model.configuration.active,
            model.default,
            *[
                (version, record.loaded and record.loaded.fingerprint, record.candidate)
                for version, record in model.versions.items()
            ],
        )
        known = self._known.get(model.name)
        if known is None or known[0] != stands:
            known = self._known[model.name] = stands, traffic_status(model)
        return known[1]
