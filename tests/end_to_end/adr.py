"""The directories of ADR-031, written as a notebook writes them: joblib, pickle and torch alone."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from prophet import Prophet
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import StandardScaler
from statsmodels.tsa.arima.model import ARIMA

ROW = [[0.5, 0.3, 0.8]]


class LSTMAutoencoder(torch.nn.Module):
    """What ``lstm_autoencoder.pt`` holds the weights of."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.encoder = torch.nn.LSTM(features, hidden, batch_first=True)
        self.decoder = torch.nn.LSTM(hidden, features, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        encoded, _ = self.encoder(x)
        decoded, _ = self.decoder(encoded)
        return decoded


@dataclass(frozen=True)
class Systems:
    """The fitted objects, for what they answer in this process."""

    scaler: StandardScaler
    forest: IsolationForest
    arima: object
    prophet: Prophet
    lstm: LSTMAutoencoder
    ensemble: dict[str, object]

    def label(self, rows: object) -> list[int]:
        return self.forest.predict(self.scaler.transform(np.array(rows))).tolist()

    def arima_forecast(self, steps: int, level: float) -> dict[str, list[float]]:
        forecast = self.arima.get_forecast(steps)
        interval = np.asarray(forecast.conf_int(alpha=1 - level))
        return {
            "mean": np.asarray(forecast.predicted_mean).tolist(),
            "lower": interval[:, 0].tolist(),
            "upper": interval[:, 1].tolist(),
        }

    def error(self, rows: object) -> list[float]:
        """Return the reconstruction error of rows, each a sequence of length 1, or of sequences."""
        values = np.array(rows, dtype=np.float64)
        scaled = self.scaler.transform(values.reshape(-1, values.shape[-1])).reshape(values.shape)
        sequences = torch.tensor(scaled if scaled.ndim == 3 else scaled[:, None, :]).float()
        with torch.inference_mode():
            decoded = self.lstm.eval()(sequences).numpy().astype(np.float64)
        difference = (decoded.reshape(values.shape) - scaled) ** 2
        return difference.reshape(len(values), -1).mean(axis=1).tolist()


def write_volume(root: Path) -> Systems:
    """Write the five directories that are served, and the one that is refused."""
    systems = fit()
    dump = {
        "predictive-analytics/isolation_forest_model.pkl": systems.forest,
        "predictive-analytics/isolation_forest_scaler.pkl": systems.scaler,
        "arima-predictor/arima_model.pkl": systems.arima,
        "prophet-predictor/prophet_model.pkl": systems.prophet,
        "lstm-predictor/lstm_scaler.pkl": systems.scaler,
        "anomaly-detector/arima_model.pkl": systems.arima,
        "anomaly-detector/prophet_model.pkl": systems.prophet,
    }
    for name, value in dump.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(value, root / name)
    torch.save(systems.lstm.state_dict(), root / "lstm-predictor" / "lstm_autoencoder.pt")
    ensemble = root / "ensemble-predictor"
    ensemble.mkdir()
    with (ensemble / "ensemble_config.pkl").open("wb") as file:
        pickle.dump(systems.ensemble, file)
    return systems


def fit() -> Systems:
    """Fit every system on small data."""
    random = np.random.default_rng(0)
    rows = random.random((300, 3))
    scaler = StandardScaler().fit(rows)
    forest = IsolationForest(n_estimators=20, random_state=0).fit(scaler.transform(rows))
    hours = pd.date_range("2025-01-01", periods=120, freq="h")
    wave = np.sin(np.arange(120) / 12 * np.pi) + random.normal(0, 0.1, 120)
    series = pd.Series(wave, index=hours)
    torch.manual_seed(0)
    prophet = Prophet(weekly_seasonality=False, yearly_seasonality=False)
    return Systems(
        scaler=scaler,
        forest=forest,
        arima=ARIMA(series, order=(2, 0, 0)).fit(),
        prophet=prophet.fit(pd.DataFrame({"ds": hours, "y": wave}), seed=1),
        lstm=LSTMAutoencoder(3, 4),
        ensemble={
            "methods": [
                "Isolation Forest",
                "ARIMA",
                "Prophet",
                "LSTM",
                "Hard Voting",
                "Weighted Voting",
            ],
            "weights": [0.4, 0.2, 0.2, 0.2],
            "threshold": 0.5,
            "best_method": "Weighted Voting",
            "performance": [{"method": "Isolation Forest", "f1": 0.9}],
        },
    )
