"""Saving, publishing and choosing versions, in one process and in several at once."""

import json
import os
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler

from bundleserver.bundle import Bundle
from bundleserver.bundle.integrity import file_sha256, verify_files
from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.reading import read_manifest
from bundleserver.errors import (
    BundleServerError,
    ConfigError,
    IntegrityError,
    ManifestError,
    StoreError,
    WarmUpError,
)
from bundleserver.store import BundleStore, usual_root
from bundleserver.store.staging import next_version
from bundleserver.tensors import NamedTensor, TensorSpec
from bundleserver.versions import Version

X = np.random.default_rng(7).normal(size=(40, 3))
FRAME = pd.DataFrame(X, columns=["cpu", "memory", "io"])


@pytest.fixture
def store(tmp_path):
    """Make a store in a directory that does not exist yet."""
    return BundleStore(tmp_path / "deep" / "store")


@pytest.fixture
def line():
    """Fit the smallest model: y is the first column."""
    return LinearRegression().fit(X, X[:, 0])


@pytest.fixture
def parts():
    """Fit a scaler and a forest, as ADR-031's predictive analytics has them."""
    scaler = StandardScaler().fit(X)
    forest = IsolationForest(n_estimators=5, random_state=0).fit(scaler.transform(X))
    return {"scaler": scaler, "model": forest}


def open_version(store, name, version):
    """Open a published version as the server does: verified first."""
    directory = store.path(name, version)
    manifest = read_manifest(directory)
    verify_files(directory, manifest)
    return Bundle.open(directory, manifest, model=name, version=str(version))


def ask(bundle, rows):
    """Predict rows of V1 and return the only output."""
    outputs = bundle.predict(bundle.signature.validate_rows(rows, bundle.identity), {})
    return next(iter(outputs.values()))


def hidden(store, name):
    """List what lies in a model root beside versions and serving.json."""
    return sorted(path.name for path in store.path(name).iterdir() if path.name.startswith("."))


def run_script(script, *arguments, **options):
    """Start a Python process that runs a script."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def test_a_saved_bundle_answers_like_the_objects_it_was_saved_from(store, parts):
    """Scaler and forest answer from the store exactly what they answer in process."""
    version = store.save("predictive-analytics", parts, examples=X[:3])

    bundle = open_version(store, "predictive-analytics", version)
    expected = parts["model"].predict(parts["scaler"].transform(X))
    assert Version("v1") == version
    assert expected.tolist() == ask(bundle, X.tolist()).tolist()


def test_a_saved_manifest_records_files_libraries_and_training(store, parts):
    """Digest and size of every file, library versions, time and metrics are in the manifest."""
    version = store.save(
        "fraud", parts, metrics={"f1": np.float64(0.92)}, metadata={"tags": {"team": "a"}}
    )

    directory = store.path("fraud", version)
    document = json.loads((directory / "manifest.json").read_text())
    for component in document["components"].values():
        file = directory / component["path"]
        assert (file_sha256(file), file.stat().st_size) == (component["sha256"], component["size"])
    assert ("fraud", "v1") == (document["name"], document["version"])
    assert {"numpy", "scikit-learn", "joblib"} <= document["requirements"]["packages"].keys()
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" == document["requirements"]["python"]
    assert {"f1": 0.92} == document["metadata"]["metrics"]
    assert {"team": "a"} == document["metadata"]["tags"]
    assert document["metadata"]["trained_at"].endswith("Z")


def test_a_single_object_is_saved_as_the_component_model(store, line):
    """One fitted object needs no name."""
    version = store.save("line", line)

    assert ["model"] == list(read_manifest(store.path("line", version)).components)


def test_a_configuration_that_is_a_mapping_itself_is_one_component(store):
    """An ensemble's dict is a model, not a mapping of components."""
    config = {"methods": ["A", "B"], "weights": [0.5, 0.5], "threshold": 0.5, "best_method": "A"}

    version = store.save("ensemble", config)

    components = read_manifest(store.path("ensemble", version)).components
    assert {"model": "ensemble"} == {name: c.framework for name, c in components.items()}


@pytest.mark.parametrize(
    "examples",
    [X[:2], X[:2].tolist(), FRAME[:2], {"input-0": X[:2]}, {"input-0": FRAME[:2]}],
    ids=["array", "lists", "frame", "by name", "frame by name"],
)
def test_examples_are_recorded_with_the_answers_of_the_model(store, line, examples):
    """Rows in any form become one example that holds what the model answered."""
    version = store.save("line", line, examples=examples)

    (example,) = read_manifest(store.path("line", version)).examples
    assert {"input-0": X[:2].tolist()} == dict(example.inputs)
    np.testing.assert_allclose(X[:2, 0], example.outputs["output-0"])


