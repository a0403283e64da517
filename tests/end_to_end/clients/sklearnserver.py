"""What KServe's own sklearn server answers: kserve's functions around a model, no server of ours.

Usage: sklearnserver.py QUESTIONS.json, a list of ``{"file": …, "body": …}``; prints the answers.
"""

import json
import sys
from pathlib import Path

questions = json.loads(Path(sys.argv.pop()).read_text())

import joblib  # noqa: E402  # kserve reads sys.argv when it is imported
from kserve import InferRequest  # noqa: E402
from kserve.protocol.rest.v2_datamodels import InferenceRequest  # noqa: E402
from kserve.utils.utils import get_predict_input, get_predict_response  # noqa: E402


def answer(file: str, body: dict) -> dict:
    """Answer as ``sklearnserver/model.py`` does."""
    is_v2 = any(isinstance(item, dict) and "datatype" in item for item in body.get("inputs", []))
    payload = body
    if is_v2:
        payload = InferRequest.from_inference_request(InferenceRequest(**body), "model")
    instances = get_predict_input(payload)
    response = get_predict_response(payload, joblib.load(file).predict(instances), "model")
    return response.to_rest()[0] if is_v2 else response


sys.stdout.write(json.dumps([answer(**question) for question in questions]))
