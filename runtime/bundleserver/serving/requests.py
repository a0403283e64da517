"""Decoded requests and responses, the same for V1, V2 and gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from bundleserver.spans import Span
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.budget import Budget
from bundleserver.tensors.signature import Signature

_NONE: Mapping[str, Any] = MappingProxyType({})
_NBYTES = attrgetter("nbytes")


class RequestedOutput(NamedTuple):
    """One requested output; ``binary`` is None if the request does not specify it."""

    name: str
    binary: bool | None = None


class PredictRequest(NamedTuple):
    """One decoded request: either ``tensors`` (V2, gRPC) or ``rows`` (V1), never both.

    ``version`` is a version or a label; None for the default one, or that of the traffic split:
    the same for the same ``routing_key``, or else for the same ``id``. ``deadline`` is when its
    client no longer waits, as ``time.monotonic`` tells it, and ``began`` when it came. ``trace`` is
    its span if it is traced.
    """

    model: str
    version: str | None = None
    tensors: tuple[NamedTensor, ...] | None = None
    rows: Sequence[object] | None = None
    parameters: Mapping[str, object] = _NONE
    outputs: tuple[RequestedOutput, ...] = ()
    id: str | None = None
    routing_key: str | None = None
    deadline: float | None = None
    began: float | None = None
    trace: Span | None = None

    def traced(self, trace: Span | None) -> PredictRequest:
        """Return this request with its span; ``_replace`` takes four times as long."""
        return PredictRequest(*self[:-1], trace)

    def due(self, budget: Budget) -> PredictRequest:
        """Return this request with the time of a budget."""
        return self._replace(deadline=budget.deadline, began=budget.began)


_MANY = 10_000
"""So many answers are large, whatever is in them."""


class PredictResponse(NamedTuple):
    """One response and its version.

    ``outputs`` are in the order of the signature; with ``rowwise`` their first axis is the batch.
    ``answers``, for V1 requests to models that are not rowwise, has one response per instance.
    ``signature`` is the one that the request was bound to.
    """

    model: str
    version: str
    outputs: Mapping[str, Array] = _NONE
    parameters: Mapping[str, object] = _NONE
    id: str | None = None
    rowwise: bool = True
    answers: list[object] | None = None
    signature: Signature | None = None

    @property
    def size_bytes(self) -> int:
        """About how many bytes of values there are, over all answers."""
        size: int = sum(map(_NBYTES, self.outputs.values()))
        if self.answers is None:
            return size
        if len(self.answers) > _MANY:
            return size + 8 * len(self.answers)
        columns = chain.from_iterable(
            answer.values() for answer in self.answers if isinstance(answer, dict)
        )
        return size + 8 * sum(len(column) if isinstance(column, list) else 1 for column in columns)