def test_dates_are_recorded_as_text(store):
    """A forecaster's example may give its dates as pandas holds them."""
    from statsmodels.tsa.arima.model import ARIMA

    index = pd.date_range("2025-01-01", periods=40, freq="h")
    results = ARIMA(pd.Series(X[:, 0], index=index), order=(1, 0, 0)).fit()

    version = store.save("arima", results, examples={"ds": index[-2:]})

    (example,) = read_manifest(store.path("arima", version)).examples
    assert ["2025-01-02T14:00:00", "2025-01-02T15:00:00"] == example.inputs["ds"]
    assert {"mean", "lower", "upper", "ds"} == example.outputs.keys()


def test_the_tolerance_follows_the_precision_of_the_answers(store, line):
    """What single precision rounds differently on another processor is no difference."""
    import torch

    rows = torch.export.Dim("rows")
    example = torch.zeros(2, 3)
    program = torch.export.export(torch.nn.Linear(3, 1), (example,), dynamic_shapes=({0: rows},))

    single = store.save("single", program, examples=X[:2].astype(np.float32))
    double = store.save("double", line, examples=X[:2])

    assert 1e-4 == read_manifest(store.path("single", single)).examples[0].rtol
    assert 1e-6 == read_manifest(store.path("double", double)).examples[0].rtol


def test_the_columns_of_a_frame_are_declared(store, line):
    """Examples in a DataFrame name the columns, so that requests may use the names."""
    version = store.save("line", line, examples=FRAME[:2])

    assert ("cpu", "memory", "io") == read_manifest(store.path("line", version)).inputs[0].columns


def test_a_frame_is_put_into_the_order_the_model_was_fitted_with(store):
    """Columns that stand in another order, or that the model does not take, change no answer."""
    model = LinearRegression().fit(FRAME, X[:, 0])
    shuffled = FRAME[["io", "cpu", "memory"]].assign(other=0.0)

    version = store.save("line", model, examples=shuffled[:2])

    (example,) = read_manifest(store.path("line", version)).examples
    np.testing.assert_allclose(X[:2, 0], example.outputs["output-0"])


def test_examples_of_a_manifest_are_taken_as_they_are(store, line):
    """A written example keeps its outputs and its tolerance."""
    example = {"inputs": {"input-0": [[1, 0, 0]]}, "outputs": {"output-0": [1.01]}, "rtol": 0.1}

    version = store.save("line", line, examples=[example])

    (kept,) = read_manifest(store.path("line", version)).examples
    assert (0.1, [1.01]) == (kept.rtol, kept.outputs["output-0"])


def test_steps_inputs_and_outputs_are_those_of_a_manifest(store, parts):
    """A saved bundle may name several outputs, and declare tensors as values or as JSON."""
    version = store.save(
        "fraud",
        parts,
        inputs=[TensorSpec("features", "FP64", (-1, 3), ("cpu", "memory", "io"))],
        steps=[
            {
                "component": "scaler",
                "method": "transform",
                "inputs": ["features"],
                "outputs": ["scaled"],
            },
            {
                "component": "model",
                "method": "predict",
                "inputs": ["scaled"],
                "outputs": ["label"],
            },
            {
                "component": "model",
                "method": "decision_function",
                "inputs": ["scaled"],
                "outputs": ["score"],
            },
        ],
        outputs=[{"name": "label", "shape": [-1]}, {"name": "score", "shape": [-1]}],
        examples=FRAME[:2],
    )

    manifest = read_manifest(store.path("fraud", version))
    assert ("features", (-1, 3)) == (manifest.inputs[0].name, manifest.inputs[0].shape)
    assert {"label", "score"} == manifest.examples[0].outputs.keys()


