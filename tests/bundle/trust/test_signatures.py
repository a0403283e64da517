"""Signatures of versions, against everything that is done to a directory after it was signed."""

import json
import os
import re
import shutil
import tempfile
from contextlib import closing
from pathlib import Path

import joblib
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from model_signing import hashing, signing, verifying

from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.trust import SignaturePolicy, Trust, copying
from bundleserver.bundle.trust.checking import Served, check
from bundleserver.bundle.trust.keys import check_keys, read_keys
from bundleserver.bundle.trust.library import verify
from bundleserver.bundle.trust.signing import PASSPHRASE_VARIABLE, SigningKey
from bundleserver.bundle.trust.statement import read_statement
from bundleserver.bundle.trust.verification import HERE, SignatureRefused, SignatureStatus
from bundleserver.errors import BundleServerError, ConfigError, IntegrityError, StoreError
from bundleserver.manifest import Manifest
from bundleserver.store import BundleStore
from bundleserver.tensors import NamedTensor
from tests.certificates import sign_as_leaf, write_authority
from tests.signatures import (
    ROWS,
    fitted,
    publish,
    sign,
    write_key,
    write_private,
    write_public,
)


def rsa_key():
    """Make a key of a kind that signatures do not have."""
    return rsa.generate_private_key(65537, 2048)


VECTORS = Path(__file__).with_name("vectors")


@pytest.fixture
def key(tmp_path):
    """Make a trusted key."""
    return write_key(tmp_path, "release")


@pytest.fixture
def trust(tmp_path, key):
    """Enforce signatures by that key."""
    return Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")


@pytest.fixture
def signed(tmp_path, key):
    """Save a signed version: 'fraud' v1."""
    return publish(tmp_path / "store", sign_with=key)


def opened(directory, trust, model="fraud", version="v1", **more):
    """Open a version as a server does."""
    return open_bundle(directory, model=model, version=version, trust=trust, **more)


def refusal(directory, trust, model="fraud", version="v1", **more):
    """Return why a version is refused."""
    with pytest.raises(SignatureRefused) as raised:
        opened(directory, trust, model, version, **more)
    return raised.value


@pytest.fixture(autouse=True)
def _room(tmp_path_factory, monkeypatch):
    """Let each test have temporary files of its own: other processes make copies, too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("room")))


def copies():
    """Return the private copies that there are."""
    return set(Path(tempfile.gettempdir()).glob("bundleserver-signed-*"))


def test_what_a_trusted_key_signed_is_served_and_says_who_signed_it(signed, trust):
    """Metadata name the key's file and its digest, and nothing of the copy stays."""
    before = copies()

    with closing(opened(signed, trust)) as bundle:
        found = bundle.metadata()["verification"]
        answer = bundle.predict({"input-0": NamedTensor("input-0", ROWS)}, {})

    assert "verified" == found["signature"]["status"]
    assert "release.pub" == found["signature"]["key"]["name"]
    assert 64 == len(found["signature"]["key"]["sha256"])
    assert [1, 1] == next(iter(answer.values())).tolist()
    assert signed == bundle.directory
    assert before == copies()


def _edit_manifest(directory):
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    document["metadata"]["owner"] = "somebody else"
    path.write_text(json.dumps(document))


def _replace_file(directory):
    joblib.dump(fitted(0), model_file(directory))


def _replace_file_and_list_it(directory):
    _replace_file(directory)
    path = directory / "manifest.json"
    document = json.loads(path.read_text())
    for component in document["components"].values():
        component.pop("sha256")
        component.pop("size")
    path.write_text(json.dumps(document))


def _remove_file(directory):
    model_file(directory).unlink()


def _add_file(directory):
    (directory / "sitecustomize.py").write_text("raise SystemExit")


def _add_hidden_file(directory):
    (directory / ".cache" / "deep").mkdir(parents=True)
    (directory / ".cache" / "deep" / "x.pkl").write_bytes(b"x")


def _add_staging_file(directory):
    (directory / ".staging-1").write_bytes(b"x")


def _add_link(directory):
    (directory / "more.joblib").symlink_to(model_file(directory).name)


def _add_linked_directory(directory):
    (directory / "code").symlink_to(directory)


def _replace_by_link(directory):
    path = model_file(directory)
    moved = directory.parent.parent / "elsewhere.joblib"
    shutil.move(path, moved)
    path.symlink_to(moved)


def _add_pipe(directory):
    os.mkfifo(directory / "pipe")


