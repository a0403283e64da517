"""Code that ships with a bundle: what was verified is imported, and nobody else sees it."""

from __future__ import annotations

import os
import py_compile
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator

from bundleserver.bundle import own_code
from bundleserver.bundle.integrity import file_sha256
from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.own_code import copying
from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.errors import (
    BundleError,
    IntegrityError,
    LoadError,
    ManifestError,
    PredictionError,
)
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.store import BundleStore
from bundleserver.tensors import NamedTensor
from tests.bundle.own_code.bundles import entry, write_code, write_manifest, write_scorer
from tests.signatures import write_key

X = np.array([[1.0, 2.0], [3.0, 4.0]])
LISTED = Trust(CodeTrust(PicklePolicy.LISTED))
NO_CODE = Trust(CodeTrust(bundle_code=False))


def scores(bundle):
    """Ask a bundle for the scores of two rows."""
    return [*bundle.predict({"x": NamedTensor("x", X)}, {})["score"]]


def refusal(directory, trust=None):
    """Return why a bundle does not open."""
    with pytest.raises((BundleError, IntegrityError, ManifestError)) as refused:
        open_bundle(directory, trust=trust or Trust()).close()
    return str(refused.value)


@pytest.fixture
def private(tmp_path, monkeypatch):
    """Keep private copies where the test sees them."""
    place = tmp_path / "private"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_two_versions_of_one_module_answer_at_once(tmp_path):
    """Each version has its own modules, those that it imports while it answers included."""
    first = open_bundle(write_scorer(tmp_path / "1", 2, 100))
    second = open_bundle(write_scorer(tmp_path / "2", 3, 200))

    with closing(first), closing(second):
        assert [106.0, 114.0] == scores(first)
        assert [209.0, 221.0] == scores(second)
        assert [106.0, 114.0] == scores(first)
    assert not {"model", "helpers", "lazy"} & sys.modules.keys()


def test_packages_import_relatively(tmp_path):
    """A package's modules find each other as they do anywhere."""
    files = {
        "pack/__init__.py": "from .inner.deep import FACTOR\n",
        "pack/inner/__init__.py": "",
        "pack/inner/deep.py": "from ..words import FACTOR\n",
        "pack/words.py": "FACTOR = 5\n",
        "pack/model.py": """
            from . import FACTOR
            class Scorer:
                def predict(self, inputs):
                    from .inner import deep
                    return {"score": inputs["x"][:, 0] * FACTOR + deep.FACTOR}
        """,
    }
    model = {"framework": "python", "path": "code/pack/model.py", "options": {"class": "Scorer"}}
    write_manifest(tmp_path, code=write_code(tmp_path, files), components={"model": model})

    with closing(open_bundle(tmp_path)) as bundle:
        assert [10.0, 20.0] == scores(bundle)


def test_what_was_verified_is_what_is_imported_later(tmp_path, private):
    """Modules come from a copy that ends with the bundle, whatever happens to the directory."""
    bundle = open_bundle(write_scorer(tmp_path / "1"))
    for path in (tmp_path / "1/code").iterdir():
        path.write_text("raise SystemExit('somebody else wrote this')\n")

    assert [106.0, 114.0] == scores(bundle)
    assert 1 == len([*private.iterdir()])
    bundle.close()
    assert [] == [*private.iterdir()]


def test_what_is_not_listed_is_not_imported(tmp_path):
    """A module that lies in the directory and is not in the manifest does not exist."""
    directory = write_scorer(tmp_path / "1")
    document = [entry(directory, name) for name in ("helpers.py", "model.py")]
    write_manifest(directory, code=document)

    with (
        closing(open_bundle(directory)) as bundle,
        pytest.raises(PredictionError, match="No module named 'lazy'"),
    ):
        scores(bundle)


def test_a_written_manifest_need_not_list_the_code_of_its_class(tmp_path):
    """Whoever writes a manifest by hand has all of ``code/``, but not what Python compiled."""
    directory = write_scorer(tmp_path / "1")
    (directory / "code/__pycache__").mkdir()
    (directory / "code/__pycache__/model.cpython-311.pyc").write_bytes(b"not compiled")
    write_manifest(directory)

    with closing(open_bundle(directory)) as bundle:
        assert [106.0, 114.0] == scores(bundle)