def test_labels_that_are_text_are_recorded_too(store):
    """A classifier of words is held to its words."""
    model = LogisticRegression().fit(X, np.where(X[:, 0] > 0, "high", "low"))

    version = store.save("words", model, examples=[[9.0, 0.0, 0.0], [-9.0, 0.0, 0.0]])

    (example,) = read_manifest(store.path("words", version)).examples
    assert ["high", "low"] == example.outputs["output-0"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"name": "../up"}, StoreError, "name is '../up'"),
        ({"name": ""}, StoreError, "name is ''"),
        ({"name": "line\n"}, StoreError, "expected a letter or digit, then letters, digits"),
        ({"components": {}}, StoreError, "no components"),
        ({"components": {"m": object()}}, StoreError, "component 'm' is a object, which no"),
        ({"components": {"a b": "line"}}, ManifestError, "components['a b']"),
        ({"version": "latest"}, StoreError, "'latest' is not a valid version label"),
        ({"options": {"modl": {}}}, StoreError, "did you mean 'model'?"),
        ({"frameworks": {"modl": "sklearn"}}, StoreError, "did you mean 'model'?"),
        ({"frameworks": {"model": "sklern"}}, BundleServerError, "did you mean 'sklearn'?"),
        ({"metadata": {"who": object()}}, StoreError, "cannot be converted to JSON"),
        ({"metadata": {"trained_at": "yesterday"}}, ManifestError, "metadata.trained_at"),
        ({"steps": [{"component": "other"}]}, ManifestError, "steps[0].component"),
        ({"inputs": [{"nam": "x"}]}, ManifestError, "inputs[0].nam"),
        ({"examples": [{"cpu": 1}]}, ManifestError, "examples[0].cpu"),
    ],
)
def test_what_makes_no_bundle_is_refused_before_anything_is_written(
    store, line, arguments, error, said
):
    """The error names what is wrong, and no directory appears."""
    given = {"name": "line", "components": {"model": line}, **arguments}
    components = given.pop("components")
    if "line" in components.values():
        components = dict.fromkeys(components, line)

    with pytest.raises(error) as caught:
        store.save(given.pop("name"), components, **given)

    assert said in str(caught.value)
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("examples", "error", "said"),
    [
        (X[0], StoreError, "has shape [3]"),
        (X[:2, :2], StoreError, "has shape [2, 2]"),
        ({"other": X[:2]}, StoreError, "unknown input 'other'"),
        ([["a", "b", "c"]], StoreError, "input 'input-0'"),
        (np.zeros((1001, 3)), StoreError, "1001 rows"),
        ([{"inputs": {"input-0": [[1, 0, 0]]}, "outputs": {"output-0": [7]}}], WarmUpError, "7"),
    ],
)
def test_a_bundle_whose_examples_fail_is_not_published(store, line, examples, error, said):
    """Nothing appears, and nothing is left behind, when an example does not fit or not hold."""
    with pytest.raises(error) as caught:
        store.save("line", line, examples=examples)

    assert said in str(caught.value)
    assert () == store.versions("line")
    assert [] == hidden(store, "line")


def test_an_object_of_a_class_that_only_the_notebook_has_is_saved_with_its_code(store):
    """What only the notebook has opens elsewhere too, and the output and the metadata say so."""
    script = """
import sys
from sklearn.linear_model import LinearRegression
from bundleserver import BundleStore
class OnlyHere(LinearRegression):
    def predict(self, X): return X[:, 0]
print(BundleStore(sys.argv[1]).save("mine", OnlyHere().fit([[1], [2]], [1, 2])))
"""
    process = run_script(script, store.root)
    output, errors = process.communicate(timeout=120)

    assert "v1\n" == output, errors
    assert "pickled by value" in errors
    with closing(open_bundle(store.path("mine", "v1"))) as bundle:
        assert ["model"] == bundle.metadata()["pickled_by_value"]
        rows = NamedTensor("input-0", np.array([[7.0]]))
        assert [[7.0]] == [[*values] for values in bundle.predict({"input-0": rows}, {}).values()]


def test_an_object_that_cannot_be_pickled_is_named(store, line):
    """The error says which component it is and what its code raised."""
    line.lock = threading.Lock()

    with pytest.raises(StoreError, match="component 'model' cannot be pickled"):
        store.save("line", line)

    assert [] == hidden(store, "line")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([], "v1"),
        (["v1", "v2"], "v3"),
        (["v9", "v10"], "v11"),
        (["2"], "3"),
        (["2", "v2"], "v3"),
        (["1.2.0"], "1.2.1"),
        (["v1.9"], "v1.10"),
        (["007"], "008"),
        (["1.2.0-rc1", "1.2.0"], "1.2.1"),
        (["v1999"], "v2000"),
    ],
)
def test_the_next_version_is_the_natural_successor(labels, expected):
    """The highest label counts on, in its own spelling."""
    assert Version(expected) == next_version(map(Version, labels))


@pytest.mark.parametrize(
    "label",
    ["2025-12-09", "20251209", "2025.12.9", "2025.12", "v20251209120000", "1.2.0-rc1", "3b"],
)
def test_a_version_without_successor_asks_for_one(label):
    """Dates, pre-releases and suffixes are not guessed on."""
    with pytest.raises(StoreError, match=r"version='…'"):
        next_version([Version("1"), Version(label)])


