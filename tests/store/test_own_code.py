"""Code that a notebook saves with its model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from contextlib import closing
from textwrap import dedent

import numpy as np
import pytest
from packaging.version import Version
from sklearn.preprocessing import FunctionTransformer

from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import BundleServerError, ManifestError, StoreError
from bundleserver.store import BundleStore, own_code
from bundleserver.tensors import NamedTensor

X = np.array([[1.0, 2.0], [3.0, 4.0]])
SCORER = {"framework": "python", "path": "code/model.py", "options": {"class": "Scorer"}}
INPUTS = [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]
SOURCE = """
from words import pairs
class Scorer:
    def predict(self, inputs): return {"score": pairs.total(inputs["x"])}
"""


@pytest.fixture
def store(tmp_path):
    """Make an empty store."""
    return BundleStore(tmp_path / "store")


@pytest.fixture
def code(tmp_path):
    """Write a module and a package, with what Python and editors leave beside them."""
    directory = tmp_path / "notebook"
    for name, text in {
        "model.py": SOURCE,
        "words/__init__.py": "",
        "words/pairs.py": "import packaging\ndef total(x): return x.sum(axis=1)\n",
        "words/data.txt": "plain",
        "words/__pycache__/pairs.cpython-311.pyc": "",
        "words/.ipynb_checkpoints/pairs.py": "",
    }.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


def save(store, *code, **more):
    """Save a bundle with a class of its own and this code."""
    return store.save("scores", {"model": SCORER}, code=[*code], inputs=INPUTS, **more)


def test_code_is_saved_listed_and_opened(store, code):
    """Files and packages are copied with digests; what was compiled or hidden stays behind."""
    version = save(store, code / "model.py", f"{code}/words/", examples=X)

    directory = store.path("scores", version)
    document = json.loads((directory / "manifest.json").read_text())
    listed = [entry["path"] for entry in document["code"]]
    there = sorted(
        str(p.relative_to(directory)) for p in directory.rglob("code/**/*") if p.is_file()
    )
    assert ["code/model.py", "code/words/__init__.py", "code/words/data.txt"] == listed[:3]
    assert there == listed
    assert all(len(entry["sha256"]) == 64 for entry in document["code"])
    assert document["components"]["model"]["sha256"]
    assert {"score": [3.0, 7.0]} == document["examples"][0]["outputs"]
    with closing(open_bundle(directory)) as bundle:
        assert [3.0, 7.0] == [*bundle.predict({"x": NamedTensor("x", X)}, {})["score"]]


def test_what_the_code_imports_is_recorded(store, code):
    """Versions of packages that only the code needs are in the manifest."""
    directory = store.path("scores", save(store, code / "model.py", code / "words"))

    packages = json.loads((directory / "manifest.json").read_text())["requirements"]["packages"]
    assert "packaging" in packages


def test_one_file_may_be_given_alone(store, tmp_path):
    """A path in place of a list is one file."""
    (tmp_path / "model.py").write_text(
        "class Scorer:\n    def predict(self, inputs): return {'score': inputs['x'][:, 0]}\n"
    )

    store.save("scores", SCORER, code=tmp_path / "model.py", inputs=INPUTS)


def test_published_code_keeps_its_digests(store, code, tmp_path):
    """A directory with code that nobody listed is published with a list."""
    saved = store.path("scores", save(store, code / "model.py", code / "words"))
    document = json.loads((saved / "manifest.json").read_text())
    listed = document.pop("code")
    for name in ("version", "metadata"):
        document.pop(name)
    source = tmp_path / "source"
    (saved / "code").rename(tmp_path / "moved")
    source.mkdir()
    (tmp_path / "moved").rename(source / "code")
    (source / "manifest.json").write_text(json.dumps(document))

    version = store.publish(source, "published")

    written = json.loads((store.path("published", version) / "manifest.json").read_text())
    assert listed == written["code"]


def fifo(directory):
    """Put a pipe into a package."""
    os.mkfifo(directory / "words/pipe")


def link(directory):
    """Put a link out of a package."""
    (directory / "words/link.py").symlink_to("/etc/hostname")


def linked_directory(directory):
    """Put a link to a directory into a package."""
    (directory / "words/again").symlink_to(directory, target_is_directory=True)


def deep(directory):
    """Nest directories deeply."""
    place = directory / "words" / "/".join("d" * 300)
    place.mkdir(parents=True)


def large(directory):
    """Put a large file, which takes no room, into a package."""
    with (directory / "words/large.bin").open("wb") as file:
        file.truncate(400 << 20)


def many(directory):
    """Put too many files into a package."""
    (directory / "words/many").mkdir()
    for number in range(10_010):
        (directory / f"words/many/{number}").touch()


def odd_name(directory):
    """Put a file whose name is no text into a package."""
    (directory / os.fsdecode(b"words/\xff.py")).touch()


def backslash(directory):
    """Put a file with a backslash in its name into a package."""
    (directory / "words/a\\b.py").touch()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (fifo, "words/pipe' is a named pipe; code has only files and directories"),
        (link, "words/link.py' is a link; code has only files"),
        (linked_directory, "words/again' is a link"),
        (deep, "lies in more than 32 directories"),
        (large, "words/large.bin' alone 419430400; leave out"),
        (many, "more than 10000 files"),
        (odd_name, "has a name that is not text"),
        (backslash, "has a name that is not text, or has a backslash"),
        (lambda directory: (directory / "model.py").unlink(), "cannot be read: No such file"),
        (lambda directory: (directory / "words/pairs.py").write_text("1/0"), "ZeroDivisionError"),
        (lambda directory: (directory / "words/pairs.py").write_text("def"), "SyntaxError"),
    ],
)
def test_code_that_cannot_be_saved_is_told(store, code, spoil, said):
    """Each is a sentence, and nothing is published."""
    spoil(code)

    with pytest.raises(BundleServerError) as refused:
        save(store, code / "model.py", code / "words")

    assert said in str(refused.value)
    assert () == store.versions("scores")


def test_two_files_of_one_name_are_refused(store, code):
    """Neither replaces the other."""
    (code / "other").mkdir()
    (code / "other/model.py").write_text("")

    with pytest.raises(StoreError, match="of one name; rename one"):
        save(store, code / "model.py", code / "other/model.py")


def test_a_file_that_is_given_twice_is_told(store, code):
    """The sentence does not say that two files have one name."""
    with pytest.raises(StoreError, match=r"model\.py' twice"):
        save(store, code / "model.py", code / "model.py")


@pytest.mark.parametrize("given", [json, [json], [3], 3])
def test_a_module_is_no_path(store, given):
    """Whoever gives the module itself learns where its file is."""
    with pytest.raises(StoreError, match="expected the paths of files and") as refused:
        store.save("scores", {"model": SCORER}, code=given, inputs=INPUTS)

    assert (json.__file__ in str(refused.value)) == (given in (json, [json]))


@pytest.mark.parametrize(
    ("component", "error", "said"),
    [
        ({"framework": "python"}, ManifestError, "model.path: is missing"),
        ({**SCORER, "path": "code/absent.py"}, BundleServerError, "No such file"),
        ({**SCORER, "class": "Scorer"}, ManifestError, "class: is not a known key"),
        ({**SCORER, "options": {"class": "Absent"}}, BundleServerError, "has no class 'Absent'"),
    ],
)
def test_a_class_that_is_not_there_is_not_saved(store, code, component, error, said):
    """The component is checked as a manifest's is."""
    with pytest.raises(error) as refused:
        store.save("s", {"model": component}, code=[code / "model.py", code / "words"])

    assert said in str(refused.value)