def _damage(directory):
    path = directory / "model.sig"
    path.write_bytes(path.read_bytes()[:-40])


def _edit_payload(directory):
    path = directory / "model.sig"
    document = json.loads(path.read_text())
    payload = document["dsseEnvelope"]["payload"]
    document["dsseEnvelope"]["payload"] = payload[:40] + "QUFB" + payload[44:]
    path.write_text(json.dumps(document))


def _nest_deep(directory):
    (directory / "model.sig").write_text("[" * 100_000)


def _make_large(directory):
    with (directory / "model.sig").open("wb") as file:
        file.truncate(1 << 40)


def _empty(directory):
    (directory / "model.sig").write_bytes(b"")


def _remove_signature(directory):
    (directory / "model.sig").unlink()


def _make_signature_a_directory(directory):
    (directory / "model.sig").unlink()
    (directory / "model.sig").mkdir()


def _make_signature_a_pipe(directory):
    (directory / "model.sig").unlink()
    os.mkfifo(directory / "model.sig")


def model_file(directory):
    """Return the path of a version's only component."""
    manifest = Manifest.from_json((directory / "manifest.json").read_bytes(), "here")
    return directory / next(iter(manifest.components.values())).path


INVALID, UNSIGNED = SignatureStatus.INVALID, SignatureStatus.UNSIGNED

DONE_TO_IT = [
    (_edit_manifest, INVALID, "manifest.json: was edited after it was signed"),
    (_replace_file, INVALID, "is not the file that was signed"),
    (_replace_file_and_list_it, INVALID, "2 problems"),
    (_remove_file, INVALID, "is missing; it was signed"),
    (_add_file, INVALID, "sitecustomize.py: was not signed"),
    (_add_hidden_file, INVALID, ".cache/deep/x.pkl: was not signed"),
    (_add_staging_file, INVALID, ".staging-1: was not signed"),
    (_add_link, INVALID, "more.joblib: is a link"),
    (_add_linked_directory, INVALID, "code: is a link"),
    (_replace_by_link, INVALID, "is a link"),
    (_add_pipe, INVALID, "pipe: is a named pipe"),
    (_damage, INVALID, "model.sig: it is damaged"),
    (_edit_payload, INVALID, "it is damaged, or was edited"),
    (_nest_deep, INVALID, "model.sig: it is damaged"),
    (_make_large, INVALID, "model.sig: cannot be read: it has 1099511627776 bytes"),
    (_empty, INVALID, "model.sig: it is damaged"),
    (_remove_signature, UNSIGNED, "there is no 'model.sig'; sign it with"),
    (_make_signature_a_directory, INVALID, "model.sig: cannot be read"),
    (_make_signature_a_pipe, INVALID, "a named pipe"),
]


@pytest.mark.parametrize(
    ("change", "status", "sentence"), DONE_TO_IT, ids=[row[0].__name__[1:] for row in DONE_TO_IT]
)
def test_whatever_is_done_to_a_signed_version_is_told_by_its_own_sentence(
    signed, trust, change, status, sentence
):
    """A change of a signed directory is refused, named, and leaves no copy behind."""
    before = copies()
    manifest = Manifest.from_json((signed / "manifest.json").read_bytes(), "here")
    change(signed)

    error = refusal(signed, trust, manifest=manifest)

    assert status is error.status
    assert sentence in str(error)
    assert tempfile.gettempdir() + "/bundleserver-signed" not in str(error)
    assert before == copies()


def test_a_signature_of_another_version_moved_here_is_refused(tmp_path, key, trust, signed):
    """The signed manifest says which model and version it is of."""
    other = publish(tmp_path / "store", sign_with=key)
    shutil.rmtree(other)
    shutil.copytree(signed, other)
    named = tmp_path / "store" / "credit" / "v1"
    shutil.copytree(signed, named)

    assert "it was made for 'fraud' version 'v1', and this is 'fraud' version 'v2'" in str(
        refusal(other, trust, version="v2")
    )
    assert "made for 'fraud' version 'v1', and this is 'credit' version 'v1'" in str(
        refusal(named, trust, model="credit")
    )


def test_a_signature_file_of_another_version_is_refused(tmp_path, key, trust, signed):
    """The signature alone, moved to other files, lists other digests."""
    other = publish(tmp_path / "store", answer=0, sign_with=key)
    shutil.copy(signed / "model.sig", other / "model.sig")

    assert (
        "model.sig: is the signature of 'fraud' version 'v1', and this is 'fraud' version 'v2'"
        in (str(refusal(other, trust, version="v2")))
    )