def test_an_explicit_version_is_published_under_its_label(store, line):
    """Dates are labels like any other."""
    assert Version("2025-12-09") == store.save("line", line, version="2025-12-09")


def test_a_published_version_is_never_overwritten(store, line, parts):
    """Saving to a label that exists is an error, and the files stay as they are."""
    store.save("line", line)
    before = (store.path("line", "v1") / "manifest.json").read_bytes()

    with pytest.raises(StoreError, match="already exists"):
        store.save("line", parts, version="v1")

    assert before == (store.path("line", "v1") / "manifest.json").read_bytes()


@pytest.mark.parametrize("kind", ["directory", "file", "link"])
def test_what_others_put_under_the_next_label_is_left_alone(store, line, kind):
    """An empty directory, a file or a dead link of that name is not replaced: the next label is."""
    store.save("line", line)
    foreign = store.path("line", "v2")
    if kind == "directory":
        foreign.mkdir()
    elif kind == "file":
        foreign.write_text("mine")
    else:
        foreign.symlink_to("nowhere")

    version = store.save("line", line)

    assert Version("v3") == version
    assert not (foreign / "manifest.json").exists()


@pytest.mark.parametrize(("own", "following"), [("4", "5"), ("v7", "v8"), (None, "v2")])
def test_what_is_published_follows_the_bundle_in_the_directory(store, line, own, following):
    """A bundle at the top is the first version, and its label is not given twice."""
    store.save("line", line, version=own or "v1")
    saved = store.path("line", own or "v1")
    document = json.loads((saved / "manifest.json").read_text())
    document = {key: value for key, value in document.items() if own or key != "version"}
    (saved / "manifest.json").unlink()
    for path in saved.iterdir():
        path.replace(saved.parent / path.name)
    saved.rmdir()
    (saved.parent / "manifest.json").write_text(json.dumps(document))

    with pytest.raises(StoreError, match=r"the files in .* itself are version"):
        store.save("line", line, version=own or "1")
    assert Version(following) == store.save("line", line)
    assert [own or "1", following] == [*map(str, store.versions("line"))]
    assert saved.parent == store.path("line", own or "1")


def test_versions_are_listed_oldest_first_without_half_written_ones(store, line):
    """Once one version has a manifest, a directory without one is no version."""
    for label in ("v10", "v9"):
        store.save("line", line, version=label)
    store.path("line", "v11").mkdir()

    assert (Version("v9"), Version("v10")) == store.versions("line")
    assert () == store.versions("unknown")


def test_the_argument_goes_before_the_environment(tmp_path, monkeypatch):
    """BundleStore(root) takes root, BundleStore() takes $BUNDLE_STORE."""
    monkeypatch.setenv("BUNDLE_STORE", str(tmp_path / "environment"))

    assert tmp_path / "argument" == BundleStore(tmp_path / "argument").root
    assert tmp_path / "environment" == BundleStore().root


def test_the_first_usual_place_that_can_be_written_is_taken(tmp_path):
    """A place that cannot be made is passed over; all of them are named when none can."""
    (tmp_path / "file").touch()
    impossible = tmp_path / "file" / "models"

    assert tmp_path / "models" == usual_root([impossible, tmp_path / "models"])
    with pytest.raises(StoreError) as caught:
        usual_root([impossible, tmp_path / "file"])
    assert str(impossible) in str(caught.value)


def test_a_store_that_cannot_be_written_says_so(tmp_path, line):
    """The error names the directory and the reason."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"file/line cannot be written: "):
        BundleStore(tmp_path / "file").save("line", line)


@pytest.mark.parametrize(
    ("around", "directory", "lock"),
    [
        (0o755, 0o755, 0o644),
        (0o775, 0o775, 0o664),
        (0o2775, 0o2775, 0o664),
        (0o777, 0o775, 0o664),
        (0o1777, 0o755, 0o644),
    ],
)
def test_a_group_that_may_write_the_volume_may_publish_to_its_models(
    tmp_path, line, around, directory, lock
):
    """Directories are shared as the one around them is, whatever the umask; not so in a /tmp."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(around)
    store = BundleStore(volume / "team")
    before = os.umask(0o077)
    try:
        store.save("line", {"line": line})
        store.promote("line", "v1")
    finally:
        os.umask(before)

    root = store.path("line")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (store.root, root, root / "v1")}
    assert {directory} == {*modes.values()}
    assert lock == stat.S_IMODE((root / ".serving.lock").stat().st_mode)
    files = [root / "serving.json", *(root / "v1").iterdir()]
    assert {0o644} == {stat.S_IMODE(path.stat().st_mode) for path in files}


