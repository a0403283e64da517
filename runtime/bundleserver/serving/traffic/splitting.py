"""Traffic splits: the version of a request that names none, and its mirrored requests."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bundleserver.errors import NotReady, VersionNotFound
from bundleserver.serving.execution.predict import predict
from bundleserver.serving.metrics.tallies import Measured, outcome_of
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.stopping import LendingManager
from bundleserver.serving.traffic.canaries import Rollouts
from bundleserver.serving.traffic.mirroring import MirroredRequest
from bundleserver.serving.traffic.totals import Pair, ShadowTotals, describe_shadow
from bundleserver.tensors import NamedTensor
from bundleserver.versions.hashing import choose, shares

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.manager import TrafficStatus


Answered = tuple[PredictResponse, tuple[MirroredRequest, ...]]
"""A response, and the mirrored requests to queue."""


class Route(NamedTuple):
    """The version of a request.

    Attributes:
        version: the version or label to acquire; None for the default one.
        traffic: the traffic configuration that decided it; None if the request names its version,
            or the default version gets all requests.
        share: the request's name in the traffic split.
    """

    request: PredictRequest
    version: str | None
    traffic: TrafficStatus | None = None
    share: str | None = None

    @property
    def is_watched(self) -> bool:
        """Whether the request counts for a canary's rules, or is mirrored."""
        if self.traffic is None:
            return False
        config = self.traffic.config
        return config.canary is not None or bool(config.shadow)


class Splitter:
    """Splits requests over versions. Called from the thread pool."""

    def __init__(
        self,
        manager: LendingManager,
        rollouts: Rollouts | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._manager = manager
        self._rollouts = rollouts or Rollouts()
        self._draw = draw
        self._lock = threading.Lock()
        self._diverted: Counter[tuple[str, str]] = Counter()
        self.totals = ShadowTotals()

    def route(self, request: PredictRequest) -> Route:
        """Choose a request's version; a version that it names is never changed.

        Raises:
            ModelNotFound: there is no such model.
        """
        if request.version is not None or not self._manager.is_split(request.model):
            return Route(request, request.version)
        traffic = self._manager.traffic(request.model)
        config = traffic.config
        if not config.traffic and config.canary is None:
            return Route(request, None, traffic)
        weights = self.weights(request.model, traffic)
        if not weights:
            return Route(request, None, traffic)
        # Without a routing key the request id, else a random key.
        key = request.routing_key or request.id or secrets.token_hex(8)
        name = choose(weights, key, request.model)
        return Route(request, config.resolve(name), traffic, name)

    @contextmanager
    def lease(self, route: Route) -> Iterator[Bundle]:
        """Acquire the version of a route, or the default one if that of a split is not ready.

        Raises:
            BundleServerError: no version can be acquired.
        """
        model = route.request.model
        with ExitStack() as leases:
            try:
                bundle = leases.enter_context(self._manager.acquire(model, route.version))
            except (VersionNotFound, NotReady):
                if route.share is None:
                    raise
                with self._lock:
                    self._diverted[model, route.share] += 1
                bundle = leases.enter_context(self._manager.acquire(model))
            yield bundle

    def ask(
        self,
        bundle: Bundle,
        route: Route,
        measured: Measured,
        bound: Mapping[str, NamedTensor] | None = None,
    ) -> Answered:
        """Run a request on an acquired version, and return its mirrored requests too.

        Args:
            bundle: the version.
            route: the request, and how its version was chosen.
            measured: gets the version, for metrics.
            bound: as in ``predict``.

        Raises:
            BundleServerError: the prediction failed.
        """
        measured.version = bundle.version
        if route.traffic is None or not route.is_watched:
            return predict(bundle, route.request, bound), ()
        response, seconds = self._predict(bundle, route, route.traffic, bound)
        return response, tuple(self._mirrored(route.request, response, seconds, route.traffic))

    def weights(self, model: str, traffic: TrafficStatus) -> Mapping[str, float]:
        """Return the weights in effect; empty if the default version gets all requests."""
        config = traffic.config
        if config.canary is None or traffic.default is None:
            return config.traffic
        percent = self._rollouts.share(model, traffic)
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
            told["canary"] = self._rollouts.describe_canary(model, traffic) or {
                "version": config.resolve(config.canary.version),
                "state": "waiting",
                "percent": 0.0,
                "reason": "not ready, or the default version itself",
            }
        pairs = [describe_shadow(pair, total) for pair, total in self.totals.snapshot(model)]
        if pairs or config.shadow:
            told["shadow"] = pairs
        return told

    def diverted(self, model: str) -> dict[str, int]:
        """Return how many requests the default got instead of a version that was not ready."""
        with self._lock:
            return {name: count for (own, name), count in self._diverted.items() if own == model}

    def _predict(
        self,
        bundle: Bundle,
        route: Route,
        traffic: TrafficStatus,
        bound: Mapping[str, NamedTensor] | None,
    ) -> tuple[PredictResponse, float]:
        """Run a request, and count its outcome for the canary's rules."""
        model, version = route.request.model, bundle.version
        started = time.perf_counter()
        try:
            response = predict(bundle, route.request, bound)
        except Exception as error:
            seconds = time.perf_counter() - started
            self._rollouts.count(model, traffic, version, outcome_of(error), seconds)
            raise
        seconds = time.perf_counter() - started
        self._rollouts.count(model, traffic, version, "ok", seconds)
        return response, seconds

    def _mirrored(
        self,
        request: PredictRequest,
        response: PredictResponse,
        seconds: float,
        traffic: TrafficStatus,
    ) -> Iterator[MirroredRequest]:
        config, model, answered = traffic.config, request.model, response.version
        asked: list[str] = []
        if config.shadow and self._draw() < config.shadow_share:
            asked += [config.resolve(name) for name in config.shadow]
        contest = self._rollouts.compared(model, traffic)
        if contest is not None and answered == contest.canary:
            asked.append(contest.base)
        for shadow in dict.fromkeys(asked):
            if shadow == answered:
                continue
            judged = contest is not None and (answered, shadow) == (contest.canary, contest.base)
            tell = partial(self._rollouts.compare, model, contest) if judged and contest else None
            files = (traffic.ready.get(answered, ""), traffic.ready.get(shadow, ""))
            pair = Pair(model, answered, shadow, files)
            yield MirroredRequest(pair, request, response, seconds, tell)
