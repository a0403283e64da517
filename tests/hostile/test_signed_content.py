"""Signatures that are not those of the files beside them: whoever writes or signs is told."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest

from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.bundle.trust.checking import Place, read_signature_file
from bundleserver.bundle.trust.verification import Origin, SignatureRefused
from bundleserver.errors import BundleServerError, IntegrityError, StoreError
from bundleserver.store import BundleStore
from tests.end_to_end.processes import command
from tests.signatures import publish, sign, write_key


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Make a trusted key."""
    return write_key(tmp_path, "release")


@pytest.fixture
def signed(tmp_path, key):
    """Publish a signed version."""
    return publish(tmp_path / "store", sign_with=key)


def model_file(directory):
    """Return the path of a version's only component."""
    return next(it for it in directory.iterdir() if it.name not in ("manifest.json", "model.sig"))


def append(path, data=b"\n"):
    """Add to a file."""
    path.write_bytes(path.read_bytes() + data)


def _edit_payload(directory):
    document = json.loads((directory / "model.sig").read_text())
    envelope = document["dsseEnvelope"]
    payload = json.loads(base64.b64decode(envelope["payload"]))
    payload["subject"][0]["digest"]["sha256"] = "0" * 64
    envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    (directory / "model.sig").write_text(json.dumps(document))


BROKEN = {
    "was edited after it was signed": lambda it: append(it / "manifest.json"),
    "is not the file that was signed": lambda it: append(model_file(it)),
    "model.sig: it is damaged": lambda it: (it / "model.sig").write_text("junk"),
    "Manifest is inconsistent": _edit_payload,
    "notes.txt: was not signed": lambda it: (it / "notes.txt").write_text("?"),
    "is missing; it was signed": lambda it: model_file(it).unlink(),
}


@pytest.mark.parametrize("with_key", [False, True], ids=["kept", "signed anew"])
@pytest.mark.parametrize("told", BROKEN)
def test_a_broken_signature_is_neither_published_nor_replaced(
    tmp_path, key, signed, told, with_key
):
    """Without any key the files are compared with what is signed, and nothing appears."""
    BROKEN[told](signed)
    live = BundleStore(tmp_path / "live")

    with pytest.raises(BundleServerError) as caught:
        live.publish(signed, "fraud", sign_with=key if with_key else None)

    if "missing" not in told:  # the manifest says that first
        assert told in str(caught.value)
    assert () == live.versions("fraud")


def test_a_signature_of_another_version_is_not_published(tmp_path, key, signed):
    """The signature's own name and version are compared, as a server would."""
    other = publish(tmp_path / "store", answer=0, sign_with=key)
    shutil.copy(signed / "model.sig", other / "model.sig")

    with pytest.raises(StoreError, match=r"is the signature of 'fraud' version 'v1', and this is"):
        BundleStore(tmp_path / "live").publish(other, "fraud")


def test_a_broken_signature_is_not_pushed(tmp_path, signed):
    """A registry gets what verifies, as a store does; it is not even asked."""
    append(signed / "manifest.json")
    pushed = command(
        "push", signed, "models:/fraud", variables={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    )

    assert 1 == pushed.code
    assert "manifest.json: was edited after it was signed" in pushed.err


def test_whoever_signs_again_by_hand_publishes(tmp_path, key, signed):
    """What the refusal says to do helps."""
    append(signed / "manifest.json")
    sign(signed, key)

    published = BundleStore(tmp_path / "live").publish(signed, "fraud")

    assert "v1" == str(published)


def test_what_no_server_opens_is_not_signed(tmp_path, key, signed):
    """A file that is not the one that the manifest lists is told in the words of validate."""
    append(model_file(signed))
    before = (signed / "model.sig").read_bytes()
    done = command("sign", signed, "--private_key", key)
    validated = command("validate", signed)

    assert 1 == done.code
    words = f"{model_file(signed).name}: has "
    assert words in done.err
    assert done.err[done.err.index(words) :].strip() in validated.out
    assert before == (signed / "model.sig").read_bytes()


@pytest.mark.parametrize("field", ["size", "sha256"])
def test_a_signed_manifest_that_lists_other_files_is_what_is_named(
    tmp_path, key, signed, field, monkeypatch
):
    """Where each file is the one that was signed, the manifest is what disagrees."""
    path = signed / "manifest.json"
    document = json.loads(path.read_text())
    (component,) = document["components"].values()
    component[field] = 5 if field == "size" else "0" * 64
    path.write_text(json.dumps(document))
    # As the tools of others sign it.
    monkeypatch.setattr("bundleserver.bundle.trust.signing.verify_listed", lambda *_: None)
    sign(signed, key)

    verified = command("verify", signed, "--trusted_keys", tmp_path / "keys")
    inspected = command("inspect", signed.parent, "--trusted_keys", tmp_path / "keys", "--json")

    said = json.loads(inspected.out)[0]["versions"][0]["signature"]
    assert 1 == verified.code
    assert "invalid" == said["status"]
    assert said["key"] is None
    for text in (verified.err, said["problem"]):
        assert "manifest.json: lists" in text
        assert "is not the file that was signed" not in text


def test_a_signature_that_is_a_link_is_replaced_by_nobody(tmp_path, key, signed):
    """Signing says so in its own words."""
    (signed / "model.sig").rename(tmp_path / "elsewhere.sig")
    (signed / "model.sig").symlink_to(tmp_path / "elsewhere.sig")

    with pytest.raises(IntegrityError, match=r"model\.sig: is a link; remove it"):
        sign(signed, key)


def test_links_that_are_no_part_of_a_version_do_not_keep_it_from_being_signed(
    tmp_path, key, signed
):
    """``serving.json`` is never signed, whatever it is."""
    (tmp_path / "config").write_text("{}")
    (signed / "serving.json").symlink_to(tmp_path / "config")
    sign(signed, key)

    trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")
    (signed / "serving.json").unlink()
    open_bundle(signed, model="fraud", version="v1", trust=trust).close()


@pytest.mark.parametrize(
    "content",
    [
        b"junk",
        b"\xff\xfe",
        b"[]",
        b'"a"',
        b"{}",
        b'{"verificationMaterial": {"publicKey": 5}}',
        b'{"verificationMaterial": {"publicKey": {}, "x": 1}, "dsseEnvelope": {"payload": 3}}',
    ],
)
def test_a_damaged_signature_is_told_without_the_words_of_libraries(tmp_path, signed, content):
    """Neither names of exceptions nor addresses of their pages are of use to an operator."""
    (signed / "model.sig").write_bytes(content)
    trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")

    with pytest.raises(SignatureRefused) as caught:
        open_bundle(signed, model="fraud", version="v1", trust=trust)

    said = str(caught.value)
    assert "model.sig: it is damaged: " in said
    assert not [word for word in ("Error", "pydantic", "http", "input_value") if word in said]


def test_a_registered_version_is_signed_where_it_was_saved(tmp_path):
    """Nobody signs the copy in a server's cache."""
    origin = Origin(registered_as="credit")

    with pytest.raises(SignatureRefused) as caught:
        read_signature_file(Place(tmp_path, tmp_path), origin)

    said = str(caught.value)
    assert f"sign {tmp_path}" not in said
    assert "sign it where it was saved" in said
    assert "bundleserver push DIR models:/credit" in said