def test_everything_saved_is_readable_for_the_user_of_the_server(tmp_path):
    """A private umask of the notebook keeps nobody from reading what it publishes."""
    script = """
import os, sys
os.umask(0o077)
import numpy as np
from sklearn.linear_model import LinearRegression
from bundleserver import BundleStore
store = BundleStore(sys.argv[1])
store.save("line", LinearRegression().fit(np.eye(3), [1, 2, 3]))
store.promote("line", "v1")
"""
    root = tmp_path / "store"
    process = run_script(script, root)
    _, errors = process.communicate(timeout=120)

    assert 0 == process.returncode, errors
    for path in [root, *root.rglob("*")]:
        wanted = 0o755 if path.is_dir() else 0o644
        if path.name != ".serving.lock":
            assert wanted == path.stat().st_mode & wanted, path


def test_a_disk_that_takes_no_more_leaves_nothing_behind(tmp_path):
    """A write that fails midway is a StoreError, and the staged files are removed."""
    script = """
import resource, signal, sys
import numpy as np
from sklearn.neighbors import KNeighborsRegressor
from bundleserver import BundleStore
from bundleserver.errors import StoreError
X = np.random.default_rng(0).normal(size=(2000, 3))
model = KNeighborsRegressor().fit(X, X[:, 0])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    BundleStore(sys.argv[1]).save("big", model)
except StoreError as error:
    print(error)
"""
    process = run_script(script, tmp_path)
    output, errors = process.communicate(timeout=120)

    assert "File too large" in output, errors
    assert [] == list((tmp_path / "big").iterdir())


SAVE_SOME = """
import sys
import numpy as np
from sklearn.linear_model import LinearRegression
from bundleserver import BundleStore
store, who = BundleStore(sys.argv[1]), int(sys.argv[2])
model = LinearRegression().fit(np.eye(3), [who, who, who])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(3):
    print(store.save("line", model, examples=np.eye(3)))
"""


def test_writers_at_once_publish_different_versions_none_of_them_half(tmp_path):
    """Four processes save three times each: twelve versions, each complete whenever it is seen."""
    writers = [run_script(SAVE_SOME, tmp_path, who) for who in range(4)]
    for writer in writers:
        assert "ready\n" == writer.stdout.readline()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    root = tmp_path / "line"
    looks = 0
    while any(writer.poll() is None for writer in writers):
        for entry in [path for path in root.glob("*") if not path.name.startswith(".")]:
            verify_files(entry, read_manifest(entry))
            looks += 1
    published = [line for writer in writers for line in writer.stdout.read().split()]
    errors = "".join(writer.communicate(timeout=60)[1] for writer in writers)

    assert sorted(f"v{n}" for n in range(1, 13)) == sorted(published), errors
    assert looks > 0
    for version in BundleStore(tmp_path).versions("line"):
        assert version.label == read_manifest(root / version.label).version
    assert [] == hidden(BundleStore(tmp_path), "line")


SAVE_AND_HANG = """
import sys
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler
from bundleserver import BundleStore
class Hangs:
    def __reduce__(self):
        print("writing", flush=True)
        sys.stdin.readline()
        return (int, ())
model = LinearRegression().fit(np.eye(3), [1, 2, 3])
model.hangs = Hangs()
BundleStore(sys.argv[1]).save("line", {"scaler": StandardScaler().fit(np.eye(3)), "model": model})
"""


def test_a_killed_writer_leaves_no_version_and_hinders_nobody(store, line):
    """After kill -9 in the middle only a hidden directory is left, and the next save gets v1."""
    writer = run_script(SAVE_AND_HANG, store.root)
    assert "writing\n" == writer.stdout.readline(), writer.stderr.read()
    writer.kill()
    writer.communicate(timeout=60)
    left = hidden(store, "line")

    assert () == store.versions("line")
    assert 1 == len(left)
    assert left[0].startswith(".staging-")
    assert Version("v1") == store.save("line", line)


def test_what_killed_writers_left_is_removed_after_a_day(store, line):
    """Old staging directories go with the next save; young ones may be somebody's work."""
    for name, age_seconds in ((".staging-old", 25 * 3600), (".staging-young", 3600)):
        (store.path("line") / name / "deep").mkdir(parents=True)
        then = time.time() - age_seconds
        os.utime(store.path("line") / name, (then, then))

    store.save("line", line)

    assert [".staging-young"] == hidden(store, "line")


FOREST = {"framework": "model", "model": "fraud"}
ANSWERED = {"inputs": {"x": [[1.0]]}, "outputs": {"label": [1]}}
VOTE = {
    "components": {"forest": FOREST, "line": LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])},
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 1]}],
    "steps": [
        {"component": "forest", "inputs": ["x"], "outputs": ["label"]},
        {"component": "line", "inputs": ["x"], "outputs": ["y"]},
    ],
    "outputs": [{"name": "label"}, {"name": "y"}],
}


