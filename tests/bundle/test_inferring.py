import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    LabelEncoder,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring import ignored_files, infer_manifest, probable_manifest
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
        joblib.dump(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / name)

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


TARGET_NAMES = (
    "y_scaler", "scaler_y", "scalerY", "yscaler", "Y-Scaler", "target_scaler", "scaler.target",
    "targetscaler", "label_scaler", "load_y_scaler", "output_scaler", "scaler_outputs", "y2_scaler",
)  # fmt: skip


@pytest.mark.parametrize("stem", TARGET_NAMES)
def test_a_scaler_that_is_named_for_the_target_is_never_a_step_on_the_features(tmp_path, stem):
    """Wherever its name says y, target, label or output, and even where its width would fit."""
    joblib.dump(StandardScaler().fit(X), tmp_path / f"{stem}.pkl")
    joblib.dump(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / "load_model.pkl")

    with pytest.raises(BundleError) as refused:
        infer_manifest(tmp_path, "load")

    for part in (f"'{stem}.pkl' (a StandardScaler", "load_model.pkl", "bundleserver init"):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    "stem",
    [
        "x_scaler",
        "scaler_x",
        "XScaler",
        "feature_scaler",
        "featurescaler",
        "scaler_inputs",
        "x1_scaler",
    ],
)
def test_the_only_scaler_of_the_features_is_chained(tmp_path, scaler, stem):
    """A word for features is not a stem, so such a scaler belongs to any model beside it."""
    joblib.dump(scaler, tmp_path / f"{stem}.pkl")
    joblib.dump(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / "load_model.pkl")

    manifest = infer_manifest(tmp_path, "load")

    assert ["transform", "predict"] == [step.method for step in manifest.steps]


@pytest.mark.parametrize(
    ("stem", "held", "is_served"),
    [
        ("target_encoder", TargetEncoder().fit(X, X[:, 0] > 0), True),
        ("label_encoder", OrdinalEncoder().fit(X), False),
        ("le", LabelEncoder().fit(["a", "b"]), False),
        ("preprocessor", LabelEncoder().fit(["a", "b"]), False),
        ("encoder", make_pipeline(LabelEncoder()), False),
        ("outputs", make_pipeline(StandardScaler(), RobustScaler()).fit(X), False),
        ("anything", make_pipeline(StandardScaler(), RobustScaler()).fit(X), True),
        ("scaler", LogisticRegression().fit(X, X[:, 0] > 0), False),
        ("scaler", make_pipeline(LogisticRegression()).fit(X, X[:, 0] > 0), False),
    ],
)
def test_a_class_decides_before_a_name(tmp_path, stem, held, is_served):
    """What stands beside a model is a step of it only where its class is one of features."""
    joblib.dump(held, tmp_path / f"{stem}.joblib")
    joblib.dump(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / "model.pkl")

    if is_served:
        assert 2 == len(infer_manifest(tmp_path, "m").steps)
    else:
        with pytest.raises(BundleError, match=r"which cannot be combined"):
            infer_manifest(tmp_path, "m")


def test_widths_decide_the_order_where_they_allow_one(tmp_path):
    """A one-hot encoder that follows a scaler is found behind it, whatever the usual order is."""
    table = RNG.integers(0, 3, size=(80, 3)).astype(float)
    scaler = StandardScaler().fit(table)
    scaled = scaler.transform(table)
    encoder = OneHotEncoder(sparse_output=False).fit(scaled)
    model = LogisticRegression().fit(encoder.transform(scaled), table[:, 0] > 0)
    for stem, held in (("scaler", scaler), ("encoder", encoder), ("model", model)):
        joblib.dump(held, tmp_path / f"{stem}.pkl")

    bundle = serve(tmp_path, "m")

    expected = model.predict(encoder.transform(scaler.transform(table[:5])))
    assert expected.tolist() == ask(bundle, table[:5].tolist())["output-0"].tolist()


def test_a_damaged_table_beside_a_model_is_an_error(tmp_path):
    """What cannot be read to its end may be a scaler, and is not taken for data."""
    joblib.dump(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / "model.pkl")
    (tmp_path / "means.pkl").write_bytes(pickle.dumps(X)[:-40])

    with pytest.raises(BundleError, match=r"'means\.pkl'"):
        infer_manifest(tmp_path, "m")


def test_plain_data_beside_a_model_is_told_by_name(tmp_path, caplog):
    """The log of a load and whoever asks learn which files are ignored, and what they hold."""
    joblib.dump(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / "model.pkl")
    joblib.dump({"a": 1.5}, tmp_path / "limits.pkl")
    (tmp_path / "rows.gz").write_bytes(b"\x1f\x8b" + b"nothing")

    with caplog.at_level("INFO"):
        infer_manifest(tmp_path, "fraud")

    assert "fraud: ignored 'limits.pkl' (a dict)" in caplog.messages
    assert "a dict" == ignored_files(tmp_path)["limits.pkl"]
    assert ["model.pkl"] == [
        part.path for part in infer_manifest(tmp_path, "m").components.values()
    ]


def test_a_certain_directory_has_nothing_to_guess(tmp_path, scaler):
    """What init writes for a directory that is served is what is served."""
    joblib.dump(scaler, tmp_path / "scaler.pkl")
    joblib.dump(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / "model.pkl")

    probable = probable_manifest(tmp_path, "m")

    assert () == probable.guesses
    assert infer_manifest(tmp_path, "m") == probable.manifest


def test_files_of_one_stem_keep_their_own_components(tmp_path, scaler):
    """What init writes for two scalers and a model leaves none of the three out."""
    joblib.dump(scaler, tmp_path / "model.joblib")
    joblib.dump(scaler, tmp_path / "model.pkl")
    joblib.dump(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / "net.pkl")

    components = probable_manifest(tmp_path, "m").manifest.components

    assert {"model.joblib", "model.pkl", "net.pkl"} == {part.path for part in components.values()}
