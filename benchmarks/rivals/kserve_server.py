"""A server as KServe's sklearn server is built: a ``kserve.Model`` around one joblib file each.

KServe does not publish its sklearn server on PyPI. This one takes the same road for a request:
kserve's own routes, ``get_predict_input``, ``predict``, ``get_predict_response``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import joblib
import kserve
from kserve.utils.utils import get_predict_input, get_predict_response


class PickledModel(kserve.Model):
    """One fitted object of scikit-learn; it predicts where kserve calls it, on the event loop."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name)
        self._path = path

    def load(self) -> bool:
        """Open the file."""
        self._model = joblib.load(self._path)
        self.ready = True
        return self.ready

    def predict(
        self,
        payload: dict[str, object] | kserve.InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, object] | kserve.InferResponse:
        """Answer with the fitted object's ``predict``."""
        values = get_predict_input(payload)
        return get_predict_response(payload, self._model.predict(values), self.name)


def main() -> None:
    """Serve every joblib file of ``--model_dir``, with the settings that KServe comes with."""
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", type=Path, required=True)
    args = parser.parse_args()
    models = [PickledModel(path.stem, path) for path in sorted(args.model_dir.glob("*.joblib"))]
    for model in models:
        model.load()
    kserve.ModelServer().start(models)


if __name__ == "__main__":
    main()