@pytest.mark.parametrize("examples", [None, [ANSWERED]])
def test_a_component_may_be_another_model_of_the_server(store, examples):
    """It stands as in a manifest, has no file, and examples come with their answers."""
    version = store.save("vote", examples=examples, **VOTE)

    manifest = read_manifest(store.path("vote", version))
    assert "fraud" == manifest.components["forest"].model
    assert {"manifest.json", "line.joblib"} == {
        path.name for path in store.path("vote", version).iterdir()
    }
    assert len(examples or []) == len(manifest.examples)


def test_another_model_alone_is_a_component_too(store):
    """A model may stand for another one under its own name."""
    version = store.save("alias", FOREST)

    assert ["model"] == list(read_manifest(store.path("alias", version)).components)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"examples": X[:2, :1]}, StoreError, "component 'forest' is another model"),
        (
            {"components": {"forest": {**FOREST, "modle": "x"}}},
            ManifestError,
            "modle: is not a known",
        ),
        ({"components": {"forest": {"framework": "model"}}}, ManifestError, "forest.model: is mis"),
        ({"options": {"forrest": {}}}, StoreError, "did you mean 'forest'?"),
        ({"frameworks": {"line": "model"}}, BundleServerError, "expected one of '"),
    ],
)
def test_another_model_that_cannot_be_one_is_refused(store, changes, error, said):
    """What a manifest would refuse is refused, and rows that nobody here can answer."""
    with pytest.raises(error) as refused:
        store.save("vote", **{**VOTE, **changes})

    assert said in str(refused.value)
    assert () == store.versions("vote")


@pytest.fixture
def bundle_dir(tmp_path, parts):
    """Write a directory as the notebooks did: two pickles and nothing else."""
    import joblib

    directory = tmp_path / "bundle"
    directory.mkdir()
    joblib.dump(parts["scaler"], directory / "isolation_forest_scaler.pkl")
    joblib.dump(parts["model"], directory / "isolation_forest_model.pkl")
    return directory


def test_publishing_writes_the_inferred_manifest_with_digests(store, bundle_dir, parts):
    """A directory without a manifest is published with one, and answers as its objects do."""
    version = store.publish(bundle_dir, "predictive-analytics")

    manifest = read_manifest(store.path("predictive-analytics", version))
    bundle = open_version(store, "predictive-analytics", version)
    expected = parts["model"].predict(parts["scaler"].transform(X))
    assert all(component.sha256 and component.size for component in manifest.components.values())
    assert ("predictive-analytics", "v1") == (manifest.name, manifest.version)
    assert expected.tolist() == ask(bundle, X.tolist()).tolist()
    assert not (bundle_dir / "manifest.json").exists()


def test_publishing_copies_what_belongs_to_the_bundle_and_no_work_files(store, bundle_dir):
    """A README goes along, a notebook's checkpoints do not."""
    (bundle_dir / "README.md").write_text("how it was made")
    (bundle_dir / ".ipynb_checkpoints").mkdir()

    version = store.publish(bundle_dir, "model")

    names = {path.name for path in store.path("model", version).iterdir()}
    assert "README.md" in names
    assert ".ipynb_checkpoints" not in names


def test_publishing_keeps_the_version_that_a_manifest_names(store, line):
    """A version copied to another store keeps its label, and is refused the second time."""
    store.save("line", line, version="v7")
    other = BundleStore(store.root.parent / "other")

    assert Version("v7") == other.publish(store.path("line", "v7"), "line")
    with pytest.raises(StoreError, match="v7 already exists"):
        other.publish(store.path("line", "v7"), "line")
    assert Version("v8") == other.publish(store.path("line", "v7"), "line", version="v8")
    assert "v8" == read_manifest(other.path("line", "v8")).version


def test_publishing_names_the_manifest_whose_framework_is_unknown(store, line):
    """The message names the file that its reader can mend, not a copy that is gone."""
    store.save("line", line)
    manifest = store.path("line", "v1") / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"sklearn"', '"sklern"', 1))

    with pytest.raises(ManifestError) as refused:
        store.publish(manifest.parent, "other")

    assert str(refused.value).startswith(f"{manifest}: components.model.framework: is 'sklern'")


