"""MLflow's models of the flavour ``onnx`` are opened from their own file, or by MLflow."""

from __future__ import annotations

from contextlib import closing

import mlflow
import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from bundleserver.bundle import Bundle
from bundleserver.bundle.integrity import verify_files
from bundleserver.sources.registry.flavours import manifest_of
from tests.frameworks.onnx.graphs import ROWS, asked, forest, same

SIGNATURE = ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 4), "X")]))


@pytest.mark.parametrize("signature", [None, SIGNATURE], ids=["none", "tensors"])
def test_a_logged_model_answers_as_onnxruntime(tmp_path, signature):
    """With and without a signature of tensors."""
    made, path = forest(zipmap=False), tmp_path / "m"
    mlflow.onnx.save_model(made, str(path), pip_requirements=[], signature=signature)
    manifest = manifest_of(path, "iris")
    verify_files(path, manifest)
    with closing(Bundle.open(path, manifest, model="iris", version="1")) as bundle:
        inputs = bundle.signature.validate_rows(ROWS.tolist(), "it")
        answer = bundle.predict(inputs, {})

    assert ["onnx"] == [c.framework for c in manifest.components.values()]
    assert all(same(values, answer[name]) for name, values in asked(made, {"X": ROWS}).items())
