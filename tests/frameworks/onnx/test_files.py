"""Broken and hostile ONNX files are refused with a sentence, before onnxruntime sees them."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundleserver.errors import LoadError, StoreError
from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.frameworks.onnx import wire
from bundleserver.frameworks.onnx.structure import read_structure
from bundleserver.frameworks.onnx.value_types import DEEPEST
from bundleserver.frameworks.onnx.wire import Malformed, Wire
from bundleserver.store import BundleStore
from tests.frameworks.onnx.graphs import FLOAT, forest, identity, model, node, value

ONNX = framework_named("onnx")


def refused(tmp_path, data):
    """Return why a file is refused."""
    path = tmp_path / "model.onnx"
    path.write_bytes(getattr(data, "SerializeToString", lambda: data)())
    with pytest.raises(LoadError) as raised:
        ONNX.load(path, LoadContext())
    assert str(raised.value).startswith(f"'{path}' ")
    return str(raised.value).removeprefix(f"'{path}' ")


def changed(change, made=None):
    """Return a model after a change."""
    made = made or with_weights()
    change(made)
    return made


def with_weights():
    """Make a model that adds a weight ``w`` of two numbers."""
    weight = numpy_helper.from_array(np.float32([1, 2]), "w")
    x, y = value("x", FLOAT, ["n", 2]), value("y", FLOAT, ["n", 2])
    return model([node("Add", ["x", "w"], ["y"])], [x], [y], [weight])


def nested(depth):
    """Make a model of an If in an If, and so on."""
    inner = helper.make_graph(
        [node("Identity", ["x"], ["y0"])], "g", [], [value("y0", FLOAT, None)]
    )
    for level in range(1, depth + 1):
        branch = node("If", ["c"], [f"y{level}"], then_branch=inner, else_branch=inner)
        if level > 3:  # one branch alone, so that the file stays small
            del branch.attribute[1:]
        inner = helper.make_graph([branch], "g", [], [value(f"y{level}", FLOAT, None)])
    inputs = [value("x", FLOAT, None), value("c", TensorProto.BOOL, [])]
    return model(list(inner.node), inputs, list(inner.output))


def calling_itself():
    """Make a model with two functions that call each other."""
    imports = [helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function("own", a, ["x"], ["y"], [node(b, ["x"], ["y"], domain="own")], imports)
        for a, b in (("F", "G"), ("G", "F"))
    ]
    opsets = {"": 21, "own": 1}
    x, y = value("x", FLOAT, ["n"]), value("y", FLOAT, ["n"])
    return model([node("F", ["x"], ["y"], domain="own")], [x], [y], (), opsets, functions)


def growing(levels=8, times=16):
    """Make a model whose functions each call the next one so many times."""
    imports = [helper.make_opsetid("own", 1), helper.make_opsetid("", 21)]
    functions = []
    for level in range(levels):
        last = level == levels - 1
        name, domain = ("Neg", "") if last else (f"F{level + 1}", "own")
        names = ["x", *(f"t{i}" for i in range(times - 1)), "y"]
        nodes = [node(name, [a], [b], domain=domain) for a, b in pairwise(names)]
        functions.append(helper.make_function("own", f"F{level}", ["x"], ["y"], nodes, imports))
    x, y = value("x", FLOAT, ["n"]), value("y", FLOAT, ["n"])
    opsets = {"": 21, "own": 1}
    return model([node("F0", ["x"], ["y"], domain="own")], [x], [y], (), opsets, functions)


def custom():
    """Make a model with an operator of a library of somebody's own."""
    x, y = value("x", FLOAT, ["n"]), value("y", FLOAT, ["n"])
    return model([node("Odd", ["x"], ["y"], domain="my.ops")], [x], [y], (), {"": 21, "my.ops": 1})


def external(made):
    """Let a weight be in another file."""
    made.graph.initializer[0].data_location = TensorProto.EXTERNAL
    made.graph.initializer[0].ClearField("raw_data")
    entry = made.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def dims(*sizes):
    """Return a change that gives the weight other dimensions."""

    def change(made):
        del made.graph.initializer[0].dims[:]
        made.graph.initializer[0].dims.extend(sizes)

    return change


