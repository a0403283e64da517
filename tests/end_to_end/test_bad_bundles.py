"""Directories that cannot be served: the running server and ``validate`` say the same of them."""

from __future__ import annotations

import os
import pickle
import zipfile

import joblib
import pytest
import torch
from sklearn.linear_model import LinearRegression

from tests.end_to_end import gated
from tests.end_to_end.adr import ROW
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import command, eventually, running
from tests.end_to_end.versions import edit_manifest, other_bytes, write_bundle

X = v2_input("x", "FP64", [1, 1], [1.0])


class Touches:
    """Unpickled, it leaves a file behind: proof that its bytes were run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (str(self.path),)


def manifest(edit):
    """Break the manifest of a bundle that is otherwise whole."""

    def write(directory):
        write_bundle(directory, gated.Times(2.0))
        edit_manifest(directory, edit)

    return write


def text(content):
    """Write something else for a manifest."""

    def write(directory):
        write_bundle(directory, gated.Times(2.0))
        (directory / "manifest.json").write_text(content)

    return write


def path_to(path):
    """Let the component's path lead elsewhere, to a pickle that must never be opened."""

    def write(directory):
        joblib.dump(Touches(directory.parent / "touched"), directory.parent / ".evil.pkl")
        target = str(directory.parent / ".evil.pkl") if path == "absolute" else path

        def edit(document):
            document["components"]["model"] = {"framework": "sklearn", "path": target}

        manifest(edit)(directory)

    return write


def linked(directory):
    """Make the component's file a link to a pickle outside, under its own digest."""
    write_bundle(directory, gated.Times(2.0))
    moved = directory.parent / ".moved.joblib"
    (directory / "model.joblib").rename(moved)
    (directory / "model.joblib").symlink_to(moved)


def tampered(directory):
    """Replace the component's file by a pickle that must never be opened."""
    write_bundle(directory, gated.Times(2.0))
    joblib.dump(Touches(directory.parent / "touched"), directory / "model.joblib")


def other_digest(directory):
    """Change one byte of the component's file."""
    write_bundle(directory, gated.Times(2.0))
    other_bytes(directory)


def missing(directory):
    """Leave the component's file out."""
    write_bundle(directory, gated.Times(2.0))
    (directory / "model.joblib").unlink()


def set_in(value, *place):
    """Write a value at a place of the manifest."""

    def edit(document):
        inner = document
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value

    return manifest(edit)


def steps(*written):
    """Give a manifest these steps, each as component's method, inputs and outputs."""
    made = [
        {"component": "model", "method": method, "inputs": inputs, "outputs": outputs}
        for method, inputs, outputs in written
    ]
    return set_in(made, "steps")


def three_problems(document):
    """Break three rules at once."""
    document["formt"] = 1
    document["components"]["model"]["path"] = 7
    document["outputs"][0]["datatype"] = "FLOAT"


