"""What one writes by hand instead of taking a model server: V1 on FastAPI, with orjson."""

from __future__ import annotations

import argparse
from pathlib import Path

import joblib
import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()
models: dict[str, object] = {}


@app.get("/v2/health/live")
async def live() -> Response:
    """Say that the process answers."""
    return Response(b'{"live":true}', media_type="application/json")


@app.post("/v1/models/{name}:predict")
async def predict(name: str, request: Request) -> Response:
    """Answer rows with the fitted object's ``predict``."""
    rows = np.array(orjson.loads(await request.body())["instances"])
    answers = models[name].predict(rows)  # type: ignore[attr-defined]  # an sklearn estimator
    body = orjson.dumps({"predictions": answers}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")


def main() -> None:
    """Serve every joblib file of ``--model_dir``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_dir", type=Path, required=True)
    parser.add_argument("--http_port", type=int, required=True)
    args = parser.parse_args()
    for path in sorted(args.model_dir.glob("*.joblib")):
        models[path.stem] = joblib.load(path)
    uvicorn.run(app, host="127.0.0.1", port=args.http_port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