def inferred(tmp_path, name="fraud", version="1"):
    """Write a directory without a manifest."""
    directory = tmp_path / "plain" / name / version
    directory.mkdir(parents=True)
    joblib.dump(fitted(1), directory / "model.joblib")
    return directory


def test_a_directory_without_a_manifest_is_bound_to_its_place(tmp_path, key, trust):
    """The signature itself says the model and version, as its path did when it was signed."""
    first = inferred(tmp_path)
    sign(first, key)
    second = first.with_name("2")
    shutil.copytree(first, second)

    with closing(opened(first, trust, version="1")) as bundle:
        assert "verified" == bundle.verification.status
    assert "made for 'fraud' version '1'" in str(refusal(second, trust, version="2"))
    assert "made for 'fraud' version '1'" in str(refusal(first, trust, "credit", "1"))


def test_a_signature_that_says_no_model_is_refused_without_a_manifest(tmp_path, key, trust):
    """A directory signed under the name of its version only could be anything's."""
    directory = inferred(tmp_path)
    sign(directory, key, name="1")

    assert "made for '1', and this is 'fraud' version '1'" in str(
        refusal(directory, trust, version="1")
    )


def test_a_signature_of_a_model_holds_for_each_of_its_versions(tmp_path, key, trust):
    """Whoever signs under the name of a model alone leaves its version open."""
    directory = inferred(tmp_path)
    sign(directory, key, name="fraud")

    with closing(opened(directory, trust, version="9")) as bundle:
        assert "verified" == bundle.verification.status


def test_a_key_that_is_not_trusted_is_named_with_what_is_trusted(tmp_path, trust):
    """The refusal has the digest of the key, the trusted ones, and what is no key."""
    place = tmp_path / "others"
    place.mkdir()
    stranger = write_key(place, "stranger")
    (tmp_path / "keys" / "README.txt").write_text("keys of the release team")
    directory = publish(tmp_path / "store", sign_with=stranger)

    error = refusal(directory, trust)

    assert SignatureStatus.UNTRUSTED is error.status
    assert SigningKey.load(stranger).sha256 in str(error)
    assert "'release.pub'" in str(error)
    assert "README.txt: is not a public key" in str(error)


def test_a_signature_that_names_a_trusted_key_which_did_not_make_it_is_refused(
    tmp_path, key, trust
):
    """What a signature says of its key is a hint and no proof."""
    place = tmp_path / "others"
    place.mkdir()
    directory = publish(tmp_path / "store", sign_with=write_key(place, "stranger"))
    document = json.loads((directory / "model.sig").read_text())
    material = document["verificationMaterial"]["publicKey"]
    for named in (SigningKey.load(key).sha256, ""):
        material["hint"] = named
        (directory / "model.sig").write_text(json.dumps(document))

        assert refusal(directory, trust).status is not SignatureStatus.VERIFIED
    del document["verificationMaterial"]["publicKey"]
    (directory / "model.sig").write_text(json.dumps(document))

    assert "it is damaged" in str(refusal(directory, trust))


def test_a_removed_key_is_not_trusted_from_then_on(tmp_path, key, trust, signed):
    """Keys are read anew for each load."""
    opened(signed, trust).close()
    public = tmp_path / "keys" / "release.pub"
    public.rename(tmp_path / "keys" / ".gone")

    assert SignatureStatus.UNTRUSTED is refusal(signed, trust).status


def test_keys_are_read_through_the_links_of_a_mounted_secret(tmp_path, key, trust, signed):
    """Kubernetes shows a secret's files through a link that it moves."""
    keys = tmp_path / "keys"
    (keys / "..2026_01").mkdir()
    (keys / "release.pub").rename(keys / "..2026_01" / "release.pub")
    (keys / "..data").symlink_to("..2026_01")
    (keys / "release.pub").symlink_to("..data/release.pub")

    opened(signed, trust).close()


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_keys_of_each_curve_of_the_format_sign(tmp_path, curve):
    """P-256, P-384 and P-521 are what the format has."""
    key = write_key(tmp_path, "other", curve())
    directory = publish(tmp_path / "store", sign_with=key)
    trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")

    opened(directory, trust).close()