def test_publishing_refuses_files_that_differ_from_their_manifest(store, line):
    """A file changed since it was saved is not published under a digest that looks right."""
    store.save("line", line)
    with next(store.path("line", "v1").glob("model.*")).open("ab") as file:
        file.write(b"!")

    with pytest.raises(IntegrityError):
        store.publish(store.path("line", "v1"), "copy", version="v1")

    assert () == store.versions("copy")
    assert [] == hidden(store, "copy")


def test_publishing_copies_what_the_bundles_own_links_lead_to(store, bundle_dir, tmp_path):
    """The version holds the files themselves, since links of a version may not leave it."""
    model = bundle_dir / "isolation_forest_model.pkl"
    model.rename(tmp_path / "elsewhere.pkl")
    model.symlink_to(tmp_path / "elsewhere.pkl")

    version = store.publish(bundle_dir, "model")

    copy = store.path("model", version) / model.name
    assert not copy.is_symlink()
    assert (tmp_path / "elsewhere.pkl").read_bytes() == copy.read_bytes()


def test_publishing_refuses_deeper_links_that_lead_out_of_the_bundle(store, bundle_dir, tmp_path):
    """What such a link holds is nothing of the bundle's, even where no manifest lists it."""
    (bundle_dir / "notes").mkdir()
    (bundle_dir / "notes" / "secret.txt").symlink_to("/etc/hostname")

    with pytest.raises(IntegrityError, match=r"'notes/secret\.txt' is a link to '/etc/hostname'"):
        store.publish(bundle_dir, "model")


def test_publishing_puts_digests_into_bundles_in_a_bundle(store, bundle_dir, tmp_path):
    """The digest of a nested bundle is its manifest's, which has those of its files."""
    outer = tmp_path / "outer"
    outer.mkdir()
    bundle_dir.rename(outer / "inner")
    inner = {
        "format": "bundle/v1",
        "components": {
            "scaler": {"framework": "sklearn", "path": "isolation_forest_scaler.pkl"},
            "model": {"framework": "sklearn", "path": "isolation_forest_model.pkl"},
        },
    }
    component = {"framework": "bundle", "path": "inner"}
    (outer / "inner" / "manifest.json").write_text(json.dumps(inner))
    (outer / "manifest.json").write_text(
        json.dumps({"format": "bundle/v1", "components": {"inner": component}})
    )

    version = store.publish(outer, "outer")

    directory = store.path("outer", version)
    manifest = read_manifest(directory)
    nested = read_manifest(directory / "inner")
    assert file_sha256(directory / "inner" / "manifest.json") == manifest.components["inner"].sha256
    assert all(component.sha256 for component in nested.components.values())


@pytest.mark.parametrize("inside", ["", "models"])
def test_a_directory_is_not_published_into_itself(bundle_dir, inside):
    """A copy that would copy itself is refused."""
    with pytest.raises(StoreError, match="outside of the bundle"):
        BundleStore(bundle_dir / inside).publish(bundle_dir, "model")


def test_publishing_what_is_no_directory_says_so(store, tmp_path):
    """The error names the path."""
    with pytest.raises(StoreError, match="nowhere is not a directory"):
        store.publish(tmp_path / "nowhere", "model")


@pytest.fixture
def three(store, line):
    """Save v1, v2 and v3 of one model."""
    for _ in range(3):
        store.save("line", line)
    return store


def serving(store):
    """Read what serving.json holds."""
    return json.loads((store.path("line") / "serving.json").read_text())


def test_promoting_moves_the_default_or_a_label(three):
    """Without a label the default moves, with one the label does, and a label may be followed."""
    three.promote("line", "v2")
    three.promote("line", "v1", "stable")
    three.promote("line", "stable", "canary")

    assert {"default": "v2", "labels": {"stable": "v1", "canary": "v1"}} == serving(three)


def test_rolling_back_pins_the_version_before_the_one_that_serves(three):
    """Before the newest at first, then before the default, and never before the oldest."""
    assert "v2" == three.rollback("line").default
    assert "v1" == three.rollback("line").default
    assert "v3" == three.rollback("line", to="v3").default
    three.rollback("line", to="v1")
    with pytest.raises(StoreError, match="no earlier sound version"):
        three.rollback("line")


def test_rolling_back_follows_a_default_that_is_a_label(three):
    """The version before the one that the default's label names is pinned by its own name."""
    three.promote("line", "v3", "stable")
    (three.path("line") / "serving.json").write_text(
        json.dumps({"labels": {"stable": "v3"}, "default": "stable"})
    )

    three.rollback("line")

    assert {"labels": {"stable": "v3"}, "default": "v2"} == serving(three)


def test_rolling_back_passes_over_versions_that_cannot_serve(three):
    """A version whose files are cut short is no version to go back to."""
    next(three.path("line", "v2").glob("model.*")).write_bytes(b"")

    assert "v1" == three.rollback("line").default


