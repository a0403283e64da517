from __future__ import annotations

import contextlib
import copy
import json
from dataclasses import fields
from itertools import pairwise
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundleserver.errors import ManifestError
from bundleserver.manifest import (
    MANIFEST_VERSION,
    Component,
    Example,
    Manifest,
    Requirements,
    Step,
    manifest_schema,
)
from bundleserver.tensors import NUMPY_DTYPES, TensorSpec
from tests.manifests import DIGEST, EXAMPLE, WHERE, component, drop, edited, op, put

MINIMAL = {"format": "bundle/v1", "components": {"m": {"framework": "sklearn", "path": "m.pkl"}}}

VALID = {
    "the example of the design": EXAMPLE,
    "only what is required": MINIMAL,
    "an empty list where one may be left out": {
        **MINIMAL,
        "steps": [],
        "inputs": [],
        "outputs": [],
    },
    "another model": edited(component(framework="model", model="other", options={"a": [None]})),
    "a bundle in a bundle": edited(component(framework="bundle", path="inner/first", size=0)),
    "a framework that is not ours": edited(component(framework="tensorflow", path="./a.pb")),
    "a file whose name has dots": edited(component(framework="x", path="a..b/...c/ü .pkl")),
    "open dimensions, datatypes and shapes": edited(put([{"name": "features"}], "inputs")),
    "columns over an open dimension": edited(put([-1, -1], "inputs", 0, "shape")),
    "inputs left open": edited(drop("inputs"), drop("examples")),
    "outputs left open": edited(drop("outputs")),
    "a step without a method": edited(drop("steps", 0, "method")),
    "empty params of a component": edited(put({}, "steps", 0, "params")),
    "reconstruction_error": edited(op("reconstruction_error", ["features", "scaled"], ["e"])),
    "threshold": edited(op("threshold", ["label"], ["flag"], above=0.12)),
    "threshold with texts": edited(
        op("threshold", ["label"], ["flag"], above=-1, labels=["good", "bad"])
    ),
    "threshold with truths": edited(
        op("threshold", ["label"], ["flag"], above=1, labels=[False, True])
    ),
    "vote": edited(op("vote", ["label"], ["flag", "share"])),
    "vote with everything": edited(
        op("vote", ["label", "label"], ["f"], weights=[0, 2.5], threshold=1, votes="sklearn")
    ),
    "mean": edited(op("mean", ["label", "scaled"], ["m"], weights=[1, 0])),
    "concat": edited(op("concat", ["label", "scaled"], ["both"], axis=-1)),
    "an example without outputs": edited(drop("examples", 0, "outputs")),
    "an example with parameters": edited(put({"level": 0.9}, "examples", 0, "parameters")),
    "a date without a time": edited(put("2025-12-09", "metadata", "trained_at")),
    "a date with an offset": edited(
        put("2025-12-09T10:00:00.123456+01:00", "metadata", "trained_at")
    ),
    "metadata of one's own": edited(put({"nested": [1, {"a": None}]}, "metadata", "model_dump")),
}


@pytest.mark.parametrize("document", VALID.values(), ids=VALID.keys())
def test_manifest_that_keeps_the_rules_is_read(document):
    """A manifest that keeps every rule is read, is written back equal, and fits the schema."""
    manifest = Manifest.from_json(json.dumps(document), WHERE)

    jsonschema.Draft202012Validator(manifest_schema()).validate(document)
    assert manifest == Manifest.from_json(manifest.to_json(), WHERE)


def test_manifest_holds_what_the_file_says():
    """Reading turns each object of the file into its value, in the file's order."""
    manifest = Manifest.from_json(json.dumps(EXAMPLE), WHERE)

    assert (
        Manifest(
            name="predictive-analytics",
            version="v3",
            components={
                "scaler": Component(
                    "scaler", "sklearn", "isolation_forest_scaler.pkl", sha256=DIGEST
                ),
                "model": Component("model", "sklearn", "isolation_forest_model.pkl", DIGEST),
            },
            inputs=(TensorSpec("features", "FP64", (-1, 3), ("cpu", "memory", "io")),),
            steps=(
                Step("scaler", "transform", inputs=("features",), outputs=("scaled",)),
                Step("model", "predict", inputs=("scaled",), outputs=("label",)),
                Step("model", "decision_function", inputs=("scaled",), outputs=("score",)),
            ),
            outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("score", "FP64", (-1,))),
            examples=(Example({"features": [[0.5, 0.3, 0.8]]}, {"label": [1]}),),
            metadata=EXAMPLE["metadata"],
            requirements=Requirements("3.11", {"scikit-learn": "1.9.1", "numpy": "2.4.6"}),
        )
        == manifest
    )
    assert ["scaler", "model"] == list(manifest.components)
    assert not manifest.inferred


