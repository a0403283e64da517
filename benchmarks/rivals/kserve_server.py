"""A server as KServe's are built for each library: a ``kserve.Model`` around one file each.

KServe does not publish its servers on PyPI. This one takes the same road for a request: kserve's
own routes, ``get_predict_input``, ``predict``, ``get_predict_response``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import joblib
import kserve
from kserve.utils.utils import get_predict_input, get_predict_response

Answer = Callable[[Any], Any]
"""From what ``get_predict_input`` makes of a request to the library's answer."""


def of_sklearn(path: Path) -> Answer:
    """Open a joblib file."""
    return cast(Answer, joblib.load(path).predict)


def of_xgboost(path: Path) -> Answer:
    """Open a booster, as KServe's server for XGBoost does."""
    import xgboost

    booster = xgboost.Booster(params={"nthread": 1}, model_file=str(path))
    return lambda values: booster.predict(xgboost.DMatrix(values, nthread=1))


def of_lightgbm(path: Path) -> Answer:
    """Open a booster, as KServe's server for LightGBM does."""
    import lightgbm

    booster = lightgbm.Booster(params={"num_threads": 1}, model_file=str(path))
    return lambda values: booster.predict(values)


def of_onnx(path: Path) -> Answer:
    """Open a graph with one input and one output, in a session for one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name
    return lambda values: session.run(None, {name: values})[0]


OPENERS = {".joblib": of_sklearn, ".ubj": of_xgboost, ".txt": of_lightgbm, ".onnx": of_onnx}


class FileModel(kserve.Model):
    """One model of a library; it predicts where kserve calls it, on the event loop."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self._path = path

    def load(self) -> bool:
        """Open the file."""
        self._answer = OPENERS[self._path.suffix](self._path)
        self.ready = True
        return self.ready

    def predict(
        self,
        payload: dict[str, object] | kserve.InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, object] | kserve.InferResponse:
        """Answer with the library's prediction."""
        values = get_predict_input(payload)
        return get_predict_response(payload, self._answer(values), self.name)


def main() -> None:
    """Serve every model file of ``--model_dir``, with the settings that KServe comes with."""
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", type=Path, required=True)
    args = parser.parse_args()
    models = [
        FileModel(path.stem, path)
        for path in sorted(args.model_dir.iterdir())
        if path.suffix in OPENERS
    ]
    for model in models:
        model.load()
    kserve.ModelServer().start(models)


if __name__ == "__main__":
    main()
