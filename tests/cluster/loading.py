"""Asks a model from inside a pod, over V1, V2 and gRPC at once, until it is told to stop.

Runs with the image's own Python, so it imports nothing of the tests'. Standard input has a line of
JSON that says what to ask, then a line for each event that begins; its end ends the load. Standard
output has what was seen so far, by event, as a line of JSON twice a second and at the end.

The clients are what users have, with a connection each that is kept, and without a retry: the
standard library's for V1, httpx for V2, grpcio with its defaults. As urllib3 and httpx do, V1 opens
a connection anew that it finds closed before it sends. Every second client begins anew now and
then, so that all replicas are asked; the others keep their connection as long as they can. Every
request that does not end in an answer of success within 30 s has failed; after that a client takes
a breath, as others would.
"""

import collections
import http.client
import json
import select
import sys
import threading
import time

LONGEST_SECONDS = 30
BREATH_SECONDS = 0.2
REPORT_SECONDS = 0.5
RENEWED_AFTER = 100
"""Requests of the clients that begin anew."""
MOST_KEPT = 200
"""Failures of one event; the others are counted."""


class NotConnected(Exception):
    """No connection could be opened, so nothing was sent."""


class V1:
    """http.client, over one connection."""

    def __init__(self, asked):
        self._path = f"/v1/models/{asked['model']}:predict"
        self._link = http.client.HTTPConnection(asked["host"], 80, timeout=LONGEST_SECONDS)
        self.close = self._link.close

    def ask(self, row):
        link = self._link
        if link.sock is not None and select.select([link.sock], [], [], 0)[0]:
            link.close()
        if link.sock is None:
            try:
                link.connect()
            except OSError as error:
                raise NotConnected(repr(error)) from error
        body = json.dumps({"instances": [row]})
        try:
            link.request("POST", self._path, body, {"Content-Type": "application/json"})
            answer = link.getresponse()
            text = answer.read()
        except BaseException:
            link.close()
            raise
        if answer.status != 200:
            raise ValueError(f"{answer.status} {text[:200]!r}")
        return answer.getheader("X-Model-Version"), json.loads(text)["predictions"]


class V2:
    """httpx, over one connection."""

    def __init__(self, asked):
        import httpx

        self._url = f"http://{asked['host']}/v2/models/{asked['model']}/infer"
        self._client = httpx.Client(timeout=LONGEST_SECONDS)
        self.close = self._client.close
        self._not_connected = httpx.ConnectError, httpx.ConnectTimeout

    def ask(self, row):
        tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": row}
        try:
            answer = self._client.post(self._url, json={"inputs": [tensor]})
        except self._not_connected as error:
            raise NotConnected(repr(error)) from error
        if answer.status_code != 200:
            raise ValueError(f"{answer.status_code} {answer.text[:200]}")
        told = answer.json()
        return told["model_version"], told["outputs"][0]["data"]


class Grpc:
    """grpcio, over one channel; by default those of one process share a connection."""

    def __init__(self, asked):
        import grpc

        from bundleserver.serving.grpc import open_inference as v2

        options = [("grpc.use_local_subchannel_pool", 1)]
        self._model, self._request = asked["model"], v2.ModelInferRequest
        self._error = grpc.RpcError
        self._channel = grpc.insecure_channel(f"{asked['host']}:8081", options)
        self.close = self._channel.close
        self._infer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            v2.ModelInferRequest.SerializeToString,
            v2.ModelInferResponse.FromString,
        )

    def ask(self, row):
        request = self._request(model_name=self._model)
        tensor = request.inputs.add(name="x", datatype="FP64", shape=[1, 2])
        tensor.contents.fp64_contents.extend(row)
        try:
            answer = self._infer(request, timeout=LONGEST_SECONDS)
        except self._error as error:
            told = f"{error.code().name}: {error.details()}"
            if "failed to connect to all addresses" in told:
                raise NotConnected(told) from error
            raise ValueError(told) from error
        return answer.model_version, list(answer.outputs[0].contents.fp64_contents)


PROTOCOLS = {"V1": V1, "V2": V2, "gRPC": Grpc}


class Seen:
    """What all clients have seen, by event and protocol."""

    def __init__(self):
        self._lock = threading.Lock()
        self._recent = collections.defaultdict(collections.Counter)
        self._events = {}
        self.begin("before")

    def begin(self, event):
        """Count under this name from now on; each request counts when it ends."""
        with self._lock:
            self._event = self._events.setdefault(event, {"begun": time.time(), "failures": []})
            self._event["protocols"] = {
                name: {
                    "answered": 0,
                    "failed": 0,
                    "wrong": 0,
                    "slowest": 0.0,
                    "versions": collections.Counter(),
                }
                for name in PROTOCOLS
            }

    def answered(self, protocol, version, seconds):
        with self._lock:
            self._recent[protocol][version] += 1
            counts = self._event["protocols"][protocol]
            counts["answered"] += 1
            counts["versions"][version] += 1
            counts["slowest"] = max(counts["slowest"], round(seconds, 3))

    def failed(self, protocol, kind, **facts):
        """Keep what went wrong: ``wrong``, or ``failed``."""
        with self._lock:
            self._event["protocols"][protocol][kind] += 1
            if len(self._event["failures"]) < MOST_KEPT:
                told = {"at": round(time.time(), 3), "protocol": protocol, "kind": kind, **facts}
                self._event["failures"].append(told)

    def report(self):
        """Write all of it, with the versions that have answered since the last report."""
        with self._lock:
            recent, self._recent = self._recent, collections.defaultdict(collections.Counter)
            text = json.dumps({"events": self._events, "recent": recent})
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def run(client, protocol, asked, seen, over):
    """Ask in a closed loop; every row is another one, and its answer tells it and the version."""
    link, number = PROTOCOLS[protocol](asked), 0
    while not over.wait(asked["pause"]):
        number += 1
        if client % 2 and not number % RENEWED_AFTER:
            link.close()
            link = PROTOCOLS[protocol](asked)
        row, begun = [float(number), float(client)], time.monotonic()
        try:
            version, values = link.ask(row)
        except Exception as error:  # noqa: BLE001  # nothing that a client raises may pass uncounted
            seen.failed(
                protocol,
                "failed",
                client=client,
                sent=not isinstance(error, NotConnected),
                why=f"{type(error).__name__}: {error}"[:300],
            )
            over.wait(BREATH_SECONDS)
            continue
        expected = number + 2.0 * client + 1000.0 * int(str(version).removeprefix("v"))
        if len(values) == 1 and abs(values[0] - expected) < 1e-6:
            seen.answered(protocol, version, time.monotonic() - begun)
        else:
            why = f"{version} answered {values}; expected {expected}"
            seen.failed(protocol, "wrong", client=client, sent=True, why=why)


def main():
    """Ask until standard input ends."""
    asked, seen, over = json.loads(sys.stdin.readline()), Seen(), threading.Event()
    clients = [name for name in PROTOCOLS for _ in range(asked["connections"])]
    threads = [
        threading.Thread(target=run, args=(number, name, asked, seen, over))
        for number, name in enumerate(clients)
    ]

    def report():
        while not over.wait(REPORT_SECONDS):
            seen.report()

    for thread in (*threads, threading.Thread(target=report)):
        thread.start()
    for line in sys.stdin:
        seen.begin(line.strip())
    over.set()
    for thread in threads:
        thread.join()
    seen.report()


if __name__ == "__main__":
    main()
