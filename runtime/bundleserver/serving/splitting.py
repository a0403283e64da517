"""Who answers a request that names no version, and who gets a copy of it."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from bundleserver.errors import NotReady, VersionNotFound
from bundleserver.routing import choose, shares
from bundleserver.serving.metrics import Measured, outcome_of
from bundleserver.serving.predict import predict
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.rollouts import Rollouts
from bundleserver.serving.shadowing import Copy
from bundleserver.serving.stopping import LendingManager
from bundleserver.serving.totals import Pair, ShadowTotals, described

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.manager import TrafficStatus


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

    def answer(
        self, request: PredictRequest, measured: Measured
    ) -> tuple[PredictResponse, tuple[Copy, ...]]:
        """Answer a request, and say which copies of it are to be made.

        A request that names a version or label gets that one and is not copied.

        Raises:
            BundleServerError: whatever keeps the request from being answered.
        """
        if request.version is not None:
            with self._manager.acquire(request.model, request.version) as bundle:
                measured.version = bundle.version
                return predict(bundle, request), ()
        traffic = self._manager.traffic(request.model)
        with ExitStack() as leases:
            bundle = self._borrow(leases, request, traffic)
            measured.version = bundle.version
            response, seconds = self._predict(bundle, request, traffic)
        return response, tuple(self._copies(request, response, seconds, traffic))

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

    def _borrow(self, leases: ExitStack, request: PredictRequest, traffic: TrafficStatus) -> Bundle:
        """Borrow the version that a request falls to, or the default one where that cannot be."""
        weights = self.weights(request.model, traffic)
        if weights:
            # The id where there is no key; else a key that nobody had before.
            key = request.routing_key or request.id or secrets.token_hex(8)
            name = choose(weights, key, request.model)
            version = traffic.config.resolve(name)
            try:
                return leases.enter_context(self._manager.acquire(request.model, version))
            except (VersionNotFound, NotReady):
                with self._lock:
                    self._diverted[request.model, name] += 1
        return leases.enter_context(self._manager.acquire(request.model))

    def _predict(
        self, bundle: Bundle, request: PredictRequest, traffic: TrafficStatus
    ) -> tuple[PredictResponse, float]:
        """Let a version answer, and count for a canary's rules how that went."""
        model, version = request.model, bundle.version
        started = time.perf_counter()
        try:
            response = predict(bundle, request)
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
