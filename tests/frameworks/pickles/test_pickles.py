from __future__ import annotations

import gzip
import io
import json
import logging
import os
import pickle
import sys
import types
import warnings
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.pickles import ClassName
from bundleserver.frameworks.pickles.scan import inspect_pickle
from bundleserver.frameworks.trust import CodeTrust

ANY = CodeTrust()
X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
FOREST = RandomForestClassifier(3, random_state=0).fit(X, Y)
FOREST_CLASS = "sklearn.ensemble._forest.RandomForestClassifier"
PIPELINE = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, np.where(Y, "yes", "no"))


class Raises:
    """An object whose unpickling raises."""

    def __init__(self, error: str) -> None:
        self.error = error

    def __reduce__(self) -> object:
        return raise_named, (self.error,)


class LeavesATrace:
    """An object whose unpickling makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


class Slotted:
    """An object with slots, a reduced dictionary state and list items."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = X


class Listing(list):
    """A list with attributes."""


class Keyworded:
    """An object that is made with keyword arguments."""

    def __new__(cls, *, value: object) -> Keyworded:
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> object:
        return (), {"value": X}


class Untellable(io.BytesIO):
    """A stream that does not know its position, as a pipe."""

    def tell(self) -> int:
        raise io.UnsupportedOperation


class Referring(pickle.Pickler):
    """A pickler that leaves something out, as a persistent id."""

    def persistent_id(self, thing: object) -> object:
        return thing if thing == "outside" else None


def raise_named(error: str) -> None:
    """Raise the named error, as the code of a pickle may."""
    raise {
        "memory": MemoryError,
        "exit": SystemExit,
        "value": ValueError,
        "attribute": AttributeError,
    }[error]("the model's own code says no\nand more")


def written(path: Path, thing: object, protocol: int = 4) -> Path:
    """Write a plain pickle."""
    path.write_bytes(pickle.dumps(thing, protocol))
    return path


def notebook_class(monkeypatch: pytest.MonkeyPatch, name: str, *bases: type) -> type:
    """Make a class that lives in __main__, as those of a notebook do."""
    made = type(name, bases, {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], name, made, raising=False)
    return made


