"""Libraries that differ from those that a bundle was saved with."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import joblib
import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from bundleserver.bundle.libraries import Mismatch, mismatches, said
from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.requirements import telling_of_lacking
from bundleserver.bundle.trust import Trust
from bundleserver.errors import LoadError
from bundleserver.frameworks import facts_of_file
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.manifest import Manifest, Requirements
from tests.end_to_end.processes import running

PYTHON = platform.python_version()
MINOR = ".".join(PYTHON.split(".")[:2])
NUMPY = metadata.version("numpy")
XGBOOST = metadata.version("xgboost-cpu")


@pytest.mark.parametrize(
    ("saved", "differences"),
    [
        (Requirements(), []),
        (Requirements(PYTHON, {"numpy": NUMPY, "NumPy": f"{NUMPY}.0"}), []),
        (Requirements(MINOR), []),
        (Requirements(f"{MINOR}.99"), []),
        (Requirements(PYTHON.split(".")[0]), []),
        (Requirements("2.7"), [f"python: was 2.7 when this was saved; here it is {PYTHON}"]),
        (Requirements("three"), [f"python: was three when this was saved; here it is {PYTHON}"]),
        (Requirements(None, {"scikit_Learn": metadata.version("scikit-learn")}), []),
        (Requirements(None, {"numpy": f"{NUMPY}+cu130"}), []),
        (Requirements(None, {"xgboost": XGBOOST, "xgboost-cpu": XGBOOST}), []),
        (
            Requirements(None, {"xgboost": "1.7.6"}),
            [f"xgboost: was 1.7.6 when this was saved; here it is {XGBOOST}"],
        ),
        (
            Requirements(None, {"numpy": "0.1"}),
            [f"numpy: was 0.1 when this was saved; here it is {NUMPY}"],
        ),
        (
            Requirements(None, {"numpy": "unknown"}),
            [f"numpy: was unknown when this was saved; here it is {NUMPY}"],
        ),
        (
            Requirements("2.7", {"no-such-package-here": "1", "numpy": "0.1"}),
            [
                f"python: was 2.7 when this was saved; here it is {PYTHON}",
                "no-such-package-here: was 1 when this was saved; here it is not installed",
                f"numpy: was 0.1 when this was saved; here it is {NUMPY}",
            ],
        ),
    ],
)
def test_requirements_that_differ_are_told_with_both_versions(saved, differences):
    """Each difference names what was saved and what is here; what is equal is not named."""
    assert differences == [str(found.problem) for found in mismatches(saved)]


def install(directory: Path, name: str, lines: str) -> None:
    """Write what makes a package installed there."""
    info = directory / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n{lines}")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("Version: 1.5+cpu\n", None),
        ("Version: 1.5.0\n", None),
        ("Version: 1.5.1\n", "built: was 1.5 when this was saved; here it is 1.5.1"),
        ("Version: 1.5rc1\n", "built: was 1.5 when this was saved; here it is 1.5rc1"),
        ("", "built: was 1.5 when this was saved; here it has no version"),
    ],
)
@pytest.mark.filterwarnings("ignore:Implicit None:DeprecationWarning")
def test_version_is_compared_as_packages_number_them(tmp_path, monkeypatch, lines, told):
    """A local build of the same version is no difference, a release candidate of it is one."""
    install(tmp_path, "built", lines)
    monkeypatch.syspath_prepend(tmp_path)

    found = mismatches(Requirements(None, {"built": "1.5"}))

    assert ([] if told is None else [told]) == [str(one.problem) for one in found]


def test_what_files_say_counts_beside_the_manifest():
    """A pickle names the scikit-learn that wrote it, and is believed where nothing else does."""
    noted = {"scikit-learn": {"1.6.0", metadata.version("scikit-learn")}}

    (found,) = mismatches(Requirements(None, {"scikit-learn": "1.6.0"}), noted)

    assert Mismatch("scikit-learn", "1.6.0", metadata.version("scikit-learn")) == found


def test_the_sentence_names_the_first_of_many():
    """An index has a line for a version."""
    many = [Mismatch(f"lib{number}", "1", "2") for number in range(6)]

    assert "" == said([])
    assert "saved with lib0 1 and opened with 2" == said(many[:1])
    assert said(many).endswith("lib3 1 and opened with 2, and 2 others")
    assert "saved with a 1 and it is not installed" == said([Mismatch("a", "1", None)])


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "needs 'my_pack' (a line 'RUN pip install my_pack' in its Dockerfile)",
            "needs 'my_pack' (a line 'RUN pip install My-Pack==1.2' in its Dockerfile)",
        ),
        (
            "needs 'my_pack_more' (RUN pip install my_pack_more)",
            "needs 'my_pack_more' (RUN pip install my_pack_more); it was saved with 'My-Pack' 1.2, "
            "not installed here: a line 'RUN pip install My-Pack==1.2' in the image's Dockerfile "
            "adds it",
        ),
    ],
)
def test_a_package_that_is_lacking_has_one_line(reason, told):
    """A reason that tells of the package already gets the version that is recorded."""
    manifest = Manifest(requirements=Requirements(None, {"My-Pack": "1.2"}))

    with pytest.raises(LoadError) as raised, telling_of_lacking(manifest):
        raise LoadError(reason)

    assert told == str(raised.value)


def saved_with(version, path, monkeypatch):
    """Write a model as another scikit-learn would, as far as the file tells."""
    model = LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", version)
        {".joblib": joblib.dump, ".skops": skops.io.dump}[path.suffix](model, path)
    return path


@pytest.mark.parametrize(("suffix", "framework"), [(".joblib", "sklearn"), (".skops", "skops")])
@pytest.mark.parametrize("policy", ["any", "listed"])
def test_a_bare_file_tells_its_libraries(tmp_path, monkeypatch, suffix, framework, policy):
    """Without a manifest the file itself is asked: before it is opened, and when it is."""
    path = saved_with("1.6.0", tmp_path / f"model{suffix}", monkeypatch)
    installed = metadata.version("scikit-learn")

    libraries = facts_of_file(path, framework, "model").libraries
    bundle = open_bundle(tmp_path, trust=Trust(CodeTrust(PicklePolicy(policy))))

    assert {"scikit-learn": {"1.6.0"}} == libraries
    expected = {"scikit-learn": {"saved": "1.6.0", "installed": installed}}
    assert expected == bundle.metadata()["library_mismatches"]
    assert f"saved with scikit-learn 1.6.0 and opened with {installed}" == said(bundle.mismatches)
    bundle.close()


def test_a_file_of_these_libraries_tells_of_none(tmp_path, monkeypatch):
    """Nothing is said where nothing differs."""
    saved_with(metadata.version("scikit-learn"), tmp_path / "model.joblib", monkeypatch)
    bundle = open_bundle(tmp_path)

    assert () == bundle.mismatches
    assert "library_mismatches" not in bundle.metadata()
    bundle.close()


def test_index_metadata_and_metrics_tell_of_it(tmp_path, monkeypatch):
    """It is seen before it hurts: READY has a reason, metadata both versions, a metric a number."""
    (tmp_path / "old").mkdir()
    saved_with("1.6.0", tmp_path / "old" / "model.joblib", monkeypatch)
    installed = metadata.version("scikit-learn")

    with running(tmp_path) as server:
        server.wait_until_ready("old")
        (entry,) = server.client.post("/v2/repository/index", json={}).json()
        described = server.client.get("/v2/models/old").json()["metadata"]
        metrics = server.client.get("/metrics").text

    assert "READY" == entry["state"]
    assert f"READY, saved with scikit-learn 1.6.0 and opened with {installed}" == entry["reason"]
    assert {"scikit-learn"} == {*described["library_mismatches"]}
    assert 'bundleserver_version_library_mismatches{model="old",version="1"} 1.0' in metrics
