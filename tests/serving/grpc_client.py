"""A client of our own gRPC service, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc

from bundleserver.serving.grpc import open_inference

Message = open_inference.Message
Metadata = Sequence[tuple[str, str]]


class Client:
    """Calls an RPC by its name and returns the response's message."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def call(self, rpc: str, metadata: Metadata = (), **fields: object) -> Message:
        """Send one request made of fields."""
        request_class, response_class = open_inference.METHODS[rpc]
        return response_class.FromString(
            self.send(rpc, request_class(**fields).SerializeToString(), metadata)
        )

    def send(self, rpc: str, body: bytes, metadata: Metadata = ()) -> bytes:
        """Send bytes as they are."""
        method = self.channel.unary_unary(f"/{open_inference.SERVICE}/{rpc}")
        return method(body, timeout=20.0, metadata=metadata)

    def infer(self, *inputs: Message, model: str = "echo", **fields: object) -> Message:
        """Send an infer request."""
        return self.call("ModelInfer", model_name=model, inputs=inputs, **fields)


def tensor(name: str, datatype: str, shape: list[int], **contents: list[object]) -> Message:
    """Make an input, with typed contents where there are any."""
    made = open_inference.InferInputTensor(name=name, datatype=datatype, shape=shape)
    if contents:
        made.contents.CopyFrom(open_inference.InferTensorContents(**contents))
    return made


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect while the block runs."""
    with grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
        yield Client(channel)