def of_map_input():
    """Make a model that takes a map."""
    kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    taken = helper.make_value_info("m", kind)
    made = node("DictVectorizer", ["m"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a"])
    return model([made], [taken], [value("y", FLOAT, None)])


def of_datatype(datatype):
    """Make a model that returns its input of a datatype."""
    return identity(datatype)


REFUSED = {
    "a page": (b"<!DOCTYPE html><html></html>", "is not a valid ONNX model: byte "),
    "nothing": (b"", "is not a valid ONNX model: it has no graph"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    "ort": (b"\x20\0\0\0ORTM" + bytes(40), "is in ONNX Runtime's own format"),
    "half": (
        forest().SerializeToString()[:900],
        "announces .* bytes, where .* are left; it is prob",
    ),
    "two graphs": (with_weights().SerializeToString() * 2, "the model has its field 7 twice"),
    "external": (
        changed(external),
        "tensor 'w' has its values in another file, which is not read; save the model in one file",
    ),
    "dims": (changed(dims(1 << 40)), "tensor 'w' has 8 bytes; expected 4398046511104 for "),
    "overflowing dims": (changed(dims(1 << 62, 1 << 62)), "tensor 'w' has 8 bytes; expected "),
    "negative dims": (changed(dims(-1, -2)), r"the dimensions \[-1, -2\]; expected none below 0"),
    "many dims": (changed(dims(*[1] * 100)), "tensor '' has more than 64 dimensions"),
    "datatype": (
        changed(lambda m: setattr(m.graph.initializer[0], "data_type", 77)),
        "tensor 'w' has the unknown datatype 77",
    ),
    "several values": (
        changed(lambda m: m.graph.initializer[0].int64_data.append(1)),
        "tensor 'w' of float has values of several datatypes",
    ),
    "nested": (nested(DEEPEST + 2), "its graphs are nested more than 16 deep"),
    "recursion": (calling_itself(), "has a function 'F' that calls itself"),
    "growth": (growing(), "has a function 'F2' of more than 2000000 nodes"),
    "custom": (
        custom(),
        "has the operator 'Odd' of the domain 'my.ops', which onnxruntime does not have",
    ),
    "other files": (
        model(
            [node("EPContext", ["x"], ["y"], domain="com.microsoft")],
            [value("x", FLOAT, ["n"])],
            [value("y", FLOAT, ["n"])],
        ),
        "has the operator 'EPContext' of 'com.microsoft', which reads another file",
    ),
    "bfloat16": (
        of_datatype(TensorProto.BFLOAT16),
        "has the input 'x', a tensor of bfloat16, which",
    ),
    "complex": (
        of_datatype(TensorProto.COMPLEX64),
        "has the input 'x', a tensor of complex64, which",
    ),
    "map": (of_map_input(), "has the input 'm', a map, which is not a tensor; convert"),
    "ir": (
        changed(lambda m: setattr(m, "ir_version", 99)),
        "cannot be opened: it has the IR version 99; onnxruntime .* takes at most",
    ),
    "no ir": (
        changed(lambda m: m.ClearField("ir_version")),
        "has the IR version 0; expected at least",
    ),
    "opset": (
        model([], [], [value("y", FLOAT, ["n"])], opsets={"": 999}),
        "cannot be opened: it has the opset 999, which onnxruntime .* does not take",
    ),
    "no operator": (
        model([node("Nope", ["x"], ["y"])], [value("x", FLOAT, ["n"])], [value("y", FLOAT, ["n"])]),
        "cannot be opened: .*No Op registered for Nope",
    ),
    "no outputs": (changed(lambda m: m.graph.ClearField("output")), "has a graph without outputs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_or_hostile_file_is_refused_with_a_sentence(tmp_path, case):
    """The message names the file, what is wrong with it, and what to do."""
    made, said = REFUSED[case]

    assert re.search(said, refused(tmp_path, made))


def test_options_of_other_frameworks_are_refused(tmp_path):
    """An option that does nothing would be believed."""
    path = tmp_path / "model.onnx"
    onnx.save(identity(), path)

    with pytest.raises(LoadError, match=r"options\.providers is not a known option"):
        ONNX.load(path, LoadContext({"providers": ["CUDA"]}))


def test_what_cannot_be_served_is_not_saved(tmp_path):
    """The rules of loading are those of saving."""
    with pytest.raises(StoreError, match=r"'model' has the operator 'Odd' of the domain 'my\.ops'"):
        BundleStore(tmp_path).save("m", custom())
    with pytest.raises(StoreError, match="'model' cannot be served: tensor 'w' has its values in"):
        BundleStore(tmp_path).save("m", changed(external))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "values",
    [
        np.float32([1, 2, 3]),
        np.float64([1, 2, 3]),
        np.int64([1, -2, 1 << 60]),
        np.int32([-1, 2, 3]),
        np.uint64([1, 2, 1 << 63]),
        np.array([True, False, True]),
        np.float16([1, 2, 3]),
    ],
    ids=lambda array: str(array.dtype),
)
def test_values_are_counted_however_they_are_written(values, packed):
    """Raw, and as numbers of their own field, with one tag or one for each."""
    raw = numpy_helper.from_array(values, "w")
    numbers = values.view(np.uint16) if values.dtype == np.float16 else values
    typed = helper.make_tensor("w", raw.data_type, [3], values.tolist())
    for tensor in (raw, typed):
        made = model([], [], [value("w", raw.data_type, [3])], [tensor])
        data = made.SerializeToString()
        if not packed and tensor is typed:
            data = unpacked(made, numbers)
        assert ["w"] == list(read_structure(data).outputs)


_FIELDS = {4: "float_data", 5: "int32_data", 7: "int64_data", 10: "double_data", 11: "uint64_data"}
_WIRES = {4: 5, 10: 1}


def unpacked(made, numbers):
    """Write the values of the only tensor with a tag for each."""
    tensor = made.graph.initializer[0]
    field = next(number for number, name in _FIELDS.items() if len(getattr(tensor, name)))
    tensor.ClearField(_FIELDS[field])
    rest = tensor.SerializeToString()
    for each in numbers:
        rest += bytes([field << 3 | _WIRES.get(field, 0)])
        rest += each.tobytes() if field in _WIRES else varint(int(each))
    made.graph.ClearField("initializer")
    return joined(made, rest)


def joined(made, tensor):
    """Put the bytes of a tensor into a model's graph."""
    graph = made.graph.SerializeToString() + b"\x2a" + varint(len(tensor)) + tensor
    made.ClearField("graph")
    return made.SerializeToString() + b"\x3a" + varint(len(graph)) + graph


def varint(number):
    """Write an integer as protobuf does."""
    number %= 1 << 64
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 5000])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_runs_of_strings_are_passed_over(size, count):
    """Their number is the same whether they are short or long, and what follows is found."""
    entry = b"\x4a" + varint(size) + b"J" * size
    data = entry * count + b"\x08\x05"
    found = list(Wire(data).fields(0, len(data), (9,)))

    assert count == sum(each.entries for each in found[:-1])
    assert (1, 5) == (found[-1].number, found[-1].value)


@pytest.mark.parametrize("tag", [0x38, 0x3D, 0x39])
@pytest.mark.parametrize("count", [1, 2, 31, 100_000])
def test_runs_of_numbers_are_passed_over(tag, count):
    """Varints of any length, and numbers of 4 and 8 bytes."""
    rng = np.random.default_rng(0)
    numbers = [int(each) for each in rng.integers(0, 1 << 62, count) >> rng.integers(0, 62, count)]
    size = {0x3D: 4, 0x39: 8}.get(tag)
    parts = [n.to_bytes(8, "little")[:size] if size else varint(n) for n in numbers]
    data = b"".join(bytes([tag]) + part for part in parts) + b"\x10\x05"
    found = list(Wire(data).fields(0, len(data), (7,)))

    assert count == sum(each.entries for each in found[:-1])
    assert (2, 5) == (found[-1].number, found[-1].value)
    assert len(found) < 20


def test_a_file_of_many_small_fields_ends_early(monkeypatch):
    """Whoever writes millions of fields is refused; none is kept."""
    monkeypatch.setattr(wire, "MOST_FIELDS", 1000)

    with pytest.raises(Malformed, match="it has more than 1000 fields"):
        read_structure(b"\x78\x01" * 2000)


def test_every_beginning_of_a_file_is_refused():
    """A file that was cut anywhere is never opened as another model."""
    data = with_weights().SerializeToString()
    kept = []
    for size in range(len(data)):
        try:
            structure = read_structure(data[:size])
        except Malformed:
            continue
        kept.append((size, structure.opsets))

    # The graph stands before the opsets, so that these alone may lack.
    assert all(len(opsets) < 3 for _, opsets in kept)
    assert len(kept) < 4


def vectorizer(**changes):
    """Make a model that counts 0, 1 and their pair."""
    attributes = {
        "max_gram_length": 2,
        "min_gram_length": 1,
        "max_skip_count": 0,
        "mode": "TF",
        "ngram_counts": [0, 2],
        "ngram_indexes": [0, 1, 2],
        "pool_int64s": [0, 1, 0, 1],
        **changes,
    }
    counting = node("TfIdfVectorizer", ["x"], ["y"], **attributes)
    return model([counting], [value("x", TensorProto.INT64, ["n"])], [value("y", FLOAT, None)])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ngram_indexes": [0, 1]}, "has 3 n-grams; expected ngram_indexes to have as many, not 2"),
        (
            {"ngram_indexes": [0] * 9},
            "has 3 n-grams; expected ngram_indexes to have as many, not 9",
        ),
        ({"ngram_counts": None}, "has 4 words in its n-grams, which begin at "),
        ({"ngram_counts": [0, 3]}, "has 4 words in its n-grams, which begin at "),
        ({"ngram_counts": [0, 9]}, "has 4 words in its n-grams, which begin at "),
        ({"ngram_counts": [-2, 2]}, "has 4 words in its n-grams, which begin at "),
        ({"pool_int64s": [0, 1, 0]}, "has 3 words in its n-grams, which begin at "),
    ],
)
def test_a_vocabulary_that_ends_the_process_is_refused(tmp_path, changes, said):
    """Onnxruntime 1.32 aborts where a vocabulary has too few places for its n-grams."""
    path = tmp_path / "good.onnx"
    onnx.save(vectorizer(), path)

    assert ONNX.load(path, LoadContext()) is not None
    assert f"a TfIdfVectorizer {said}" in refused(tmp_path, vectorizer(**changes))