def test_a_key_of_another_kind_is_refused_by_name(tmp_path):
    """Neither a private key, nor a curve that the format lacks, nor nonsense is trusted."""
    private = write_key(tmp_path, "odd", ec.SECP256K1())
    shutil.copy(private, tmp_path / "keys" / "private.pem")
    (tmp_path / "keys" / "two.pem").write_bytes((tmp_path / "keys" / "odd.pub").read_bytes() * 2)
    (tmp_path / "keys" / "folder").mkdir()
    os.mkfifo(tmp_path / "keys" / "pipe")

    with pytest.raises(ConfigError) as raised:
        check_keys(tmp_path / "keys")

    told = {problem.where: problem.what for problem in raised.value.problems}
    assert "secp256k1" in told["odd.pub"]
    assert "private key" in told["private.pem"]
    assert "2 PEM blocks" in told["two.pem"]
    assert "cannot be read" in told["folder"]
    assert "named pipe" in told["pipe"]
    with pytest.raises(StoreError, match="secp256k1"):
        SigningKey.load(private)


def test_a_key_with_a_passphrase_signs(tmp_path, monkeypatch):
    """The passphrase is in the environment; a wrong one and none are told."""
    key = write_key(tmp_path, "locked", passphrase=b"open sesame")
    for given, told in (("wrong", "cannot be used"), (None, PASSPHRASE_VARIABLE)):
        if given is None:
            monkeypatch.delenv(PASSPHRASE_VARIABLE)
        else:
            monkeypatch.setenv(PASSPHRASE_VARIABLE, given)
        with pytest.raises(StoreError, match=told):
            publish(tmp_path / "store", sign_with=key)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "open sesame")
    directory = publish(tmp_path / "store", sign_with=key)
    trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")

    opened(directory, trust).close()


def test_with_warn_a_version_is_served_and_says_what_is_wrong(signed, trust, caplog):
    """A policy of warning refuses nothing, and hides nothing."""
    (signed / "model.sig").unlink()
    warn = Trust(signatures=SignaturePolicy.WARN, trusted_keys=trust.trusted_keys)

    with closing(opened(signed, warn)) as bundle:
        found = bundle.metadata()["verification"]["signature"]

    assert "unsigned" == found["status"]
    assert "there is no 'model.sig'" in found["problem"]
    assert "there is no 'model.sig'" in caplog.text


def test_without_a_policy_nobody_looks(signed):
    """A damaged signature is nothing to a server that was not told to look."""
    (signed / "model.sig").write_bytes(b"?")

    with closing(open_bundle(signed)) as bundle:
        assert "off" == bundle.metadata()["verification"]["signature"]["status"]


def test_what_is_opened_is_what_was_verified(tmp_path, trust, signed, monkeypatch):
    """A file that is replaced after the check, and before the opening, is not opened."""
    make = copying.PrivateCopy.make

    def replaced_meanwhile(*arguments):
        made = make(*arguments)
        _replace_file_and_list_it(signed)
        return made

    monkeypatch.setattr(copying.PrivateCopy, "make", replaced_meanwhile)
    with closing(opened(signed, trust)) as bundle:
        answer = bundle.predict({"input-0": NamedTensor("input-0", ROWS)}, {})

    assert [1, 1] == next(iter(answer.values())).tolist()


def test_the_manifest_that_was_read_before_the_check_is_not_what_is_opened(trust, signed):
    """A manifest that was there for a moment, before the signed one came back, counts nothing."""
    document = json.loads((signed / "manifest.json").read_text())
    document["metadata"]["owner"] = "an intruder"
    evil = Manifest.from_json(json.dumps(document), "here")

    with closing(opened(signed, trust, manifest=evil)) as bundle:
        assert "owner" not in bundle.metadata()


def test_a_nested_bundle_is_covered_by_the_outer_signature(tmp_path, key, trust):
    """Each file of a bundle in a bundle is signed with it, and a change in it is refused."""
    inner = publish(tmp_path / "store", name="inner")
    outer = tmp_path / "store" / "fraud" / "v1"
    outer.mkdir(parents=True)
    shutil.copytree(inner, outer / "inner")
    document = {
        "format": "bundle/v1",
        "name": "fraud",
        "version": "v1",
        "components": {"inner": {"framework": "bundle", "path": "inner"}},
    }
    (outer / "manifest.json").write_text(json.dumps(document))
    sign(outer, key)

    with closing(opened(outer, trust)) as bundle:
        assert [1, 1] == next(
            iter(bundle.predict({"input-0": NamedTensor("input-0", ROWS)}, {}).values())
        ).tolist()
    _replace_file_and_list_it(outer / "inner")

    assert "inner/manifest.json" in str(refusal(outer, trust))


