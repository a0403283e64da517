"""Signed versions where others write meanwhile, and where commands move them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import joblib
import pytest

from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.bundle.trust.verification import SignatureRefused
from bundleserver.errors import BundleServerError
from bundleserver.tensors import NamedTensor
from tests.certificates import sign_as_leaf, write_authority
from tests.end_to_end.processes import command, eventually, running
from tests.signatures import ROWS, fitted, publish, sign, write_key

LOADS = 60

SWAPPING = """
import os, sys
place, good, evil = sys.argv[1:]
while True:
    for source in (evil, good):
        os.link(source, place + ".next")
        os.replace(place + ".next", place)
    os.unlink(place)
    os.symlink(evil, place)
    os.link(good, place + ".next")
    os.replace(place + ".next", place)
"""


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Make a trusted key."""
    return write_key(tmp_path, "release")


@pytest.fixture
def swapped(tmp_path, key):
    """Lend a signed directory without a manifest, whose model somebody swaps all the time."""
    directory = tmp_path / "store" / "fraud" / "1"
    directory.mkdir(parents=True)
    good, evil = tmp_path / "good", tmp_path / "evil"
    joblib.dump(fitted(1), good)
    joblib.dump(fitted(0), evil)
    shutil.copy(good, directory / "model.joblib")
    sign(directory, key)
    place = str(directory / "model.joblib")
    swapping = subprocess.Popen([sys.executable, "-c", SWAPPING, place, str(good), str(evil)])
    yield directory
    swapping.kill()
    swapping.wait()


def test_whoever_swaps_files_of_a_version_during_its_loads_opens_nothing(tmp_path, swapped):
    """Each load opens what was signed or is refused, whenever the files are swapped."""
    trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")
    opened = refused = 0
    for _ in range(LOADS):
        try:
            bundle = open_bundle(swapped, model="fraud", version="1", trust=trust)
        except BundleServerError:
            refused += 1
            continue
        with closing(bundle):
            answer = bundle.predict({"input-0": NamedTensor("input-0", ROWS)}, {})
        assert [1, 1] == next(iter(answer.values())).tolist()
        opened += 1

    assert LOADS == opened + refused
    assert opened
    assert refused


def test_loads_by_request_answer_while_somebody_swaps_files(tmp_path, swapped):
    """Each load is answered, by what was signed or with a reason; nothing else ever predicts."""
    flags = {"trusted_keys": tmp_path / "keys", "admin": "open", "model_name": "fraud"}
    with running(tmp_path / "store" / "fraud", **flags) as server:
        for _ in range(5):
            answer = server.post("/v2/repository/models/fraud/load", json={}, timeout=80.0)

            assert 200 == answer.status_code or "is not ready" in answer.text
            said = server.predict("fraud", {"instances": [[0.1, 0.2]]})
            assert 200 != said.status_code or [1] == said.json()["predictions"]


def test_a_certificate_of_a_trusted_authority_opens_a_version_of_a_server(tmp_path):
    """What the authority's leaf signed is served under the authority's name; no other is."""
    place, other = write_authority(tmp_path, "ours"), write_authority(tmp_path, "theirs")
    root = tmp_path / "store"
    for version, who in ((1, place), (2, other)):
        directory = publish(root, version)
        sign_as_leaf(directory, who)
    (tmp_path / "keys").mkdir()
    shutil.copy(place / "authority.crt", tmp_path / "keys" / "ours.crt")

    first = command("verify", root / "fraud" / "v1", "--trusted_keys", tmp_path / "keys")
    second = command("verify", root / "fraud" / "v2", "--trusted_keys", tmp_path / "keys")

    assert (0, 1) == (first.code, second.code)
    assert "'ours.crt'" in first.out
    assert "a certificate of another authority" in second.err
    with running(root, trusted_keys=tmp_path / "keys") as server:
        server.wait_until_ready("fraud")
        metadata = server.get("/v2/models/fraud").json()["metadata"]
        assert "ours.crt" == metadata["verification"]["signature"]["key"]["name"]


def test_promote_and_rollback_leave_signatures_as_they_are(tmp_path, key):
    """Routing is the operator's own file, which no signature covers, and no version is written."""
    root = tmp_path / "store"
    versions = [publish(root, answer, sign_with=key) for answer in (1, 2)]
    before = [(it / "model.sig").read_bytes() for it in versions]
    with running(root, trusted_keys=tmp_path / "keys", version_policy="all") as server:
        server.wait_until_ready("fraud")
        for arguments, answers in (
            (("promote", root / "fraud", "v1"), 1),
            (("promote", root / "fraud", "v2"), 2),
            (("rollback", root / "fraud", "--to", "v1"), 1),
        ):
            done = command(*arguments)
            assert 0 == done.code, done.err
            eventually(
                lambda wanted=answers: (
                    [wanted]
                    == server.predict("fraud", {"instances": [[0.1, 0.2]]})
                    .json()
                    .get("predictions")
                ),
                f"{arguments} is in effect",
            )

    assert before == [(it / "model.sig").read_bytes() for it in versions]
    for directory in versions:
        assert 0 == command("verify", directory, "--trusted_keys", tmp_path / "keys").code


def test_a_signed_bundle_is_the_same_after_push_and_pull(tmp_path, key, registry):
    """What comes back from a registry verifies under its name, and is the version that was sent."""
    name = f"roundtrip-{tmp_path.name[-8:]}"
    directory = publish(tmp_path / "store", 1, sign_with=key, name=name)
    pushed = command("push", directory, f"models:/{name}", "--alias", "live")
    pulled = command("pull", f"models:/{name}@live", tmp_path / "pulled")
    trusted = ("--trusted_keys", tmp_path / "keys", "--name", name)

    assert (0, 0) == (pushed.code, pulled.code), pushed.err + pulled.err
    verified = command("verify", tmp_path / "pulled", *trusted)
    assert 0 == verified.code, verified.err
    (tmp_path / "pulled" / "more.py").write_text("?")
    assert "more.py: was not signed" in command("verify", tmp_path / "pulled", *trusted).err


def test_a_change_in_a_nested_bundle_is_named_by_its_path(tmp_path, key):
    """What is added to a bundle inside a signed one is refused as if it were beside it."""
    root = tmp_path / "store"
    inner = publish(root, 1, name="inner")
    outer = root / "fraud" / "v1"
    shutil.copytree(inner, outer / "inner")
    (outer / "manifest.json").write_text(
        '{"format": "bundle/v1", "name": "fraud", "version": "v1", '
        '"components": {"inner": {"framework": "bundle", "path": "inner"}}}'
    )
    sign(outer, key)
    trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")
    open_bundle(outer, trust=trust).close()
    (outer / "inner" / "more.py").write_text("?")

    with pytest.raises(SignatureRefused, match=r"inner/more\.py: was not signed"):
        open_bundle(outer, trust=trust)
