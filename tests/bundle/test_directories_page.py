"""Every row of docs/directories.md, with real fitted objects."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import re
import sys
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import catboost
import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
import xgboost
from prophet import Prophet
from prophet.serialize import model_to_json
from skl2onnx import to_onnx
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    LabelBinarizer,
    LabelEncoder,
    MinMaxScaler,
    MultiLabelBinarizer,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from statsmodels.tsa.arima.model import ARIMA

from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring import infer_manifest, probable_manifest
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import BundleServerError

PAGE = Path(__file__).parents[2] / "docs/directories.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and "`init`" not in line
]

RNG = np.random.default_rng(5)
X = RNG.integers(0, 4, size=(60, 3)).astype(float)
Y = 100 + X @ [3.0, -2.0, 5.0]
ABOVE = (Y > np.median(Y)).astype(int)
WORDS = np.where(ABOVE, "high", "low")


class LSTMAutoencoder(torch.nn.Module):
    """The autoencoder as notebooks write it."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.LSTM(3, 4, batch_first=True)
        self.decoder = torch.nn.LSTM(4, 3, batch_first=True)


class Doubles(torch.nn.Module):
    """Doubles its input."""

    def forward(self, x):
        """Double."""
        return x * 2


def booster():
    """Train a booster of XGBoost."""
    return xgboost.train({"max_depth": 2}, xgboost.DMatrix(X, Y), 3)


def lightgbm_booster():
    """Train a booster of LightGBM."""
    return lightgbm.train({"verbose": -1, "min_data_in_leaf": 5}, lightgbm.Dataset(X, Y), 3)


OBJECTS = {
    "booster": booster,
    "IsolationForest": lambda: IsolationForest(n_estimators=10, random_state=0).fit(X),
    "LogisticRegression": lambda: LogisticRegression().fit(X, ABOVE),
    "ModelOfCodes": lambda: RandomForestClassifier(5, random_state=0).fit(X, ABOVE),
    "Pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, ABOVE),
    "Regression": lambda: LinearRegression().fit(X, (Y - Y.mean()) / Y.std()),
    "RegressionOf2": lambda: LinearRegression().fit(X[:, :2], Y),
    "StandardScaler": lambda: StandardScaler().fit(X),
    "MinMaxScaler": lambda: MinMaxScaler().fit(X),
    "ScalerOfY": lambda: StandardScaler().fit(Y.reshape(-1, 1)),
    "SimpleImputer": lambda: SimpleImputer().fit(X),
    "OrdinalEncoder": lambda: OrdinalEncoder().fit(X),
    "TargetEncoder": lambda: TargetEncoder().fit(X, ABOVE),
    "LabelEncoder": lambda: LabelEncoder().fit(WORDS),
    "LabelBinarizer": lambda: LabelBinarizer().fit(WORDS),
    "MultiLabelBinarizer": lambda: MultiLabelBinarizer().fit([["a"], ["b", "c"]]),
    "PCA to 2": lambda: PCA(2).fit(X),
    "list": lambda: ["cpu", "memory", "io"],
    "dict": lambda: {"window": 24, "names": ["cpu"]},
    "float": lambda: 0.25,
    "array": lambda: X.mean(axis=0),
    "DataFrame": lambda: pd.DataFrame(X),
    "models in a dict": lambda: {"scaler": StandardScaler().fit(X)},
    "pickled state dict": lambda: LSTMAutoencoder().state_dict(),
    "torch module": lambda: torch.nn.Linear(3, 1),
    "ARIMA": lambda: ARIMA(np.sin(np.arange(40)), order=(1, 0, 0)).fit(),
    "ensemble": lambda: {"methods": ["A", "B"], "weights": [0.5, 0.5], "threshold": 0.5},
    "notebook class": lambda: sys.modules["__main__"].LSTMPipeline(),
}
"""The objects that are pickled."""


def write_checkpoint(path):
    """Write what training loops keep."""
    torch.save({"epoch": 3, "state_dict": LSTMAutoencoder().state_dict()}, path)


def write_exported(path):
    """Export a program for any n rows."""
    rows = ({0: torch.export.Dim("n")},)
    torch.export.save(
        torch.export.export(Doubles(), (torch.ones(2, 3),), dynamic_shapes=rows), path
    )


def write_prophet(path):
    """Fit and write a Prophet model."""
    dates = pd.date_range("2025-01-01", periods=40, freq="D")
    model = Prophet().fit(pd.DataFrame({"ds": dates, "y": np.sin(np.arange(40))}))
    path.write_text(model_to_json(model))