def test_what_no_version_has_disturbs_no_signature(trust, signed):
    """A serving.json is the operator's, lost+found and .nfs files are the file system's."""
    (signed / "serving.json").write_text("{}")
    (signed / "lost+found").mkdir()
    (signed / ".nfs000123").write_bytes(b"deleted")

    opened(signed, trust).close()


def test_the_links_of_a_storage_initializer_are_followed_as_a_whole_only(tmp_path, trust, signed):
    """A directory of nothing but links to another's files of the same names is that one."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for path in signed.iterdir():
        (mounted / path.name).symlink_to(path)

    opened(mounted, trust, links_lead_anywhere=True).close()
    assert "is a link" in str(refusal(mounted, trust))
    (mounted / "manifest.json").unlink()
    shutil.copy(signed / "manifest.json", mounted)

    assert "is a link" in str(refusal(mounted, trust, links_lead_anywhere=True))


def test_a_directory_with_a_link_or_a_private_key_is_not_signed(tmp_path, key):
    """What could not be verified, or would give the key away, is not signed at all."""
    directory = publish(tmp_path / "store")
    shutil.copy(key, directory / "key.pem")
    with pytest.raises(StoreError, match="keep it elsewhere"):
        SigningKey.load(directory / "key.pem").sign(directory)
    (directory / "key.pem").unlink()
    _add_link(directory)

    with pytest.raises(IntegrityError, match=r"more\.joblib: is a link"):
        sign(directory, key)


def test_too_little_room_for_the_copy_is_told(trust, signed, monkeypatch):
    """The copy needs as much room as the version, and a full disk is not an invalid signature."""
    room = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(copying.shutil, "disk_usage", lambda path: room)

    with pytest.raises(BundleServerError, match="set TMPDIR"):
        opened(signed, trust)


def test_a_larger_file_is_told_before_room_is_asked_for(trust, signed):
    """The signed manifest lists sizes, so that a sparse file needs no room to be refused."""
    os.truncate(model_file(signed), 1 << 40)

    assert "is not the file that was signed" in str(refusal(signed, trust))


def test_a_file_that_grows_after_it_was_measured_is_not_copied(tmp_path, key, trust, monkeypatch):
    """No more is copied than there was room for, whatever somebody makes of a file meanwhile."""
    directory = inferred(tmp_path)
    sign(directory, key)
    asked = copying.PrivateCopy._check_room

    def grown(copy, needed):
        asked(copy, needed)
        os.truncate(directory / "model.joblib", 1 << 40)

    monkeypatch.setattr(copying.PrivateCopy, "_check_room", grown)

    assert "model.joblib: is not the file" in str(refusal(directory, trust, version="1"))


def test_a_file_that_becomes_a_link_meanwhile_is_refused(tmp_path, key, trust, monkeypatch):
    """What was a file when it was measured, and is a link when it is copied, is not opened."""
    directory = inferred(tmp_path)
    sign(directory, key)
    asked = copying.PrivateCopy._check_room

    def moved(copy, needed):
        asked(copy, needed)
        (directory / "model.joblib").rename(tmp_path / "same.joblib")
        (directory / "model.joblib").symlink_to(tmp_path / "same.joblib")

    monkeypatch.setattr(copying.PrivateCopy, "_check_room", moved)

    assert "model.joblib: is not the file" in str(refusal(directory, trust, version="1"))


def test_a_published_signature_is_kept_byte_for_byte(tmp_path, key, trust, signed):
    """Publish copies what was signed, under its own name and version, or says why not."""
    store = BundleStore(tmp_path / "production")

    published = store.publish(signed, "fraud")

    directory = store.path("fraud", published)
    assert (signed / "model.sig").read_bytes() == (directory / "model.sig").read_bytes()
    opened(directory, trust).close()
    for name, version in (("other", None), ("fraud", "v7")):
        with pytest.raises(StoreError, match="its signature would not hold"):
            store.publish(signed, name, version)
    again = store.publish(signed, "fraud", "v7", sign_with=key)
    opened(store.path("fraud", again), trust, version="v7").close()


def test_what_would_be_too_large_to_verify_is_not_signed(tmp_path, key):
    """No signature is written that a server refuses for its size."""
    directory = inferred(tmp_path)
    deep = directory.joinpath(*("d" * 250 for _ in range(8)))
    deep.mkdir(parents=True)
    for count in range(1_700):
        (deep / f"{count}").touch()

    with pytest.raises(StoreError, match=r"for 1701 files its model\.sig has \d+ bytes, and may"):
        sign(directory, key)
    assert not (directory / "model.sig").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "expected a model's name"),
        ("a/b", "expected a model's name"),
        ("../../x", "expected a model's name"),
        ("/etc/1", "expected a model's name"),
        ("fraud/", "expected a model's name"),
        ("fraud/v1/v2", "expected a model's name"),
        ("fraud/latest", "expected a model's name"),
        ("credit", "says model 'fraud'"),
        ("credit/v1", "says model 'fraud'"),
        ("fraud/v2", "says version 'v1'"),
    ],
)
def test_a_name_that_no_server_compares_equal_is_not_signed(tmp_path, key, name, told):
    """What is no name of a model, and what contradicts the manifest, is refused."""
    directory = publish(tmp_path / "store")

    with pytest.raises(StoreError, match=told):
        sign(directory, key, name)
    for right in ("fraud", "fraud/v1"):
        sign(directory, key, right)


def test_a_file_whose_name_is_no_text_is_named(tmp_path, key, trust, signed):
    """A signature lists names as text: others are refused, as they are signed and verified."""
    odd = os.fsencode(signed) + b"/caf\xe9.txt"
    Path(os.fsdecode(odd)).write_text("?")

    assert "has a name that is not UTF-8" in str(refusal(signed, trust))
    with pytest.raises(IntegrityError, match="has a name that is not UTF-8"):
        sign(signed, key)


@pytest.mark.parametrize(
    "make", [ed25519.Ed25519PrivateKey.generate, rsa_key], ids=["Ed25519", "RSA"]
)
def test_a_key_of_another_kind_says_which_kinds_there_are(tmp_path, make):
    """Neither signs nor is trusted, and both errors say what it is and what is expected."""
    made = make()
    write_private(tmp_path / "odd.pem", made)
    (tmp_path / "keys").mkdir()
    write_public(tmp_path / "keys" / "odd.pub", made)
    told = r"the kind (Ed25519|RSA); expected an EC key of the curve P-256, P-384 or P-521"

    with pytest.raises(ConfigError, match=told):
        check_keys(tmp_path / "keys")
    with pytest.raises(StoreError, match=told):
        SigningKey.load(tmp_path / "odd.pem")


@pytest.mark.parametrize("version", ["v1.0.1", "v1.1.0"])
def test_signatures_of_the_formats_own_releases_verify(tmp_path, version):
    """The public vectors of directories verify, and what their signers left out is refused."""
    directory, trust = vector(tmp_path, f"{version}-elliptic-key")

    found = check(directory, Served(), trust, HERE)

    assert SignatureStatus.VERIFIED is found.verification.status
    assert {"signme-1", "signme-2"} == {path.name for path in found.copy.path.iterdir()}
    found.copy.close()
    (directory / "ignore-me").write_text("left out by whoever signed it")
    left_out = "whoever signed left it out; " if version == "v1.1.0" else "not signed; "
    with pytest.raises(SignatureRefused, match=f"ignore-me: was .*{left_out}"):
        check(directory, Served(), trust, HERE)
    (directory / "ignore-me").unlink()
    (directory / "signme-2").write_text("something else")
    with pytest.raises(SignatureRefused, match="signme-2: is not the file that was signed"):
        check(directory, Served(), trust, HERE)


@pytest.mark.parametrize("version", ["v0.3.1", "v1.0.0"])
def test_a_signature_of_a_single_file_verifies_and_is_not_one_of_a_directory(tmp_path, version):
    """The older vectors sign one file: the key is found, and what they sign is told."""
    directory, trust = vector(tmp_path, f"{version}-elliptic-key")

    with pytest.raises(SignatureRefused, match="the signature of a single file") as raised:
        check(directory, Served(), trust, HERE)

    assert SignatureStatus.INVALID is raised.value.status


def test_a_vector_of_another_media_type_is_refused(tmp_path):
    """The conformance suite's bundle of another kind is no signature."""
    directory, trust = vector(tmp_path, "wrong-mediatype")

    with pytest.raises(SignatureRefused, match="mediaType"):
        check(directory, Served(), trust, HERE)