def test_compiled_files_are_never_imported(tmp_path, private):
    """What was compiled elsewhere is not what the source says, listed or not."""
    directory = write_scorer(tmp_path / "1")
    (directory / "code/__pycache__").mkdir()
    (directory / "code/__pycache__/helpers.cpython-311.pyc").write_bytes(b"not compiled")
    names = ["model.py", "helpers.py", "lazy.py", "__pycache__/helpers.cpython-311.pyc"]
    write_manifest(directory, code=[entry(directory, name) for name in names])

    with closing(open_bundle(directory)):
        assert not [*private.rglob("__pycache__")]


class Shift(BaseEstimator):
    """Written by a pickle as if a module of the bundle had it."""

    def fit(self, rows, y=None):
        self.fitted_ = True
        return self

    def predict(self, rows):
        return np.zeros(len(rows))


def write_pickle(directory, source, module="features"):
    """Write a pickle that names ``features.Shift``, and the module."""
    directory.mkdir()
    kind = type("Shift", (Shift,), {"__module__": module})
    sys.modules[module] = type(sys)(module)
    sys.modules[module].Shift = kind
    try:
        joblib.dump(kind().fit(X), directory / "m.joblib")
    finally:
        del sys.modules[module]
    code = write_code(directory, {f"{module}.py": source})
    digest = file_sha256(directory / "m.joblib")
    model = {"framework": "sklearn", "path": "m.joblib", "sha256": digest}
    outputs = [{"name": "score"}]
    return write_manifest(directory, code=code, components={"model": model}, outputs=outputs)


SHIFT = """
from sklearn.base import BaseEstimator
class Shift(BaseEstimator):
    def fit(self, rows, y=None): return self
    def predict(self, rows):
        import features
        return rows[:, 0] + features.BY
BY = {by}
"""


@pytest.mark.parametrize("trust", [Trust(), LISTED])
def test_pickles_use_the_modules_of_their_own_version(tmp_path, trust):
    """Two pickles of one class open with the code that each was saved with."""
    first = open_bundle(write_pickle(tmp_path / "1", SHIFT.format(by=10)), trust=trust)
    second = open_bundle(write_pickle(tmp_path / "2", SHIFT.format(by=20)), trust=trust)

    with closing(first), closing(second):
        assert [11.0, 13.0] == scores(first)
        assert [21.0, 23.0] == scores(second)
    assert "features" not in sys.modules


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os\nShift = os.popen", "which the model's code does not define"),
        ("", "which the model's code does not have: KeyError"),
        ("raise SystemExit(3)", "which the model's code does not have: SystemExit: 3"),
    ],
)
def test_a_pickle_may_name_under_listed_only_what_its_code_defines(tmp_path, source, said):
    """Code of a bundle is no way around the list: what it imported is not its own."""
    assert said in refusal(write_pickle(tmp_path / "1", source), LISTED)


@pytest.mark.parametrize("policy", PicklePolicy)
def test_the_operator_refuses_all_code_of_bundles(tmp_path, policy):
    """The sentence names the flag and a file; nothing of the code is copied or run."""
    said = refusal(write_scorer(tmp_path / "1"), Trust(CodeTrust(policy, bundle_code=False)))

    assert "has code of its own ('code/helpers.py' and 2 more)" in said
    assert "--bundle_code=deny" in said


def test_a_bundle_within_a_bundle_has_its_own_code(tmp_path):
    """Neither sees the modules of the other, and both may have the same names."""
    write_scorer(tmp_path / "inner", 7, 0)
    nested = {"framework": "bundle", "path": "inner"}
    outer = write_scorer(tmp_path)
    model = {"framework": "python", "path": "code/model.py", "options": {"class": "Scorer"}}
    steps = [
        {"component": "model", "inputs": ["x"], "outputs": ["outer"]},
        {"component": "nested", "inputs": ["x"], "outputs": ["inner"]},
    ]
    code = [entry(outer, name) for name in ("helpers.py", "lazy.py", "model.py")]
    write_manifest(tmp_path, code=code, steps=steps, components={"model": model, "nested": nested})

    with closing(open_bundle(tmp_path)) as bundle:
        answers = bundle.predict({"x": NamedTensor("x", X)}, {})
    assert [106.0, 114.0] == [*answers["outer"]]
    assert [21.0, 49.0] == [*answers["inner"]]
    assert "--bundle_code=deny" in refusal(tmp_path, NO_CODE)


