"""How long the libraries' own calls take, in a process that does nothing else; prints JSON.

These are the limits: a server that costs nothing would answer in this time.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from lstm import Autoencoder
from models import COLUMNS, HORIZON, SEED, Site
from prophet.serialize import model_from_json
from questions import asked_rows
from statsmodels.iolib.smpickle import load_pickle
from workloads import COMPARED, OURS, Protocol, Workload, call_key

LEAST_SECONDS = 1.0


def main() -> None:
    """Measure each model once; the keys are those of ``call_key``."""
    site = Site(Path(sys.argv[1]))
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(json.dumps(dict(_measure_all(site))))  # noqa: T201  # its answer to whoever started it


def _measure_all(site: Site) -> Iterator[tuple[str, float]]:
    for workload in [*COMPARED, *OURS]:
        if workload.protocol is Protocol.V2:
            yield call_key(workload), _median_ms(_call(site, workload))


def _call(site: Site, workload: Workload) -> Callable[[], object]:
    if workload.model == "arima":
        results = load_pickle(str(site.forecasters / "arima" / "v1" / "model.pkl"))
        return lambda: _forecast(results)
    if workload.model == "prophet":
        text = (site.forecasters / "prophet" / "v1" / "model.json").read_text()
        model = model_from_json(text)
        future = model.make_future_dataframe(HORIZON, include_history=False)
        return lambda: model.predict(future)
    rows = asked_rows(workload)
    if workload.model == "lstm":
        network = Autoencoder.seeded(COLUMNS, 32, SEED)
        return lambda: _errors(network, rows)
    estimator = joblib.load(site.pickles / f"{workload.model}.joblib")
    return lambda: estimator.predict(rows)


def _forecast(results: object) -> tuple[pd.Series, pd.DataFrame]:
    forecast = results.get_forecast(HORIZON)  # type: ignore[attr-defined]  # statsmodels' results
    return forecast.predicted_mean, forecast.conf_int()


def _errors(network: Autoencoder, rows: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        again = network(torch.from_numpy(rows)).numpy()
    return np.square(rows - again).mean(axis=(1, 2))


def _median_ms(call: Callable[[], object]) -> float:
    for _ in range(3):
        call()
    times: list[float] = []
    while sum(times) < LEAST_SECONDS:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()
