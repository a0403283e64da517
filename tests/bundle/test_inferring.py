import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring import infer_manifest
from bundleserver.errors import BundleError
from bundleserver.tensors import NamedTensor

RNG = np.random.default_rng(3)
X = RNG.normal(size=(120, 3))
ROWS = [[0.5, 0.3, 0.8], [4.0, -4.0, 4.0]]


class LSTMAutoencoder(torch.nn.Module):
    """The autoencoder as the notebooks write it."""

    def __init__(self, features, hidden, layers):
        super().__init__()
        self.encoder = torch.nn.LSTM(features, hidden, layers, batch_first=True)
        self.decoder = torch.nn.LSTM(hidden, features, layers, batch_first=True)

    def forward(self, x):
        """Encode and decode a batch of sequences."""
        encoded, _ = self.encoder(x)
        return self.decoder(encoded)[0]


def serve(directory, name):
    """Open a directory without a manifest."""
    return Bundle.open(directory, infer_manifest(directory, name), model=name, version="1")


def ask(bundle, rows):
    """Answer V1 rows."""
    return bundle.predict(bundle.signature.validate_rows(rows, bundle.identity), {})


@pytest.fixture(scope="module")
def scaler():
    """Fit a scaler once."""
    return StandardScaler().fit(X)


def test_scaler_and_model_run_one_after_the_other(tmp_path, scaler):
    """The directory predictive-analytics answers what scaler and forest answer in process."""
    forest = IsolationForest(n_estimators=20, random_state=0).fit(scaler.transform(X))
    joblib.dump(forest, tmp_path / "isolation_forest_model.pkl")
    joblib.dump(scaler, tmp_path / "isolation_forest_scaler.pkl")
    (tmp_path / "README.md").write_text("notes")

    answers = ask(serve(tmp_path, "predictive-analytics"), ROWS)

    np.testing.assert_array_equal(forest.predict(scaler.transform(ROWS)), answers["output-0"])


@pytest.mark.parametrize("sequence", [False, True], ids=["rows", "sequences"])
def test_scaler_and_autoencoder_give_the_reconstruction_error(tmp_path, scaler, sequence):
    """The directory lstm-predictor gives the mean squared error of its reconstruction."""
    network = LSTMAutoencoder(3, 4, 2).eval()
    torch.save(network.state_dict(), tmp_path / "lstm_autoencoder.pt")
    joblib.dump(scaler, tmp_path / "lstm_scaler.pkl")
    rows = [ROWS, ROWS] if sequence else ROWS

    answers = ask(serve(tmp_path, "lstm-predictor"), rows)

    flat = scaler.transform(np.reshape(rows, (-1, 3)))
    scaled = flat.reshape(2, -1, 3)
    with torch.inference_mode():
        rebuilt = network(torch.tensor(scaled, dtype=torch.float32)).numpy()
    assert ["error"] == list(answers)
    np.testing.assert_allclose(((scaled - rebuilt) ** 2).mean(axis=(1, 2)), answers["error"])


@pytest.mark.parametrize("file", ["model.joblib", "model.pkl", "model.pickle", "classifier.pkl"])
def test_one_sklearn_file_is_that_model(tmp_path, file):
    """What KServe's sklearn server accepts is served: any tensor name, any numeric datatype."""
    model = LogisticRegression().fit(X, X[:, 0] > 0)
    joblib.dump(model, tmp_path / file)
    bundle = serve(tmp_path, "model")

    tensor = NamedTensor("whatever", np.float32(ROWS))
    answers = bundle.predict(bundle.signature.validate_tensors([tensor], bundle.identity), {})

    np.testing.assert_array_equal(model.predict(np.float32(ROWS)), answers["output-0"])


def test_an_ensemble_configuration_combines_votes(tmp_path):
    """The directory ensemble-predictor takes one vote per member and gives label and score."""
    config = {
        "methods": ["Isolation Forest", "ARIMA", "Prophet", "LSTM", "Hard Voting"],
        "weights": [0.4, 0.2, 0.2, 0.2],
        "threshold": 0.5,
        "best_method": "Weighted Voting",
        "performance": [{"Method": "ARIMA", "F1": 0.9}],
    }
    (tmp_path / "ensemble_config.pkl").write_bytes(pickle.dumps(config))
    bundle = serve(tmp_path, "ensemble-predictor")

    answers = ask(bundle, [[1, 0, 0, 1], [0, 1, 0, 0]])

    assert ["isolation_forest", "arima", "prophet", "lstm"] == [
        spec.name for spec in bundle.signature.inputs
    ]
    assert [1, 0] == answers["label"].tolist()
    np.testing.assert_allclose([0.6, 0.2], answers["score"])


def test_two_models_are_refused_with_both_names_and_the_remedy(tmp_path):
    """Two models without a rule are refused; the sentence names both files and the command."""
    for name in ("arima_model.pkl", "prophet_model.pkl"):
        joblib.dump(StandardScaler().fit(X), tmp_path / name)

    with pytest.raises(BundleError) as refused:
        infer_manifest(tmp_path, "anomaly-detector")

    assert "'arima_model.pkl', 'prophet_model.pkl'" in str(refused.value)
    assert f"bundleserver init {tmp_path} --model arima_model.pkl" in str(refused.value)


def test_one_of_two_models_can_be_chosen(tmp_path, scaler):
    """Naming the files to look at resolves the refusal."""
    for name in ("arima_model.pkl", "prophet_model.pkl"):
        joblib.dump(scaler, tmp_path / name)

    manifest = infer_manifest(tmp_path, "anomaly-detector", only=["arima_model.pkl"])

    assert ["arima_model.pkl"] == [part.path for part in manifest.components.values()]


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ([], "is empty"),
        (["notes.txt", "data.csv"], "holds only 'data.csv', 'notes.txt'"),
        ([".hidden.pkl"], "is empty"),
        (["a_scaler.pkl", "b_model.pkl"], "which cannot be combined"),
        (["a_scaler.pkl", "b_encoder.pkl"], "which cannot be combined"),
    ],
)
def test_directories_without_a_rule_are_refused(tmp_path, scaler, files, part):
    """A directory that no rule explains is refused in words that say what it holds."""
    for name in files:
        joblib.dump(scaler, tmp_path / name)

    with pytest.raises(BundleError) as refused:
        infer_manifest(tmp_path, "x")

    assert part in str(refused.value)


def test_a_link_to_nothing_is_refused(tmp_path, scaler):
    """A scaler that cannot be read is not left out, which would change every answer."""
    (tmp_path / "forest_model.pkl").write_bytes(pickle.dumps(scaler))
    (tmp_path / "forest_scaler.pkl").symlink_to("gone.pkl")

    with pytest.raises(BundleError, match=r"forest_scaler\.pkl' is a broken link"):
        infer_manifest(tmp_path, "forest")


def test_an_inferred_manifest_can_be_written_and_read_again(tmp_path, scaler):
    """What init writes says the same as what was inferred."""
    joblib.dump(scaler, tmp_path / "lstm_scaler.pkl")
    torch.save(LSTMAutoencoder(3, 4, 1).state_dict(), tmp_path / "lstm_autoencoder.pt")
    manifest = infer_manifest(tmp_path, "lstm-predictor")

    again = type(manifest).from_json(manifest.to_json(), "manifest.json")

    assert manifest.steps == again.steps
    assert manifest.components == again.components
    assert "lstm-predictor" == again.name