def test_the_top_of_all_files_is_no_code(store):
    """A slip of the pen copies no computer."""
    with pytest.raises(StoreError, match="the top of all files"):
        save(store, "/")


def test_no_python_has_no_imports(tmp_path):
    """What cannot be parsed records nothing."""
    (tmp_path / "a.py").write_bytes(b"\0")

    assert {} == own_code.packages_of(tmp_path, [{"path": "a.py"}])


LEFT_OUT = """
    import sys
    sys.path.insert(0, sys.argv[2])
    import logging
    from features import Mean
    from bundleserver import BundleStore
    logging.basicConfig()
    model = Mean().fit([[1.0]], [1.0])
    store = BundleStore(sys.argv[1])
    store.save("left", model)
    print("between", file=sys.stderr)
    store.save("shipped", model, code=[sys.argv[2] + "/features.py"])
"""


def test_a_module_that_servers_lack_is_told(store, tmp_path):
    """Whoever forgets it learns so in the notebook, with the argument that saves it."""
    source = (
        "from sklearn.linear_model import LinearRegression\nclass Mean(LinearRegression): pass\n"
    )
    (tmp_path / "features.py").write_text(source)

    ended = subprocess.run(
        [sys.executable, "-c", dedent(LEFT_OUT), str(store.root), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )

    before, _, after = ended.stderr.partition("between")
    assert 0 == ended.returncode, ended.stderr
    assert f"save it too: code=['{tmp_path}/features.py']" in before
    assert "save it too" not in after


NOTEBOOK = """
    import sys
    import numpy as np
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from bundleserver import BundleStore

    class Clip(TransformerMixin, BaseEstimator):
        high = 1.0
        def fit(self, X, y=None):
            self.fitted_ = True
            return self
        def transform(self, X):
            return np.minimum(X, type(self).high)

    X = np.arange(12.0).reshape(6, 2)
    store = BundleStore(sys.argv[1])
    model = make_pipeline(Clip(), LinearRegression()).fit(X, X[:, 0])
    store.save("clip", {"model": model}, examples=X[:1])
    Clip.high = 100.0
    store.save("clip", {"model": model}, examples=X[:1], allow_breaking=True)
    assert Clip.high == 100.0, "opening what was saved has changed the notebook's class"
    print(*model.predict(X))
    Clip.high = 1.0
    print(*model.predict(X))
"""


def test_two_versions_of_a_notebooks_class_do_not_change_each_other(store):
    """Cloudpickle knows a class by an identifier; here each version has its own."""
    ended = subprocess.run(
        [sys.executable, "-c", dedent(NOTEBOOK), str(store.root)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == ended.returncode, ended.stderr
    second, first = (list(map(float, line.split())) for line in ended.stdout.splitlines())
    rows = {"input-0": NamedTensor("input-0", np.arange(12.0).reshape(6, 2))}

    opened = [open_bundle(store.path("clip", version)) for version in ("v1", "v2")]

    answers = [[*next(iter(bundle.predict(rows, {}).values()))] for bundle in opened]
    assert [first, second] == answers
    assert first != second
    for bundle in opened:
        bundle.close()


def test_packages_that_a_pickle_names_are_recorded(store):
    """An image that lacks one is told so before anything is opened; cloudpickle is one of them."""
    keywords = {"of": Version("1")}
    model = FunctionTransformer(lambda x, of: x + 1, kw_args=keywords, inv_kw_args=keywords).fit(X)

    version = store.save("plus", model, examples=X)

    document = json.loads((store.path("plus", version) / "manifest.json").read_text())
    assert {"cloudpickle", "packaging", "scikit-learn"} <= document["requirements"][
        "packages"
    ].keys()


def test_code_of_another_python_is_refused(store):
    """Bytecode is only run by the version that compiled it, whatever --version_mismatch says."""
    ended = subprocess.run(
        [sys.executable, "-c", dedent(NOTEBOOK), str(store.root)], timeout=120, capture_output=True
    )
    assert 0 == ended.returncode
    path = store.path("clip", "v1") / "manifest.json"
    document = json.loads(path.read_text())
    document["requirements"]["python"] = "3.9"
    path.write_text(json.dumps(document))

    with pytest.raises(BundleServerError) as refused:
        open_bundle(path.parent, version_mismatch="ignore")

    assert "model.pkl: has classes or functions as code of Python 3.9, and here" in str(
        refused.value
    )


def test_what_only_the_notebook_has_does_not_answer_for_the_code(store, code, monkeypatch):
    """A module that code asks for too quietly for a server to notice is not found here either."""
    source = """
        import sys
        FROM = "the copy"
        class Scorer:
            def predict(self, inputs):
                notebook = sys.modules.get("model") or sys.modules.get("words")
                return {"score": inputs["x"][:, 0], "in": [getattr(notebook, "FROM", "no")] * 2}
    """
    (code / "model.py").write_text(dedent(source))
    loaded = types.ModuleType("model")
    loaded.FROM = "the notebook"
    monkeypatch.setitem(sys.modules, "model", loaded)
    monkeypatch.syspath_prepend(str(code))

    version = save(store, code / "model.py", code / "words", examples=X)

    document = json.loads((store.path("scores", version) / "manifest.json").read_text())
    assert ["no", "no"] == document["examples"][0]["outputs"]["in"]
    assert sys.modules["model"] is loaded
