"""V1 requests in CloudEvents, structured or binary, as Knative Eventing sends them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import orjson

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import json_body, v1
from bundleserver.serving.codecs.json_pieces import LARGE_BYTES
from bundleserver.serving.codecs.tensor_json import kind_of
from bundleserver.serving.requests import PredictRequest
from bundleserver.serving.rest.http import Answer, Request

_ATTRIBUTES = ("specversion", "id", "source", "type")
_STRUCTURED = "application/cloudevents+json"

_imported = threading.Event()
"""Whether kserve is imported, which takes a second."""


@dataclass(frozen=True)
class CloudEvent:
    """An event's attributes; with ``binary`` they are headers of request and response."""

    attributes: Mapping[str, object]
    binary: bool

    def answer(self, model: str, encode: Callable[[], bytes], headers: Mapping[str, str]) -> Answer:
        """Make an event of a response in the same mode, with KServe's CE_* variables."""
        from bundleserver.serving.kserve.sdk import create_response_cloudevent

        _imported.set()
        encoded = encode()
        # kserve encodes with json, which would write NaN, keep the interpreter lock for a second
        # where the response is large, and replaces both of these attributes.
        attributes = {"id": "", "time": "", **self.attributes}
        event_headers, body = create_response_cloudevent(model, {}, attributes, self.binary)
        if self.binary:
            body = encoded
        else:
            body = json_body.encode({**orjson.loads(body), "data": orjson.Fragment(encoded)})
        content_type = "application/json" if self.binary else _STRUCTURED
        sent = {str(k).lower(): str(v) for k, v in event_headers.items()}
        sent.pop("content-type", None)
        return Answer(body, headers={**sent, **headers}, content_type=content_type)


def work_bytes(size: int) -> int:
    """Return how much work it is to answer with so many bytes: until kserve is imported, much."""
    # A module that another thread imports is found before it can be used.
    return size if _imported.is_set() else max(size, LARGE_BYTES + 1)


def decode_request(
    body: bytes,
    request: Request,
    model: str,
    version: str | None,
    key: str | None,
) -> tuple[CloudEvent | None, PredictRequest]:
    """Decode the body of a V1 request, and its event, if any.

    Args:
        body: the request body.
        request: the request's head.
        model: the model in the path.
        version: the version or label in the path.
        key: the routing key.

    Raises:
        InvalidInput: the body is not a valid request or event.
        TooManyValues: its document is too large.
    """
    decode = partial(decode_document, request, model, version, key)
    return json_body.decode(body, decode, request.most_values)


def decode_document(
    request: Request,
    model: str,
    version: str | None,
    key: str | None,
    document: dict[str, object],
) -> tuple[CloudEvent | None, PredictRequest]:
    """Decode the JSON object of a V1 request, and its event, if any.

    Raises:
        InvalidInput: the object is not a valid request or event.
    """
    if b"ce-id" not in request.raw_headers and "specversion" not in document:
        return None, v1.decode_request(document, model, version, key)
    event, document = _open_event(document, request.headers)
    return event, v1.decode_request(document, model, version, key)


def _open_event(
    document: dict[str, object], headers: Mapping[str, str]
) -> tuple[CloudEvent | None, dict[str, object]]:
    """Extract the request from its event; the event is None if the response must not be one."""
    if all(f"ce-{name}" in headers for name in _ATTRIBUTES):
        carried = {k[3:]: v for k, v in headers.items() if k.startswith("ce-")}
        return CloudEvent(carried, binary=True), document
    if "data" not in document or any(name not in document for name in _ATTRIBUTES):
        return None, document
    data = document["data"]
    if not isinstance(data, dict):
        raise InvalidInput(f"the event's 'data' is {kind_of(data)}; expected a JSON object")
    wants_event = headers.get("content-type", "").partition(";")[0].strip().lower() == _STRUCTURED
    attributes = {key: value for key, value in document.items() if key != "data"}
    return CloudEvent(attributes, binary=False) if wants_event else None, data
