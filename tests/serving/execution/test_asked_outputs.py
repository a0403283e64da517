"""Requests that ask for methods of a model: where they run, and that each gets its own."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.placement import Placement
from bundleserver.errors import InvalidInput
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.requests import PredictRequest, RequestedOutput
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.call_traits import CallTraits
from tests.store.test_breaking import bare

RNG = np.random.default_rng(5)
X = RNG.normal(size=(60, 3))
Y = np.where(X[:, 0] > 0, "high", "low")
TREE = DecisionTreeClassifier(max_depth=3, random_state=0).fit(X, Y == "high")
LINE = LogisticRegression().fit(X, Y == "high")


class OneModel:
    """A manager of one open bundle."""

    def __init__(self, bundle):
        self.bundle = bundle

    def is_split(self, model):
        return False

    @contextmanager
    def acquire(self, model, version=None):
        yield self.bundle


@pytest.fixture
def open_model(tmp_path):
    """Open a model as a server does."""
    return lambda model: open_bundle(bare(tmp_path / "m", model), model="m")


def served_by(bundle):
    """Serve a bundle with two threads."""
    metrics = RequestMetrics(CollectorRegistry())
    return ServedModels(OneModel(bundle), ThreadPool(2), metrics)


def request(rows, *outputs):
    """Ask for outputs."""
    asked = tuple(map(RequestedOutput, outputs))
    return PredictRequest("m", tensors=(NamedTensor("x", rows),), outputs=asked)


@pytest.mark.parametrize("batchable", [False, True])
def test_concurrent_requests_get_what_they_asked_for(open_model, batchable):
    """Whatever shares a call or a thread: the library's bits, in the request's order."""
    bundle = open_model(TREE)
    bundle.placement = Placement(CallTraits(batchable=batchable))
    served = served_by(bundle)
    asked = [("predict",), ("predict_proba",), ("apply", "predict_proba"), ("output-0",), ()] * 6
    rows = [X[index : index + 1 + index % 3] for index in range(len(asked))]

    async def all_of_them():
        pairs = zip(rows, asked, strict=True)
        return await asyncio.gather(*(served.answer(request(x, *names)) for x, names in pairs))

    for x, names, response in zip(rows, asked, asyncio.run(all_of_them()), strict=True):
        assert [*(names or ("output-0",))] == [*response.outputs]
        for name, values in response.outputs.items():
            expected = getattr(TREE, "predict" if name == "output-0" else name)(x)
            assert expected.tobytes() == values.tobytes()


def test_a_method_runs_inline_once_it_was_measured(open_model):
    """The first request for it runs in the thread pool, and finds out what it costs."""
    bundle = open_model(LINE)
    served = served_by(bundle)
    view = bundle.answering(["predict_proba"])
    before = view.placement.runs

    answers = [asyncio.run(served.answer(request(X[:2], "predict_proba"))) for _ in range(2)]

    assert ("threads", "inline") == (before, view.placement.runs)
    for answer in answers:
        assert LINE.predict_proba(X[:2]).tobytes() == answer.outputs["predict_proba"].tobytes()


def test_an_answers_size_is_that_of_what_is_asked(open_model):
    """Limits count the values of probabilities, not those of labels."""
    bundle = open_model(LINE)

    assert (1, 2, 3) == (
        bundle.values_per_row,
        bundle.answering(["predict_proba"]).values_per_row,
        bundle.answering(["predict", "predict_proba"]).values_per_row,
    )


def test_an_unknown_output_is_the_callers_mistake(open_model):
    """It is told what there is."""
    served = served_by(open_model(LINE))
    known = "'m' version 1 has the outputs 'output-0' and the methods 'predict', 'predict_proba', "

    with pytest.raises(InvalidInput, match=f"unknown output 'odds'; {known}"):
        asyncio.run(served.answer(request(X[:2], "odds")))


def test_many_sets_of_outputs_are_not_kept(open_model):
    """A client that permutes and subsets names fills no memory."""
    bundle = open_model(TREE)
    bundle._views = {frozenset([str(number)]): bundle for number in range(256)}

    view = bundle.answering(["predict_proba"])

    assert 256 == len(bundle._views)
    assert view is not bundle.answering(["predict_proba"])