THINGS = [
    (FOREST, FOREST_CLASS),
    (PIPELINE, "sklearn.pipeline.Pipeline"),
    ({"scaler": StandardScaler(), "model": FOREST}, "builtins.dict"),
    ([FOREST], "builtins.list"),
    ((StandardScaler(), FOREST), "builtins.tuple"),
    ({1, 2}, "builtins.set"),
    ("text", "builtins.str"),
    (None, "builtins.NoneType"),
    (X, "numpy.ndarray"),
    (np.asfortranarray(X), "numpy.ndarray"),
    (X[:0], "numpy.ndarray"),
    (np.array(1.5), "numpy.ndarray"),
    (np.array([["a", 1], [FOREST, None]], dtype=object), "numpy.ndarray"),
    (np.zeros(3, dtype=[("a", "f8"), ("b", "i4")]), "numpy.ndarray"),
    (np.zeros(3, dtype=[("a", "f8"), ("b", "O")]), "numpy.ndarray"),
    (np.array(["2020-01-01"], dtype="M8[D]"), "numpy.ndarray"),
    (pd.DataFrame({"a": [1.0], "b": ["x"]}), "pandas.core.frame.DataFrame"),
    (Listing([1, X]), f"{__name__}.Listing"),
    (OrderedDict(a=X, b=2), "collections.OrderedDict"),
    (np.sum, "numpy.sum"),
    (LogisticRegression, "sklearn.linear_model._logistic.LogisticRegression"),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(("thing", "expected"), THINGS)
def test_top_class_is_found_in_pickles_of_every_protocol(tmp_path, thing, expected, protocol):
    """The class at the top is named whatever the protocol, and what follows is read."""
    path = written(tmp_path / "model.pkl", thing, protocol)
    longer = written(tmp_path / "longer.pkl", [thing, Slotted], protocol)

    assert expected == str(pickles.top_class(path))
    assert ClassName(__name__, "Slotted") in inspect_pickle(longer).named


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize(("thing", "expected"), THINGS)
def test_top_class_is_found_in_joblib_files(tmp_path, thing, expected, protocol):
    """Arrays inside a joblib file's stream are stepped over, whatever their type and order."""
    path, longer = tmp_path / "model.joblib", tmp_path / "longer.joblib"
    joblib.dump(thing, path, protocol=protocol)
    joblib.dump([thing, Slotted], longer, protocol=protocol)

    assert expected == str(pickles.top_class(path))
    assert ClassName(__name__, "Slotted") in inspect_pickle(longer).named


@pytest.mark.parametrize("compress", ["zlib", "gzip", "bz2", "lzma", "xz"])
@pytest.mark.parametrize("thing", [FOREST, X, np.array([["a", 1]], dtype=object)])
def test_top_class_is_found_under_each_compression(tmp_path, thing, compress):
    """Compressed joblib files are read as a stream and give the same class and names."""
    path, plain = tmp_path / "model.joblib", tmp_path / "plain.joblib"
    joblib.dump([thing, Slotted], path, compress=(compress, 3))
    joblib.dump([thing, Slotted], plain)
    top = written(tmp_path / "top.pkl", thing)
    joblib.dump(thing, tmp_path / "top.joblib", compress=(compress, 3))

    assert inspect_pickle(plain).named - inspect_pickle(path).named == set()
    assert pickles.top_class(top) == pickles.top_class(tmp_path / "top.joblib")


@pytest.mark.parametrize("protocol", [4, 5])
def test_top_class_of_an_object_made_with_keywords(tmp_path, protocol):
    """The instruction of protocol 4 for keyword arguments is followed."""
    path = written(tmp_path / "m.pkl", Keyworded(value=1), protocol)

    assert ClassName(__name__, "Keyworded") == pickles.top_class(path)


def test_top_class_of_a_file_without_padded_arrays(tmp_path):
    """Arrays that joblib wrote to a pipe, as before its version 1.2, have no padding."""
    pipe = Untellable()
    joblib.dump([X, Slotted], pipe)
    path = tmp_path / "m.joblib"
    path.write_bytes(pipe.getvalue())

    assert ClassName(__name__, "Slotted") in inspect_pickle(path).named
    np.testing.assert_array_equal(X, pickles.load(path, ANY)[0])


def test_objects_kept_outside_a_pickle_are_a_load_error(tmp_path):
    """Persistent ids and extension codes are stepped over, and refused when the file is opened."""
    path = tmp_path / "m.pkl"
    with path.open("wb") as file:
        Referring(file).dump([StandardScaler(), "outside"])
    coded = tmp_path / "coded.pkl"
    coded.write_bytes(b"\x80\x04]\x82\x09a.")

    assert ClassName("builtins", "list") == pickles.top_class(path) == pickles.top_class(coded)
    with pytest.raises(LoadError, match="cannot be opened: UnpicklingError: unsupported persist"):
        pickles.load(path, ANY)
    with pytest.raises(LoadError, match="unregistered extension code 9"):
        pickles.load(coded, ANY)


def test_load_names_the_compression_that_is_not_installed(tmp_path):
    """An lz4 file is refused by the name of the package, or for its damage where that is there."""
    path = tmp_path / "m.joblib"
    path.write_bytes(b"\x04\x22\x4d\x18" + bytes(50))

    with pytest.raises(LoadError, match=r"needs the module 'lz4'|is truncated or damaged"):
        pickles.load(path, ANY)


@pytest.mark.parametrize("write", [joblib.dump, lambda thing, path: written(path, thing)])
def test_load_opens_what_was_written(tmp_path, write):
    """A pickle and a joblib file both come back as the object that was saved."""
    path = tmp_path / "model"
    write(FOREST, path)

    np.testing.assert_array_equal(FOREST.predict_proba(X), pickles.load(path, ANY).predict_proba(X))


def test_inspecting_a_pickle_runs_nothing(tmp_path):
    """Naming what a pickle holds neither imports nor calls anything in it."""
    trace = tmp_path / "trace"
    path = written(tmp_path / "m.pkl", LeavesATrace(trace))
    unknown = tmp_path / "u.pkl"
    unknown.write_bytes(b"cno_such_module.inner\nThing\n)\x81.")

    assert {str(name) for name in inspect_pickle(path).named} == {f"{os.name}.mkdir"}
    assert not trace.exists()
    assert ClassName("no_such_module.inner", "Thing") == pickles.top_class(unknown)


PLAIN = [
    ["a", "b"],
    {"window": 24, "limits": (0.5, None)},
    {"a", 1},
    0.25,
    "text",
    None,
    X,
    np.float32(0.5),
    np.array([["a", 1]], dtype=object),
    pd.DataFrame({"a": [1.0], "b": pd.to_datetime(["2025-01-01"], utc=True)}),
    pd.Series([1, 2], dtype="category"),
    pd.Timestamp("2025-01-01"),
    Path("models"),
    OrderedDict(a=[X]),
]


@pytest.mark.parametrize("write", [joblib.dump, lambda thing, path: written(path, thing)])
@pytest.mark.parametrize("thing", PLAIN, ids=lambda thing: type(thing).__name__)
def test_data_of_a_notebook_is_plain(tmp_path, thing, write):
    """Containers, numbers, strings, dates, arrays and tables hold no model, however written."""
    path = tmp_path / "thing.pkl"
    write(thing, path)

    assert pickles.held_in(path).is_plain


@pytest.mark.parametrize(
    "thing", [FOREST, {"model": FOREST}, [PIPELINE], LogisticRegression, Slotted(), Listing([1])]
)
def test_what_has_a_class_of_a_library_or_of_ones_own_is_not_plain(tmp_path, thing):
    """A container of models is not data, and nor is an object whose class is not known here."""
    assert not pickles.held_in(written(tmp_path / "thing.pkl", thing)).is_plain


def test_a_damaged_table_is_not_plain(tmp_path):
    """What cannot be read to its end is an error for whoever opens it, and no data."""
    path = written(tmp_path / "thing.pkl", pd.DataFrame({"a": [1.0]}))
    path.write_bytes(path.read_bytes()[:-30])

    assert not pickles.held_in(path).is_plain


def test_an_estimators_widths_are_told_without_opening_it(tmp_path):
    """Integers of the state, and the steps of a pipeline, are enough to compare widths."""
    held = pickles.held_in(written(tmp_path / "thing.pkl", PIPELINE))

    assert ["a StandardScaler", "a LogisticRegression"] == [part.what for part in held.parts]
    assert [3, 3] == [part.numbers["n_features_in_"] for part in held.parts]


@pytest.mark.parametrize("size", [1, 2, 20, 90, 400, 1500])
@pytest.mark.parametrize("write", [joblib.dump, lambda thing, path: written(path, thing)])
def test_load_of_a_truncated_file_says_so(tmp_path, write, size):
    """A file that ends too early is called truncated wherever it was cut."""
    path = tmp_path / "model.pkl"
    write(FOREST, path)
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(LoadError, match=rf"^'{path}' is truncated or damaged .*copy it again"):
        pickles.load(path, ANY)


@pytest.mark.parametrize("compress", ["zlib", "gzip", "bz2", "xz"])
def test_load_of_a_truncated_compressed_file_says_so(tmp_path, compress):
    """A compressed file that ends too early is called truncated, like any other."""
    path = tmp_path / "model.joblib"
    joblib.dump(FOREST, path, compress=(compress, 3))
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(LoadError, match="is truncated or damaged"):
        pickles.load(path, ANY)


def test_top_class_of_a_truncated_file_is_what_it_began_with(tmp_path):
    """The class is told from the first bytes even when the rest is missing."""
    path = written(tmp_path / "model.pkl", FOREST)
    path.write_bytes(path.read_bytes()[:900])

    assert FOREST_CLASS == str(pickles.top_class(path))


def other_formats(directory: Path) -> dict[str, tuple[Path, str]]:
    """Write a file of each other kind, each with what the message says of it."""
    kinds = {
        "json": (json.dumps({"methods": []}).encode(), "is probably JSON"),
        "list": (b' [1, 2, "x"]', "is probably JSON"),
        "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is probably an HDF5 file"),
        "npy": (b"\x93NUMPY\x01\x00", "a numpy .npy file"),
        "parquet": (b"PAR1" + bytes(20), "a Parquet file"),
        "html": (b"<!DOCTYPE html><title>403</title>", "an HTML or XML page"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "run 'git lfs pull'"),
        "text": (b"cpu,memory,io\n0.5,0.1,0.2\n", "is probably text"),
        "empty": (b"", "is empty"),
    }
    files = {kind: (directory / kind, message) for kind, (_, message) in kinds.items()}
    for kind, (path, _) in files.items():
        path.write_bytes(kinds[kind][0])
    with zipfile.ZipFile(directory / "zip", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    return {**files, "zip": (directory / "zip", "a zip archive")}


@pytest.mark.parametrize(
    "kind", ["json", "list", "hdf5", "npy", "parquet", "html", "lfs", "text", "empty", "zip"]
)
def test_load_says_what_a_file_is_that_is_no_pickle(tmp_path, kind):
    """A file of another format is named from its first bytes, and holds no class."""
    path, message = other_formats(tmp_path)[kind]

    with pytest.raises(LoadError, match=message) as refusal:
        pickles.load(path, ANY)

    assert str(path) in str(refusal.value)
    assert pickles.top_class(path) is None


@pytest.mark.parametrize(
    "content",
    [b"\x80\x09.", b"\x80\x04]}bq", b"\x00\x01\x02\xff" * 9, gzip.compress(b"hi", mtime=0)],
)
def test_load_of_other_bytes_is_a_load_error(tmp_path, content):
    """Bytes that are no pickle of this Python's protocols are refused with a named error."""
    path = tmp_path / "model.pkl"
    path.write_bytes(content)

    with pytest.raises(LoadError, match="is truncated or damaged"):
        pickles.load(path, ANY)


@pytest.mark.parametrize(
    "read", [partial(pickles.load, trust=ANY), pickles.top_class, inspect_pickle]
)
def test_a_file_that_cannot_be_read_is_a_load_error(tmp_path, read):
    """A missing file and a directory are reported by path, not as an OSError."""
    with pytest.raises(LoadError, match=r"absent.pkl' cannot be read: No such file"):
        read(tmp_path / "absent.pkl")
    with pytest.raises(LoadError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_load_refuses_a_notebook_class_and_shows_how_to_save_its_parts(tmp_path, monkeypatch):
    """A class of __main__ is refused before anything runs, with a save line of the parts it has."""
    trace = tmp_path / "trace"
    pipeline = notebook_class(monkeypatch, "LSTMPipeline")()
    vars(pipeline).update(
        scaler=StandardScaler().fit(X), forest=FOREST, threshold=0.5, history=X, name="x"
    )
    path = written(tmp_path / "lstm_pipeline.pkl", pipeline)
    pipeline.trace = LeavesATrace(trace)
    joblib.dump(pipeline, tmp_path / "with_trace.joblib")

    with pytest.raises(LoadError) as refusal:
        pickles.load(path, ANY)
    with pytest.raises(LoadError, match=r"__main__\.LSTMPipeline"):
        pickles.load(tmp_path / "with_trace.joblib", ANY)

    assert f"'{path}' uses '__main__.LSTMPipeline', defined in the notebook" in str(refusal.value)
    assert str(refusal.value).endswith(
        'BundleStore().save("<name>", {"scaler": pipeline.scaler, "forest": pipeline.forest})'
    )
    assert not trace.exists()


def test_load_refuses_a_notebook_class_without_parts_by_example(tmp_path, monkeypatch):
    """A class of __main__ that holds no models still gets a save line to go by."""
    path = written(tmp_path / "m.pkl", notebook_class(monkeypatch, "TimeSeriesEnsemble")())

    with pytest.raises(LoadError, match=r'"scaler": pipeline.scaler, "model": pipeline.model'):
        pickles.load(path, ANY)


def test_load_refuses_notebook_code_inside_an_importable_model(tmp_path, monkeypatch):
    """A pipeline with a step from __main__ is refused by the step's name."""
    step = notebook_class(monkeypatch, "LogScaler", StandardScaler)().fit(X)
    path = written(tmp_path / "m.pkl", make_pipeline(step, LogisticRegression()).fit(X, Y))

    with pytest.raises(LoadError, match=r"uses '__main__.LogScaler'.* save the model with Bund"):
        pickles.load(path, ANY)


def test_notebook_names_lists_only_what_lived_in_the_notebook(tmp_path, monkeypatch):
    """What __main__ had is listed, importable code is not."""
    step = notebook_class(monkeypatch, "LogScaler", StandardScaler)()

    assert ("__main__.LogScaler",) == pickles.notebook_names(
        written(tmp_path / "a", [step, FOREST])
    )
    assert () == pickles.notebook_names(written(tmp_path / "b", FOREST))


def test_load_names_a_package_that_is_not_installed(tmp_path, monkeypatch):
    """What adds a missing module is said: the model's own code first, then a package."""
    package = types.ModuleType("churn_models")
    package.Churn = type("Churn", (), {"__module__": "churn_models"})
    monkeypatch.setitem(sys.modules, "churn_models", package)
    path = written(tmp_path / "m.pkl", package.Churn())
    monkeypatch.delitem(sys.modules, "churn_models")

    with pytest.raises(
        LoadError,
        match=r"the module 'churn_models', which is .*code=\['churn_models.py'\].*Dockerfile",
    ):
        pickles.load(path, ANY)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            b"csklearn.ensemble.forest\nForest\n.",
            r"'sklearn.ensemble.forest', which scikit-learn 1",
        ),
        (b"csklearn.externals.joblib.numpy_pickle\nX\n.", r"removed in version 0.23"),
        (b"csklearn.linear_model\nNoSuchModel\n.", "with other versions .*NoSuchModel"),
    ],
)
def test_load_names_what_the_installed_version_lacks(tmp_path, named, message):
    """A module or class that another version had is named together with the remedy."""
    path = tmp_path / "m.pkl"
    path.write_bytes(named)

    with pytest.raises(LoadError, match=message):
        pickles.load(path, ANY)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("memory", "needs more memory than is available"),
        ("exit", "cannot be opened: SystemExit: the model's own code says no$"),
        ("value", "cannot be opened: ValueError: the model's own code says no$"),
        ("attribute", "cannot be opened: AttributeError: the model's own code says no$"),
    ],
)
def test_load_turns_whatever_a_pickle_raises_into_one_sentence(tmp_path, error, message):
    """Errors of the pickle's own code become a LoadError with their first line."""
    path = written(tmp_path / "m.pkl", Raises(error))

    with pytest.raises(LoadError, match=message):
        pickles.load(path, ANY)