def test_manifest_cannot_be_changed():
    """Whoever holds a manifest cannot change it under the feet of others, nor can its maker."""
    options = {"a": 1}
    component = Component("m", "sklearn", "m.pkl", options=options)
    options["a"] = 2

    assert {"a": 1} == component.options
    with pytest.raises(TypeError):
        component.options["a"] = 3


def test_manifest_is_written_without_what_is_absent():
    """Writing leaves out what says nothing, and keeps short entries on one line."""
    manifest = Manifest(
        version="1",
        components={"m": Component("m", "sklearn", "m.pkl")},
        inputs=(TensorSpec("x", shape=()),),
        examples=(Example({"x": 1}),),
        inferred=True,
    )

    assert """{
  "format": "bundle/v1",
  "version": "1",
  "components": {"m": {"framework": "sklearn", "path": "m.pkl"}},
  "inputs": [{"name": "x", "shape": []}],
  "examples": [{"inputs": {"x": 1}}]
}
""" == manifest.to_json()


def test_manifest_is_written_with_what_a_notebook_holds():
    """Numbers and arrays of numpy are written as JSON has them."""
    manifest = Manifest(
        components={"m": Component("m", "sklearn", "m.pkl")},
        examples=(Example({"x": np.array([[1.5, 2.5]])}, {"y": (np.int64(1),)}),),
        metadata={"metrics": {"f1": np.float32(0.5)}},
    )

    again = Manifest.from_json(manifest.to_json(), WHERE)

    assert Example({"x": [[1.5, 2.5]]}, {"y": [1]}) == again.examples[0]
    assert {"metrics": {"f1": 0.5}} == again.metadata


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_manifest_that_json_cannot_hold_is_not_written(value):
    """A value that has no form in JSON is an error when it is written, not when it is read."""
    manifest = Manifest(name="fraud", metadata={"metrics": {"f1": value}})

    with pytest.raises(ManifestError, match="manifest 'fraud': cannot be encoded as JSON: "):
        manifest.to_json()


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('ab ü"\\\n', max_size=5), inner)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text("abcü. ", max_size=6), JSON, max_size=3)
COMPONENTS = st.builds(
    Component,
    st.just(""),
    st.sampled_from(["sklearn", "bundle", "ünknown"]),
    st.from_regex(r"[a-z ü]{1,5}(/[a-z]{1,5}\.pkl)?", fullmatch=True),
    st.none() | st.just(DIGEST),
    st.none() | st.integers(0, 2**60),
    st.none(),
    OBJECTS,
)
SHAPES = st.none() | st.lists(st.just(-1) | st.integers(1, 9), max_size=3).map(tuple)


@st.composite
def manifests(draw):
    """Draw a manifest that keeps every rule."""
    parts = draw(st.dictionaries(NAMES, COMPONENTS, min_size=1, max_size=3))
    names = draw(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True)
    )
    datatypes = st.none() | st.sampled_from(sorted(NUMPY_DTYPES))
    specs = tuple(TensorSpec(name, draw(datatypes), draw(SHAPES)) for name in names)
    steps = tuple(
        Step(
            draw(st.sampled_from(sorted(parts))),
            draw(st.none() | NAMES),
            None,
            {},
            (first,),
            (second,),
        )
        for first, second in pairwise(names)
    )
    example = st.builds(
        Example,
        st.just({name: draw(JSON) for name in names[:1]}),
        st.just({}),
        st.floats(0, 1),
        OBJECTS,
    )
    return Manifest(
        name=draw(st.none() | st.just("fraud")),
        version=draw(st.none() | st.sampled_from(["1", "v2", "2025-12-09", "1.2.0-rc1+b"])),
        components={
            name: Component(name, c.framework, c.path, c.sha256, c.size, None, c.options)
            for name, c in parts.items()
        },
        inputs=specs[:1],
        steps=steps,
        outputs=specs[1:],
        examples=tuple(draw(st.lists(example, max_size=2))),
        metadata=draw(OBJECTS),
        requirements=Requirements(draw(st.none() | st.just("3.11")), {"numpy": "2.4.6"}),
    )