def vector(tmp_path, name):
    """Write the directory of a public vector, and trust its key."""
    keys = tmp_path / "keys"
    keys.mkdir()
    shutil.copy(VECTORS / "signing-key-pub.pem", keys / "release.pub")
    directory = tmp_path / name
    directory.mkdir()
    shutil.copy(VECTORS / f"{name}.sig", directory / "model.sig")
    (directory / "signme-1").write_text("signme-1\n")
    (directory / "signme-2").write_text("signme-2")
    return directory, Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=keys)


def test_others_verify_what_is_signed_here(tmp_path, key, signed):
    """The format's own tool accepts our signatures: its users need nothing of ours."""
    config = verifying.Config().use_elliptic_key_verifier(
        public_key=tmp_path / "keys" / "release.pub"
    )

    config.verify(signed, signed / "model.sig")


@pytest.mark.parametrize("method", ["files", "shards"])
@pytest.mark.parametrize("algorithm", ["sha256", "blake2", "blake3"])
def test_what_others_sign_verifies_here(tmp_path, key, trust, method, algorithm):
    """Each way of hashing that the format has, whole files and pieces of files."""
    directory = inferred(tmp_path, "other", "fraud")
    if method == "files":
        (directory / "empty").touch()  # the format's pieces of files have none of an empty one
    (directory / "large.bin").write_bytes(bytes(range(256)) * 10)
    config = hashing.Config()
    if method == "files":
        config.use_file_serialization(hashing_algorithm=algorithm)
    elif algorithm == "blake3":
        pytest.skip("the format has no shards of blake3")
    else:
        config.use_shard_serialization(hashing_algorithm=algorithm, shard_size=1000)
    config.set_ignored_paths(paths=["model.sig"])
    signer = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(config)
    signer.sign(directory, directory / "model.sig")

    opened(directory, trust, version="1").close()
    data = bytearray((directory / "large.bin").read_bytes())
    data[-1] ^= 1
    (directory / "large.bin").write_bytes(data)
    assert "large.bin: is not" in str(refusal(directory, trust, version="1"))
    (directory / "large.bin").write_bytes(data[:-1])
    assert "large.bin: is not" in str(refusal(directory, trust, version="1"))


