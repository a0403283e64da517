"""Client processes: one connection and one closed loop each; every answer is checked here."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.soak.checking import GOOD, Book, Exchange, judge
from tests.soak.children import Line
from tests.soak.models import ROWS, kind_of

ANSWER_WITHIN_SECONDS = 30.0
PAUSE_SECONDS = 0.005
"""Between two requests, so that all processes get some of the machine."""
REPORT_SECONDS = 2.0
_FP32 = {"FP64": np.float64, "FP32": np.float32}

Answer = tuple[str, list[float]]


class Refused(Exception):
    """The answer has another status than success."""


@dataclass(frozen=True)
class Place:
    """Where a server listens, by its name in the reports."""

    server: str
    http_port: int
    grpc_port: int
    models: tuple[str, ...]


@dataclass
class Counts:
    """What a client has seen since its last report."""

    answered: Counter[str]
    versions: dict[tuple[str, str, str], tuple[float, float]]
    slowest: float = 0.0


def run_client(line: Line, protocol: str, place: Place, book_at: Path, seed: int) -> None:
    """Ask until told to stop; report counts, and whatever was not good as it comes."""
    rng, book = np.random.default_rng(seed), Book(book_at)
    ask, close, resets = PROTOCOLS[protocol](place)
    counts, reported = Counts(Counter(), {}), time.monotonic()
    line.report("started", protocol)
    number = 0
    while line.wait(PAUSE_SECONDS) != "stop":
        model = place.models[number % len(place.models)]
        number += 1
        rows = tuple(int(row) for row in rng.integers(len(ROWS), size=int(rng.choice([1, 1, 3]))))
        exchange = _exchange(
            ask,
            resets,
            Exchange(os.getpid(), protocol, place.server, model, rows, time.monotonic(), 0.0),
        )
        if exchange.failure:
            close()
        kind = kind_of(model)
        verdict, expected = judge(exchange, book, kind.tolerance, kind.member)
        if verdict == GOOD:
            _count(counts, exchange)
        else:
            line.report("problem", (verdict, expected, exchange))
        if time.monotonic() > reported + REPORT_SECONDS:
            line.report("counts", counts)
            counts, reported = Counts(Counter(), {}), time.monotonic()
    line.report("counts", counts)
    close()


def _count(counts: Counts, exchange: Exchange) -> None:
    counts.answered[exchange.protocol] += 1
    key = exchange.server, exchange.model, exchange.version
    first, last = counts.versions.get(key, (exchange.sent, exchange.sent))
    counts.versions[key] = (min(first, exchange.sent), max(last, exchange.sent))
    counts.slowest = max(counts.slowest, exchange.ended - exchange.sent)


def _exchange(
    ask: Callable[[str, list[list[float]]], Answer],
    resets: tuple[type[Exception], ...],
    asked: Exchange,
) -> Exchange:
    rows = ROWS[list(asked.rows)].tolist()
    try:
        version, values = ask(asked.model, rows)
    except Exception as error:  # noqa: BLE001  # nothing that a client raises may pass uncounted
        failure = f"{type(error).__name__}: {error}"[:500]
        is_reset = isinstance(error, resets) and "timed out" not in failure
        return replace(asked, ended=time.monotonic(), failure=failure, is_reset=is_reset)
    flat = tuple(np.ravel(values).tolist())
    return replace(asked, ended=time.monotonic(), version=version, values=flat)


Protocol = tuple[
    Callable[[str, list[list[float]]], Answer], Callable[[], None], tuple[type[Exception], ...]
]


def _v1_raw(place: Place) -> Protocol:
    """Speak V1 with the standard library's client, over one connection that is kept."""
    link = http.client.HTTPConnection("127.0.0.1", place.http_port, timeout=ANSWER_WITHIN_SECONDS)

    def ask(model: str, rows: list[list[float]]) -> Answer:
        link.request("POST", f"/v1/models/{model}:predict", json.dumps({"instances": rows}))
        answer = link.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Refused(f"{answer.status} {body[:300]!r}")
        return str(answer.getheader("X-Model-Version")), json.loads(body)["predictions"]

    return ask, link.close, (OSError, http.client.HTTPException)


