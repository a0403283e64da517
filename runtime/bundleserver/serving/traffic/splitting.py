"""Traffic splits: the version of a request that names none, and its mirrored requests."""

from __future__ import annotations

import random
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bundleserver.errors import NotReady, VersionNotFound
from bundleserver.serving.models import ServingManager
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.traffic.canaries import Canaries
from bundleserver.serving.traffic.mirroring import MirroredRequest
from bundleserver.serving.traffic.totals import Pair, ShadowTotals, describe_shadow
from bundleserver.versions.hashing import choose, shares

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.manager import TrafficStatus


class Selection(NamedTuple):
    """Which version a request goes to.

    Attributes:
        version: the version or label to acquire; None for the default one.
        share: the name whose share of a split the request belongs to, if it belongs to any.
    """

    version: str | None = None
    share: str | None = None


def is_watched(traffic: TrafficStatus) -> bool:
    """Ask whether answers count for a canary's rules, or requests are mirrored."""
    return traffic.config.canary is not None or bool(traffic.config.shadow)


class Splitter:
    """Selects and acquires versions. Called from worker threads and the event loop."""

    def __init__(
        self,
        manager: ServingManager,
        canaries: Canaries | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._manager = manager
        self._canaries = canaries or Canaries()
        self._draw = draw
        self._lock = threading.Lock()
        self._diverted: Counter[tuple[str, str]] = Counter()
        self.totals = ShadowTotals()

    def select(self, request: PredictRequest, traffic: TrafficStatus) -> Selection:
        """Select the version that answers a request; one that it names is never rerouted."""
        config = traffic.config
        if request.version is not None:
            return Selection(request.version)
        if not config.traffic and config.canary is None:
            return Selection()
        weights = self.weights(request.model, traffic)
        if not weights:
            return Selection()
        # Without a routing key the request id, else a random key.
        key = request.routing_key or request.id or secrets.token_hex(8)
        name = choose(weights, key, request.model)
        return Selection(config.resolve(name), name)

    @contextmanager
    def acquire(self, request: PredictRequest, traffic: TrafficStatus) -> Iterator[Bundle]:
        """Acquire the version selected, or the default one where that does not answer.

        Raises:
            BundleServerError: neither answers.
        """
        model, selection = request.model, self.select(request, traffic)
        with ExitStack() as leases:
            try:
                bundle = leases.enter_context(self._manager.acquire(model, selection.version))
            except (VersionNotFound, NotReady):
                if selection.share is None:
                    raise
                with self._lock:
                    self._diverted[model, selection.share] += 1
                bundle = leases.enter_context(self._manager.acquire(model))
            yield bundle

    def count(
        self, model: str, traffic: TrafficStatus, version: str, outcome: str, seconds: float
    ) -> None:
        """Count for a canary's rules how a request to a version ended."""
        self._canaries.count(model, traffic, version, outcome, seconds)

    def weights(self, model: str, traffic: TrafficStatus) -> Mapping[str, float]:
        """Return the weights in effect; empty if the default version gets all requests."""
        config = traffic.config
        if config.canary is None or traffic.default is None:
            return config.traffic
        percent = self._canaries.share(model, traffic)
        if percent is None:
            return {}
        return {config.canary.version: percent, config.default or traffic.default: 100 - percent}

    def describe_traffic(self, model: str) -> dict[str, object]:
        """Return a model's traffic split, canary and shadows as JSON; empty if it has none.

        Raises:
            ModelNotFound: there is no such model.
        """
        traffic = self._manager.traffic(model)
        config, weights = traffic.config, self.weights(model, traffic)
        told: dict[str, object] = {}
        if weights:
            told |= {"shares": shares(weights), "diverted": self.diverted(model)}
        if config.canary is not None:
            told["canary"] = self._canaries.describe_canary(model, traffic) or {
                "version": config.resolve(config.canary.version),
                "state": "waiting",
                "percent": 0.0,
                "reason": "not ready, the default version itself, or its progress is being read",
            }
        pairs = [describe_shadow(pair, total) for pair, total in self.totals.snapshot(model)]
        if pairs or config.shadow:
            told["shadow"] = pairs
        return told

    def diverted(self, model: str) -> dict[str, int]:
        """Return how many requests the default got instead of a version that was not ready."""
        with self._lock:
            return {name: count for (own, name), count in self._diverted.items() if own == model}

    def mirrored(
        self,
        request: PredictRequest,
        response: PredictResponse,
        seconds: float,
        traffic: TrafficStatus,
    ) -> Iterator[MirroredRequest]:
        """Yield the mirrored requests of an answered one."""
        config, model, answered = traffic.config, request.model, response.version
        asked: list[str] = []
        if config.shadow and self._draw() < config.shadow_share:
            asked += [config.resolve(name) for name in config.shadow]
        contest = self._canaries.compared(model, traffic)
        if contest is not None and answered == contest.canary:
            asked.append(contest.base)
        for shadow in dict.fromkeys(asked):
            if shadow == answered:
                continue
            judged = contest is not None and (answered, shadow) == (contest.canary, contest.base)
            tell = partial(self._canaries.compare, model, contest) if judged and contest else None
            files = (traffic.ready.get(answered, ""), traffic.ready.get(shadow, ""))
            pair = Pair(model, answered, shadow, files)
            yield MirroredRequest(pair, request, response, seconds, tell)
