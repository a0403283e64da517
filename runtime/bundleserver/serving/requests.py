"""What a request asks and what an answer holds, the same for V1, V2 and gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bundleserver.tensors import Array, NamedTensor


@dataclass(frozen=True)
class RequestedOutput:
    """One output that a request asks for; ``binary`` is None where the request leaves it open."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True)
class PredictRequest:
    """One decoded request: either ``tensors`` (V2, gRPC) or ``rows`` (V1), never both.

    ``version`` is a version or a label; None asks for the default one, or whom the traffic is
    split to: the same for the same ``routing_key``, or else for the same ``id``.
    """

    model: str
    version: str | None = None
    tensors: tuple[NamedTensor, ...] | None = None
    rows: list[object] | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    outputs: tuple[RequestedOutput, ...] = ()
    id: str | None = None
    routing_key: str | None = None


@dataclass(frozen=True)
class PredictResponse:
    """One answer and the version that gave it.

    ``outputs`` are in the order of the signature; ``rowwise`` says that their first axis is the
    batch. ``answers``, set for V1 requests to models that are not rowwise, holds one answer for
    each instance.
    """

    model: str
    version: str
    outputs: dict[str, Array] = field(default_factory=dict)
    parameters: Mapping[str, object] = field(default_factory=dict)
    id: str | None = None
    rowwise: bool = True
    answers: list[object] | None = None

    @property
    def nbytes(self) -> int:
        """How many bytes the outputs take, texts not counted."""
        return sum(values.nbytes for values in self.outputs.values())