@pytest.mark.parametrize(
    "names", [["/etc/passwd"], ["../up"], ["a/../../b"], ["a", "a/b"], [""], [], ["a\0b"]], ids=repr
)
def test_a_statement_about_odd_paths_is_refused(names):
    """Even who holds a trusted key lists nothing outside of the directory."""
    with pytest.raises(ValueError, match="it lists"):
        read_statement("m", {"method": "files"}, [(name, "sha256", b"0" * 32) for name in names])


@pytest.mark.parametrize("shards", [["a:0:5", "a:6:9"], ["a:1:5"], ["a:0:5", "a:0:5"]], ids=repr)
def test_a_statement_about_a_part_of_a_file_is_refused(shards):
    """Pieces cover a file from its first byte to its last."""
    with pytest.raises(ValueError, match="the whole of 'a'"):
        read_statement("m", {"method": "shards"}, [(name, "sha256", b"0" * 32) for name in shards])


def test_a_certificate_of_a_trusted_authority_signs(tmp_path):
    """An authority's certificate in the directory of keys stands for those that it issued."""
    place = write_authority(tmp_path, "ours")
    directory = inferred(tmp_path, "fraud", "1")
    sign_as_leaf(directory, place)
    (tmp_path / "keys").mkdir()
    shutil.copy(place / "authority.crt", tmp_path / "keys" / "ours.crt")

    key, statement = verify(
        (directory / "model.sig").read_bytes(), read_keys(tmp_path / "keys").keys
    )

    assert "ours.crt" == key.name
    assert {"model.joblib"} == set(statement.files)
    other = write_authority(tmp_path, "theirs")
    shutil.copy(other / "authority.crt", tmp_path / "keys" / "ours.crt")
    trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")
    assert SignatureStatus.UNTRUSTED is refusal(directory, trust, version="1").status


def test_a_certificate_that_may_not_sign_is_refused(tmp_path):
    """Of an authority's certificates only those for signatures count."""
    place = write_authority(tmp_path, "ours", may_sign=False)
    directory = inferred(tmp_path, "fraud", "1")
    sign_as_leaf(directory, place)
    (tmp_path / "keys").mkdir()
    shutil.copy(place / "authority.crt", tmp_path / "keys" / "ours.crt")
    trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=tmp_path / "keys")

    said = str(refusal(directory, trust, version="1"))
    assert "the certificate that made it is none for signing" in said
    assert "damaged" not in said


def test_a_large_array_is_copied_piece_by_piece(tmp_path, key, trust):
    """A file of several pieces of the copy is compared as a whole."""
    directory = inferred(tmp_path)
    np.save(directory / "rows.npy", np.arange(500_000))
    sign(directory, key)

    opened(directory, trust, version="1").close()


