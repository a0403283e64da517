"""The systems of the demo: each is fitted on real data and saved as a bundle.

Four of them ask whether a year was an El Niño: the sea off Peru is warmer then than it should be.
They learn from the years 1950 to 1981, so those of 1983 and 1992 are new to them. The
other two forecast: sunspots in a cycle of about eleven years, and CO2 in the air, month by month.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import joblib
import numpy as np
import pandas as pd
import torch
from prophet import Prophet
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from statsmodels import datasets
from statsmodels.tsa.arima.model import ARIMA
from torch import nn

from bundleserver import BundleStore

SEED = 0
LAST_TRAINING_YEAR = 1981
SUNSPOT_YEARS_HELD_OUT = 22
CO2_MONTHS_HELD_OUT = 24
UNUSUAL_SHARE = 0.05
"""What the anomaly detectors call unusual: about one training year in twenty."""


@dataclass(frozen=True)
class System:
    """One model of the demo: the name it is served under, and how it gets into a store."""

    model: str
    about: str
    train_and_save: Callable[[BundleStore], object]


def sea_temperatures() -> pd.DataFrame:
    """Return the sea surface temperature off Peru (Niño 1+2) in °C: a row a year, JAN to DEC."""
    return datasets.elnino.load_pandas().data.astype({"YEAR": int}).set_index("YEAR")


def sunspots() -> pd.Series:
    """Return the mean number of sunspots of each year since 1700."""
    numbers = datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()
    return pd.Series(numbers, index=pd.date_range("1700", periods=len(numbers), freq="YS"))


def co2() -> pd.Series:
    """Return the CO2 in the air at Mauna Loa in ppm, as means of months since 1958."""
    weeks = datasets.co2.load_pandas().data["co2"]
    return weeks.resample("MS").mean().interpolate()


def save_isolation_forest(store: BundleStore) -> None:
    """Two files, one logical model: the scaler, then the forest, which answers twice."""
    years = sea_temperatures().loc[:LAST_TRAINING_YEAR]
    scaler, forest = _fit_isolation_forest(years)
    store.save(
        "predictive-analytics",
        {"scaler": scaler, "model": forest},
        # Nothing more is needed than the two objects; the names below make the answers readable.
        inputs=[{"name": "months", "datatype": "FP64", "shape": [-1, 12]}],
        steps=[
            {
                "component": "scaler",
                "method": "transform",
                "inputs": ["months"],
                "outputs": ["scaled"],
            },
            {"component": "model", "method": "predict", "inputs": ["scaled"], "outputs": ["label"]},
            {
                "component": "model",
                "method": "decision_function",
                "inputs": ["scaled"],
                "outputs": ["score"],
            },
        ],
        # The saved files are opened again and must give these answers, now and at every load.
        examples=years[:3],
        metadata={"training_data": _elnino(years)},
    )


def save_isolation_forest_without_bundleserver(store: BundleStore) -> None:
    """Write what the notebooks of ADR-031 write: two pickles in a directory, and no manifest."""
    scaler, forest = _fit_isolation_forest(sea_temperatures().loc[:LAST_TRAINING_YEAR])
    directory = store.root / "predictive-analytics-legacy"
    directory.mkdir()
    joblib.dump(scaler, directory / "isolation_forest_scaler.pkl")
    joblib.dump(forest, directory / "isolation_forest_model.pkl")


def save_arima(store: BundleStore) -> None:
    """Save a forecaster, whose dates come from the index of the series that it was fitted on."""
    past = sunspots()[:-SUNSPOT_YEARS_HELD_OUT]
    future = sunspots()[-SUNSPOT_YEARS_HELD_OUT:]
    results = ARIMA(past, order=(9, 0, 0)).fit()
    store.save(
        "arima-predictor",
        results,
        examples={"horizon": [3]},
        metrics={"mean_absolute_error": _mean_error(results.forecast(len(future)), future)},
        metadata={"training_data": {"uri": "statsmodels.datasets.sunspots", "rows": len(past)}},
    )


def save_prophet(store: BundleStore) -> None:
    """Save the other forecaster; a request cannot tell which library answers it."""
    past, future = co2()[:-CO2_MONTHS_HELD_OUT], co2()[-CO2_MONTHS_HELD_OUT:]
    model = Prophet().fit(pd.DataFrame({"ds": past.index, "y": past.to_numpy()}), seed=SEED)
    forecast = model.predict(pd.DataFrame({"ds": future.index}))["yhat"]
    store.save(
        "prophet-predictor",
        model,
        examples={"horizon": [3]},
        metrics={"mean_absolute_error": _mean_error(forecast, future)},
        metadata={"training_data": {"uri": "statsmodels.datasets.co2", "rows": len(past)}},
    )


class LstmAutoencoder(nn.Module):
    """Squeezes a sequence ``[n, t, 1]`` into a few numbers, and makes it again out of them."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(1, hidden, batch_first=True)
        self.decoder = nn.LSTM(hidden, 1, batch_first=True)

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """Decode the encoder's last hidden state, repeated for every step."""
        _, (last, _) = self.encoder(sequences)
        repeated = last[-1].unsqueeze(1).expand(-1, sequences.shape[1], -1)
        return self.decoder(repeated)[0]


