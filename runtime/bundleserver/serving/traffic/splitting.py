"""Who answers a request that names no version, and who gets a copy of it."""

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
from bundleserver.serving.traffic.mirroring import Copy
from bundleserver.serving.traffic.totals import Pair, ShadowTotals, described
from bundleserver.tensors import NamedTensor
from bundleserver.versions.hashing import choose, shares

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.manager import TrafficStatus


Answered = tuple[PredictResponse, tuple[Copy, ...]]
"""An answer, and the copies of its request that are to be made."""


class Route(NamedTuple):
    """Which version a request falls to.

    Attributes:
        version: the version or label to borrow; None for the default one.
        traffic: what decided that; None where the request names its version, or the default
            answers everything.
        share: the name whose share of a split the request belongs to.
    """

    request: PredictRequest
    version: str | None
    traffic: TrafficStatus | None = None
    share: str | None = None

    @property
    def is_watched(self) -> bool:
        """Whether the answer counts for a canary's rules, or is copied."""
        if self.traffic is None:
            return False
        config = self.traffic.config
        return config.canary is not None or bool(config.shadow)


class Splitter:
    """Lends each request the version that it falls to. Called from worker threads."""

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
        """Decide which version a request falls to; one that it names is never rerouted.

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
        # The id where there is no key; else a key that nobody had before.
        key = request.routing_key or request.id or secrets.token_hex(8)
        name = choose(weights, key, request.model)
        return Route(request, config.resolve(name), traffic, name)

    @contextmanager
    def lease(self, route: Route) -> Iterator[Bundle]:
        """Borrow the version of a route, or the default one where its share's does not answer.

        Raises:
            BundleServerError: there is none to borrow.
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
        """Let a version that was borrowed answer, and say which copies are to be made.

        Args:
            bundle: the version.
            route: the request, and why it falls to that version.
            measured: is told which version answers.
            bound: as in ``predict``.

        Raises:
            BundleServerError: whatever keeps the request from being answered.
        """
        measured.version = bundle.version
        if route.traffic is None or not route.is_watched:
            return predict(bundle, route.request, bound), ()
        response, seconds = self._predict(bundle, route, route.traffic, bound)
        return response, tuple(self._copies(route.request, response, seconds, route.traffic))

    def weights(self, model: str, traffic: TrafficStatus) -> Mapping[str, float]:
        """Return the weights of versions and labels in effect; none where the default has all."""
        config = traffic.config
        if config.canary is None or traffic.default is None:
            return config.traffic
        percent = self._rollouts.share(model, traffic)
        if percent is None:
            return {}
        return {config.canary.version: percent, config.default or traffic.default: 100 - percent}

    def describe(self, model: str) -> dict[str, object]:
        """Say how a model's requests are split, copied and rolled out; empty where they are not.

        Raises:
            ModelNotFound: there is no such model.
        """
        traffic = self._manager.traffic(model)
        config, weights = traffic.config, self.weights(model, traffic)
        told: dict[str, object] = {}
        if weights:
            told |= {"shares": shares(weights), "diverted": self.diverted(model)}
        if config.canary is not None:
            told["canary"] = self._rollouts.describe(model, traffic) or {
                "version": config.resolve(config.canary.version),
                "state": "waiting",
                "percent": 0.0,
                "reason": "it does not answer now, or it is the default itself",
            }
        pairs = [described(pair, total) for pair, total in self.totals.snapshot(model)]
        if pairs or config.shadow:
            told["shadow"] = pairs
        return told

    def diverted(self, model: str) -> dict[str, int]:
        """Return how many requests the default got in place of a name that does not answer."""
        with self._lock:
            return {name: count for (own, name), count in self._diverted.items() if own == model}

    def _predict(
        self,
        bundle: Bundle,
        route: Route,
        traffic: TrafficStatus,
        bound: Mapping[str, NamedTensor] | None,
    ) -> tuple[PredictResponse, float]:
        """Let a version answer, and count for a canary's rules how that went."""
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

    def _copies(
        self,
        request: PredictRequest,
        response: PredictResponse,
        seconds: float,
        traffic: TrafficStatus,
    ) -> Iterator[Copy]:
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
            yield Copy(Pair(model, answered, shadow, files), request, response, seconds, tell)