def sign_but(directory, key, *left_out, git=True):
    """Sign a directory with the format's own tool, without some of its files."""
    config = hashing.Config().set_ignored_paths(
        paths=["model.sig", *left_out], ignore_git_paths=git
    )
    signer = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(config)
    signer.sign(directory, directory / "model.sig")


@pytest.mark.parametrize(
    "left_out", ["manifest.json", "model.joblib", ".", "code", "code/a.py", ".hidden", "MLmodel"]
)
def test_what_whoever_signs_leaves_out_is_refused(tmp_path, key, trust, left_out):
    """A signature covers all files of a version, the manifest first of all."""
    directory = publish(tmp_path / "store")
    model_file(directory).rename(directory / "model.joblib")
    document = json.loads((directory / "manifest.json").read_text())
    for component in document["components"].values():
        component["path"] = "model.joblib"
    (directory / "manifest.json").write_text(json.dumps(document))
    (directory / "code").mkdir()
    (directory / "code" / "a.py").write_text("A = 1")
    (directory / ".hidden").write_text("?")
    (directory / "MLmodel").mkdir()
    (directory / "MLmodel" / "x").write_text("?")
    sign_but(directory, key)
    opened(directory, trust).close()
    if left_out == ".":
        # The tool signs no directory without a file.
        (directory / "other").mkdir()
        (directory / "other" / "x").write_text("signed")
        sign_but(directory, key, *(it.name for it in directory.iterdir() if it.name != "other"))
    else:
        sign_but(directory, key, left_out)

    assert "was not signed, as whoever signed left it out" in str(refusal(directory, trust))


@pytest.mark.parametrize("name", [".github", ".git", "lost+found"])
def test_a_manifest_lists_nothing_that_is_never_signed(tmp_path, key, trust, name):
    """What is passed over as no part of a version is no part of it for its manifest either."""
    directory = publish(tmp_path / "store")
    inner = publish(tmp_path / "store", name="inner")
    (directory / name).mkdir()
    model_file(directory).rename(directory / name / "model.joblib")
    document = json.loads((directory / "manifest.json").read_text())
    for component in document["components"].values():
        component["path"] = f"./{name}//model.joblib"
    (directory / "manifest.json").write_text(json.dumps(document))
    outer = tmp_path / "store" / "fraud" / "v2"
    outer.mkdir()
    shutil.copytree(inner, outer / name)
    document = {
        "format": "bundle/v1",
        "name": "fraud",
        "version": "v2",
        "components": {"inner": {"framework": "bundle", "path": name}},
    }
    (outer / "manifest.json").write_text(json.dumps(document))

    for place, version, listed in (
        (directory, "v1", f"{name}/model.joblib"),
        (outer, "v2", name),
    ):
        with pytest.raises(IntegrityError, match=re.escape(f"{listed}: is not signed, and")):
            sign(place, key)
        sign_but(place, key, name)
        assert f"{listed}: is not signed, and" in str(refusal(place, trust, version=version))


def test_gits_own_files_that_were_signed_are_part_of_the_version(tmp_path, key, trust):
    """Whoever signs them as well, as the format allows, is taken at their word."""
    directory = publish(tmp_path / "store")
    (directory / ".github").mkdir()
    (directory / ".github" / "x").write_text("a")
    sign_but(directory, key, git=False)
    opened(directory, trust).close()
    (directory / ".github" / "x").write_text("b")

    assert ".github/x: is not the file that was signed" in str(refusal(directory, trust))


def test_a_signature_that_is_a_link_is_refused(tmp_path, trust, signed):
    """A link leads to what somebody else may change; a mounted directory is one as a whole."""
    path = signed / "model.sig"
    path.rename(tmp_path / "elsewhere.sig")
    path.symlink_to(tmp_path / "elsewhere.sig")

    assert "model.sig: is a link" in str(refusal(signed, trust))
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for entry in signed.iterdir():
        (mounted / entry.name).symlink_to(entry)
    assert "model.sig: is a link" in str(refusal(mounted, trust, links_lead_anywhere=True))
    path.unlink()
    (tmp_path / "elsewhere.sig").rename(path)
    opened(mounted, trust, links_lead_anywhere=True).close()
    (mounted / "model.sig").unlink()

    assert SignatureStatus.UNSIGNED is refusal(mounted, trust, links_lead_anywhere=True).status
