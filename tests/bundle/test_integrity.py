from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import joblib
import pytest
from sklearn.preprocessing import StandardScaler

from bundleserver.bundle.integrity import (
    bundle_digest,
    compare_requirements,
    file_sha256,
    verify_files,
)
from bundleserver.bundle.links import Links
from bundleserver.errors import IntegrityError
from bundleserver.manifest import Component, Manifest, Requirements
from bundleserver.tensors import TensorSpec

WRONG = "0" * 64


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Make a version's directory with a fitted model, and a bundle in a sub-directory."""
    directory = tmp_path / "store" / "7"
    (directory / "inner").mkdir(parents=True)
    joblib.dump(StandardScaler().fit([[1.0], [2.0]]), directory / "scaler.joblib")
    (directory / "inner" / "manifest.json").write_text("{}")
    (tmp_path / "outside.joblib").write_bytes(b"outside")
    return directory


def listed(*components: Component) -> Manifest:
    """Make a manifest of components."""
    return Manifest(components={component.name: component for component in components})


def differences(directory: Path, *components: Component, links: Links | None = None) -> list[str]:
    """Return what is told about a bundle that differs."""
    with pytest.raises(IntegrityError) as raised:
        verify_files(directory, listed(*components), links)
    return [str(problem) for problem in raised.value.problems]


def scaler(path: str = "scaler.joblib", **known: object) -> Component:
    """Make the component that most tests list."""
    return Component("scaler", "sklearn", path, **known)  # type: ignore[arg-type] # as given


def test_files_that_are_as_listed_pass(bundle):
    """Digest, size and kind as listed are no difference, in nested bundles too."""
    file = bundle / "scaler.joblib"
    manifest = listed(
        scaler(sha256=file_sha256(file), size=file.stat().st_size),
        Component("bare", "sklearn", "./scaler.joblib"),
        Component("inner", "bundle", "inner", sha256=hashlib.sha256(b"{}").hexdigest(), size=2),
        Component("plain", "bundle", "inner"),
        Component("other", "model", model="other"),
    )

    verify_files(bundle, manifest)


def test_files_are_verified_without_being_opened_as_models(bundle):
    """A file that would run code when it is unpickled is only read."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(bundle / "exploded"),)

    joblib.dump(Bomb(), bundle / "scaler.joblib")
    verify_files(bundle, listed(scaler(sha256=file_sha256(bundle / "scaler.joblib"))))

    assert not (bundle / "exploded").exists()


@pytest.mark.parametrize(
    ("prepare", "component", "difference"),
    [
        (lambda d: None, scaler("gone.pkl"), "gone.pkl: is missing"),
        (lambda d: None, scaler("no/gone.pkl"), "no/gone.pkl: is missing"),
        (
            lambda d: (d / "gone.pkl").symlink_to("nothing"),
            scaler("gone.pkl"),
            "gone.pkl: is a link to what is missing",
        ),
        (
            lambda d: (d / "loop.pkl").symlink_to("loop.pkl"),
            scaler("loop.pkl"),
            "loop.pkl: is a link that leads back to itself",
        ),
        (
            lambda d: None,
            scaler("scaler.joblib/x"),
            "scaler.joblib/x: cannot be read: not a directory",
        ),
        (
            lambda d: None,
            scaler("x" * 300),
            f"{'x' * 300}: cannot be read: file name too long",
        ),
        (
            lambda d: None,
            scaler("inner"),
            "inner: is a directory; a component with framework 'sklearn' is a file",
        ),
        (
            lambda d: os.mkfifo(d / "pipe"),
            scaler("pipe", sha256=WRONG),
            "pipe: is no regular file; a component with framework 'sklearn' is a file",
        ),
        (
            lambda d: (d / "scaler.joblib").write_bytes(b"abc"),
            scaler(size=2, sha256=WRONG),
            "scaler.joblib: has 3 bytes, listed are 2",
        ),
        (
            lambda d: (d / "scaler.joblib").write_bytes(b"abc"),
            scaler(size=3, sha256=WRONG),
            "scaler.joblib: has sha256 ba7816bf8f01…, listed is 000000000000…",
        ),
        (
            lambda d: (d / "scaler.joblib").write_bytes(b""),
            scaler(size=3),
            "scaler.joblib: has 0 bytes, listed are 3",
        ),
        (
            lambda d: None,
            Component("inner", "bundle", "scaler.joblib"),
            "scaler.joblib: is not a directory; a component with framework 'bundle' must be one",
        ),
        (
            lambda d: (d / "inner" / "manifest.json").unlink(),
            Component("inner", "bundle", "inner", size=2),
            "inner: has no manifest.json, whose digest is listed",
        ),
        (
            lambda d: None,
            Component("inner", "bundle", "inner", sha256=WRONG),
            "inner: its manifest.json has sha256 44136fa355b3…, listed is 000000000000…",
        ),
        (
            lambda d: None,
            Component("inner", "bundle", "inner", size=9),
            "inner: its manifest.json has 2 bytes, listed are 9",
        ),
    ],
)
def test_file_that_differs_is_told_once(bundle, prepare, component, difference):
    """Each way in which a file differs from its manifest has its own sentence."""
    prepare(bundle)

    assert [difference] == differences(bundle, component)


@pytest.mark.parametrize(
    "link",
    [
        lambda d: (d / "out.pkl", "../../outside.joblib"),
        lambda d: (d / "out.pkl", d.parent.parent / "outside.joblib"),
        lambda d: (d / "inner" / "out.pkl", "../../../outside.joblib"),
    ],
)
def test_link_out_of_the_version_is_refused(bundle, link):
    """A link below the version's directory does not leave it, even for a file whose digest fits."""
    place, target = link(bundle)
    place.symlink_to(target)
    path = str(place.relative_to(bundle))
    outside = (bundle.parent.parent / "outside.joblib").resolve()

    told = differences(bundle, scaler(path, sha256=hashlib.sha256(b"outside").hexdigest()))

    assert [
        f"{path}: is a link to '{outside}', outside of the version's directory '{bundle}'; put "
        "the file itself there"
    ] == told


