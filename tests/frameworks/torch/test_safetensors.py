"""State dicts in safetensors' format: as those of torch.save, and without a pickle."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.trust import Trust
from bundleserver.errors import LoadError
from bundleserver.frameworks import LoadContext, framework_of_file
from bundleserver.frameworks.torch import framework
from bundleserver.frameworks.torch import safetensors as reader
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.store import BundleStore
from bundleserver.tensors import NamedTensor
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import running

DENY = CodeTrust(PicklePolicy.DENY)
SEQUENCES = np.random.default_rng(3).normal(size=(4, 6, 3)).astype(np.float32)


class Autoencoder(nn.Module):
    """As notebooks write it."""

    def __init__(self, **kinds) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.LSTM(3, 4, batch_first=True, **kinds)
        self.decoder = nn.LSTM(4, 3, batch_first=True, **kinds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x)[0])[0]


def saved(model, path, **metadata):
    """Write a module's tensors as safetensors does."""
    safetensors.torch.save_file(model.state_dict(), path, metadata or None)
    return path


def asked(path, trust=DENY, **options):
    """Open a file and ask it for the reconstruction of the sequences."""
    predictor = framework.load(path, LoadContext(options, trust=trust))
    (answer,) = predictor.call("predict", [NamedTensor("x", SEQUENCES)], {})
    return answer