WRITERS = {
    "XGBoost": lambda path: booster().save_model(path),
    "LightGBM": lambda path: lightgbm_booster().save_model(path),
    "CatBoost": lambda path: (
        catboost.CatBoostRegressor(iterations=3, verbose=False, allow_writing_files=False)
        .fit(X, Y)
        .save_model(path)
    ),
    "ONNX": lambda path: path.write_bytes(
        to_onnx(LinearRegression().fit(X, Y), X[:1].astype(np.float32)).SerializeToString()
    ),
    "skops": lambda path: skops.io.dump(LogisticRegression().fit(X, ABOVE), path),
    "skops of a scaler": lambda path: skops.io.dump(StandardScaler().fit(X), path),
    "JSON": lambda path: path.write_text('{"window": 24}'),
    "state dict": lambda path: torch.save(LSTMAutoencoder().state_dict(), path),
    "checkpoint": write_checkpoint,
    "exported program": write_exported,
    "TorchScript": lambda path: torch.jit.trace(Doubles(), torch.ones(2, 3)).save(path),
    "Prophet": write_prophet,
    "MLmodel": lambda path: path.write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n"),
    "text": lambda path: path.write_text("cpu,memory,io\n1,2,3\n"),
    "nothing": lambda path: path.write_bytes(b""),
}
"""What writes a file of its own format."""

COMPRESSED = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".z": zlib.compress}


def write(path, what):
    """Write a file as a notebook does; return the object that it holds, if it is a pickle."""
    if what in WRITERS:
        WRITERS[what](path)
        return None
    held = OBJECTS[what]()
    if path.suffix in COMPRESSED:
        path.write_bytes(COMPRESSED[path.suffix](pickle.dumps(held)))
    elif path.suffix == ".joblib":
        joblib.dump(held, path)
    else:
        path.write_bytes(pickle.dumps(held))
    return held


def steps_of(bundle: Bundle) -> list[str]:
    """Name the planned steps as the page does."""
    return [re.search(r"\((.+)\)", step.what)[1] for step in bundle._plan.steps]


def in_process(bundle, objects):
    """Run the same steps on the fitted objects themselves."""
    values = X[:4]
    for step in bundle._plan.steps:
        name, method = re.search(r"\((\w+)\.(\w+)\)", step.what).groups()
        held = objects[bundle.manifest.components[name].path]
        is_column = values.ndim == 1 and hasattr(held, "n_features_in_")
        values = getattr(held, method)(values.reshape(-1, 1) if is_column else values)
    return np.ravel(values)


def check_answer(bundle, objects):
    """Check that the bundle answers, and as the objects do where scikit-learn can tell."""
    if not bundle.signature.rowwise:
        rows = [{"horizon": 3}]
        assert 3 == len(ask(bundle, rows)["mean"])
    elif len(bundle.signature.inputs) > 1:
        assert [1] == ask(bundle, [[1, 1]])["label"].tolist()
    else:
        (answer,) = ask(bundle, X[:4].tolist()).values()
        if all(part.framework == "sklearn" for part in bundle.manifest.components.values()):
            assert in_process(bundle, objects).tolist() == pytest.approx(np.ravel(answer).tolist())


def ask(bundle, rows):
    """Answer V1 rows."""
    return bundle.predict(bundle.signature.validate_rows(rows, bundle.identity), {})


def check(cell, directory, open_it, objects):
    """Check what a cell of the page says: the steps and their answer, or part of the refusal."""
    if cell.startswith("refused: "):
        with pytest.raises(BundleServerError) as refused:
            open_it().close()
        said = str(refused.value)
        assert cell.removeprefix("refused: ").strip("`") in said
        assert str(directory) in said
    else:
        with closing(open_it()) as bundle:
            assert cell.replace("`", "").split(" → ") == steps_of(bundle)
            check_answer(bundle, objects)


@pytest.mark.parametrize(("files", "served", "init"), ROWS, ids=[row[0] for row in ROWS])
def test_a_directory_is_what_the_page_says(tmp_path, monkeypatch, files, served, init):
    """What a reader finds in the table is what a server and init do with those files."""
    notebook = type("LSTMPipeline", (), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "LSTMPipeline", notebook, raising=False)
    entries = re.findall(r"`([^`]+)` \(([^)]+)\)", files)
    objects = {name: write(tmp_path / name, what) for name, what in entries}
    assert entries or files == "nothing"

    def served_now():
        return open_bundle(tmp_path, infer_manifest(tmp_path, "m"))

    def written_by_init():
        probable = probable_manifest(tmp_path, "m")
        assert bool(probable.guesses) == (init != "the same" and not init.startswith("refused"))
        return open_bundle(tmp_path, replace(probable.manifest, inferred=False))

    check(served, tmp_path, served_now, objects)
    check(served if init == "the same" else init, tmp_path, written_by_init, objects)


def test_the_page_has_every_kind():
    """The table is read as it stands, and no kind of object stands here in vain."""
    named = {what for row in ROWS for _, what in re.findall(r"`([^`]+)` \(([^)]+)\)", row[0])}

    assert named == OBJECTS.keys() | WRITERS.keys()
