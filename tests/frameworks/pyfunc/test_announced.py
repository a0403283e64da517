"""What metadata announce of a classifier that MLflow opens, before it was asked."""

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from bundleserver.bundle.opening import open_bundle
from bundleserver.serving.metadata import tensor_types
from bundleserver.tensors import NamedTensor

X = np.random.default_rng(0).normal(size=(30, 2))
Y = np.digitize(X[:, 0], [-0.5, 0.5])


@pytest.mark.parametrize(("labels", "datatype"), [(Y, "INT64"), (Y.astype(str), "BYTES")])
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_answers_are_as_announced(tmp_path, labels, datatype, method):
    """The classes of a fitted model tell how many there are, and of which datatype."""
    model = LogisticRegression().fit(X, labels)
    signature = mlflow.models.infer_signature(X.astype(np.float32))
    mlflow.sklearn.save_model(
        model,
        str(tmp_path / "m"),
        pyfunc_predict_fn=method,
        pip_requirements=[],
        signature=signature if method == "predict" else None,
    )
    bundle = open_bundle(tmp_path / "m")
    bundle.warm_up()
    signature = bundle.probe.signature if bundle.probe else bundle.signature
    (told,) = tensor_types(signature.outputs)

    (values,) = bundle.predict({"input-0": NamedTensor("input-0", X[:5])}, {}).values()

    wanted = (datatype, [-1]) if method == "predict" else ("FP64", [-1, 3])
    assert wanted == (told["datatype"], told["shape"])
    assert values.shape[1:] == tuple(told["shape"][1:])
    bundle.close()


def test_labels_of_a_model_that_is_not_probed_are_announced(tmp_path):
    """Without an example nothing is asked, and the classes tell the datatype."""
    table = pd.DataFrame(X, columns=["a", "b"]).astype(np.float32)
    model = LogisticRegression().fit(table, Y)
    signature = mlflow.models.infer_signature(table)
    mlflow.sklearn.save_model(model, str(tmp_path / "m"), pip_requirements=[], signature=signature)
    bundle = open_bundle(tmp_path / "m")

    assert "pyfunc" == bundle.manifest.components["model"].framework
    (told,) = tensor_types(bundle.signature.outputs)
    assert ("INT64", [-1]) == (told["datatype"], told["shape"])
    bundle.close()
