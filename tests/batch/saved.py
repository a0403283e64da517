"""Models of every framework, each with a table and what its library answers for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import xgboost
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from bundleserver import BundleStore

ROWS = 120
RANDOM = np.random.default_rng(5)
NUMBERS = pd.DataFrame(RANDOM.normal(size=(ROWS, 3)), columns=["a", "b", "c"])
LABELS = (NUMBERS.a + NUMBERS.b > 0).astype(int)
MIXED = NUMBERS.assign(kind=np.where(NUMBERS.c > 0, "x", "01"), count=np.arange(ROWS))
IDS = np.arange(1000, 1000 + ROWS)
TEXTS = ["red fish", "blue bird", "one fish"] * (ROWS // 3)


@dataclass(frozen=True)
class Case:
    """A model, a table for it, and what its library answers."""

    model: Any
    table: pd.DataFrame
    expected: np.ndarray
    method: str | None = None
    save: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def arrow(self) -> pa.Table:
        """Return the table with a key, in other columns' order."""
        return pa.Table.from_pandas(self.table.assign(id=IDS[: len(self.table)]))


class Sequences(torch.nn.Module):
    """A recurrent network over sequences of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.LSTM(2, 3, batch_first=True)
        self.head = torch.nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x)[0][:, -1])


def _shuffled(table: pd.DataFrame) -> pd.DataFrame:
    return table[list(table.columns)[::-1]]


def forest() -> Case:
    """Columns by name, in another order, with more beside them."""
    model = RandomForestClassifier(9, random_state=0).fit(NUMBERS, LABELS)
    return Case(model, _shuffled(MIXED), model.predict(NUMBERS))


def probabilities() -> Case:
    """Ask for a method in the place of the output, which has lists."""
    model = RandomForestClassifier(9, random_state=0).fit(NUMBERS, LABELS)
    return Case(model, MIXED, model.predict_proba(NUMBERS), "predict_proba")


def unnamed() -> Case:
    """Columns in their order, without names."""
    model = RandomForestClassifier(9, random_state=0).fit(NUMBERS.to_numpy(), LABELS)
    return Case(model, NUMBERS, model.predict(NUMBERS.to_numpy()))


def unnamed_by_choice() -> Case:
    """Columns that are named for a model that has no names."""
    model = RandomForestClassifier(9, random_state=0).fit(NUMBERS.to_numpy(), LABELS)
    expected = model.predict(NUMBERS.to_numpy())
    return Case(model, _shuffled(MIXED), expected, columns=("a", "b", "c"))


def pipeline() -> Case:
    """Strings beside numbers."""
    taken = MIXED[["a", "kind", "count"]]
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough"),
        LogisticRegression(),
    ).fit(taken, LABELS)
    return Case(model, MIXED, model.predict_proba(taken), "predict_proba")


def gaps() -> Case:
    """Missing numbers, for a model that takes them."""
    holes = NUMBERS.mask(RANDOM.random(NUMBERS.shape) < 0.2)
    model = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(holes, LABELS)
    return Case(model, holes, model.predict_proba(holes), "predict_proba")


def text() -> Case:
    """One string a row."""
    model = make_pipeline(TfidfVectorizer(), LogisticRegression())
    model.fit(TEXTS, np.arange(ROWS) % 3)
    return Case(model, pd.DataFrame({"text": TEXTS}), model.predict(TEXTS))


def strict() -> Case:
    """Declare inputs with columns, of 32 bits."""
    model = LinearRegression().fit(NUMBERS, NUMBERS.a)
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "columns": ["a", "b", "c"]}]
    expected = model.predict(NUMBERS.astype(np.float32))
    return Case(model, MIXED, expected, save={"inputs": inputs})


def xgb() -> Case:
    """XGBoost."""
    model = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(NUMBERS, LABELS)
    return Case(model, MIXED, model.predict_proba(NUMBERS), "predict_proba")


def lgbm() -> Case:
    """LightGBM."""
    model = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(NUMBERS, LABELS)
    return Case(model, MIXED, model.predict_proba(NUMBERS), "predict_proba")


def cat() -> Case:
    """CatBoost, with a column of strings."""
    taken = MIXED[["a", "kind"]]
    model = catboost.CatBoostClassifier(
        iterations=5,
        verbose=False,
        cat_features=["kind"],
        thread_count=1,
        allow_writing_files=False,
    ).fit(taken, LABELS)
    return Case(model, MIXED, model.predict_proba(taken), "predict_proba")


def onnx() -> Case:
    """ONNX: one tensor of 32 bits without names."""
    rows = NUMBERS.to_numpy(np.float32)
    model = RandomForestClassifier(5, random_state=0).fit(rows, LABELS)
    return Case(to_onnx(model, rows[:1]), NUMBERS.astype(np.float32), model.predict(rows))


def network() -> Case:
    """torch: a list in each row, and a list as the answer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()).eval()
    rows = NUMBERS.to_numpy(np.float32)
    rows_axis = torch.export.Dim("rows")
    program = torch.export.export(model, (torch.zeros(2, 3),), dynamic_shapes=({0: rows_axis},))
    with torch.no_grad():
        expected = model(torch.from_numpy(rows)).numpy()
    return Case(program, pd.DataFrame({"x": list(rows.astype(np.float64))}), expected)


def sequences() -> Case:
    """torch: a sequence in each row."""
    torch.manual_seed(0)
    model = Sequences().eval()
    rows = RANDOM.normal(size=(ROWS, 5, 2)).astype(np.float32)
    rows_axis = torch.export.Dim("rows")
    program = torch.export.export(model, (torch.zeros(2, 5, 2),), dynamic_shapes=({0: rows_axis},))
    with torch.no_grad():
        expected = model(torch.from_numpy(rows)).numpy()
    table = pd.DataFrame({"x": [[step.tolist() for step in row] for row in rows]})
    return Case(program, table, expected)


CASES: dict[str, Callable[[], Case]] = {
    make.__name__: make
    for make in (
        forest,
        probabilities,
        unnamed,
        unnamed_by_choice,
        pipeline,
        gaps,
        text,
        strict,
        xgb,
        lgbm,
        cat,
        onnx,
        network,
        sequences,
    )
}


def save(case: Case, root: Path, name: str = "model") -> Path:
    """Save a case's model, and return its directory."""
    BundleStore(root).save(name, case.model, **case.save)
    return root / name
