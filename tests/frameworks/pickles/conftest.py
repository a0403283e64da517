from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.allow_list.honest.combined import combined
from tests.allow_list.honest.estimators import DATA, constructed, fitted_on
from tests.allow_list.honest.forecasts import prophets, quick

Asked = tuple[str, Any, Any]
"""A name, a fitted model, and what it is asked; None: whatever it takes."""


@pytest.fixture(scope="session")
def honest_models() -> list[Asked]:
    """Fit one of each estimator, estimators inside of each other, results, and Prophet's models."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [*_fitted()]


def _fitted() -> Iterator[Asked]:
    for name, model in constructed():
        for data in DATA.values():
            if (made := fitted_on(data, model)) is not None:
                yield name, made, data[0]
                break
    for name, made in (*combined(), *quick()):
        yield name, made, None
    for name, made in itertools.islice(prophets(), 3):
        yield name, made, made.history.head(3)