@pytest.mark.parametrize("name", ["json", "sklearn", "bundleserver", "encodings"])
def test_modules_with_the_names_of_installed_ones_are_refused(tmp_path, name):
    """A library that imports one of those would get the bundle's."""
    write_code(tmp_path, {f"{name}.py": ""})
    directory = write_scorer(tmp_path)
    names = ("helpers.py", "lazy.py", "model.py", f"{name}.py")
    write_manifest(directory, code=[entry(directory, each) for each in names])

    assert f"has '{name}', and so has Python" in refusal(directory)


def grown(path):
    """Add to a file."""
    path.write_text(path.read_text() + "# more\n")


def linked_away(path):
    """Move a file away and link to it."""
    elsewhere = path.parents[2] / "elsewhere.py"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def piped(path):
    """Put a pipe in place of a file."""
    path.unlink()
    os.mkfifo(path)


def directory_instead(path):
    """Put a directory in place of a file."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (grown, "code/helpers.py: has 18 bytes, listed are 11"),
        (lambda path: path.write_text("FACTOR = 3\n"), "code/helpers.py: has sha256"),
        (lambda path: path.unlink(), "code/helpers.py: is missing"),
        (linked_away, "is a link to"),
        (piped, "code/helpers.py: is no regular file"),
        (directory_instead, "code/helpers.py: is a directory"),
    ],
)
def test_code_that_is_not_the_one_listed_is_refused(tmp_path, spoil, said):
    """Files of the code are verified as those of components are, before anything runs."""
    directory = write_scorer(tmp_path / "1")
    spoil(directory / "code/helpers.py")

    assert said in refusal(directory)


def test_code_that_is_replaced_after_it_was_verified_is_refused(tmp_path, monkeypatch):
    """What is copied is compared once more, and the copy is what is imported."""
    directory = write_scorer(tmp_path / "1")
    copy_files = own_code.copy_files

    def replaced(*arguments):
        (directory / "code/lazy.py").write_text("ADDED = 666\n")
        copy_files(*arguments)

    monkeypatch.setattr(own_code, "copy_files", replaced)

    assert "code/lazy.py: was replaced after its digest had been verified" in refusal(directory)


def test_large_code_is_refused(tmp_path, monkeypatch):
    """A private copy has a limit, and the sentence says it."""
    monkeypatch.setattr(copying, "MOST_CODE_BYTES", 20)

    assert "has more than 20 bytes" in refusal(write_scorer(tmp_path / "1"))


def test_code_without_room_for_a_copy_is_refused(tmp_path, monkeypatch):
    """Where nothing can be written the sentence says what to do."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))

    assert "or set TMPDIR" in refusal(write_scorer(tmp_path / "1"))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ([{"path": "code/../model.py"}], "code[0].path: is 'code/../model.py'"),
        ([{"path": "/code/model.py"}], "code[0].path: is '/code/model.py'"),
        ([{"path": "model.py"}], "expected a path that begins with 'code/'"),
        ([{"path": "code//model.py"}], "code[0].path"),
        ([{"path": "code"}], "code[0].path"),
        ([{"path": "code/" + "a/" * 300 + "m.py"}], "of at most 32 directories"),
        ([{"path": "code/a"}, {"path": "code/a"}], "already used by code[0].path"),
        ([{"path": "code/a"}, {"path": "code/a/b"}], "the directory of other files of the code"),
        ([{"path": "code/a", "sha256": "x"}], "code[0].sha256"),
        ([{"path": f"code/{n}.py"} for n in range(10_010)], "code: has 10010"),
        ("code/a.py", "expected an array with the files of the bundle's own code"),
    ],
)
def test_a_manifest_lists_files_of_its_code_plainly(tmp_path, code, said):
    """Names that lead out, repeat or are too many are told, and nothing is read."""
    assert said in refusal(write_manifest(tmp_path, code=code))


def test_code_that_is_not_listed_has_limits_too(tmp_path):
    """A directory that never ends is refused while it is listed."""
    directory = write_scorer(tmp_path / "1")
    (directory / "code/again").symlink_to(directory / "code", target_is_directory=True)
    write_manifest(directory)

    assert "is a link to a directory" in refusal(directory)


def test_a_module_that_cannot_be_imported_names_itself(tmp_path):
    """Whatever a module raises is a reason, and never the end of the process."""
    for source, said in {
        "raise SystemExit(1)": "cannot be imported: SystemExit",
        "def f(:": "cannot be imported: SyntaxError",
        "import absent_library": "Dockerfile",
        "import sys\nsys.path[:] = []\nsys.meta_path[:] = []\n1/0": "ZeroDivisionError",
    }.items():
        code = write_code(tmp_path, {"model.py": source})
        before = [*sys.path], [*sys.meta_path]

        assert said in refusal(write_manifest(tmp_path, code=code))
        assert before == (sys.path, sys.meta_path)


