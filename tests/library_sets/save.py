"""Save small models with the libraries of this environment, and what they answer.

``python -m tests.library_sets.save SET`` writes them for the set of that name.
"""

from __future__ import annotations

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

import joblib
import numpy as np
import skops.io
import statsmodels.api as sm
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.tsa.arima.model import ARIMA

from bundleserver.store import BundleStore

SAVED = Path(__file__).parent / "saved"
ROWS = [[0.5, -1.0, 2.0], [1.5, 0.25, -0.5], [-2.0, 1.0, 0.0]]
STEPS = 3


def save_all(root: Path) -> dict[str, list[float]]:
    """Write a directory for each model; return the answers of the libraries by model."""
    rng = np.random.default_rng(7)
    table = rng.normal(size=(60, 3))
    labels = (table[:, 0] > 0).astype(int)
    scaler = StandardScaler().fit(table)
    scaled = scaler.transform(table)
    answers: dict[str, list[float]] = {}

    chain = LogisticRegression().fit(scaled, labels)
    _dumped(root / "chain", scaler=scaler, model=chain)
    answers["chain"] = chain.predict(scaler.transform(ROWS)).tolist()

    forest = RandomForestRegressor(3, max_depth=3, random_state=0).fit(table, table[:, 2])
    _dumped(root / "forest", model=forest)
    answers["forest"] = forest.predict(ROWS).tolist()

    boosted = HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=5, learning_rate=0.5)
    boosted.fit(table, table[:, 2])
    _dumped(root / "histograms", model=boosted)
    answers["histograms"] = boosted.predict(ROWS).tolist()

    ridge = make_pipeline(StandardScaler(), Ridge()).fit(table, table[:, 1])
    (root / "skops").mkdir()
    skops.io.dump(ridge, root / "skops" / "model.skops")
    answers["skops"] = ridge.predict(ROWS).tolist()

    store = BundleStore(root)
    store.save("bundle", {"scaler": scaler, "model": chain}, metadata={"trained_at": "2026-11-01"})
    answers["bundle"] = answers["chain"]

    line = sm.OLS(table[:, 1], sm.add_constant(table[:, :2])).fit()
    (root / "regression").mkdir()
    line.save(str(root / "regression" / "model.pkl"), remove_data=True)
    answers["regression"] = line.predict(np.array(ROWS)).tolist()

    series = ARIMA(np.sin(np.arange(24.0)), order=(1, 0, 0)).fit()
    (root / "series").mkdir()
    series.save(str(root / "series" / "model.pkl"))
    answers["series"] = series.forecast(STEPS).tolist()
    return answers


def _dumped(directory: Path, **models: object) -> None:
    directory.mkdir()
    for name, model in models.items():
        joblib.dump(model, directory / f"{name}.joblib", compress=3)


def main(name: str) -> None:
    """Write the models of a set anew."""
    root = SAVED / name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    answers = save_all(root)
    libraries = ("numpy", "scikit-learn", "statsmodels", "skops")
    document = {
        "libraries": {library: metadata.version(library) for library in libraries},
        "answers": answers,
    }
    (SAVED / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
