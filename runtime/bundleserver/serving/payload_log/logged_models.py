"""Models whose requests are noted for the payload log: what the event loop does for it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

from bundleserver.serving.errors import outcome_of
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.predict import row_count
from bundleserver.serving.payload_log.entries import Entry, Taker, array_bytes
from bundleserver.serving.payload_log.log import PayloadLog
from bundleserver.serving.requests import PredictRequest, PredictResponse

_COPIED_HERE = 2**20
"""Bytes of inputs that are copied on the event loop; more are copied in a thread."""

_SMALL_BYTES = 64 * 2**10
"""Bytes of an output that is copied, rather than to hold the whole batch that it is a part of."""


class LoggedModels(ServedModels):
    """Answers as ``ServedModels`` does, and offers a share of the requests to a payload log.

    Mirrored requests are not offered: nobody asked them.
    """

    def __init__(
        self, log: PayloadLog, *models: Any, draw: Callable[[], float] = random.random
    ) -> None:
        """Set the log, and what ``ServedModels`` is made of."""
        super().__init__(*models)
        self.log, self._draw = log, draw

    def answer(
        self, request: PredictRequest, protocol: str | None = None
    ) -> Coroutine[Any, Any, PredictResponse]:
        """Answer a decoded request; whether it is logged is decided by chance."""
        if self._draw() >= self.log.sample:
            return super().answer(request, protocol)
        return self._answer_logged(request, protocol)

    async def _answer_logged(
        self, request: PredictRequest, protocol: str | None
    ) -> PredictResponse:
        log, response, taker = self.log, None, None
        spoken = protocol or ("v2" if request.rows is None else "v1")
        kept, at, outcome = await self._kept(request), time.time(), "ok"
        started = time.perf_counter()
        try:
            response = await super().answer(request, protocol)
            taker = _taker(response)
            return response
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            seconds, rows = time.perf_counter() - started, row_count(request)
            if kept is None:
                log.metrics.dropped("queue_full")
            else:
                log.offer(
                    Entry(kept, spoken, at, seconds, outcome, rows, _kept_alone(response), taker)
                )

    async def _kept(self, request: PredictRequest) -> PredictRequest | None:
        """Return a request with inputs that its model cannot change, or without inputs.

        None if the queue has no room for them.
        """
        if not self.log.columns:
            return request._replace(rows=None, tensors=None)
        if not request.tensors:
            return request
        tensors = request.tensors
        if sum(array_bytes(tensor.values) for tensor in tensors) > self.log.free_bytes:
            return None

        def copied() -> PredictRequest:
            copies = (tensor._replace(values=tensor.values.copy()) for tensor in tensors)
            return request._replace(tensors=tuple(copies))

        # Models may write to the arrays that they are given.
        if sum(tensor.values.nbytes for tensor in tensors) <= _COPIED_HERE:
            return copied()
        return await asyncio.to_thread(copied)


def _taker(response: PredictResponse) -> Taker | None:
    """Return what the version validates with; it may be unloaded before the request is written."""
    if response.signature is None:
        return None
    return Taker(response.signature, f"'{response.model}' version {response.version}")


def _kept_alone(response: PredictResponse | None) -> PredictResponse | None:
    if response is None or all(array.base is None for array in response.outputs.values()):
        return response
    outputs = {
        name: array.copy() if array.base is not None and array.nbytes <= _SMALL_BYTES else array
        for name, array in response.outputs.items()
    }
    return response._replace(outputs=outputs)