def longer(name):
    """Return a forest whose list of that name has one entry more."""
    made = forest()
    attribute = next(a for a in made.graph.node[0].attribute if a.name == name)
    entries = next(e for e in (attribute.ints, attribute.floats, attribute.strings) if len(e))
    entries.append(entries[-1])
    return made


@pytest.mark.parametrize(
    "name", ["nodes_truenodeids", "nodes_values", "nodes_modes", "class_ids", "class_weights"]
)
def test_trees_with_lists_of_different_lengths_are_refused(tmp_path, name):
    """What onnxruntime 1.22 reads past the end of."""
    said = refused(tmp_path, longer(name))

    assert "a TreeEnsembleClassifier has lists of different lengths: " in said
    assert name in said


@pytest.mark.parametrize("number", [-(1 << 63), 1 << 40])
@pytest.mark.parametrize("name", ["nodes_featureids", "nodes_truenodeids", "nodes_treeids"])
def test_trees_with_places_outside_of_their_lists_are_refused(tmp_path, name, number):
    """What onnxruntime 1.32 does not come back from."""
    made = forest()
    attribute = next(a for a in made.graph.node[0].attribute if a.name == name)
    attribute.ints[3] = number

    assert f"a TreeEnsembleClassifier has {name} from " in refused(tmp_path, made)


@pytest.mark.parametrize("is_packed", [True, False])
def test_integers_are_read_however_they_are_written(is_packed):
    """Of any length and sign."""
    numbers = [0, 1, -1, 127, 128, 1 << 40, -(1 << 63), (1 << 63) - 1]
    parts = [varint(number) for number in numbers]
    packed = b"".join(parts)
    data = b"\x42" + varint(len(packed)) + packed
    if not is_packed:
        data = b"".join(b"\x40" + part for part in parts)
    (found, *more) = Wire(data).fields(0, len(data), (8,))

    assert not more
    assert numbers == Wire(data).integers(found).tolist()