@pytest.mark.parametrize("kinds", [{}, {"num_layers": 2}, {"bias": False}], ids=str)
@pytest.mark.parametrize("decoder_input", ["sequence", "last"])
def test_answers_are_those_of_the_state_dict(tmp_path, kinds, decoder_input):
    """To the bit, under the policy that opens no pickle, and in the metadata's own words."""
    model = Autoencoder(**kinds)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    path = saved(model, tmp_path / "model.safetensors", format="pt")
    options = {"architecture": "lstm_autoencoder", "decoder_input": decoder_input}

    answer = asked(path, **options)

    assert np.array_equal(asked(tmp_path / "model.pt", CodeTrust(), **options), answer)
    if decoder_input == "sequence":
        with torch.inference_mode():
            assert np.array_equal(model(torch.from_numpy(SEQUENCES)).numpy(), answer)
    predictor = framework.load(path, LoadContext(options, trust=DENY))
    assert "a safetensors file" == predictor.metadata["file"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_tensor_is_read_as_the_library_reads_it(tmp_path, dtype):
    """Values, datatypes and shapes are those of safetensors, whatever lies before a tensor."""
    tensors = {
        "flag": torch.tensor([True, False, True]),
        "scalar": torch.tensor(3.5, dtype=dtype),
        "empty": torch.zeros((0, 4), dtype=dtype),
        "weights": torch.randn(3, 5).to(dtype),
        "counts": torch.tensor([[-1, 1 << 40]]),
        "bytes": torch.arange(5, dtype=torch.uint8),
    }
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file(tensors, path)

    found, expected = reader.read_tensors(path), safetensors.torch.load_file(path)

    assert {*expected} == {*found}
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert all(expected[name].dtype == found[name].dtype for name in expected)


def test_content_decides_and_not_the_suffix(tmp_path):
    """Each of both kinds of state dict may have the other's name."""
    model = Autoencoder()
    saved(model, tmp_path / "a.pt")
    torch.save(model.state_dict(), tmp_path / "b.safetensors")

    assert [("torch", "model")] * 2 == [
        framework_of_file(tmp_path / name) for name in ("a.pt", "b.safetensors")
    ]
    assert np.array_equal(
        asked(tmp_path / "a.pt"), asked(tmp_path / "b.safetensors", CodeTrust(PicklePolicy.LISTED))
    )


def test_another_modules_tensors_are_refused(tmp_path):
    """Tensors alone are no model; the architecture must be one that is known."""
    path = saved(nn.Linear(2, 2), tmp_path / "model.safetensors")

    with pytest.raises(LoadError, match=r"is a state dict with .*; expected a 'lstm_autoencoder'"):
        asked(path)
    with pytest.raises(LoadError, match=r"is not a valid 'lstm_autoencoder'"):
        asked(path, architecture="lstm_autoencoder")


def written(path, header, data=b""):
    """Write a file with this header, as JSON or as it is."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + data)
    return path


def one(dtype="F32", shape=(1,), offsets=(0, 4)):
    """Describe a tensor."""
    return {"dtype": dtype, "shape": [*shape], "data_offsets": [*offsets]}


BROKEN = {
    "no JSON": (b"{nothing}", b"", "its header cannot be read"),
    "no UTF-8": (b'{"\xff": 1}', b"", "its header cannot be read"),
    "deep JSON": (b'{"a":' + b"[" * 100_000, b"", "its header cannot be read"),
    "a name twice": (b'{"a": {}, "a": {}}', b"", "it has a name twice"),
    "metadata that are none": (
        {"__metadata__": 3},
        b"",
        "'__metadata__' is not a valid JSON object",
    ),
    "an entry that is none": ({"a": 3}, b"", "the tensor 'a' has the dtype 'None'"),
    "an unknown dtype": ({"a": one("F4")}, bytes(4), "has the dtype 'F4'; expected one of"),
    "no shape": ({"a": {"dtype": "F32"}}, b"", "has no valid shape"),
    "a negative size": ({"a": one(shape=(-1, -1))}, bytes(4), "has no valid shape"),
    "a size that is no number": ({"a": one(shape=(True,))}, bytes(4), "has no valid shape"),
    "a size beyond all": ({"a": one(shape=(1 << 60,))}, bytes(4), "has no valid shape"),
    "many dimensions": ({"a": one(shape=(1,) * 99)}, bytes(4), "has no valid shape"),
    "one offset": ({"a": one(offsets=(0,))}, bytes(4), "has no valid data_offsets"),
    "a negative offset": ({"a": one(offsets=(-4, 0))}, bytes(4), "has no valid data_offsets"),
    "offsets turned round": ({"a": one(offsets=(4, 0))}, bytes(4), "has -4 bytes"),
    "fewer bytes than its shape": ({"a": one(shape=(3,))}, bytes(4), "take 12"),
    "more bytes than its shape": ({"a": one(offsets=(0, 8))}, bytes(8), "has 8 bytes"),
    "bytes of two": ({"a": one(), "b": one()}, bytes(4), "the tensor 'b' overlaps"),
    "bytes of none": ({"a": one(offsets=(4, 8))}, bytes(8), "leaves bytes before it out"),
    "bytes after the end": ({"a": one()}, bytes(5), "have 4 bytes, and 5 follow"),
    "an end before its bytes": ({"a": one()}, bytes(3), "have 4 bytes, and 3 follow"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_breaks_the_format_is_refused(tmp_path, name):
    """The sentence names the file, the tensor and the rule; no memory is taken for it."""
    header, data, reason = BROKEN[name]
    path = written(tmp_path / "model.safetensors", header, data)

    with pytest.raises(LoadError) as refusal:
        asked(path)
    assert f"'{path}' is not a valid safetensors file: " in str(refusal.value)
    assert reason in str(refusal.value)


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    """Eight bytes may announce a header of gigabytes."""
    path = tmp_path / "model.safetensors"
    path.write_bytes((1 << 31).to_bytes(8, "little") + b'{"a":')

    with pytest.raises(LoadError, match=r"its header has 2147483648 bytes, and the file 13"):
        asked(path)


def test_a_truncated_download_is_refused(tmp_path):
    """Half a file has fewer bytes than its header says."""
    path = saved(Autoencoder(), tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-50])

    with pytest.raises(LoadError, match=r"its tensors have .* bytes, and .* follow the header"):
        asked(path)


def test_more_than_the_memory_is_refused(tmp_path, monkeypatch):
    """What does not fit is not begun."""
    path = saved(Autoencoder(), tmp_path / "model.safetensors")
    monkeypatch.setattr(reader, "free_memory", lambda: 100)

    with pytest.raises(LoadError, match="bytes of memory, and 100 are free"):
        asked(path)


def test_what_is_no_safetensors_file_is_named(tmp_path):
    """A page in place of the file is of another kind."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"<html>not found</html>")

    with pytest.raises(LoadError, match="is of an unknown kind, not a PyTorch file"):
        asked(path)


def test_it_is_served_bare_and_published(tmp_path):
    """V1, V2 and gRPC give the module's reconstruction, under the policy that opens no pickle."""
    model = Autoencoder()
    bare = tmp_path / "models" / "bare"
    bare.mkdir(parents=True)
    saved(model, bare / "model.safetensors")
    version = BundleStore(tmp_path / "models").publish(bare, "published")
    kept = BundleStore(tmp_path / "models").path("published", version)
    open_bundle(kept, trust=Trust(DENY)).close()
    with torch.inference_mode():
        expected = model(torch.from_numpy(SEQUENCES)).numpy()
    tensor = v2_input("x", "FP32", [4, 6, 3], SEQUENCES.ravel().tolist())

    with running(tmp_path / "models", pickle_policy="deny") as server:
        for name in ("bare", "published"):
            server.wait_until_ready(name)
            v1 = server.predict(name, {"instances": SEQUENCES.tolist()}).json()["predictions"]
            v2 = server.infer(name, tensor).json()["outputs"][0]["data"]
            over_grpc = ask_grpc(server.grpc, name, tensor).outputs["reconstruction"]

            assert np.array_equal(expected, np.float32(v1))
            assert np.array_equal(expected.ravel(), np.float32(v2))
            assert np.array_equal(expected.ravel(), np.float32(over_grpc))