BAD_MANIFESTS = {
    "no-json": (text("{"), "is not valid JSON"),
    "a-list": (text("[]"), "is an array; expected a JSON object"),
    "empty-file": (text(""), "is empty; expected a JSON object"),
    "no-format": (manifest(lambda d: d.pop("format")), "format: is missing"),
    "other-format": (set_in("bundle/v9", "format"), "'bundle/v1'"),
    "no-components": (set_in({}, "components"), "components"),
    "unknown-key": (set_in([], "step"), "step: is not a known key; did you mean 'steps'?"),
    "wrong-type": (set_in(7, "components", "model", "path"), "components.model.path: is 7"),
    "wrong-shape": (set_in("[-1]", "outputs", 0, "shape"), "outputs[0].shape"),
    "wrong-datatype": (set_in("FLOAT", "inputs", 0, "datatype"), "inputs[0].datatype: is 'FLOAT'"),
    "unknown-tensor": (
        steps(("predict", ["z"], ["y"])),
        "steps[0].inputs[0]: is 'z'",
    ),
    "cycle": (
        steps(("predict", ["b"], ["a"]), ("predict", ["a"], ["b"]), ("predict", ["x"], ["y"])),
        "steps[0].inputs[0]: is 'b'",
    ),
    "duplicate-output": (
        steps(("predict", ["x"], ["y"]), ("predict", ["x"], ["y"])),
        "steps[1].outputs[0]: is 'y'",
    ),
    "output-nobody-makes": (set_in("z", "outputs", 0, "name"), "outputs[0]"),
    "unknown-component": (set_in("modell", "steps", 0, "component"), "did you mean 'model'?"),
    "unknown-framework": (
        set_in("sklern", "components", "model", "framework"),
        "components.model.framework: is 'sklern'; expected one of 'bundle', ",
    ),
    "unknown-method": (steps(("predikt", ["x"], ["y"])), "'predikt'"),
    "unknown-operation": (
        set_in([{"op": "threshhold", "inputs": ["x"], "outputs": ["y"]}], "steps"),
        "did you mean 'threshold'?",
    ),
    "path-up": (path_to("../.evil.pkl"), "components.model.path"),
    "path-absolute": (path_to("absolute"), "components.model.path"),
    "path-link": (linked, "outside of"),
    "missing-file": (missing, "model.joblib: is missing"),
    "other-digest": (other_digest, "model.joblib: has sha256 "),
    "tampered": (tampered, "model.joblib: has "),
    "wrong-example": (
        set_in([5.0], "examples", 0, "outputs", "y"),
        "output 'y' is [4.]; expected [5.] as recorded",
    ),
    "example-that-does-not-fit": (
        set_in([[1.0, 2.0]], "examples", 0, "inputs", "x"),
        "examples[0]",
    ),
}


def unrelated(directory):
    """Write only files that are no models."""
    (directory / "README.md").write_text("nothing here")
    (directory / "data.csv").write_text("1,2")


def two_models(directory):
    """Write two models that no rule combines."""
    joblib.dump(LinearRegression().fit([[1.0]], [1.0]), directory / "left_model.pkl")
    joblib.dump(LinearRegression().fit([[1.0]], [1.0]), directory / "right_model.pkl")


def class_of(module, name):
    """Pickle an object whose class lies in a module that is not here."""

    def write(directory):
        content = f"c{module}\n{name}\n)\x81}}b.".encode("latin-1")
        (directory / "model.pkl").write_bytes(b"\x80\x02" + content)

    return write


