"""What a model's document says of the model as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Version = tuple[int, int, int]


@dataclass(frozen=True)
class Recorded:
    """What is known of a booster from its document.

    Attributes:
        booster: ``gbtree``, ``dart`` or ``gblinear``.
        objective: XGBoost's name of it, such as ``binary:logistic``.
        columns: how many columns a row of its table has.
        outputs: how many numbers it has for a row, before classes are chosen.
        names: the columns' names; none if it was trained without.
        types: the columns' types, such as ``c``; none if they were not said.
        categories: the categories of columns by their place, as far as they are recorded; empty
            where XGBoost did not record them so that they can be read.
        estimator: of which kind of scikit-learn's estimators it was saved: ``classifier``,
            ``regressor``, ``ranker``; empty: of none.
        classes: how many classes it chooses from; 0 for two, and where there are none.
        best_iteration: where training with early stopping was best.
        version: the XGBoost that wrote it.
    """

    booster: str
    objective: str
    columns: int
    outputs: int
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    categories: Mapping[int, tuple[object, ...]] = field(default_factory=dict)
    estimator: str = ""
    classes: int = 0
    best_iteration: int | None = None
    version: Version = (0, 0, 0)
