"""Broken files of XGBoost, one row for each rule, with what is said of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from bundleserver.errors import LoadError
from bundleserver.frameworks import LoadContext, framework_named
from tests.frameworks.xgboost.trained import BOOSTERS, INSTALLED, categories

BOOSTER = BOOSTERS["softprob"]()
BINARY = bytes(BOOSTER.save_raw("ubj"))
TEXT = bytes(BOOSTER.save_raw("json"))


def document(name: str) -> Any:
    """Return a booster's document, to be changed."""
    booster = categories() if name == "categories" else BOOSTERS[name]()
    return json.loads(bytes(booster.save_raw("json")))


DOCUMENTS = {
    name: document(name)
    for name in ("softprob", "dart", "linear", "vectors", "codes", "categories")
}


def refusal(path: Any, content: bytes) -> str:
    """Return what is said of a file that is refused."""
    path.write_bytes(content)
    with pytest.raises(LoadError) as error:
        framework_named("xgboost").load(path, LoadContext())
    assert str(path) in str(error.value)
    return str(error.value)


CONTENTS = {
    "empty": (b"", "it is empty; copy it again"),
    "cut": (BINARY[:-100], "it is not the UBJSON that XGBoost writes: it ends early, at byte"),
    "cut text": (TEXT[:-1], "it is damaged, or no JSON: Expecting"),
    "more": (BINARY + b"?", "more follows after the model's end"),
    "given up": (b"binf" + BINARY, "perhaps in the binary format that XGBoost gave up"),
    "other": (b"\x80\x04N.", "it is neither UBJSON nor JSON"),
    "page": (b"<html>", "it is neither UBJSON nor JSON"),
    "deep": (b'{"learner":' * 9999, "it is nested deeper than 24"),
    "rather deep": (b'{"a":' * 30 + b"1" + b"}" * 30, "it is nested deeper than 24"),
    "deep binary": (b"{L\0\0\0\0\0\0\0\1a" * 99, "nesting is deeper than 24"),
    "twice": (b'{"version":1,"version":1}', "an object with the same key twice"),
    "escaped": (TEXT.replace(b'"trees"', rb'"tr\u0065es"'), "characters as \\u escapes"),
    "no UTF-8": (b'{"learner":"\xff"}', "it is not valid JSON: byte 12 is not UTF-8"),
    "long": (BINARY.replace(b"#L\0\0\0\0", b"#L\0\0\0\1", 1), "a length is 4294967296"),
    "negative": (BINARY.replace(b"#L\0", b"#L\xff", 1), "a length is -7"),
    "nothing": (b"{}", "'version' is not an array of integers"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_is_no_model_is_refused(tmp_path, name):
    """Whatever else is in it, the message says what and what to do."""
    content, said = CONTENTS[name]

    assert said in refusal(tmp_path / "model.ubj", content)


def test_a_file_of_a_later_version_is_refused(tmp_path):
    """XGBoost 2.1 answers the files of 3.2 with wrong numbers, and says nothing."""
    later = {**DOCUMENTS["softprob"], "version": [99, 1, 0]}
    said = refusal(tmp_path / "model.json", json.dumps(later).encode())

    assert "it was saved with XGBoost 99.1.0, whose files" in said
    assert "reads wrongly; install 99.1, or save it again with the one that is installed" in said


Change = Callable[[Any], object]


def learner(change: Change) -> Change:
    """Change what is in the learner."""
    return lambda model: change(model["learner"])


def params(**more: str) -> Change:
    """Change numbers of the model."""
    return learner(lambda found: found["learner_model_param"].update(more))


def trees(change: Change) -> Change:
    """Change what is in the model of trees."""
    return learner(lambda found: change(found["gradient_booster"]["model"]))


def tree(key: str, place: int, value: object) -> Change:
    """Change a number of the first tree."""
    return trees(lambda model: model["trees"][0][key].__setitem__(place, value))


def cats(change: Change) -> Change:
    """Change the recorded categories."""
    return trees(lambda model: change(model["cats"]))


CHANGES: dict[str, tuple[str, Change, str]] = {
    "no learner": ("softprob", lambda m: m.pop("learner"), "'learner' is missing"),
    "version": ("softprob", lambda m: m.update(version=[3]), "not the three numbers"),
    "columns": ("softprob", params(num_feature="0"), "'num_feature' is '0'; expected an integer"),
    "fewer columns": ("softprob", params(num_feature="3"), "a tree is for 4 columns; the model"),
    "classes": (
        "softprob",
        params(num_class="4", base_score="5E-1"),
        "the objective has 3 classes; the model has 4",
    ),
    "targets": ("softprob", params(num_target="2"), "several classes and targets"),
    "many targets": ("dart", params(num_target="99", base_score="1"), "99 outputs for a row,"),
    "no number": ("softprob", params(num_class="many"), "'num_class' is 'many'; expected an int"),
    "score": ("softprob", params(base_score="[1,2]"), "'base_score' is '[1,2]'; expected a number"),
    "names": (
        "softprob",
        learner(lambda m: m.update(feature_names=["a"])),
        "'feature_names' has 1 entries; the model has 4 columns",
    ),
    "one name": (
        "softprob",
        learner(lambda m: m.update(feature_names=["a"] * 4)),
        "'feature_names' has a name twice",
    ),
    "types": (
        "softprob",
        learner(lambda m: m.update(feature_types=["x"] * 4)),
        "'feature_types' has others than",
    ),
    "attributes": (
        "softprob",
        learner(lambda m: m["attributes"].update(best_iteration=3)),
        "'attributes' has values that are not strings",
    ),
    "objective": (
        "softprob",
        learner(lambda m: m["objective"].update(name="reg:other")),
        "the objective is 'reg:other', which is not known",
    ),
    "booster": (
        "softprob",
        learner(lambda m: m["gradient_booster"].update(name="gbforest")),
        "the booster is 'gbforest'; expected 'gbtree', 'dart' or 'gblinear'",
    ),
    "no trees": ("softprob", trees(lambda m: m.update(trees=[])), "no trees, so it was not"),
    "fewer trees": ("softprob", trees(lambda m: m["trees"].pop()), "'num_trees' is 12; the model"),
    "order": ("softprob", trees(lambda m: m["trees"].reverse()), "are not numbered from 0 on"),
    "outputs": (
        "softprob",
        trees(lambda m: m["tree_info"].__setitem__(0, 3)),
        "'tree_info' does not say for each tree which of 3 outputs it is for",
    ),
    "iterations": (
        "softprob",
        trees(lambda m: m["iteration_indptr"].__setitem__(1, 13)),
        "the iterations are not made of the model's trees",
    ),
    "nodes": (
        "softprob",
        trees(lambda m: m["trees"][0]["tree_param"].update(num_nodes="99")),
        "'left_children' of a tree has not one number for each node",
    ),
    "beyond": ("softprob", tree("left_children", 0, 99), "leads to another that its tree does not"),
    "circle": ("softprob", tree("left_children", 1, 1), "reached in two ways, or is its own end"),
    "root": ("softprob", tree("right_children", 1, 0), "leads to another that its tree does not"),
    "parent": ("softprob", tree("parents", 1, 2), "a node has another parent than the one"),
    "root's parent": ("softprob", tree("parents", 0, 1), "the first node of a tree has a parent"),
    "half a leaf": ("softprob", tree("right_children", -1, 1), "a right child and no left one"),
    "column": ("softprob", tree("split_indices", 0, 4), "none of the model's 4"),
    "fraction": ("softprob", tree("split_indices", 0, 0.5), "'split_indices' is not an array of"),
    "huge": ("softprob", tree("parents", 1, 1 << 70), "'parents' is not an array of integers"),
    "flag": ("softprob", tree("default_left", 0, 2), "'default_left' has numbers other than 0"),
    "text": ("softprob", tree("base_weights", 0, "1"), "'base_weights' is not an array of numbers"),
    "gains": (
        "softprob",
        trees(lambda m: m["trees"][0].pop("loss_changes")),
        "'loss_changes' is not an array of numbers",
    ),
    "leaf size": (
        "softprob",
        trees(lambda m: m["trees"][0]["tree_param"].update(size_leaf_vector="2")),
        "leaves have 2 numbers; the model has 3 for a row",
    ),
    "vectors": ("vectors", tree("right_children", -1, 99), "a leaf has no numbers in 'leaf_w"),
    "drops": (
        "dart",
        learner(lambda m: m["gradient_booster"]["weight_drop"].pop()),
        "'weight_drop' has 3 numbers; the model has 4 trees",
    ),
    "dart": (
        "dart",
        learner(lambda m: m["gradient_booster"]["gbtree"].update(name="dart")),
        "the trees of 'dart' are no 'gbtree'",
    ),
    "weights": (
        "linear",
        learner(lambda m: m["gradient_booster"]["model"]["weights"].pop()),
        "'weights' has 4 numbers; expected 5 for each output",
    ),
    "categories": (
        "categories",
        trees(lambda m: m["trees"][0]["categories_segments"].__setitem__(0, 99)),
        "a split is by categories that its tree does not have",
    ),
    "split type": (
        "categories",
        trees(lambda m: m["trees"][0]["categories_nodes"].pop()),
        "'categories_nodes' are not the nodes that split by categories",
    ),
    "high category": (
        "categories",
        trees(lambda m: m["trees"][0]["categories"].__setitem__(0, 1 << 30)),
        "a category is not a number from 0 to",
    ),
    "columns of categories": (
        "categories", cats(lambda m: m["enc"].pop()), "'cats' is not for the model's 3 columns",
    ),
    "segments": (
        "categories",
        cats(lambda m: m["feature_segments"].__setitem__(1, 99)),
        "'feature_segments' are not the numbers of categories",
    ),
    "sorted": (
        "categories",
        cats(lambda m: m["sorted_idx"].__setitem__(0, 1)),
        "'sorted_idx' is not an order of the categories",
    ),
    "offsets": (
        "categories",
        cats(lambda m: m["enc"][1]["offsets"].__setitem__(1, 99)),
        "'offsets' do not cut the categories of a column",
    ),
    "type": (
        "categories",
        cats(lambda m: m["enc"][2].update(type=8)),
        "categories have a type that XGBoost does not write",
    ),
    "same": (
        "categories",
        cats(lambda m: m["enc"][2]["values"].__setitem__(0, 7)),
        "a column has a category twice",
    ),
}  # fmt: skip


SINCE = {"categories": (3, 1, 0), "vectors": (3, 2, 0)}
"""Since when XGBoost writes what some of the rows change."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_model_whose_parts_do_not_agree_is_refused(tmp_path, name):
    """What would lead XGBoost out of its arrays is compared before it reads the file."""
    which, change, said = CHANGES[name]
    if INSTALLED < SINCE.get(which, INSTALLED):
        pytest.skip(f"XGBoost {INSTALLED} writes no such files")
    broken = copy.deepcopy(DOCUMENTS[which])
    change(broken)

    assert said in refusal(tmp_path / "model.json", json.dumps(broken).encode())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_unchanged_model_is_taken(tmp_path, name):
    """What is refused above is refused for its change, white space being none."""
    path = tmp_path / "model.json"
    path.write_text(json.dumps(DOCUMENTS[name], indent=1))

    assert "predict" in framework_named("xgboost").load(path, LoadContext()).methods
