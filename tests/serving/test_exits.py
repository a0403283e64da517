"""A model's code may raise anything, and exit: that fails its request and nothing else."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

from bundleserver.bundle import Bundle
from bundleserver.bundle.steps import Plan, PlannedStep
from bundleserver.errors import PredictionError
from bundleserver.manifest import Manifest
from bundleserver.tensors import NamedTensor, TensorSpec
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits
from bundleserver.tensors.signature import Signature
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, FakeVersion, serving, sums
from tests.serving.grpc_client import connected, tensor


class Panic(BaseException):
    """What extensions written in other languages raise: no Exception."""


ENDS = [SystemExit("gives up"), SystemExit(0), KeyboardInterrupt(), Panic("core"), GeneratorExit()]
IDS = ["exit", "exit 0", "interrupt", "panic", "generator exit"]


def quits(end):
    """Make a model that ends so where a value is 13."""

    def call(inputs, parameters):
        if (inputs["features"].values == 13).any():
            raise end
        return sums(inputs, parameters)

    return call


@pytest.mark.parametrize(
    "traits",
    [CallTraits(predictable=True), CallTraits(batchable=True), UNKNOWN],
    ids=["inline", "batched", "threads"],
)
@pytest.mark.parametrize("end", ENDS[:3], ids=IDS[:3])
def test_a_model_that_exits_fails_its_request_and_the_server_lives(traits, end):
    """REST says 500 with a JSON error, gRPC INTERNAL before its deadline; the next is answered."""
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", quits(end), call_traits=traits),)))
    bad, good = [[13.0, 1.0]], [[1.0, 2.0]]

    with serving(manager) as served, connected(served.grpc) as client:
        with httpx.Client(base_url=served.rest, timeout=DEADLINE_SECONDS) as rest:
            url = "/v1/models/sums:predict"
            failed = [rest.post(url, json={"instances": bad}) for _ in range(2)]
            answered = rest.post(url, json={"instances": good})
        with pytest.raises(grpc.RpcError) as error:
            client.infer(tensor("features", "FP64", [1, 2], fp64_contents=bad[0]), model="sums")
        after = client.infer(
            tensor("features", "FP64", [1, 2], fp64_contents=good[0]), model="sums"
        )

    assert [500, 500, 200] == [answer.status_code for answer in (*failed, answered)]
    assert all("error" in json.loads(answer.content) for answer in failed)
    assert grpc.StatusCode.INTERNAL == error.value.code()
    assert "1" == after.model_version
    assert 0 == manager.leased


@pytest.mark.parametrize("end", ENDS, ids=IDS)
def test_a_bundle_turns_every_end_into_a_prediction_error(end):
    """In the thread that predicts nothing but an Exception leaves a bundle."""
    caught = []

    def call(taken, parameters):
        raise end

    bundle = _bundle_of(call)

    def ask():
        try:
            bundle.predict({"x": NamedTensor("x", np.zeros((1, 1)))}, {})
        except BaseException as error:  # noqa: BLE001  # what leaves it is the question
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(DEADLINE_SECONDS)

    assert [PredictionError] == [type(error) for error in caught]
    assert type(end).__name__ in str(caught[0])


def _bundle_of(call):
    signature = Signature((TensorSpec("x"),), (TensorSpec("y"),))
    step = PlannedStep("steps[0]", "predict", call, ("x",), ("y",), signature)
    plan = Plan((step,), signature)
    return Bundle(Path("m"), Manifest(components={}), "m", "1", {}, plan, ExitStack())
