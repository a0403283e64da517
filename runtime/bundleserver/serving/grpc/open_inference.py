"""The gRPC messages and service of ``open_inference.proto``, in a descriptor pool of their own.

kserve and tritonclient each register an ``inference`` package in protobuf's default pool, and
protobuf refuses a second one there. A separate pool lets this service have the fields of both.
After a change of ``open_inference.proto`` compile it in this directory with::

    python -m grpc_tools.protoc -I. --descriptor_set_out=open_inference.binpb open_inference.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
COMPILED = Path(__file__).with_name("open_inference.binpb")

_FILES = descriptor_pb2.FileDescriptorSet.FromString(COMPILED.read_bytes())
POOL = descriptor_pool.DescriptorPool()
"""The service's messages, and nothing of kserve's or Triton's."""

POOL.Add(_FILES.file[0])
FILE = POOL.FindFileByName("open_inference.proto")


def message_class(name: str) -> type[Message]:
    """Return the class of one message by its name inside the package: ``ModelInferRequest``."""
    descriptor = POOL.FindMessageTypeByName(f"{PACKAGE}.{name}")
    found: type[Message] = message_factory.GetMessageClass(descriptor)
    return found


METHODS: Mapping[str, tuple[type[Message], type[Message]]] = MappingProxyType(
    {
        method.name: (message_class(method.input_type.name), message_class(method.output_type.name))
        for method in POOL.FindServiceByName(SERVICE).methods
    }
)
"""Each RPC of the service with the class of its request and of its response."""

ServerLiveResponse = message_class("ServerLiveResponse")
ServerReadyResponse = message_class("ServerReadyResponse")
ModelReadyResponse = message_class("ModelReadyResponse")
ServerMetadataResponse = message_class("ServerMetadataResponse")
ModelMetadataResponse = message_class("ModelMetadataResponse")
TensorMetadata = message_class("ModelMetadataResponse.TensorMetadata")
ModelInferRequest = message_class("ModelInferRequest")
InferInputTensor = message_class("ModelInferRequest.InferInputTensor")
InferTensorContents = message_class("InferTensorContents")
InferParameter = message_class("InferParameter")
ModelInferResponse = message_class("ModelInferResponse")
InferOutputTensor = message_class("ModelInferResponse.InferOutputTensor")
RepositoryIndexResponse = message_class("RepositoryIndexResponse")
ModelIndex = message_class("RepositoryIndexResponse.ModelIndex")
RepositoryModelLoadResponse = message_class("RepositoryModelLoadResponse")
RepositoryModelUnloadResponse = message_class("RepositoryModelUnloadResponse")