def test_promoting_a_version_that_cannot_serve_is_refused(three):
    """The reason is that of the files, and nothing changes."""
    next(three.path("line", "v2").glob("model.*")).unlink()

    with pytest.raises(IntegrityError, match="is missing"):
        three.promote("line", "v2")

    assert not (three.path("line") / "serving.json").exists()


def test_promoting_latest_leaves_the_default_to_the_policy(three):
    """The pin of a rollback can be taken off again."""
    three.rollback("line")
    three.promote("line", "latest")

    assert {} == serving(three)


def test_a_split_names_versions_and_labels_and_ends_with_a_new_default(three):
    """Shares are kept until a rollback or a promotion says that one version answers all."""
    three.promote("line", "v2", "stable")
    three.split("line", {"stable": 90, "v3": 10})
    assert {"stable": 90, "v3": 10} == serving(three)["traffic"]

    three.rollback("line")

    assert {"labels": {"stable": "v2"}, "default": "v2"} == serving(three)


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.split("line", {"v1": 1, "v2": 1}),
        lambda store: store.rollback("line", "v1"),
        lambda store: store.promote("line", "v2"),
    ],
)
def test_a_rollout_of_a_canary_ends_with_a_split_or_a_new_default(three, change):
    """Whoever splits by hand or rolls back decides, and no canary goes on beside that."""
    path = three.path("line", Version("v1")).parent / "serving.json"
    path.write_text('{"default": "v1", "canary": {"version": "v3"}}')

    change(three)

    assert "canary" not in path.read_text()


def test_a_split_without_shares_ends(three):
    """An empty split is no split."""
    three.split("line", {"v1": 1, "v3": 1})
    three.split("line", {})

    assert {} == serving(three)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda store: store.promote("line", "v9"), StoreError, "versions: 'v1', 'v2', 'v3'"),
        (lambda store: store.promote("line", "v1", "v7"), ConfigError, "labels.v7"),
        (lambda store: store.promote("line", "v1", "latest"), ConfigError, "labels.latest"),
        (lambda store: store.rollback("line", to="2"), StoreError, "no version or label '2'"),
        (lambda store: store.split("line", {"canary": 1}), StoreError, "label 'canary'"),
        (lambda store: store.split("line", {"v1": 0}), ConfigError, "traffic"),
        (lambda store: store.split("line", {"v1": -1, "v2": 5}), ConfigError, "traffic.v1"),
        (lambda store: store.promote("other", "v1"), StoreError, "is not a directory"),
        (lambda store: store.promote("../line", "v1"), StoreError, "name is '../line'"),
    ],
)
def test_a_choice_that_no_server_could_follow_is_refused(three, change, error, said):
    """Unknown versions and labels, and shares that make no split, change nothing."""
    with pytest.raises(error) as caught:
        change(three)

    assert said in str(caught.value)
    assert not (three.path("line") / "serving.json").exists()


def test_a_broken_serving_file_is_not_built_upon(three):
    """What somebody wrote wrongly by hand is reported and left as it is."""
    path = three.path("line") / "serving.json"
    path.write_text('{"defualt": "v1"}')

    with pytest.raises(ConfigError, match="did you mean 'default'"):
        three.promote("line", "v1")

    assert '{"defualt": "v1"}' == path.read_text()


def test_what_a_change_is_not_about_stays(three):
    """Policy and shadow survive a promotion."""
    before = {"policy": "latest:2", "shadow": ["v3"]}
    (three.path("line") / "serving.json").write_text(json.dumps(before))

    three.promote("line", "v1")

    assert {**before, "default": "v1"} == serving(three)


MOVE_LABELS = """
import sys
from bundleserver import BundleStore
store, who = BundleStore(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for at in range(10):
    store.promote("line", "v1", f"label-{who}-{at}")
"""


def test_promotions_at_once_are_all_kept(three):
    """Four processes move ten labels each: none undoes what another did."""
    movers = [run_script(MOVE_LABELS, three.root, who) for who in range(4)]
    for mover in movers:
        assert "ready\n" == mover.stdout.readline()
    for mover in movers:
        mover.stdin.write("go\n")
        mover.stdin.flush()
    errors = "".join(mover.communicate(timeout=60)[1] for mover in movers)

    wanted = {f"label-{who}-{at}": "v1" for who in range(4) for at in range(10)}
    assert wanted == serving(three)["labels"], errors


def test_the_path_of_a_model_is_below_the_root(store):
    """Callers may look at files themselves."""
    assert Path(store.root, "fraud", "v1") == store.path("fraud", Version("v1"))