def save_lstm(store: BundleStore) -> None:
    """Two frameworks, one logical model: what the autoencoder makes badly again is unusual."""
    years = sea_temperatures().loc[:LAST_TRAINING_YEAR]
    # A decoder of this kind gives values between -1 and 1.
    scaler = MinMaxScaler((-0.8, 0.8)).fit(years.to_numpy().reshape(-1, 1))
    scaled = scaler.transform(years.to_numpy().reshape(-1, 1)).reshape(-1, 12, 1)
    autoencoder = _fit_autoencoder(scaled)
    limit = float(np.quantile(_reconstruction_errors(autoencoder, scaled), 1 - UNUSUAL_SHARE))
    store.save(
        "lstm-predictor",
        {"scaler": scaler, "autoencoder": autoencoder},
        inputs=[{"name": "sequence", "datatype": "FP64", "shape": [-1, 12, 1]}],
        steps=[
            {
                "component": "scaler",
                "method": "transform",
                "inputs": ["sequence"],
                "outputs": ["scaled"],
            },
            {"component": "autoencoder", "inputs": ["scaled"], "outputs": ["again"]},
            {"op": "reconstruction_error", "inputs": ["scaled", "again"], "outputs": ["error"]},
            {
                "op": "threshold",
                "params": {"above": limit, "labels": [1, -1]},
                "inputs": ["error"],
                "outputs": ["label"],
            },
        ],
        outputs=[{"name": "label"}, {"name": "error"}],
        examples=years.to_numpy()[:3].reshape(-1, 12, 1),
        metadata={"training_data": _elnino(years)},
    )


ENSEMBLE_MANIFEST = {
    "format": "bundle/v1",
    "name": "ensemble-predictor",
    "components": {
        "forest": {"framework": "model", "model": "predictive-analytics"},
        "lstm": {"framework": "model", "model": "lstm-predictor"},
    },
    # One year twice: the forest takes it as twelve columns, the LSTM as a sequence of twelve steps.
    "inputs": [
        {"name": "months", "datatype": "FP64", "shape": [-1, 12]},
        {"name": "sequence", "datatype": "FP64", "shape": [-1, 12, 1]},
    ],
    "steps": [
        {"component": "forest", "inputs": ["months"], "outputs": ["forest_label"]},
        {"component": "lstm", "inputs": ["sequence"], "outputs": ["lstm_label"]},
        {
            "op": "vote",
            "params": {"weights": [0.5, 0.5], "threshold": 1.0, "votes": "sklearn"},
            "inputs": ["forest_label", "lstm_label"],
            "outputs": ["label", "score"],
        },
    ],
    "outputs": [{"name": "label"}, {"name": "score"}],
}
"""Runs two other models of the same server and lets them vote; unusual is what both call so."""


def save_ensemble(store: BundleStore) -> None:
    """Publish a directory that was written by hand: here it holds a manifest and nothing else."""
    directory = store.root.parent / "ensemble"
    directory.mkdir(exist_ok=True)
    (directory / "manifest.json").write_text(json.dumps(ENSEMBLE_MANIFEST, indent=2) + "\n")
    store.publish(directory, "ensemble-predictor")


SYSTEMS = (
    System(
        "predictive-analytics",
        "scaler + isolation forest on sea temperatures",
        save_isolation_forest,
    ),
    System(
        "predictive-analytics-legacy",
        "the same two files, written by plain joblib.dump",
        save_isolation_forest_without_bundleserver,
    ),
    System("arima-predictor", "ARIMA on yearly sunspots", save_arima),
    System("prophet-predictor", "Prophet on monthly CO₂", save_prophet),
    System("lstm-predictor", "scaler + LSTM autoencoder on sea temperatures", save_lstm),
    System("ensemble-predictor", "lets the forest and the LSTM vote", save_ensemble),
)
"""Everything that the demo serves, in the order in which it is saved."""


def _fit_isolation_forest(years: pd.DataFrame) -> tuple[StandardScaler, IsolationForest]:
    scaler = StandardScaler().fit(years)
    forest = IsolationForest(n_estimators=200, contamination=UNUSUAL_SHARE, random_state=SEED)
    return scaler, forest.fit(scaler.transform(years))


def _fit_autoencoder(scaled: np.ndarray) -> LstmAutoencoder:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    autoencoder = LstmAutoencoder(hidden=8)
    sequences = torch.tensor(scaled, dtype=torch.float32)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.mse_loss(autoencoder(sequences), sequences).backward()
        optimizer.step()
    return autoencoder


def _reconstruction_errors(autoencoder: LstmAutoencoder, scaled: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        again = autoencoder(torch.tensor(scaled, dtype=torch.float32)).numpy()
    return np.square(scaled - again).mean(axis=(1, 2))


def _mean_error(forecast: pd.Series, happened: pd.Series) -> float:
    return float(np.abs(forecast.to_numpy() - happened.to_numpy()).mean())


def _elnino(years: pd.DataFrame) -> dict[str, object]:
    return {"uri": "statsmodels.datasets.elnino", "rows": len(years)}
