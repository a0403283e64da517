"""Constant load while versions come, fail and go back: nothing is lost, nothing is wrong."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import partial

import httpx
import pytest

from tests.end_to_end.calls import ask, v2_input
from tests.end_to_end.processes import DEADLINE_SECONDS, Threads, command, eventually, running
from tests.end_to_end.versions import BREAKS, publish
from tests.serving.grpc_client import connected

SWAPS = 20
BROKEN = {4: BREAKS[0], 8: BREAKS[1], 11: BREAKS[2], 15: BREAKS[3], 18: BREAKS[4]}
"""Which of the swaps bring a broken version, and how it is broken."""


class Load(Threads):
    """Eight clients that ask without a pause and remember what they got."""

    def __init__(self, server):
        kinds = [self._v1] * 3 + [self._v2] * 3 + [self._grpc] * 2
        super().__init__(*(partial(self._run, kind) for kind in kinds))
        self.server = server
        self.answered, self.problems = Counter(), []

    def _run(self, kind):
        http = httpx.Client(base_url=self.server.rest, timeout=DEADLINE_SECONDS)
        with http, connected(self.server.grpc) as client:
            for number in itertools.count(1):
                if self.ends.is_set():
                    break
                try:
                    self._check(number % 1000, *kind(http, client, number % 1000))
                except (httpx.HTTPError, LookupError, ValueError) as error:
                    # A thread that ended would ask no more.
                    self.problems.append(repr(error))

    def _check(self, x, version, answer):
        if answer != x * float(version.removeprefix("v")):
            self.problems.append(f"{version} answered {answer} to {x}")
        self.answered[version] += 1

    def _v1(self, http, client, x):
        answer = http.post("/v1/models/numbers:predict", json={"instances": [[x]]})
        return answer.headers["x-model-version"], answer.json()["predictions"][0]

    def _v2(self, http, client, x):
        body = {"inputs": [v2_input("x", "FP64", [1, 1], [x])]}
        answer = http.post("/v2/models/numbers/infer", json=body).json()
        return answer["model_version"], answer["outputs"][0]["data"][0]

    def _grpc(self, http, client, x):
        said = ask(client, "numbers", [v2_input("x", "FP64", [1, 1], [float(x)])])
        return said.version, said.outputs["y"][0]

    def wait_for(self, version):
        """Wait until this version answers a request that was sent from now on."""
        before = self.answered[version]
        eventually(lambda: self.answered[version] > before, f"{version} answers")


@pytest.mark.timeout(600)
def test_no_request_is_lost_in_twenty_swaps(tmp_path):
    """20 swaps, 5 of them broken, one rollback: each answer is right for the version it names."""
    root = tmp_path / "numbers"
    root.mkdir()
    publish(root, "v1", 1.0)
    with running(tmp_path, "numbers") as server:
        server.wait_until_ready("numbers")
        with Load(server) as load:
            load.wait_for("v1")
            good = ["v1"]
            for number in range(2, SWAPS + 2):
                label, broken = f"v{number}", BROKEN.get(number - 1)
                publish(root, label, float(number), broken)
                if broken is None:
                    good.append(label)
                    load.wait_for(label)
                else:
                    server.wait_for_line(f"numbers {label}: failed while")
                    load.wait_for(good[-1])
            before = Counter(load.answered)
            assert 0 == command("rollback", root).code
            load.wait_for(good[-2])
            eventually(
                lambda: server.get("/v2/models/numbers").json()["default_version"] == good[-2],
                "the rollback is in effect",
            )

        index = server.index("numbers")
        failed = {label for label, entry in index.items() if "FAILED while" in entry["reason"]}

    assert [] == load.problems[:5]
    assert {*good} == {*load.answered}
    assert before[good[-2]] < load.answered[good[-2]]
    assert {"v19"} == failed & {"v19", "v20", "v21"}
    assert "Traceback" not in server.log
