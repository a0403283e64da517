"""A volume that hangs is the trouble of the models on it, and of nobody else."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import joblib
import pytest
from sklearn.dummy import DummyRegressor

from tests.end_to_end.processes import eventually, running
from tests.hostile.hanging_volume import hanging_volume, why_not

BODY = {"instances": [[1.0]]}

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def _publish(directory, value):
    directory.mkdir(parents=True)
    model = DummyRegressor(strategy="constant", constant=[value]).fit([[0.0]], [value])
    joblib.dump(model, directory / "model.joblib")


def test_models_on_other_volumes_go_on(tmp_path):
    """New versions of other models come up, and a model whose volume hangs answers as before."""
    root = tmp_path / "models"
    for name in ("good", "was-good", "half"):
        _publish(root / name / "v1", 1.0)
    for name in ("dead", "was-dead"):
        (root / name).mkdir()
    with ExitStack() as mounts, running(root) as server:
        for name in ("good", "was-good", "half"):
            server.wait_until_ready(name, "v1")
        (root / "half" / "v2").mkdir()
        for where in (root / "dead", root / "was-good", root / "half" / "v2"):
            mounts.enter_context(hanging_volume(where))
        back = mounts.enter_context(ExitStack())
        back.enter_context(hanging_volume(root / "was-dead"))
        eventually(
            lambda: "takes too long" in server.reason("was-dead"), "the reason says that it hangs"
        )
        _publish(root / "good" / "v2", 2.0)
        server.wait_until_ready("good", "v2")
        answers = [server.predict(name, BODY) for name in ("good", "was-good", "half")]
        back.close()
        _publish(root / "was-dead" / "v1", 3.0)
        server.wait_until_ready("was-dead", "v1")
        server.send(signal.SIGTERM)
        code = server.exit_code()

    assert [[2.0], [1.0], [1.0]] == [answer.json()["predictions"] for answer in answers]
    assert 0 == code
