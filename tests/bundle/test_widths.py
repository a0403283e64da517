"""Widths that a scan of the files cannot tell are compared once the components are open."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from bundleserver.bundle.inferring import infer_manifest
from bundleserver.bundle.widths import check_widths
from bundleserver.errors import BundleError
from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.manifest import Component, Manifest, Step

X = np.random.default_rng(4).normal(size=(40, 5))
Y = X @ [1.0, 2.0, 3.0, 4.0, 5.0]

STEPS = (
    Step("first", "transform", None, {}, ("rows",), ("made",)),
    Step("second", None, None, {}, ("made",), ("answer",)),
)


def opened(directory, first, second):
    """Write two components and open them."""
    joblib.dump(first, directory / "first_selector.pkl")
    joblib.dump(second, directory / "model.pkl")
    components = {
        "first": Component("first", "sklearn", "first_selector.pkl"),
        "second": Component("second", "sklearn", "model.pkl"),
    }
    sklearn = framework_named("sklearn")
    predictors = {
        name: sklearn.load(directory / part.path, LoadContext())
        for name, part in components.items()
    }
    return Manifest(components=components, steps=STEPS), predictors


def test_widths_that_chain_pass(tmp_path):
    """A selector of two columns before a model of two is what its author meant."""
    selector = SelectKBest(k=2).fit(X, Y)
    manifest, predictors = opened(
        tmp_path, selector, LinearRegression().fit(selector.transform(X), Y)
    )

    check_widths(tmp_path, manifest, STEPS, predictors)


def test_widths_that_do_not_chain_name_both_files(tmp_path):
    """A written manifest with the wrong file is refused with both files and both widths."""
    manifest, predictors = opened(
        tmp_path, SelectKBest(k=2).fit(X, Y), LinearRegression().fit(X[:, :4], Y)
    )

    with pytest.raises(BundleError) as refused:
        check_widths(tmp_path, manifest, STEPS, predictors)

    said = "'first_selector.pkl' returns 2 columns, and 'model.pkl' takes 4; correct 'steps'"
    assert said in str(refused.value)


def test_an_inferred_chain_of_other_widths_says_what_to_do(tmp_path):
    """Where the scan could not tell the width, the refusal names the command all the same."""
    _, predictors = opened(
        tmp_path, SelectKBest(k=3).fit(X, Y), LinearRegression().fit(X[:, :4], Y)
    )
    manifest = infer_manifest(tmp_path, "m")
    by_file = {"first_selector.pkl": predictors["first"], "model.pkl": predictors["second"]}
    inferred = {name: by_file[part.path] for name, part in manifest.components.items()}

    with pytest.raises(BundleError, match=r"bundleserver init .* --model model\.pkl"):
        check_widths(tmp_path, manifest, manifest.steps, inferred)


def test_steps_on_operations_and_forks_are_left_alone(tmp_path):
    """What no component takes is not compared with anything."""
    manifest, predictors = opened(tmp_path, StandardScaler().fit(X), LinearRegression().fit(X, Y))
    steps = (*STEPS, Step(op="mean", inputs=("answer", "answer"), outputs=("mean",)))

    check_widths(tmp_path, manifest, steps, predictors)
