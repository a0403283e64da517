"""A model's document as a whole: read, checked, and told."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from bundleserver.frameworks.boosting.soundness import NotSound, demand
from bundleserver.frameworks.xgboost.checked.categories import categories_in
from bundleserver.frameworks.xgboost.checked.json_text import read_json
from bundleserver.frameworks.xgboost.checked.recorded import Recorded, Version
from bundleserver.frameworks.xgboost.checked.trees import check_trees, leaf_size
from bundleserver.frameworks.xgboost.checked.ubjson import read_ubjson
from bundleserver.frameworks.xgboost.checked.values import (
    count,
    is_ordered,
    length_of_numbers,
    member,
    objects,
    texts,
    whole_numbers,
)

OBJECTIVES = frozenset(
    {
        "binary:hinge", "binary:logistic", "binary:logitraw", "count:poisson", "multi:softmax",
        "multi:softprob", "rank:map", "rank:ndcg", "rank:pairwise", "reg:absoluteerror",
        "reg:expectileerror", "reg:gamma", "reg:linear", "reg:logistic", "reg:pseudohubererror",
        "reg:quantileerror", "reg:squarederror", "reg:squaredlogerror", "reg:tweedie",
        "survival:aft", "survival:cox",
    }
)  # fmt: skip

_TYPES = frozenset({"float", "int", "i", "q", "c"})
_NUMBER = r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?"
_SCORES = re.compile(rf"{_NUMBER}|\[{_NUMBER}(,{_NUMBER})*\]")

Document = Mapping[str, object]


def read_document(content: bytes) -> Document:
    """Return the document of a file, of either format that XGBoost writes.

    Raises:
        NotSound: it is none.
    """
    if not content.strip():
        raise NotSound("it is empty; copy it again, or save the model again")
    if content.startswith(b"{L"):
        return read_ubjson(content)
    if content.lstrip().startswith(b"{"):
        return read_json(content)
    raise NotSound(
        "it is neither UBJSON nor JSON, and perhaps in the binary format that XGBoost gave up; "
        "open it with the XGBoost that wrote it, and save it again with save_model('model.ubj')"
    )


def check_model(document: Document, installed: Version) -> Recorded:
    """Check a model's document; return what it says.

    Args:
        document: the content of a file.
        installed: the version of XGBoost that is to read it.

    Raises:
        NotSound: it is from a later version, or its parts do not agree.
    """
    version = _version(document, installed)
    learner = member(document, "learner", dict)
    attributes = member(learner, "attributes", dict, default={})
    if not all(type(value) is str for value in attributes.values()):
        raise NotSound("'attributes' has values that are not strings")
    params = member(learner, "learner_model_param", dict)
    columns = count(params, "num_feature", 1)
    classes, targets = count(params, "num_class", 0), count(params, "num_target", 1, default=1)
    demand(holds=classes <= 1 or targets == 1, what="the model has several classes and targets")
    outputs = max(classes, targets, 1)
    _check_score(member(params, "base_score", str), outputs)
    names, types = texts(learner, "feature_names"), texts(learner, "feature_types")
    for key, found in (("feature_names", names), ("feature_types", types)):
        demand(
            holds=len(found) in (0, columns),
            what=f"'{key}' has {len(found)} entries; the model has {columns} columns",
        )
    demand(holds=len({*names}) == len(names), what="'feature_names' has a name twice")
    demand(holds={*types} <= _TYPES, what=f"'feature_types' has others than {sorted(_TYPES)}")
    objective = check_objective(member(learner, "objective", dict), classes)
    gradient = member(learner, "gradient_booster", dict)
    booster, categories = _check_booster(gradient, columns, outputs, (version, installed))
    return Recorded(
        booster, objective, columns, outputs, names, types, categories,
        *_estimator(attributes, classes), version,
    )  # fmt: skip


def check_objective(objective: Document, classes: int) -> str:
    """Check what an objective says; return its name.

    Raises:
        NotSound: it is unknown, or for another number of classes than the model.
    """
    name: str = member(objective, "name", str)
    demand(holds=name in OBJECTIVES, what=f"the objective is '{name:.40}', which is not known")
    if name.startswith("multi:"):
        own = count(member(objective, "softmax_multiclass_param", dict), "num_class", 1)
        demand(
            holds=own == classes, what=f"the objective has {own} classes; the model has {classes}"
        )
    return name


def booster_model(gradient: Document) -> Document:
    """Return where a gradient booster keeps its trees or weights.

    Raises:
        NotSound: there is nothing.
    """
    if gradient.get("name") == "dart":
        gradient = member(gradient, "gbtree", dict)
        demand(holds=gradient.get("name") == "gbtree", what="the trees of 'dart' are no 'gbtree'")
    found: Document = member(gradient, "model", dict)
    return found


def _version(document: Document, installed: Version) -> Version:
    numbers = whole_numbers(document.get("version"), "version").tolist()
    demand(
        holds=len(numbers) == 3 and all(0 <= number < 10_000 for number in numbers),
        what="'version' is not the three numbers of a version",
    )
    major, minor, patch = numbers
    if (major, minor) > installed[:2]:
        raise NotSound(
            f"it was saved with XGBoost {major}.{minor}.{patch}, whose files "
            f"{installed[0]}.{installed[1]} reads wrongly; install {major}.{minor}, or save it "
            "again with the one that is installed"
        )
    return major, minor, patch


def _check_score(text: str, outputs: int) -> None:
    found = text.count(",") + 1
    demand(
        holds=_SCORES.fullmatch(text) and found in (1, outputs),
        what=f"'base_score' is '{text:.40}'; expected a number, or {outputs} in brackets",
    )


def _check_booster(
    gradient: Document, columns: int, outputs: int, versions: tuple[Version, Version]
) -> tuple[str, Mapping[int, tuple[object, ...]]]:
    name = member(gradient, "name", str)
    if name not in ("gbtree", "dart", "gblinear"):
        raise NotSound(f"the booster is '{name:.40}'; expected 'gbtree', 'dart' or 'gblinear'")
    model = booster_model(gradient)
    if name == "gblinear":
        weights, expected = length_of_numbers(model.get("weights"), "weights"), columns + 1
        demand(
            holds=weights == expected * outputs,
            what=f"'weights' has {weights} numbers; expected {expected} for each output",
        )
        member(model, "boosted_rounds", int, default=0)
        return name, {}
    trees = objects(member(model, "trees", list), "trees")
    _check_order(model, len(trees), outputs)
    has_vectors = leaf_size(trees) > 1
    demand(
        holds=has_vectors or outputs <= len(trees),
        what=f"the model has {outputs} outputs for a row, and {len(trees)} trees",
    )
    if has_vectors and versions[0][:2] != versions[1][:2]:
        raise NotSound(
            "its trees have several outputs each, which each version of XGBoost writes in its own "
            f"way; train it again with {versions[1][0]}.{versions[1][1]}, which is installed"
        )
    check_trees(trees, columns, outputs, versions[1])
    if name == "dart":
        drops = length_of_numbers(gradient.get("weight_drop"), "weight_drop")
        demand(
            holds=drops == len(trees),
            what=f"'weight_drop' has {drops} numbers; the model has {len(trees)} trees",
        )
    return name, categories_in(model, columns)


def _check_order(model: Document, trees: int, outputs: int) -> None:
    """Check which trees make an iteration, and which output each is for."""
    demand(holds=trees, what="the model has no trees, so it was not trained")
    params = member(model, "gbtree_model_param", dict)
    said = count(params, "num_trees", 1)
    demand(holds=said == trees, what=f"'num_trees' is {said}; the model has {trees}")
    parallel = count(params, "num_parallel_tree", 0, trees, default=1)
    outputs_of = whole_numbers(model.get("tree_info"), "tree_info")
    demand(
        holds=len(outputs_of) == trees and ((outputs_of >= 0) & (outputs_of < outputs)).all(),
        what=f"'tree_info' does not say for each tree which of {outputs} outputs it is for",
    )
    if "iteration_indptr" in model:
        starts = whole_numbers(model["iteration_indptr"], "iteration_indptr")
        is_sound = is_ordered(starts, trees)
    else:
        is_sound = parallel > 0 and trees % (parallel * outputs) == 0
    demand(holds=is_sound, what="the iterations are not made of the model's trees")


def _estimator(attributes: Document, classes: int) -> tuple[str, int, int | None]:
    """Return the kind of estimator, its number of classes and its best iteration."""
    best = str(attributes.get("best_iteration", ""))
    is_number = re.fullmatch(r"\d{1,9}", best) is not None
    try:
        said = json.loads(str(attributes.get("scikit_learn", "{}")))
    except (ValueError, RecursionError):
        said = None
    kind = said.get("_estimator_type", "") if type(said) is dict else ""
    is_known = kind in ("classifier", "regressor", "ranker")
    return kind if is_known else "", classes, int(best) if is_number else None
