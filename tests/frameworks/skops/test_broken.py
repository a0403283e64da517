"""Hostile and damaged files of skops: each has its sentence, and nothing of it runs."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import scipy.sparse
import skops.io
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from bundleserver.errors import LoadError
from bundleserver.frameworks import LoadContext, archives, framework_of_file
from bundleserver.frameworks.skops import contents, framework, opening
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from tests.frameworks.skops.files import skops_with
from tests.frameworks.skops.models import X, Y

POLICIES = [PicklePolicy.ANY, PicklePolicy.LISTED, PicklePolicy.DENY]


@pytest.fixture(params=POLICIES, ids=lambda policy: policy.value)
def trust(request):
    """Return what an operator may trust."""
    return CodeTrust(request.param)


@pytest.fixture
def path(tmp_path):
    """Write an honest file."""
    skops.io.dump(LogisticRegression().fit(X, Y), tmp_path / "model.skops")
    return tmp_path / "model.skops"


def refused(path, trust):
    """Open a file and return why not; it is a model all the same."""
    assert ("skops", "model") == framework_of_file(path)
    with pytest.raises(LoadError) as refusal:
        framework.load(path, LoadContext(trust=trust))
    assert str(path) in str(refusal.value)
    return str(refusal.value)


def written(path, entries, compression=zipfile.ZIP_STORED):
    """Write an archive of these entries."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def entries_of(path):
    """Return the entries of an archive."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


OTHER_FILES = {
    "nothing": (b"", "is empty"),
    "a pickle": (pickle.dumps(LogisticRegression()), "is a pickle"),
    "compressed": (gzip.compress(b"x"), "is compressed with gzip"),
    "text": (b"<html>not found</html>", "is of another kind"),
    "half a zip": (b"PK\3\4" + bytes(40), "is a damaged zip archive"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_another_kind_of_file_is_named(tmp_path, name, trust):
    """What is no archive of skops is said to be what it is."""
    data, reason = OTHER_FILES[name]
    path = tmp_path / "model.skops"
    path.write_bytes(data)

    assert reason in refused(path, trust)


def test_a_truncated_file_is_refused(path, trust):
    """Half of a download is no archive."""
    path.write_bytes(path.read_bytes()[:-200])

    assert "damaged zip archive" in refused(path, trust)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (b"{", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"\xff\xfe{}", "cannot be read"),
        (b"[1, 2]", "is not a valid JSON object"),
        (b"{}", "was written by another skops (of an unknown version, protocol None)"),
        (b'{"protocol": 2}', "cannot be opened by skops: KeyError"),
        (b'{"protocol": true}', "another skops"),
        (b'{"protocol": 99, "_skops_version": "9.1"}', "another skops (9.1, protocol 99)"),
        (b'{"protocol": -1}', "another skops"),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path, schema, reason, trust):
    """What describes no object of a known protocol is said to be so."""
    path = written(tmp_path / "model.skops", [("schema.json", schema)])

    assert reason in refused(path, trust)


@pytest.mark.parametrize("name", ["../x.npy", "/etc/passwd", "a/b.npy", "a\\b.npy"])
def test_entries_of_directories_are_refused(path, name, trust):
    """An archive of skops has none; no entry is ever written to a disk either."""
    written(path, [*entries_of(path).items(), (name, b"x")])

    assert "skops writes none in directories" in refused(path, trust)


def test_entries_that_stand_twice_are_refused(path, trust):
    """Two readers of one name may see two contents."""
    entries = [*entries_of(path).items()]
    with pytest.warns(UserWarning, match="Duplicate"):
        written(path, [*entries, entries[0]])

    assert "has entries twice" in refused(path, trust)


def test_an_archive_without_a_description_is_refused(tmp_path, trust):
    """An archive of arrays is no file of skops."""
    path = written(tmp_path / "model.skops", [("a.npy", b"x")])

    assert "without 'schema.json'" in refused(path, trust)


def test_an_entry_that_is_missing_is_named(path, trust):
    """What the description refers to must be there."""
    entries = entries_of(path)
    gone = next(name for name in entries if name.endswith(".npy"))
    written(path, [(name, data) for name, data in entries.items() if name != gone])

    assert f"has no entry '{gone}'" in refused(path, trust)


def test_zeros_that_unpack_to_very_much_are_refused(path, trust, monkeypatch):
    """A small archive whose directory announces gigabytes is not unpacked."""
    monkeypatch.setattr(archives, "MOST_UNPACKED_BYTES", 1 << 10)
    entries = {**entries_of(path), "zeros.npy": bytes(1 << 22)}
    written(path, entries.items(), zipfile.ZIP_DEFLATED)

    assert "unpack to" in refused(path, trust)


def test_an_entry_unpacks_to_no_more_than_it_says(path, trust):
    """A directory that lies about a size is found out after so many bytes."""
    entries = entries_of(path)
    name = next(name for name in entries if name.endswith(".npy"))
    written(path, {**entries, name: bytes(1 << 22)}.items(), zipfile.ZIP_DEFLATED)
    size = (1 << 22).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(size, (64).to_bytes(4, "little")))

    assert "model.skops' cannot be opened" in refused(path, trust)


def test_one_entry_for_very_many_arrays_is_refused(path, trust, monkeypatch):
    """What is read again and again must fit into the memory as often."""
    monkeypatch.setattr(contents, "free_memory", lambda: 30_000)
    schema = json.loads(entries_of(path)["schema.json"])
    (array,) = [n for key, n in schema["content"]["content"].items() if key == "coef_"]
    many = [{**array, "__id__": 10**6 + number} for number in range(200)]
    skops_with(path, lambda schema: schema["content"]["content"]["coef_"].update(_listed(many)))

    assert "more bytes than there is free memory" in refused(path, trust)


def _listed(nodes):
    kind = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
    return {**kind, "content": nodes, "__id__": 7}


def test_a_matrix_that_unpacks_to_very_much_is_refused(tmp_path, trust, monkeypatch):
    """A sparse matrix is an archive in the archive."""
    model = TfidfTransformer().fit(scipy.sparse.eye(3, format="csr"))
    model.extra_ = scipy.sparse.csr_matrix((1, 1 << 20))
    path = tmp_path / "model.skops"
    skops.io.dump(model, path)
    data = io.BytesIO()
    np.savez_compressed(data, data=np.zeros(1 << 20))
    name = next(name for name in entries_of(path) if name.endswith(".npz"))
    written(path, {**entries_of(path), name: data.getvalue()}.items())
    monkeypatch.setattr(archives, "MOST_UNPACKED_BYTES", 1 << 10)

    with pytest.raises(LoadError, match="unpack to"):
        framework.load(path, LoadContext(trust=trust))


def test_objects_shared_by_objects_shared_take_no_time(path, trust):
    """Forty lists, each twice the one before, are forty lists."""
    node = _listed([])
    for number in range(40):
        node = _listed([node, {**node, "content": []}])
        node["__id__"] = 10**6 + number
    skops_with(path, lambda schema: schema["content"]["content"]["coef_"].update(node))

    # They are of no use as coefficients, which is found out where the model is used.
    framework.load(path, LoadContext({"accelerate": "off"}, trust=trust))


def test_a_description_is_bounded(path, trust, monkeypatch):
    """A description too large to be read is not read."""
    monkeypatch.setattr(contents, "MOST_SCHEMA_BYTES", 100)

    assert "at most 100 are read" in refused(path, trust)


def test_what_is_no_file_is_refused(tmp_path, trust):
    """A pipe is not waited for."""
    os.mkfifo(tmp_path / "model.skops")

    with pytest.raises(LoadError, match="a named pipe"):
        framework.load(tmp_path / "model.skops", LoadContext(trust=trust))


def test_an_older_protocol_is_read_only_where_all_is_trusted(path, trust):
    """Older rules check less."""
    skops_with(path, lambda schema: schema.update(protocol=1))

    if trust.pickles is PicklePolicy.ANY:
        framework.load(path, LoadContext(trust=trust))
    else:
        assert f"has protocol {opening.PROTOCOL}" in refused(path, trust)
