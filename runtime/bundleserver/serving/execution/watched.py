"""A request of a model with a canary or a shadow: counted, and mirrored."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bundleserver.serving.errors import outcome_of
from bundleserver.serving.execution.predict import predict, row_count
from bundleserver.serving.execution.traced import note_route
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.traffic.mirroring import MirroredRequest
from bundleserver.serving.traffic.splitting import Splitter

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.manager import TrafficStatus


def answer_watched(
    splitter: Splitter,
    request: PredictRequest,
    traffic: TrafficStatus,
    answered_by: list[str],
    check: Callable[[Bundle, PredictRequest], None] = lambda bundle, request: None,
) -> tuple[PredictResponse, tuple[MirroredRequest, ...]]:
    """Answer a request with the version of the traffic split, and count it for the canary's rules.

    Args:
        splitter: selects and acquires the version.
        request: the request.
        traffic: the model's traffic.
        answered_by: its only element is set to the version as soon as it is known.
        check: raises for a request that must not be run.

    Returns:
        The response, and the mirrored requests to queue.
    """
    began = time.perf_counter()
    with splitter.acquire(request, traffic) as bundle:
        answered_by[0] = bundle.version
        started, outcome = time.perf_counter(), "ok"
        if request.trace is not None:
            note_route(request.trace, bundle, row_count(request), started - began)
        try:
            check(bundle, request)
            response = predict(bundle, request)
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            seconds = time.perf_counter() - started
            splitter.count(request.model, traffic, bundle.version, outcome, seconds)
        return response, tuple(splitter.mirrored(request, response, seconds, traffic))