def _v2_httpx(place: Place) -> Protocol:
    """Speak V2 in JSON with httpx."""
    import httpx

    client = httpx.Client(
        base_url=f"http://127.0.0.1:{place.http_port}", timeout=ANSWER_WITHIN_SECONDS
    )

    def ask(model: str, rows: list[list[float]]) -> Answer:
        given = {"name": "x", "datatype": kind_of(model).datatype, "shape": [len(rows), 4]}
        body = {"inputs": [{**given, "data": rows}]}
        answer = client.post(f"/v2/models/{model}/infer", json=body)
        if answer.status_code != 200:
            raise Refused(f"{answer.status_code} {answer.text[:300]}")
        document = answer.json()
        return document["model_version"], document["outputs"][0]["data"]

    return ask, lambda: None, (httpx.TransportError,)


def _v2_requests(place: Place) -> Protocol:
    """Speak V2 with binary tensors, with requests."""
    import requests

    session = requests.Session()

    def ask(model: str, rows: list[list[float]]) -> Answer:
        datatype = kind_of(model).datatype
        raw = np.array(rows, dtype=_FP32[datatype]).tobytes()
        given = {"name": "x", "datatype": datatype, "shape": [len(rows), 4]}
        head = json.dumps(
            {"inputs": [{**given, "parameters": {"binary_data_size": len(raw)}}]}
        ).encode()
        answer = session.post(
            f"http://127.0.0.1:{place.http_port}/v2/models/{model}/infer",
            data=head + raw,
            headers={"Inference-Header-Content-Length": str(len(head))},
            timeout=ANSWER_WITHIN_SECONDS,
        )
        if answer.status_code != 200:
            raise Refused(f"{answer.status_code} {answer.text[:300]}")
        document = answer.json()
        return document["model_version"], document["outputs"][0]["data"]

    return ask, lambda: None, (requests.ConnectionError,)


def _grpc(place: Place) -> Protocol:
    """Speak gRPC, over one channel."""
    import grpc

    from bundleserver.serving.grpc import open_inference
    from tests.serving.grpc_client import tensor

    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(f"127.0.0.1:{place.grpc_port}", options)
    send = channel.unary_unary(f"/{open_inference.SERVICE}/ModelInfer")
    request_class, response_class = open_inference.METHODS["ModelInfer"]

    class ConnectionEnded(Exception):
        """The core says UNAVAILABLE, without an answer of the server."""

    def ask(model: str, rows: list[list[float]]) -> Answer:
        datatype = kind_of(model).datatype
        contents = "fp64_contents" if datatype == "FP64" else "fp32_contents"
        flat = [value for row in rows for value in row]
        given = tensor("x", datatype, [len(rows), 4], **{contents: flat})
        body = request_class(model_name=model, inputs=[given]).SerializeToString()
        try:
            answer = response_class.FromString(send(body, timeout=ANSWER_WITHIN_SECONDS))
        except grpc.RpcError as error:
            text = f"{error.code().name} {error.details()} {error.debug_error_string()}"
            # The server's own UNAVAILABLE names the model.
            own = f"'{model}'" in str(error.details())
            if error.code() is grpc.StatusCode.UNAVAILABLE and not own:
                raise ConnectionEnded(text) from error
            raise Refused(text) from error
        output = answer.outputs[0].contents
        return answer.model_version, list(getattr(output, contents))

    def close() -> None:
        with suppress(grpc.RpcError, grpc.FutureTimeoutError):
            # A channel connects again by itself; calls fail at once until it has.
            grpc.channel_ready_future(channel).result(10)

    return ask, close, (ConnectionEnded,)


PROTOCOLS: dict[str, Callable[[Place], Protocol]] = {
    "V1": _v1_raw,
    "V2": _v2_httpx,
    "V2 binary": _v2_requests,
    "gRPC": _grpc,
}
