"""Record which names the honest models use, in the environment that runs this.

``python -m tests.allow_list.record FILE [CORPUS...]`` adds to a JSON file: the versions, and each
name with its ways and with one model that uses it. Once with the lowest and once with the highest
versions.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import version
from pathlib import Path

from tests.allow_list.honest.boosted import boosted
from tests.allow_list.honest.combined import combined, with_parts
from tests.allow_list.honest.data import values
from tests.allow_list.honest.estimators import Model, every_estimator
from tests.allow_list.honest.forecasts import prophets, regressions, series
from tests.allow_list.recorder import uses_of

CORPORA: tuple[Callable[[], Iterator[Model]], ...] = (
    values, series, regressions, prophets, boosted, combined, with_parts, every_estimator,
)  # fmt: skip

LIBRARIES = {
    "catboost": "catboost",
    "lightgbm": "lightgbm",
    "numpy": "numpy",
    "pandas": "pandas",
    "prophet": "prophet",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "statsmodels": "statsmodels",
    "xgboost": "xgboost-cpu",
}
"""The packages that have lists, with their distributions."""


def record(path: Path, chosen: Collection[str]) -> None:
    """Fit, save and open models; write the versions and the uses of names after each corpus."""
    warnings.simplefilter("ignore")
    said = json.loads(path.read_text()) if path.exists() else {"uses": {}, "failed": {}}
    said["versions"] = {name: version(of) for name, of in LIBRARIES.items()}
    for corpus in CORPORA:
        if chosen and corpus.__name__ not in chosen:
            continue
        began, count = time.monotonic(), 0
        for label, model in corpus():
            count += 1
            try:
                found = uses_of(model, (0, 2, 4) if "=" not in label else (4,))
            except Exception as error:  # noqa: BLE001  # it cannot be pickled at all
                said["failed"][label] = f"{type(error).__name__}: {error}"[:200]
                continue
            for name, ways in found.items():
                entry = said["uses"].setdefault(name, {"ways": [], "model": label})
                entry["ways"] = sorted({*entry["ways"], *ways})
        took = time.monotonic() - began
        sys.stderr.write(f"{corpus.__name__}: {count} models, {took:.0f} s\n")
        path.write_text(json.dumps({**said, "uses": dict(sorted(said["uses"].items()))}, indent=1))


if __name__ == "__main__":
    record(Path(sys.argv[1]), sys.argv[2:])
