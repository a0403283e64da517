"""The loss function that a model was trained with, and the class that it tells."""

from __future__ import annotations

import json
from contextlib import suppress

from bundleserver.frameworks.cbm.model import Model

_CLASSIFYING = frozenset(
    {
        "CrossEntropy", "Focal", "Logloss", "MultiClass", "MultiClassOneVsAll", "MultiCrossEntropy",
        "MultiLogloss",
    }
)  # fmt: skip
_RANKING = frozenset(
    {
        "GroupQuantile", "LambdaMart", "PairLogit", "PairLogitPairwise", "QueryCrossEntropy",
        "QueryRMSE", "QuerySoftMax", "StochasticFilter", "StochasticRank", "UserPerObjMetric",
        "UserQuerywiseMetric", "YetiRank", "YetiRankPairwise",
    }
)  # fmt: skip
_OWN = ("Python", "UserPerObj", "UserQuerywise")
"""How the names of loss functions begin that users wrote: nothing tells what the model is."""


def loss_of_file(model: Model) -> str:
    """Return the name of the loss function; empty if the file does not say."""
    for text, key in ((model.info.get("params"), "loss_function"), (_alone(model), "")):
        with suppress(ValueError, RecursionError, TypeError, KeyError):
            found = json.loads(text or "")
            name = (found[key] if key else found)["type"]
            if isinstance(name, str):
                return name
    return ""


def class_of_file(model: Model) -> str:
    """Return the class of the library whose answers a file's model has."""
    loss = loss_of_file(model)
    if loss in _CLASSIFYING:
        return "CatBoostClassifier"
    if loss in _RANKING:
        return "CatBoostRanker"
    return "CatBoost" if not loss or loss.startswith(_OWN) else "CatBoostRegressor"


def _alone(model: Model) -> str | None:
    return model.info.get("loss_function")
