"""ADR-031's directories as they are on disk, by ``examples/adr-031.yaml`` and the full image."""

from __future__ import annotations

import pytest

from tests.cluster import settings
from tests.end_to_end import adr

pytestmark = settings.needs_full

NAMES = (
    "predictive-analytics",
    "arima-predictor",
    "prophet-predictor",
    "lstm-predictor",
    "ensemble-predictor",
)


@pytest.fixture(scope="module")
def systems(place, tmp_path_factory):
    """Write the directories as notebooks do, and apply the example."""
    root = tmp_path_factory.mktemp("models")
    systems = adr.write_volume(root)
    for name in NAMES:
        place.upload(root / name, name)
    place.apply_example("adr-031")
    return systems


@pytest.mark.parametrize("name", NAMES)
def test_every_directory_of_the_adr_answers(place, systems, name):
    """Each InferenceService is Ready, and says which inputs its model takes."""
    place.wait_until_ready(name)
    told = place.ask(f"{name}-predictor", f"/v2/models/{name}").json()

    assert name == told["name"]
    assert told["inputs"]


def test_the_forest_with_its_scaler_answers_as_the_notebook_did(place, systems):
    """What the pod answers is what the fitted objects answer."""
    rows = [[0.5, 0.3, 0.8], [9.0, -9.0, 9.0]]
    place.wait_until_ready("predictive-analytics")

    answer = place.predict("predictive-analytics", rows).json()

    assert systems.label(rows) == answer["predictions"]