@settings(max_examples=150, deadline=None)
@given(manifests())
def test_manifest_survives_being_written_and_read(manifest):
    """Writing a manifest and reading it back gives an equal one, that is written the same again."""
    written = manifest.to_json()
    again = Manifest.from_json(written.encode(), WHERE)

    jsonschema.Draft202012Validator(manifest_schema()).validate(json.loads(written))
    assert manifest == again
    assert list(manifest.components) == list(again.components)
    assert written == again.to_json()


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10_000), value=JSON)
def test_manifest_with_any_value_anywhere_is_read_or_told(place, value):
    """Whatever stands anywhere in a manifest, it is read or its problems are told; nothing else."""
    document = copy.deepcopy(EXAMPLE)
    places = list(_places(document))
    holder, key = places[place % len(places)]
    holder[key] = value

    with contextlib.suppress(ManifestError):
        manifest = Manifest.from_json(json.dumps(document), WHERE)

        assert manifest == Manifest.from_json(manifest.to_json(), WHERE)


def _places(value):
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def test_unknown_frameworks_are_told_with_all_other_problems():
    """A framework that nobody opens is a problem at its place, beside those of the format."""
    document = edited(
        put({"framework": "sklern", "path": "../a"}, "components", "a"),
        put({"framework": "bundle", "path": "b"}, "components", "b"),
        put({"framework": "model", "model": "c"}, "components", "c"),
        put({"framework": 3, "path": "d"}, "components", "d"),
        put(["n"], "metadata", "tags"),
    )

    with pytest.raises(ManifestError) as raised:
        Manifest.from_json(json.dumps(document), WHERE, {"sklearn", "torch"})

    problems = {problem.where: problem.what for problem in raised.value.problems}
    assert {
        "components.a.framework",
        "components.a.path",
        "components.d.framework",
        "metadata.tags",
    } == set(problems)
    assert problems["components.a.framework"] == (
        "is 'sklern'; expected one of 'bundle', 'model', 'sklearn', 'torch'; did you mean "
        "'sklearn'?"
    )


def test_schema_is_a_schema():
    """What is published is itself valid JSON Schema, and JSON."""
    schema = json.loads(json.dumps(manifest_schema()))

    jsonschema.Draft202012Validator.check_schema(schema)


UNWRITTEN = {field.name for field in fields(TensorSpec)[4:]}
"""What only opened components know of a tensor."""


@pytest.mark.parametrize(
    ("key", "value", "unwritten"),
    [
        ("components", Component, {"name"}),
        ("inputs", TensorSpec, UNWRITTEN),
        ("steps", Step, set()),
        ("outputs", TensorSpec, UNWRITTEN),
        ("examples", Example, set()),
        ("requirements", Requirements, set()),
    ],
)
def test_schema_has_the_keys_that_the_values_hold(key, value, unwritten):
    """The keys of each object in the schema are the fields of the value that it becomes."""
    schema: Any = manifest_schema()
    entry = schema["properties"][key]
    reference = entry.get("items") or entry.get("additionalProperties") or entry
    properties = schema["$defs"][reference["$ref"].rpartition("/")[2]]["properties"]

    assert {field.name for field in fields(value)} - unwritten == set(properties)


def test_schema_has_the_keys_of_a_manifest():
    """The keys at the top are the manifest's fields and its format."""
    schema: Any = manifest_schema()

    held = {field.name for field in fields(Manifest)} - {"inferred"}

    assert {"format", *held} == set(schema["properties"])
    assert MANIFEST_VERSION == schema["properties"]["format"]["const"]
    assert ["format", "components"] == schema["required"]


def test_schema_belongs_to_whoever_asks():
    """A caller that changes the schema changes no other caller's."""
    schema: Any = manifest_schema()
    schema["properties"].clear()

    assert manifest_schema()["properties"]
