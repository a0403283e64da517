"""Honest models, none pickled by value, under ``--pickle_policy=listed``."""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # in each process alike

from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from tests.allow_list.honest.estimators import DATA

ANY = CodeTrust(PicklePolicy.ANY)
LISTED = CodeTrust(PicklePolicy.LISTED)

REFUSED = {
    "GLM Binomial Probit": "its link holds a distribution of scipy, which compiles a template",
    "ZeroInflatedPoisson": "it holds a distribution of scipy, which compiles a template",
}
"""Honest models that the lists do not open, with the reason."""

_ANSWERS = (
    *("predict_proba", "decision_function", "predict", "transform", "kneighbors"),
    *("score_samples", "forecast"),
)
_TRIED = [DATA[name][0] for name in ("two classes", "table", "columns of text", "texts")]


def _writers() -> Iterator[Callable[[object, Path], object]]:
    """Yield the ways in which models are saved, in turns: protocols, compressions, packages."""
    plain = [
        lambda model, path, of=protocol: path.write_bytes(pickle.dumps(model, of))
        for protocol in range(6)
    ]
    by_joblib = [
        lambda model, path, how=how: joblib.dump(model, path, compress=how)
        for how in (0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 1), ("xz", 1))
    ]
    by_cloud = lambda model, path: path.write_bytes(cloudpickle.dumps(model))  # noqa: E731
    return itertools.cycle([*plain, *by_joblib, by_cloud])


def _answers(model: Any, asked: Any) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in _ANSWERS:
        for rows in _TRIED if asked is None else (asked,):
            try:
                method = getattr(model, name)
                answer = method(3) if name == "forecast" else method(rows)
            except Exception:  # noqa: BLE001, S112  # it has no such method, or takes no such rows
                continue
            found[name] = answer
            break
    kept = {key: value for key, value in vars(model).items() if hasattr(value, "__array__")}
    return found or kept


def _equal(one: object, other: object) -> bool:
    try:
        np.testing.assert_equal(_plain(one), _plain(other))
    except AssertionError:
        return False
    return True


def _plain(value: Any) -> object:
    if hasattr(value, "yhat"):  # the intervals of Prophet are drawn anew each time
        return value.yhat.to_numpy()
    if hasattr(value, "toarray"):
        return value.toarray()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return np.asarray(value) if hasattr(value, "__array__") else repr(value)


@pytest.fixture(scope="session")
def opened(
    honest_models: list[tuple[str, Any, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Return for each honest model what was wrong with it under ``listed``; empty if nothing."""
    directory, writers = tmp_path_factory.mktemp("honest"), _writers()
    results: dict[str, str] = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for number, (name, model, asked) in enumerate(honest_models):
            path = directory / f"{number}.pkl"
            next(writers)(model, path)
            expected = _answers(pickles.load(path, ANY), asked)
            try:
                answers = _answers(pickles.load(path, LISTED), asked)
            except LoadError as error:
                results[name] = str(error)
                continue
            same = expected.keys() == answers.keys() and all(
                _equal(expected[key], answers[key]) for key in expected
            )
            results[name] = "" if same else f"{[*expected]} differ from {[*answers]}"
    return results


def test_nearly_all_of_many_honest_models_open(opened: dict[str, str]) -> None:
    """At least 99 of 100 models, of at least 200, open and answer as under ``any``."""
    wrong = {name: why for name, why in opened.items() if why}

    assert len(opened) >= 200
    assert len(wrong) <= len(opened) / 100, wrong


def test_each_honest_model_that_does_not_open_has_its_reason(opened: dict[str, str]) -> None:
    """What an honest model costs to refuse is known, and said."""
    wrong = {name: why for name, why in opened.items() if why}

    assert {*wrong} == {*REFUSED}, wrong
    assert all("does not allow" in why or "refused" in why for why in wrong.values())
