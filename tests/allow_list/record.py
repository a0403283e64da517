"""Record which names the honest models use, in the environment that runs this.

``python -m tests.allow_list.record FILE`` writes JSON: the versions, and each name with its ways
and with one model that uses it. Once with the lowest and once with the highest versions.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
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
    "lightgbm": "lightgbm",
    "numpy": "numpy",
    "pandas": "pandas",
    "prophet": "prophet",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "statsmodels": "statsmodels",
    "xgboost": "xgboost",
}
"""The packages that have lists, with their distributions."""


def record() -> dict[str, object]:
    """Fit, save and open all models; return the versions and the uses of names."""
    warnings.simplefilter("ignore")
    uses: dict[str, dict[str, object]] = {}
    failed: dict[str, str] = {}
    for corpus in CORPORA:
        began, count = time.monotonic(), 0
        for label, model in corpus():
            count += 1
            try:
                found = uses_of(model, (0, 2, 4) if "=" not in label else (4,))
            except Exception as error:  # noqa: BLE001  # it cannot be pickled at all
                failed[label] = f"{type(error).__name__}: {error}"[:200]
                continue
            for name, ways in found.items():
                entry = uses.setdefault(name, {"ways": [], "model": label})
                entry["ways"] = sorted({*entry["ways"], *ways})  # type: ignore[misc]
        took = time.monotonic() - began
        sys.stderr.write(f"{corpus.__name__}: {count} models, {took:.0f} s\n")
    return {
        "versions": {name: version(of) for name, of in LIBRARIES.items()},
        "uses": dict(sorted(uses.items())),
        "failed": failed,
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(record(), indent=1) + "\n")
