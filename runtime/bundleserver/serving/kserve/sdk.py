"""kserve, imported with the command line hidden; the rest of ``serving`` imports it from here.

kserve 0.21 parses ``sys.argv`` while it is imported, uses it for the defaults of its constructors,
and exits the process on an invalid value. Our flags are parsed elsewhere, and every setting is
passed by name. The import takes a second and 50 MiB, so a server imports this module only if it is
needed.
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