def test_load_logs_another_version_of_scikit_learn_once(tmp_path, monkeypatch, caplog):
    """An older scikit-learn is one line in the log for a file, no error and no warnings."""
    with monkeypatch.context() as patched:
        patched.setattr("sklearn.base.__version__", "1.0.2")
        path = written(tmp_path / "m.pkl", PIPELINE)

    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        pickles.load(path, ANY)
        pickles.load(written(tmp_path / "same_version.pkl", PIPELINE), ANY)

    assert 1 == len(caplog.records)
    assert f"{path}; it was saved with scikit-learn 1.0.2, but " in caplog.messages[0]


def test_load_names_both_versions_when_the_older_cannot_be_opened(tmp_path, monkeypatch):
    """A failure that versions may explain names them."""
    monkeypatch.setattr("sklearn.base.__version__", "1.0.2")
    path = written(tmp_path / "m.pkl", [StandardScaler(), Raises("value")])

    with pytest.raises(LoadError, match=r"says no; it was saved with scikit-learn 1\.0\.2, but "):
        pickles.load(path, ANY)


def test_load_opens_functions_of_importable_modules(tmp_path):
    """A function named by an importable module is no reason to refuse a pickle."""
    path = written(tmp_path / "m.pkl", FunctionTransformer(np.log1p).fit(X))

    np.testing.assert_array_equal(np.log1p(X**2), pickles.load(path, ANY).transform(X**2))


def test_load_opens_a_class_that_cloudpickle_carries_by_value(tmp_path, monkeypatch):
    """Files of cloudpickle carry the notebook's class along and open."""
    scaler = notebook_class(monkeypatch, "Own", StandardScaler)().fit(X)
    path = tmp_path / "m.pkl"
    path.write_bytes(cloudpickle.dumps(scaler))

    np.testing.assert_array_equal(scaler.transform(X), pickles.load(path, ANY).transform(X))
