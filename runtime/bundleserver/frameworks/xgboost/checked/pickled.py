"""The bytes in a pickled booster: its model, and the parameters that it was trained with."""

from __future__ import annotations

from collections.abc import Mapping

from bundleserver.frameworks.boosting.soundness import demand
from bundleserver.frameworks.xgboost.checked.model import (
    booster_model,
    check_model,
    check_objective,
    read_document,
)
from bundleserver.frameworks.xgboost.checked.recorded import Version
from bundleserver.frameworks.xgboost.checked.values import member

_PARAMS = ("gbtree_model_param", "learner_model_param")


def check_buffer(content: bytes, installed: Version) -> None:
    """Check what a booster gets back its trees from.

    Raises:
        NotSound: its parts do not agree.
    """
    document = read_document(content)
    model, config = member(document, "Model", dict), member(document, "Config", dict)
    recorded = check_model(model, installed)
    learner, said = member(model, "learner", dict), member(config, "learner", dict)
    gradient, of_config = (member(of, "gradient_booster", dict) for of in (learner, said))
    trained = member(said, "learner_train_param", dict)
    names = {of_config.get("name"), trained.get("booster")}
    demand(holds=names == {recorded.booster}, what="the parameters are of another booster")
    objective = check_objective(member(said, "objective", dict), recorded.classes)
    demand(
        holds={objective, trained.get("objective")} == {recorded.objective},
        what="the parameters have another objective",
    )
    of_model = {**learner, **booster_model(gradient)}
    inner = member(of_config, "gbtree", dict, default={})
    for part in (said, of_config, inner):
        _check_same(part, of_model)


def _check_same(part: Mapping[str, object], of_model: Mapping[str, object]) -> None:
    for key in _PARAMS:
        if key in part:
            demand(
                holds=part[key] == of_model.get(key),
                what=f"'{key}' of the parameters differs from the model's",
            )
