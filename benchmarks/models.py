"""The models of the benchmarks: fitted once, saved as bundles for us and with joblib for others."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore

SEED = 0
COLUMNS = 8
TREES = 100
SEQUENCE_STEPS = 12
HORIZON = 24


@dataclass(frozen=True)
class Site:
    """Where one set of models lies: ``store`` for bundleserver, ``pickles`` for the others."""

    root: Path

    @property
    def store(self) -> Path:
        """The directory of bundles, for ``--model_dir``."""
        return self.root / "store"

    @property
    def pickles(self) -> Path:
        """The directory of ``<name>.joblib`` files."""
        return self.root / "pickles"

    @property
    def mlserver(self) -> Path:
        """The directory of MLServer's settings, with a directory for each model."""
        return self.root / "mlserver"

    @property
    def forecasters(self) -> Path:
        """The directory of bundles that only bundleserver serves."""
        return self.root / "forecasters"


def draw_rows(rows: int, columns: int = COLUMNS, seed: int = SEED) -> np.ndarray:
    """Return rows of which about a fifth lies far out, so that a forest gives both labels."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(rows, columns))
    values[generator.random(rows) < 0.2] *= 4
    return values


def save_free(site: Site, name: str = "free", columns: int = COLUMNS) -> None:
    """Save a model that costs nothing: it answers the same number for each row."""
    model = DummyRegressor(strategy="constant", constant=0.5)
    model.fit(draw_rows(16, columns), np.zeros(16))
    _save(site, name, {"model": model}, model, columns)


def save_forest(
    site: Site, name: str = "forest", columns: int = COLUMNS, trees: int = TREES
) -> None:
    """Save a scaler and an isolation forest, the two files of ADR-031's predictive analytics."""
    rows = draw_rows(2000, columns)
    pipeline = make_pipeline(
        StandardScaler(), IsolationForest(n_estimators=trees, random_state=SEED)
    ).fit(rows)
    scaler, forest = pipeline[0], pipeline[1]
    _save(site, name, {"scaler": scaler, "model": forest}, pipeline, columns)


def _save(
    site: Site, name: str, components: dict[str, object], whole: object, columns: int
) -> None:
    BundleStore(site.store).save(
        name,
        components,
        inputs=[{"name": "features", "datatype": "FP64", "shape": [-1, columns]}],
        examples=draw_rows(3, columns),
    )
    site.pickles.mkdir(parents=True, exist_ok=True)
    joblib.dump(whole, site.pickles / f"{name}.joblib")


def save_libraries(site: Site) -> None:
    """Save boosters and a forest in ONNX's format, of 100 trees each, in their own files."""
    import lightgbm
    import xgboost

    rows = draw_rows(2000)
    target = rows[:, 0] * 3 + rows[:, 1] ** 2
    booster = xgboost.train({"max_depth": 6, "nthread": 1}, xgboost.DMatrix(rows, target), TREES)
    trees = lightgbm.train(
        {"objective": "regression", "num_threads": 1, "verbose": -1},
        lightgbm.Dataset(rows, target),
        TREES,
    )
    graph = _forest_in_onnx(rows, target)
    store = BundleStore(site.store)
    for name, model, suffix, implementation in (
        ("xgboost", booster, ".ubj", "mlserver_xgboost.XGBoostModel"),
        ("lightgbm", trees, ".txt", "mlserver_lightgbm.LightGBMModel"),
        ("onnx", graph, ".onnx", "mlserver_onnx.OnnxModel"),
    ):
        saved = store.path(name, store.save(name, {"model": model}))
        site.pickles.mkdir(parents=True, exist_ok=True)
        shutil.copy(saved / f"model{suffix}", site.pickles / f"{name}{suffix}")
        _set_mlserver(site.mlserver / name, name, implementation, site.pickles / f"{name}{suffix}")


def save_with_scaler(site: Site, name: str) -> Path:
    """Save a scaler with the saved booster of a name; return the bundle's directory."""
    directory = site.root / "scaled" / name
    directory.mkdir(parents=True, exist_ok=True)
    joblib.dump(StandardScaler().fit(draw_rows(2000)), directory / "scaler.joblib")
    saved = next(path for path in site.pickles.iterdir() if path.stem == name)
    shutil.copy(saved, directory / f"model{saved.suffix}")
    return directory


def _forest_in_onnx(rows: np.ndarray, target: np.ndarray) -> object:
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(TREES, max_depth=8, random_state=SEED).fit(rows, target)
    return to_onnx(forest, rows[:1].astype(np.float32))


def _set_mlserver(directory: Path, name: str, implementation: str, file: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"name": name, "implementation": implementation, "parameters": {"uri": str(file)}}
    (directory / "model-settings.json").write_text(json.dumps(settings))


def save_forecasters(site: Site) -> None:
    """Save ARIMA, Prophet and an LSTM autoencoder; the libraries are imported here only."""
    store = BundleStore(site.forecasters)
    days = pd.date_range("2024-01-01", periods=300, freq="D")
    series = pd.Series(10 + np.sin(np.arange(300) / 7) + draw_rows(300, 1)[:, 0] / 9, index=days)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store.save("arima", fit_arima(series), examples={"horizon": [3]})
        store.save("prophet", fit_prophet(series), examples={"horizon": [3]})
    _save_lstm(store)


def fit_arima(series: pd.Series) -> object:
    """Fit the ARIMA(2, 1, 2) of the table."""
    from statsmodels.tsa.arima.model import ARIMA

    return ARIMA(series, order=(2, 1, 2)).fit()


def fit_prophet(series: pd.Series) -> object:
    """Fit Prophet as it comes, with its 1000 samples for the interval."""
    from prophet import Prophet

    return Prophet().fit(pd.DataFrame({"ds": series.index, "y": series.to_numpy()}), seed=SEED)


def _save_lstm(store: BundleStore) -> None:
    """Save an LSTM autoencoder (8 → 32, two layers) with the weights that it was made with."""
    from lstm import Autoencoder

    rows = draw_rows(64, SEQUENCE_STEPS * COLUMNS).reshape(64, SEQUENCE_STEPS, COLUMNS)
    store.save(
        "lstm",
        {"model": Autoencoder.seeded(COLUMNS, 32, SEED)},
        inputs=[{"name": "sequence", "datatype": "FP32", "shape": [-1, SEQUENCE_STEPS, COLUMNS]}],
        steps=[
            {"component": "model", "inputs": ["sequence"], "outputs": ["again"]},
            {
                "op": "reconstruction_error",
                "inputs": ["sequence", "again"],
                "outputs": ["error"],
            },
        ],
        outputs=[{"name": "error"}],
        examples=rows[:3].astype(np.float32),
    )