def test_private_copies_of_bundles_that_do_not_open_are_removed(tmp_path, private):
    """A failed load leaves nothing behind."""
    code = write_code(tmp_path, {"model.py": "1/0"})

    assert "ZeroDivisionError" in refusal(write_manifest(tmp_path, code=code))
    assert [] == [*private.iterdir()]


def test_a_link_to_code_below_is_what_it_leads_to(tmp_path):
    """Links within the directory are followed, as those of components are."""
    directory = write_scorer(tmp_path / "1")
    (directory / "code/helpers.py").rename(directory / "code/helpers_.py")
    (directory / "code/helpers.py").symlink_to(Path("helpers_.py"))

    with closing(open_bundle(directory)) as bundle:
        assert [106.0, 114.0] == scores(bundle)


def test_loading_errors_are_load_errors(tmp_path):
    """What code raises is told of the component's file."""
    code = write_code(tmp_path, {"model.py": "1/0"})

    with pytest.raises(LoadError, match=r"code/model\.py' cannot be imported"):
        open_bundle(write_manifest(tmp_path, code=code))


def test_a_signature_covers_the_code(tmp_path):
    """Each file of it is signed, and what nobody signed is refused."""
    key = write_key(tmp_path, "release")
    store = BundleStore(tmp_path / "store")
    directory = store.path("m", store.publish(write_scorer(tmp_path / "1"), "m", sign_with=key))
    trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")

    with closing(open_bundle(directory, model="m", version="v1", trust=trust)) as bundle:
        assert [106.0, 114.0] == scores(bundle)
    (directory / "code/added.py").write_text("")
    assert "code/added.py: was not signed" in refusal(directory, trust)
    (directory / "code/added.py").unlink()
    (directory / "code/lazy.py").write_text("ADDED = 101\n")
    assert "code/lazy.py: is not the file that was signed" in refusal(directory, trust)


LOOKING = {
    "pickled": "pickle.loads(pickle.dumps(self))",
    "hashed": "import joblib; joblib.hash(self)",
    "hinted": "typing.get_type_hints(Options)",
    "source": "assert 'class Scorer' in inspect.getsource(Scorer)",
    "table": "assert sys.modules[__name__].Scorer is Scorer",
    "named": "pkgutil.resolve_name('model:Scorer')",
}


@pytest.mark.parametrize("look", LOOKING.values(), ids=LOOKING)
def test_what_looks_itself_up_is_found_and_gets_what_was_sent(tmp_path, look):
    """A call that is repeated for that has the inputs of the first, and later ones run once."""
    source = f"""
        import inspect, pickle, pkgutil, sys, typing
        class Options:
            each: "typing.Optional[int]" = 2
        class Scorer:
            calls = 0
            def predict(self, inputs):
                Scorer.calls += 1
                inputs["x"] *= 2
                {look}
                return {{"score": inputs["x"][:, 0], "calls": [Scorer.calls] * 2}}
    """
    code = write_code(tmp_path, {"model.py": source})

    with closing(open_bundle(write_manifest(tmp_path, code=code))) as bundle:
        answers = [bundle.predict({"x": NamedTensor("x", X.copy())}, {}) for _ in range(3)]

    assert [[2.0, 6.0]] * 3 == [[*each["score"]] for each in answers]
    assert [2, 3, 4] == [each["calls"][0] for each in answers]


def test_a_module_that_is_not_listed_is_told(tmp_path):
    """It lies in ``code/``, so nobody is sent to look for a package."""
    write_code(tmp_path, {"unlisted.py": ""})
    code = write_code(tmp_path, {"model.py": "import unlisted"})

    said = refusal(write_manifest(tmp_path, code=code))

    assert "needs the module 'unlisted', and 'code/unlisted.py' is not in the code list" in said


def test_what_was_compiled_is_not_imported(tmp_path):
    """A manifest that lists no code has all of it but that, also beside the source."""
    write_code(tmp_path, {"model.py": "import compiled"})
    (tmp_path / "compiled.py").write_text("")
    py_compile.compile(tmp_path / "compiled.py", tmp_path / "code/compiled.pyc")

    assert "needs the module 'compiled'" in refusal(write_manifest(tmp_path))
