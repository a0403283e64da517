"""kserve, imported with the command line out of its sight; the rest of ``serving`` asks here.

kserve 0.21 parses ``sys.argv`` while it is imported, takes the defaults of its constructors from
there and ends the process on a value that it does not like. Our flags are read elsewhere, and every
setting is handed over by name. The import takes a second and 50 MiB, so that a server imports this
module only when something needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden_arguments() -> Iterator[None]:
    """Hide the command line's arguments while the block runs."""
    arguments = sys.argv[1:]
    del sys.argv[1:]
    try:
        yield
    finally:
        sys.argv[1:] = arguments


with hidden_arguments():
    from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
    from kserve import errors as kserve_errors
    from kserve import logging as kserve_logging
    from kserve.model_repository import ModelRepository
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.infer_type import to_http_parameters
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest import server as kserve_rest
    from kserve.protocol.rest.ssl_cert_refresher import SSLCertRefresher
    from kserve.utils.utils import create_response_cloudevent

__all__ = [
    "DataPlane",
    "InferInput",
    "InferOutput",
    "InferRequest",
    "InferResponse",
    "Model",
    "ModelRepository",
    "ModelRepositoryExtension",
    "SSLCertRefresher",
    "create_response_cloudevent",
    "hidden_arguments",
    "kserve_errors",
    "kserve_logging",
    "kserve_rest",
    "to_http_parameters",
]