def test_directory_linked_out_of_the_version_is_refused(bundle):
    """A sub-directory that is a link out of the version hides no file."""
    (bundle / "sub").symlink_to(bundle.parent.parent)

    (told,) = differences(bundle, scaler("sub/outside.joblib"))

    assert "sub/outside.joblib: is a link to " in told


def test_nested_manifest_linked_out_of_the_version_is_refused(bundle):
    """The manifest of a nested bundle lies inside too."""
    (bundle / "inner" / "manifest.json").unlink()
    (bundle / "inner" / "manifest.json").symlink_to(bundle.parent.parent / "outside.joblib")

    (told,) = differences(bundle, Component("inner", "bundle", "inner", size=7))

    assert told.startswith("inner: its manifest.json is a link to ")


def test_links_inside_a_version_and_to_it_are_followed(bundle, tmp_path):
    """The version itself may be a link to anywhere, and files in it may link to one another."""
    (bundle / "..data").mkdir()
    (bundle / "scaler.joblib").rename(bundle / "..data" / "scaler.joblib")
    (bundle / "scaler.joblib").symlink_to("..data/scaler.joblib")
    linked = tmp_path / "models"
    linked.symlink_to(bundle)

    verify_files(linked, listed(scaler(sha256=file_sha256(bundle / "scaler.joblib"))))


def test_nested_bundle_may_share_the_files_of_the_outer_one(bundle):
    """Links of a bundle in a bundle stay inside the outer one."""
    (bundle / "inner" / "shared.joblib").symlink_to("../scaler.joblib")

    verify_files(bundle / "inner", listed(scaler("shared.joblib")), Links(bundle))

    assert differences(bundle / "inner", scaler("shared.joblib"))
    (bundle / "inner" / "out.joblib").symlink_to("../../../outside.joblib")
    assert differences(bundle / "inner", scaler("out.joblib"), links=Links(bundle))


def test_all_differences_are_told_together(bundle):
    """Every file that differs is in one error, which names the directory."""
    manifest = listed(
        Component("a", "sklearn", "gone.pkl"),
        scaler(sha256=WRONG),
        Component("b", "torch", "inner"),
    )

    with pytest.raises(IntegrityError) as raised:
        verify_files(bundle, manifest)

    assert ["gone.pkl", "scaler.joblib", "inner"] == [p.where for p in raised.value.problems]
    assert str(raised.value).startswith(f"{bundle} differs from its manifest: 3 problems: ")


def test_directory_that_is_gone_is_told(tmp_path):
    """A directory that vanished is an integrity error, not an OSError."""
    with pytest.raises(IntegrityError, match=r"/gone: is missing$"):
        verify_files(tmp_path / "gone", listed(scaler()))


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_digest_of_a_file_is_that_of_its_bytes(tmp_path, size):
    """Reading in pieces gives the digest of the whole."""
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)

    assert hashlib.sha256(data).hexdigest() == file_sha256(tmp_path / "file")


DOCUMENT = {
    "format": "bundle/v1",
    "components": {
        "a": {"framework": "sklearn", "path": "a.pkl", "sha256": WRONG},
        "b": {"framework": "sklearn", "path": "b.pkl"},
    },
    "metadata": {"x": 1, "y": "ü"},
}


def digest_of(text: str) -> str:
    """Digest a manifest's text."""
    return bundle_digest(Manifest.from_json(text, "manifest.json"))


def test_digest_of_a_bundle_does_not_depend_on_the_layout():
    """Spaces, the order of keys and escapes change no digest."""
    shuffled = {key: DOCUMENT[key] for key in ("metadata", "components", "format")}
    shuffled["metadata"] = {"y": "ü", "x": 1}

    assert digest_of(json.dumps(DOCUMENT)) == digest_of(
        json.dumps(shuffled, indent=4, ensure_ascii=False)
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["components"]["b"].update(sha256=WRONG),
        lambda d: d["components"]["a"].update(sha256="1" * 64),
        lambda d: d["metadata"].update(x=2),
        lambda d: d.update(version="2"),
        lambda d: d.update(components=dict(reversed(d["components"].items()))),
    ],
)
def test_digest_of_a_bundle_changes_with_what_it_says(change: Callable[[dict], None]):
    """Another file, other metadata or another order of components is another bundle."""
    document = json.loads(json.dumps(DOCUMENT))
    change(document)

    assert digest_of(json.dumps(DOCUMENT)) != digest_of(json.dumps(document))


def test_digest_of_an_inferred_bundle_exists():
    """A manifest that no file holds has a digest too."""
    manifest = Manifest(
        components={"m": Component("m", "sklearn", "m.pkl")},
        inputs=(TensorSpec("x", optional=True),),
        inferred=True,
    )

    assert 64 == len(bundle_digest(manifest))


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
    assert differences == [str(problem) for problem in compare_requirements(saved)]


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

    problems = compare_requirements(Requirements(None, {"built": "1.5"}))

    assert ([] if told is None else [told]) == [str(problem) for problem in problems]