def cut_off(directory):
    """Write half of a pickle."""
    content = pickle.dumps(LinearRegression().fit([[1.0]], [1.0]))
    (directory / "model.pkl").write_bytes(content[: len(content) // 2])


def of_zeros(name):
    """Write a file of zeros."""

    def write(directory):
        (directory / name).write_bytes(bytes(1000))

    return write


def zipped(directory):
    """Write a torch file that is an archive of something else."""
    with zipfile.ZipFile(directory / "model.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")


def tensor_only(directory):
    """Save with torch what is no model."""
    torch.save(torch.zeros(3), directory / "model.pt")


def unknown_weights(directory):
    """Save weights whose architecture nothing tells."""
    torch.save(torch.nn.Linear(2, 2).state_dict(), directory / "model.pt")


def plain_data(directory):
    """Pickle what is no model."""
    (directory / "model.pkl").write_bytes(pickle.dumps({"a": 1}))


def dangling(directory):
    """Write a link to nothing."""
    (directory / "model.joblib").symlink_to("nothing.joblib")


BAD_DIRECTORIES = {
    "two-models": (two_models, "which cannot be combined"),
    "class-not-here": (class_of("fraudlib.models", "Detector"), "'fraudlib'"),
    "class-of-notebook": (class_of("__main__", "LSTMPipeline"), 'BundleStore().save("'),
    "cut-off": (cut_off, "is truncated or damaged"),
    "zeros": (of_zeros("model.pkl"), "model.pkl"),
    "empty-pickle": (lambda directory: (directory / "model.pkl").touch(), "model.pkl"),
    "zeros-of-torch": (of_zeros("model.pt"), "model.pt"),
    "torch-of-another-kind": (zipped, "model.pt"),
    "torch-tensor": (tensor_only, "model.pt"),
    "torch-weights": (unknown_weights, "model.pt"),
    "plain-data": (plain_data, "model.pkl"),
    "dangling-link": (dangling, "model.joblib' is a broken link or not a regular file"),
}

BAD = {**BAD_MANIFESTS, **BAD_DIRECTORIES}


@pytest.fixture(scope="module")
def bad_volume(tmp_path_factory):
    """Write every bad directory, and a good one beside them."""
    root = tmp_path_factory.mktemp("bad")
    for name, (write, _) in BAD_MANIFESTS.items():
        write(root / name)
    for name, (write, _) in BAD_DIRECTORIES.items():
        (root / name).mkdir()
        write(root / name)
    write_bundle(root / "good", gated.Times(2.0))
    return root


@pytest.fixture(scope="module")
def bad_server(bad_volume):
    """Serve them all."""
    with running(bad_volume) as server:
        server.wait_until_ready("good")
        yield server


@pytest.fixture(scope="module")
def validated(bad_volume):
    """Let ``validate`` check them all; return its problems by directory."""
    ended = command("validate", bad_volume, "--json")
    assert ended.code == 1
    found = ended.document["checked"]
    return {entry["what"].rsplit("/", 1)[-1]: entry["problems"] for entry in found}


@pytest.mark.parametrize("name", BAD)
def test_the_server_says_what_is_wrong(bad_server, name):
    """It is 503 and UNAVAILABLE for a reason that names what is wrong; index and log say it too."""
    says = BAD[name][1]

    def ask_everywhere():
        # A failed version is tried again now and then, so all are asked between two tries.
        reason = bad_server.wait_for_reason(name, "FAILED while")
        answer = bad_server.predict(name, {"instances": ROW})
        said = ask_grpc(bad_server.grpc, name, X)
        (entry,) = bad_server.index(name).values()
        is_same = reason == answer.json()["error"] == said.details and entry["reason"] in reason
        return (reason, answer, said, entry) if is_same else None

    reason, answer, said, entry = eventually(ask_everywhere, f"all say the same of {name}")

    assert says in reason
    assert name in reason
    assert (503, "UNAVAILABLE", "UNAVAILABLE") == (answer.status_code, said.code, entry["state"])
    assert "Traceback" not in reason


@pytest.mark.parametrize("name", BAD)
def test_validate_says_what_is_wrong(validated, name):
    """``bundleserver validate`` lists the same problem before anybody serves the directory."""
    problems = validated[name]

    assert any(BAD[name][1] in problem for problem in problems), problems


def test_nothing_is_opened_before_it_is_verified(bad_server, validated, bad_volume):
    """A file with another digest, or outside of its bundle, is never unpickled."""
    for name in ("tampered", "path-up", "path-absolute", "path-link"):
        bad_server.wait_for_reason(name, "FAILED")

    assert not (bad_volume / "touched").exists()


def test_a_good_model_beside_bad_ones_answers(bad_server):
    """Whatever is wrong with its neighbours, a good model answers, and the server is ready."""
    answer = bad_server.infer("good", X)

    assert [2.0] == answer.json()["outputs"][0]["data"]
    eventually(lambda: bad_server.get("/v2/health/ready").status_code == 200, "it is ready")


def test_all_problems_of_a_manifest_come_together(bad_volume, tmp_path):
    """One look tells everything that is wrong with a manifest."""
    write_bundle(tmp_path / "many", gated.Times(2.0))
    edit_manifest(tmp_path / "many", three_problems)
    ended = command("validate", tmp_path / "many")

    assert 1 == ended.code
    for part in ("formt", "components.model.path", "outputs[0].datatype"):
        assert part in ended.out
    assert 3 == ended.out.count("problem  ")


def test_validate_knows_the_good_from_the_bad(validated, tmp_path):
    """A good bundle has no problem; an empty directory, and one without a model, is one."""
    assert [] == validated["good"]
    for name in ("empty", "unrelated"):
        (tmp_path / name).mkdir()
    unrelated(tmp_path / "unrelated")
    for name in ("empty", "unrelated"):
        ended = command("validate", tmp_path / name)
        assert (1, True) == (ended.code, name in ended.out)


def test_files_that_are_no_model_are_named(tmp_path):
    """A version that holds only other files says which, and the model waits."""
    (tmp_path / "v1").mkdir()
    unrelated(tmp_path / "v1")
    with running(tmp_path, "nothing") as server:
        reason = server.wait_for_reason("nothing", "'README.md'")

        assert "found 'README.md', 'data.csv'" in reason
