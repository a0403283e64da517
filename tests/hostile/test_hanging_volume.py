"""A volume that hangs is the trouble of the models on it, and of nobody else."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack

import httpx
import joblib
import pytest
from sklearn.dummy import DummyRegressor

from tests.end_to_end.processes import DEADLINE_SECONDS, eventually, running
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


def test_a_canary_on_it_keeps_neither_the_pages_nor_the_end(tmp_path):
    """Its progress is not known, so the default answers; pages, other models and SIGTERM go on."""
    root = tmp_path / "models"
    for name in ("canary", "other"):
        for version, value in (("v1", 1.0), ("v2", 2.0)):
            _publish(root / name / version, value)
    rules = {"version": "v2", "steps": [50, 100], "interval_seconds": 0.1, "min_requests": 1}
    config = {"policy": "all", "default": "v1", "canary": rules}
    (root / "canary" / "serving.json").write_text(json.dumps(config))
    with running(root) as server, ExitStack() as mounts:
        for name, version in (("canary", "v1"), ("canary", "v2"), ("other", "v2")):
            server.wait_until_ready(name, version)
        mounts.enter_context(hanging_volume(root / "canary"))
        pages = [
            httpx.get(f"{server.rest}{path}", timeout=DEADLINE_SECONDS)
            for path in ("/v2/models/canary", "/metrics", "/v2/health/live")
        ]
        answers = [server.predict(name, BODY) for name in ("canary", "other")]
        server.send(signal.SIGTERM)
        code = server.exit_code()

    assert [200] * 3 == [page.status_code for page in pages]
    assert "waiting" == pages[0].json()["traffic"]["canary"]["state"]
    assert [200] * 2 == [answer.status_code for answer in answers]
    assert 0 == code
