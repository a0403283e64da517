from __future__ import annotations

import gzip
import pickle
import sys
import threading
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from bundleserver.errors import InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext, framework_of_file
from bundleserver.frameworks.torch import framework
from bundleserver.tensors import NamedTensor, TensorSpec

ROWS = torch.export.Dim("rows")
X = np.random.default_rng(7).normal(size=(5, 3))


class Scorer(nn.Module):
    """Three features to two scores; dropout tells training from serving."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.dropout(torch.tanh(self.linear(features)))


class Several(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor):
        return {"total": a + b, "half": (a.to(torch.bfloat16), [None, a > b])}


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)

    def forward(self, ids: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids) + shift


class Clearing(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.mul_(0)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.count.add_(1)
        return values + self.count


class Autoencoder(nn.Module):
    """As notebooks write it; ``last`` repeats the last hidden state over the sequence."""

    def __init__(self, features: int = 3, hidden: int = 4, last: bool = False, **kinds) -> None:
        super().__init__()
        self.encoder = nn.LSTM(features, hidden, batch_first=True, **kinds)
        self.decoder = nn.LSTM(hidden, features, batch_first=True, **kinds)
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        code, (hidden, _) = self.encoder(x)
        if self.last:
            code = hidden[-1].unsqueeze(1).repeat(1, x.shape[1], 1)
        return self.decoder(code)[0]


class Offset(Autoencoder):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1


def opened(path, device: str = "cpu", **options: object):
    """Open a file with these options."""
    return framework.load(path, LoadContext(options, device))


def answer(predictor, *arrays):
    """Call a predictor on arrays; return its outputs in order."""
    outputs = called(predictor, *arrays)
    return list(outputs.values()) if isinstance(outputs, dict) else outputs


def called(predictor, *arrays):
    """Call a predictor on arrays; return what it returns."""
    inputs = [NamedTensor(f"t{index}", np.asarray(array)) for index, array in enumerate(arrays)]
    return predictor.call("predict", inputs, {})


def expected_of(model: nn.Module, *arrays, dtype=torch.float32) -> np.ndarray:
    """Run the model in this process, as a notebook does."""
    with torch.inference_mode():
        return model.eval()(*(torch.tensor(array, dtype=dtype) for array in arrays)).numpy()


def traced(model: nn.Module, path):
    """Trace a model of two inputs into a file."""
    torch.jit.trace(model.eval(), PAIR).save(str(path))
    return path


PAIR = (torch.zeros(2, 2), torch.zeros(2, 2))
ONE_PAIR = (torch.zeros(1, 2), torch.zeros(1, 2))


def exported(model: nn.Module, path, *examples, train: bool = False, **options):
    """Export a model into a file."""
    program = torch.export.export(model.train(train), examples, **options)
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """Make the model that most files here hold."""
    torch.manual_seed(0)
    return Scorer().eval()


@pytest.fixture(scope="module")
def exported_scorer(scorer, tmp_path_factory):
    """Export the scorer for any number of rows."""
    path = tmp_path_factory.mktemp("exported") / "scorer.pt2"
    return exported(scorer, path, torch.zeros(4, 3), dynamic_shapes=({0: ROWS},))


@pytest.fixture(scope="module")
def exported_one_row(scorer, tmp_path_factory):
    """Export the scorer for exactly one row."""
    path = tmp_path_factory.mktemp("one_row") / "scorer.pt2"
    return exported(scorer, path, torch.zeros(1, 3))


@pytest.fixture
def saved(tmp_path):
    """Write an object with torch.save."""

    def write(content: object, name: str = "model.pt", **options):
        path = tmp_path / name
        torch.save(content, path, **options)
        return path

    return write


def scripted(model: nn.Module, path):
    """Script a model into a file."""
    torch.jit.save(torch.jit.script(model), str(path))
    return path


def test_an_exported_program_answers_as_its_model(exported_scorer, scorer):
    """A .pt2 with an open first dimension answers any number of rows exactly as in the notebook."""
    predictor = opened(exported_scorer)

    for rows in (X, X[:1]):
        (came,) = answer(predictor, rows)
        assert np.float32 == came.dtype
        assert np.array_equal(expected_of(scorer, rows), came)


def test_an_exported_program_says_what_it_takes_and_gives(exported_scorer):
    """Names, datatypes and shapes come from the archive, for both names of the method."""
    predictor = opened(exported_scorer)

    assert ["predict", "forward"] == list(predictor.methods)
    for signature in predictor.methods.values():
        assert (TensorSpec("features", "FP32", (-1, 3)),) == signature.inputs
        assert (TensorSpec("output-0", "FP32", (-1, 2)),) == signature.outputs
        assert signature.rowwise
    assert {"device": "cpu", "file": "a torch.export archive"} == predictor.metadata


def test_one_row_programs_run_row_by_row(exported_one_row, scorer):
    """A program exported for exactly one row still serves any number of them."""
    predictor = opened(exported_one_row)

    assert (-1, 3) == predictor.methods["predict"].inputs[0].shape
    assert (-1, 2) == predictor.methods["predict"].outputs[0].shape
    for rows in (X, X[:1]):
        assert np.allclose(expected_of(scorer, rows), answer(predictor, rows)[0], atol=1e-7)


def test_one_row_programs_take_equally_many_rows(tmp_path):
    """Inputs of a program for one row go through it together, so they have as many rows."""
    program = torch.export.export(Several(), (torch.zeros(1, 2), torch.zeros(1, 2)))
    torch.export.save(program, tmp_path / "m.pt2")
    predictor = opened(tmp_path / "m.pt2")

    totals = answer(predictor, [[1, 2], [0, 0]], [[2, 1], [0, 0]])[0]
    assert [[3.0, 3.0], [0.0, 0.0]] == totals.tolist()
    with pytest.raises(InvalidInput, match=r"number of rows: 't0' \[2, 2\], 't1' \[1, 2\]"):
        answer(predictor, [[1, 2], [0, 0]], [[2, 1]])


def test_a_program_for_four_rows_refuses_five(scorer, tmp_path):
    """Any other fixed number of rows is refused with the line that exports for all."""
    predictor = opened(exported(scorer, tmp_path / "m.pt2", torch.zeros(4, 3)))

    with pytest.raises(InvalidInput) as caught:
        answer(predictor, X)
    assert (
        "input 't0' has shape [5, 3]; the model expects [4, 3], the only number of rows of "
        "its export; for any number: torch.export.save(torch.export.export(model.eval(), "
        "(example,), dynamic_shapes=({0: torch.export.Dim('n')},)), 'model.pt2')"
    ) == str(caught.value)
    assert (4, 2) == answer(predictor, X[:4])[0].shape


def test_a_scripted_module_answers_as_its_model(scorer, tmp_path):
    """TorchScript, scripted, answers as in the notebook, with its dropout off."""
    module = torch.jit.script(Scorer().train())
    module.load_state_dict(scorer.state_dict())
    torch.jit.save(module, str(tmp_path / "m.pt"))
    predictor = opened(tmp_path / "m.pt")

    assert (TensorSpec("features", "FP32", None),) == predictor.methods["predict"].inputs
    assert np.array_equal(expected_of(scorer, X), answer(predictor, X)[0])


def test_a_traced_module_answers_as_its_model(scorer, tmp_path):
    """TorchScript, traced, answers as in the notebook."""
    torch.jit.save(torch.jit.trace(scorer, torch.zeros(2, 3)), str(tmp_path / "m.pth"))

    assert np.array_equal(expected_of(scorer, X), answer(opened(tmp_path / "m.pth"), X)[0])


@pytest.mark.parametrize("name", ["model.pkl", "model.bin", "model.onnx", "model"])
def test_the_content_decides_the_kind_of_a_file(exported_scorer, scorer, saved, tmp_path, name):
    """Whatever a file is called, each of the three kinds is found from what it holds."""
    copied = tmp_path / name
    copied.write_bytes(exported_scorer.read_bytes())
    assert "a torch.export archive" == opened(copied).metadata["file"]

    assert "a TorchScript file" == opened(scripted(scorer, copied)).metadata["file"]

    state_dict = saved(Autoencoder().state_dict(), name)
    assert "a torch.save file" == opened(state_dict).metadata["file"]


@pytest.mark.parametrize(
    "kinds",
    [
        {},
        {"num_layers": 2},
        {"num_layers": 3, "bias": False},
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_an_lstm_autoencoder_is_rebuilt_from_its_tensors(saved, kinds, last):
    """Sizes, layers, biases come from the tensors; either way to feed the decoder is exact."""
    torch.manual_seed(1)
    model = Autoencoder(3, 4, last, **kinds)
    options = {"decoder_input": "last"} if last else {}
    predictor = opened(saved(model.state_dict()), **options)

    sequences = np.random.default_rng(3).normal(size=(4, 6, 3))
    assert np.array_equal(expected_of(model, sequences), answer(predictor, sequences)[0])
    expected = {
        "device": "cpu",
        "file": "a torch.save file",
        "architecture": "lstm_autoencoder",
        "decoder_input": "last" if last else "sequence",
        "input_size": 3,
        "hidden_size": 4,
        "num_layers": kinds.get("num_layers", 1),
    }
    assert expected == predictor.metadata


def test_an_lstm_autoencoder_may_be_bidirectional_or_projected(saved):
    """Two directions and projections are read from the tensors too."""
    for encoder, decoder in (
        (nn.LSTM(4, 3, bidirectional=True), nn.LSTM(6, 2, bidirectional=True)),
        (nn.LSTM(4, 6, 2, proj_size=2), nn.LSTM(2, 5, proj_size=4)),
    ):
        model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
        predictor = opened(saved(model.state_dict()))
        sequences = np.random.default_rng(3).normal(size=(2, 5, 4)).astype(np.float32)
        with torch.inference_mode():
            by_step = torch.from_numpy(sequences).transpose(0, 1)
            expected = decoder(encoder(by_step)[0])[0].transpose(0, 1).numpy()

        assert np.allclose(expected, answer(predictor, sequences)[0], atol=1e-7)


def test_an_lstm_autoencoder_keeps_its_precision(saved):
    """Double weights take and give FP64."""
    model = Autoencoder().double()
    predictor = opened(saved(model.state_dict()))

    (came,) = answer(predictor, X[:, np.newaxis])
    assert "FP64" == predictor.methods["predict"].inputs[0].datatype
    assert np.float64 == came.dtype
    assert np.array_equal(expected_of(model, X[:, np.newaxis], dtype=torch.float64), came)


def test_rows_are_sequences_of_length_one(saved):
    """Rows [n, f] answer rows, equal to sequences of one step, whichever way the decoder is fed."""
    model = Autoencoder()
    path = saved(model.state_dict())

    for decoder_input in ("sequence", "last"):
        predictor = opened(path, decoder_input=decoder_input)
        (rows,) = answer(predictor, X)
        assert (5, 3) == rows.shape
        assert np.array_equal(expected_of(model, X[:, np.newaxis])[:, 0], rows)
        assert np.array_equal(answer(predictor, X[:, np.newaxis])[0][:, 0], rows)


def test_option_sequence_decides_whether_rows_are_sequences(tmp_path):
    """Without it a recurrent program takes rows; false takes sequences alone, true adds steps."""
    path = exported(
        Autoencoder().eval(), tmp_path / "m.pt2", torch.zeros(4, 1, 3), dynamic_shapes=({0: ROWS},)
    )
    flat = exported(
        nn.Conv1d(1, 2, 1).eval(),
        tmp_path / "c.pt2",
        torch.zeros(4, 1, 3),
        dynamic_shapes=({0: ROWS},),
    )

    assert opened(path).methods["predict"].inputs[0].shape is None
    assert (5, 2, 3) == answer(opened(flat, sequence=True), X)[0].shape
    for predictor in (opened(path, sequence=False), opened(flat)):
        with pytest.raises(
            InvalidInput, match=r"has shape \[5, 3\]; the model expects \[-1, 1, 3\]$"
        ):
            answer(predictor, X)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: OrderedDict((f"module.{k}", v) for k, v in tensors.items()),
        lambda tensors: {f"_orig_mod.module.{k}": v for k, v in tensors.items()},
        lambda tensors: {"model_state_dict": tensors, "epoch": 3, "loss": np.float64(0.5)},
        lambda tensors: {"state_dict": {f"model.{k}": v for k, v in tensors.items()}},
        lambda tensors: {"model": tensors, "mean": np.zeros(3), "optimizer": {"state": {}}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_opens_as_its_state_dict(saved, wrap, zipped):
    """Wrappers' prefixes, the usual checkpoint dicts and torch's old file format open alike."""
    model = Autoencoder()
    path = saved(wrap(model.state_dict()), _use_new_zipfile_serialization=zipped)

    assert np.array_equal(expected_of(model, X[:, np.newaxis])[:, 0], answer(opened(path), X)[0])


def test_no_rows_give_no_rows(exported_scorer, exported_one_row, scorer, saved, tmp_path):
    """Zero rows in, zero rows out, with the other dimensions and the datatype as ever."""
    script = scripted(scorer, tmp_path / "s.pt")
    for path in (exported_scorer, exported_one_row, script):
        (came,) = answer(opened(path), X[:0])
        assert ((0, 2), np.float32) == (came.shape, came.dtype)

    predictor = opened(saved(Autoencoder().state_dict()))
    assert (0, 3) == answer(predictor, X[:0])[0].shape
    assert (0, 7, 3) == answer(predictor, np.zeros((0, 7, 3)))[0].shape


def test_nan_passes_through(exported_scorer):
    """A NaN makes its own row NaN and no other."""
    rows = X.copy()
    rows[1, 0] = np.nan
    (came,) = answer(opened(exported_scorer), rows)

    assert [False, True, False, False, False] == np.isnan(came).all(axis=1).tolist()


@pytest.mark.parametrize("write", [lambda m, p: exported(m, p, *ONE_PAIR), traced])
def test_several_outputs_come_in_order(tmp_path, write):
    """A tuple gives its tensors in order, whatever is nested in it; bfloat16 becomes FP32."""

    class Tuples(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor):
            return a + b, (a.to(torch.bfloat16), a > b)

    predictor = opened(write(Tuples(), tmp_path / "m"))
    total, half, above = called(predictor, [[1.0, 2.0]], [[2.0, 1.0]])

    assert [[3.0, 3.0]] == total.tolist()
    assert ([[1.0, 2.0]], np.float32) == (half.tolist(), half.dtype)
    assert ([[False, True]], np.bool_) == (above.tolist(), above.dtype)


def test_an_exported_program_declares_what_is_nested_in_its_outputs(tmp_path):
    """A nested output has the path to it as its name; None is left out."""
    predictor = opened(exported(Several(), tmp_path / "m.pt2", *ONE_PAIR))
    outputs = called(predictor, [[1.0, 2.0]], [[2.0, 1.0]])

    declared = {spec.name: spec.datatype for spec in predictor.methods["predict"].outputs}
    assert {"total": "FP32", "half-0": "FP32", "half-1-1": "BOOL"} == declared
    assert list(declared) == list(outputs)
    assert [[False, True]] == outputs["half-1-1"].tolist()


def test_a_script_gives_the_keys_of_a_dict_as_names(tmp_path):
    """A dict that a TorchScript program returns keeps its keys and all its tensors."""

    class Ranks(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"best": x.argmax(1), "sorted": x.sort(1)[0]}

    outputs = called(opened(scripted(Ranks(), tmp_path / "m.pt")), X)

    assert ["best", "sorted"] == list(outputs)
    assert np.array_equal(X.argmax(axis=1), outputs["best"])
    assert np.allclose(np.sort(X, axis=1), outputs["sorted"])


def test_numbers_among_the_outputs_become_arrays(tmp_path):
    """A script may return plain numbers beside tensors; text it may not."""

    class Numbers(nn.Module):
        def forward(self, x: torch.Tensor):
            return x, x.size(0), 0.5, x.sum().item() > 0

    class Text(nn.Module):
        def forward(self, x: torch.Tensor):
            return x, "text"

    predictor = opened(scripted(Numbers(), tmp_path / "n.pt"), rows="dependent")
    _, count, half, positive = answer(predictor, [1.0, 2.0])
    assert [2, 0.5, True] == [count.item(), half.item(), positive.item()]
    with pytest.raises(TypeError, match="the model returned a str; expected tensors or numbers"):
        answer(opened(scripted(Text(), tmp_path / "t.pt")), [1.0])


def test_outputs_that_no_datatype_holds_are_the_models_failure(tmp_path):
    """Complex numbers have no datatype in the protocol; numbers of 8 bits become FP32."""

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor):
            return x.to(torch.float8_e4m3fn), torch.complex(x, x)

    path = exported(Odd(), tmp_path / "m.pt2", torch.zeros(2))

    with pytest.raises(TypeError, match=r"a tensor of torch\.complex64, which has no datatype"):
        answer(opened(path), [1.0, 2.0])


def test_a_dict_of_outputs_gives_its_keys_as_names(tmp_path):
    """The keys of a dict that a program returns are the outputs' names."""

    class Named(nn.Module):
        def forward(self, x: torch.Tensor):
            return {"label": (x > 0).long(), "score": x}

    path = exported(Named(), tmp_path / "m.pt2", torch.zeros(2, 3), dynamic_shapes=({0: ROWS},))

    assert (
        TensorSpec("label", "INT64", (-1, 3)),
        TensorSpec("score", "FP32", (-1, 3)),
    ) == opened(path).methods["predict"].outputs


def test_a_program_with_keyword_inputs_takes_them_by_position(tmp_path):
    """Inputs that were exported by keyword are given in the archive's order."""
    program = torch.export.export(Several(), (torch.ones(1, 2),), {"b": torch.ones(1, 2)})
    torch.export.save(program, tmp_path / "m.pt2")

    predictor = opened(tmp_path / "m.pt2")
    assert ["a", "b"] == [spec.name for spec in predictor.methods["predict"].inputs]
    assert [[6.0, 4.0]] == answer(predictor, [[2.0, 1.0]], [[4.0, 3.0]])[0].tolist()


@pytest.mark.parametrize("kind", ["exported", "scripted", "traced"])
def test_whole_numbers_stay_whole_where_the_model_wants_them(tmp_path, kind):
    """An input that indexes an embedding is INT64, beside a floating-point one."""
    model = Embedded().eval()
    ids, shift = np.array([4, 0]), np.array([[0.5, 0.5, 0.5], [1, 1, 1]])
    if kind == "exported":
        path = exported(model, tmp_path / "m", torch.tensor([1, 2]), torch.zeros(2, 3))
    elif kind == "scripted":
        path = scripted(model, tmp_path / "m")
    else:
        path = tmp_path / "m"
        torch.jit.save(torch.jit.trace(model, (torch.tensor([1, 2]), torch.zeros(2, 3))), str(path))
    predictor = opened(path)

    assert ["INT64", "FP32"] == [spec.datatype for spec in predictor.methods["predict"].inputs]
    weight = model.embedding.weight.detach().numpy()
    expected = weight[ids] + shift.astype(np.float32)
    assert np.array_equal(expected, answer(predictor, ids, shift)[0])
    assert np.array_equal(expected, answer(predictor, ids.astype(np.float64), shift)[0])
    with pytest.raises(InvalidInput, match=r"has the value 0\.5, which is not a valid INT64"):
        answer(predictor, [0.5, 1], shift)
    with pytest.raises(InvalidInput, match="index out of range in self"):
        answer(predictor, [5, 0], shift)


def test_option_datatypes_says_what_a_script_takes(tmp_path):
    """Where the graph does not tell, the option does."""

    class Table(nn.Module):
        def forward(self, index: torch.Tensor) -> torch.Tensor:
            return torch.arange(10.0)[index]

    path = scripted(Table(), tmp_path / "m.pt")

    assert [3.0, 7.0] == answer(opened(path, datatypes=["INT64"]), [3, 7])[0].tolist()


def test_any_number_becomes_what_the_model_takes(exported_scorer, scorer):
    """Whole numbers, doubles, truths and big-endian or read-only arrays all convert."""
    predictor = opened(exported_scorer)
    whole = np.array([[1, 0, 1]])
    frozen = whole.astype(">f8")
    frozen.flags.writeable = False

    for rows in (whole, whole.astype(np.uint8), whole.astype(bool), frozen, whole.T.copy().T):
        assert np.array_equal(expected_of(scorer, whole), answer(predictor, rows)[0])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([["a", "b", "c"]], object), "has datatype BYTES; the model expects FP32"),
        (np.array([[1e300, 0, 0]]), "has the value 1e+300, which is not a valid FP32"),
        (np.zeros((5, 4)), "has shape [5, 4]; the model expects [-1, 3]"),
        (np.zeros(3), "has shape [3]; the model expects [-1, 3]"),
        (np.zeros((1, 5, 3)), "has shape [1, 5, 3]; the model expects [-1, 3]"),
    ],
)
def test_an_exported_program_refuses_what_does_not_fit(exported_scorer, rows, message):
    """Text, numbers beyond FP32 and other shapes are the caller's error before the model runs."""
    with pytest.raises(InvalidInput) as caught:
        answer(opened(exported_scorer), rows)

    assert f"input 't0' {message}" == str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            np.zeros((5, 4)),
            "input 't0' has shape [5, 4]; the model expects [-1, -1, 3], or rows [-1, 3]",
        ),
        (
            np.zeros((5, 2, 4)),
            "input 't0' has shape [5, 2, 4]; the model expects [-1, -1, 3], or rows [-1, 3]",
        ),
        (np.zeros(3), "input 't0' has shape [3]; the model expects [-1, -1, 3], or rows [-1, 3]"),
        (
            np.zeros((5, 0, 3)),
            "the model rejects inputs 't0' [5, 0, 3]: Expected sequence length to be larger "
            "than 0 in RNN",
        ),
    ],
)
def test_an_lstm_autoencoder_refuses_what_does_not_fit(saved, rows, message):
    """Another number of features, another rank or no steps are the caller's error, with shapes."""
    with pytest.raises(InvalidInput) as caught:
        answer(opened(saved(Autoencoder().state_dict())), rows)

    assert message == str(caught.value)


def test_a_script_that_refuses_a_shape_is_the_callers_error(scorer, tmp_path):
    """TorchScript knows no shapes; what torch says about one is told in a line, no traceback."""
    predictor = opened(scripted(scorer, tmp_path / "m.pt"))

    with pytest.raises(InvalidInput) as caught:
        answer(predictor, np.zeros((1, 4)))
    assert (
        "the model rejects inputs 't0' [1, 4]: mat1 and mat2 shapes cannot be multiplied "
        "(1x4 and 3x2)"
    ) == str(caught.value)


def test_a_scripted_lstm_that_refuses_a_rank_is_the_callers_error(tmp_path):
    """An error that the model's own code raises about its input's shape is told the same way."""
    predictor = opened(scripted(Autoencoder(), tmp_path / "m.pt"))

    with pytest.raises(InvalidInput) as caught:
        answer(predictor, np.zeros((1, 2, 3, 3)))
    assert (
        "the model rejects inputs 't0' [1, 2, 3, 3]: LSTM: Expected input to be 2D or 3D, got "
        "4D instead"
    ) == str(caught.value)


def test_a_range_that_the_program_was_exported_for_is_kept(scorer, tmp_path):
    """More rows than the export allows are the caller's error."""
    rows = torch.export.Dim("rows", max=4)
    path = exported(scorer, tmp_path / "m.pt2", torch.zeros(2, 3), dynamic_shapes=({0: rows},))

    with pytest.raises(InvalidInput, match=r"the model rejects inputs 't0' \[5, 3\]: .*4"):
        answer(opened(path), X)


def test_a_failure_of_the_models_own_passes_on(tmp_path):
    """What is no complaint about shapes or values is not blamed on the caller."""

    class Failing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("the weights were never trained")
            return x

    with pytest.raises(Exception, match="the weights were never trained") as caught:
        answer(opened(scripted(Failing(), tmp_path / "m.pt")), X)

    assert not isinstance(caught.value, InvalidInput)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((), "got 0 inputs: none; the model expects 'features'"),
        ((X, X), "got 2 inputs: 't0', 't1'; the model expects 'features'"),
    ],
)
def test_another_number_of_inputs_is_refused(exported_scorer, arrays, message):
    """Too few or too many inputs are refused with the names of both sides."""
    with pytest.raises(InvalidInput) as caught:
        answer(opened(exported_scorer), *arrays)

    assert message == str(caught.value)


def test_a_script_may_leave_out_an_optional_input(tmp_path):
    """An input with a default value may be missing."""

    class Shifted(nn.Module):
        def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
            return x if shift is None else x + shift

    Shifted.forward.__annotations__ = {
        "x": torch.Tensor,
        "shift": torch.jit.annotations.Optional[torch.Tensor],
        "return": torch.Tensor,
    }
    predictor = opened(scripted(Shifted(), tmp_path / "m.pt"))

    assert [False, True] == [s.optional for s in predictor.methods["predict"].inputs]
    assert [[1.0]] == answer(predictor, [[1.0]])[0].tolist()
    assert [[3.0]] == answer(predictor, [[1.0]], [[2.0]])[0].tolist()


def test_the_model_never_changes_the_callers_array(tmp_path):
    """A model that writes into its input leaves the request's tensor as it came."""
    predictor = opened(scripted(Clearing(), tmp_path / "m.pt"))
    values = np.ones((2, 2), np.float32)

    assert [[0.0, 0.0], [0.0, 0.0]] == answer(predictor, values)[0].tolist()
    assert [[1.0, 1.0], [1.0, 1.0]] == values.tolist()


def test_calls_from_several_threads_answer_alike(saved):
    """Four threads at once get the answers that one gets."""
    model = Autoencoder()
    predictor = opened(saved(model.state_dict()))
    batches = [np.random.default_rng(seed).normal(size=(8, 5, 3)) for seed in range(4)]
    start = threading.Barrier(4, timeout=30)

    def call(batch: np.ndarray) -> list[np.ndarray]:
        start.wait()
        return [answer(predictor, batch)[0] for _ in range(20)]

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(call, batches, timeout=60))

    for batch, came in zip(batches, answers, strict=True):
        assert all(np.array_equal(expected_of(model, batch), one) for one in came)


def test_a_closed_predictor_answers_no_more(exported_scorer):
    """Closing lets go of the model."""
    predictor = opened(exported_scorer)
    predictor.close()

    with pytest.raises(RuntimeError, match="the predictor is closed"):
        answer(predictor, X)


def test_a_program_exported_in_training_mode_is_refused(tmp_path):
    """A dropout or a batch norm that is still on would answer differently each time."""
    for model, operation in ((Scorer(), "dropout"), (nn.BatchNorm1d(3), "batch_norm")):
        path = exported(model, tmp_path / "m.pt2", torch.zeros(2, 3), train=True)

        with pytest.raises(LoadError, match=f"was exported in training mode: 'aten::{operation}'"):
            opened(path)


def test_training_mode_without_effect_is_no_reason_to_refuse(tmp_path):
    """An LSTM without dropout, or a batch norm without statistics, is the same in both modes."""
    sequences = X[:, np.newaxis]
    for model, rows, options in (
        (Autoencoder(), sequences, {}),
        (nn.BatchNorm1d(3, track_running_stats=False), X, {"rows": "dependent"}),
    ):
        path = exported(model, tmp_path / "m.pt2", torch.zeros(rows.shape), train=True)
        came = answer(opened(path, **options), rows)[0]

        assert np.allclose(expected_of(model, rows), came, atol=1e-6)


def test_a_program_that_changes_itself_is_refused(tmp_path):
    """A buffer that each call changes would carry one request into the next."""
    path = exported(Counting(), tmp_path / "m.pt2", torch.zeros(2, 3))

    with pytest.raises(LoadError, match="changes its own buffer 'count' with every call"):
        opened(path)


def test_a_program_from_a_gpu_opens_only_where_there_is_one(exported_scorer, tmp_path):
    """An archive whose tensors were on a GPU says so on a machine without; with one it is moved."""
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(exported_scorer) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b'{"type": "cpu"', b'{"type": "cuda"'))

    if torch.cuda.is_available():
        assert (5, 2) == answer(opened(path), X)[0].shape
    else:
        with pytest.raises(
            LoadError, match="exported on a 'cuda' device, which this machine lacks"
        ):
            opened(path)


def zip_of(path, *names: str):
    """Write an archive with these members."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "is an HDF5 file (Keras), not a PyTorch file; serve a"),
        (b"\x08\x08\x12\x07pytorch" + b"\0" * 90, "is an ONNX model, not a PyTorch file"),
        (b"\x93NUMPY\x01\0", "is a numpy array, not a PyTorch file"),
        (pickle.dumps({"a": 1}), "is a plain pickle, not a PyTorch file"),
        (b"\x80", "is of an unknown kind, not a PyTorch file"),
        (b"hello", "is of an unknown kind, not a PyTorch file"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path, content, expected):
    """A file that is not torch's is refused with what it is, in one sentence."""
    path = tmp_path / "model.pt"
    path.write_bytes(content)

    with pytest.raises(LoadError) as caught:
        opened(path)
    assert str(caught.value).startswith(f"'{path}' {expected}")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["config.json", "model.weights.h5"], "is a Keras archive without a PyTorch model"),
        (["a.npy", "b.npy"], "is an archive of numpy arrays without a PyTorch model"),
        (["readme.txt"], "is a zip archive without a PyTorch model"),
        (["m/data/aotinductor/m/x.so"], "is compiled by AOTInductor for one machine"),
        (["m/data.pkl", "m/constants.pkl"], "is a TorchScript file that torch "),
        (["m/models/model.json"], "is a torch.export archive that torch "),
        (["m/data.pkl", "m/version"], "is a torch.save file that cannot be read: "),
    ],
)
def test_zip_archives_of_other_kinds_are_named(tmp_path, names, expected):
    """An archive is known by its members; one that only looks like torch's is refused too."""
    path = tmp_path / "model.pt"
    zip_of(path, *names)

    with pytest.raises(LoadError) as caught:
        opened(path)
    assert str(caught.value).startswith(f"'{path}' {expected}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["exported", "scripted", "weights"])
def test_a_truncated_file_is_named(exported_scorer, scorer, saved, tmp_path, kind):
    """Half a file is refused as damaged, whatever it was."""
    source = {
        "exported": lambda: exported_scorer,
        "scripted": lambda: scripted(scorer, tmp_path / "whole.pt"),
        "weights": lambda: saved(Autoencoder().state_dict()),
    }[kind]()
    path = tmp_path / "half.pt"
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])

    with pytest.raises(LoadError, match=r"half\.pt' is a damaged zip archive: .*; copy it again"):
        opened(path)


def test_a_truncated_legacy_file_is_named(saved, tmp_path):
    """Half a file in torch's old format is refused as well."""
    whole = saved(Autoencoder().state_dict(), _use_new_zipfile_serialization=False)
    path = tmp_path / "half.pt"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])

    with pytest.raises(LoadError, match=r"half\.pt' is a torch\.save file that cannot be read"):
        opened(path)


def test_a_missing_file_or_a_directory_is_named(tmp_path):
    """What cannot be opened is a LoadError like any other."""
    with pytest.raises(LoadError, match=r"gone\.pt' cannot be read: No such file or directory"):
        opened(tmp_path / "gone.pt")
    with pytest.raises(LoadError, match="cannot be read: Is a directory"):
        opened(tmp_path)


class Bomb:
    """Leaves a mark when a pickle of it is opened."""

    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return (type(self.mark).touch, (self.mark,))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_pickled_module_is_refused_by_its_class(saved, zipped, protocol):
    """torch.save(model) needs the class's code: refused with its name and what to do instead."""
    path = saved(Scorer(), _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)

    with pytest.raises(LoadError) as caught:
        opened(path)
    message = str(caught.value)
    assert message.startswith(
        f"'{path}' has a pickled object of class '{__name__}.Scorer', whose code is not in the file"
    )
    assert "model.state_dict()" in message
    assert "torch.export.save(torch.export.export(" in message
    assert "torch.jit.script" in message


def test_nothing_in_a_pickle_runs(saved, tmp_path):
    """A file of torch.save that would run code on opening is refused and does not run it."""
    mark = tmp_path / "mark"
    path = saved({"model_state_dict": Autoencoder().state_dict(), "bomb": Bomb(mark)})

    with pytest.raises(LoadError, match=r"a pickled object of class 'builtins.getattr'"):
        opened(path)
    assert not mark.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_of_another_pickle_protocol_is_refused(saved, zipped):
    """Tensors alone are read in protocol 2 only; torch's advice to run the file is kept back."""
    options = {"pickle_protocol": 4, "_use_new_zipfile_serialization": zipped}
    path = saved(Autoencoder().state_dict(), **options)

    with pytest.raises(LoadError) as caught:
        opened(path)
    assert (
        f"'{path}' is a torch.save file that cannot be read: it is damaged, or not of pickle "
        "protocol 2; copy it again, or save it again with torch.save(model.state_dict(), …)"
    ) == str(caught.value)


def test_numbers_of_numpy_of_another_age_are_read_too(saved):
    """Checkpoints of numpy 1 and 2 name numpy's functions differently; either opens."""
    path = saved({"model": Autoencoder().state_dict(), "loss": np.float64(1), "mean": np.zeros(2)})
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    ages = [b"numpy._core.multiarray", b"numpy.core.multiarray"]
    ours = next(age for age in ages if age in members["model/data.pkl"])
    ages.remove(ours)
    with zipfile.ZipFile(path, "w") as target:
        for name, member in members.items():
            target.writestr(name, member.replace(ours, ages[0]))

    assert (5, 3) == answer(opened(path), X)[0].shape


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            torch.zeros(3),
            "has a Tensor; expected a state dict, or a checkpoint that has one under",
        ),
        ([torch.zeros(3)], "has a list; expected a state dict"),
        ({}, "has a dict with no keys; expected a state dict"),
        ({"epoch": 3, "loss": 0.5}, "has a dict with 'epoch', 'loss'; expected a state dict"),
        (
            nn.Linear(2, 2).state_dict(),
            "is a state dict with 'weight', 'bias'; expected a 'lstm_autoencoder'",
        ),
        (
            {**Autoencoder().state_dict(), "output.weight": torch.zeros(1)},
            "is a state dict with 'encoder.weight_ih_l0', 'encoder.weight_hh_l0'",
        ),
    ],
)
def test_a_file_without_a_known_state_dict_is_refused(saved, content, expected):
    """Bare tensors, empty dicts and unknown keys are named; the way out is to export."""
    path = saved(content)

    with pytest.raises(LoadError) as caught:
        opened(path)
    assert str(caught.value).startswith(f"'{path}' {expected}")


def tensors_of(encoder: nn.Module, decoder: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict of an autoencoder made of these parts."""
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder}).state_dict()


def without(tensors: dict[str, torch.Tensor], *keys: str) -> dict[str, torch.Tensor]:
    """Leave keys out of a state dict."""
    return {key: value for key, value in tensors.items() if key not in keys}


@pytest.mark.parametrize(
    ("tensors", "options", "expected"),
    [
        (
            tensors_of(nn.GRU(3, 4), nn.GRU(4, 3)),
            {},
            "'encoder.weight_ih_l0' has 12 rows for 4 hidden units, those of an nn.GRU; an nn.LSTM "
            "has 4 per unit",
        ),
        (
            tensors_of(nn.LSTM(3, 4), nn.RNN(4, 3)),
            {},
            "'decoder.weight_ih_l0' has 3 rows for 3 hidden units, those of an nn.RNN; an nn.LSTM",
        ),
        (
            tensors_of(nn.LSTM(3, 4), nn.LSTM(5, 3)),
            {},
            "the decoder expects 5 values per step, the encoder returns 4",
        ),
        (
            tensors_of(nn.LSTM(3, 4), nn.LSTM(4, 2)),
            {},
            "the decoder returns 2 values per step, the encoder expects 3; the two must be equal",
        ),
        (
            tensors_of(nn.LSTM(3, 4, bidirectional=True), nn.LSTM(4, 3)),
            {},
            "the decoder expects 4 values per step, the encoder returns 8; options.decoder_input "
            "'last' fits",
        ),
        (
            without(tensors_of(nn.LSTM(3, 4), nn.LSTM(4, 3)), "encoder.bias_hh_l0"),
            {},
            "'encoder.*' are not the tensors of one nn.LSTM: ",
        ),
        (
            without(tensors_of(nn.LSTM(3, 4), nn.LSTM(4, 3)), "decoder.weight_hh_l0"),
            {},
            "'decoder.weight_*_l0' are not the matrices of an nn.LSTM",
        ),
        (
            {**Autoencoder().state_dict(), "encoder.weight_ih_l999999999": torch.zeros(16, 4)},
            {},
            "'encoder.*' are not the tensors of one nn.LSTM: ",
        ),
        (
            {**Autoencoder().state_dict(), "encoder.weight_ih_l0": torch.zeros(16)},
            {},
            "'encoder.weight_*_l0' are not the matrices of an nn.LSTM",
        ),
        (
            {**Autoencoder().state_dict(), "encoder.bias_ih_l0": torch.zeros(16).half()},
            {},
            "the tensors of 'encoder' do not share one floating-point dtype",
        ),
        (
            {**Autoencoder().state_dict(), "output.weight": torch.zeros(1)},
            {"architecture": "lstm_autoencoder"},
            "it has 'output.weight', which is not a tensor of an nn.LSTM",
        ),
        (
            Autoencoder().state_dict(),
            {"decoder_input": "first"},
            "options.decoder_input is 'first'; expected one of 'sequence', 'last'",
        ),
        (
            Autoencoder().state_dict(),
            {"hidden_size": 64},
            "options.hidden_size is 64; the tensors have 4",
        ),
    ],
)
def test_tensors_that_are_no_lstm_autoencoder_are_refused(saved, tensors, options, expected):
    """Each way in which tensors contradict the architecture has its own sentence."""
    path = saved(tensors)

    with pytest.raises(LoadError) as caught:
        opened(path, **options)
    assert str(caught.value).startswith(f"'{path}' is not a valid 'lstm_autoencoder': {expected}")
    assert "\n" not in str(caught.value)


def test_sizes_in_the_options_may_repeat_what_the_tensors_say(saved):
    """Options that agree with the file are no problem."""
    path = saved(Autoencoder(3, 4).state_dict())
    predictor = opened(
        path, architecture="lstm_autoencoder", input_size=3, hidden_size=4, num_layers=1
    )

    assert (5, 3) == answer(predictor, X)[0].shape


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"architecture": "lstm_autoencodr"},
            "'{path}': options.architecture is 'lstm_autoencodr'; expected one of "
            "'lstm_autoencoder'; did you mean 'lstm_autoencoder'?",
        ),
        (
            {"architecture": 3},
            "'{path}': options.architecture is 3; expected one of 'lstm_autoencoder'",
        ),
        ({"sequence": "yes"}, "'{path}': options.sequence is 'yes'; expected true or false"),
        (
            {"decoder_inputs": "last"},
            "'{path}' (a torch.save file): options.decoder_inputs is not a known option; did you "
            "mean 'decoder_input'?",
        ),
        (
            {"datatypes": ["FP32"]},
            "'{path}' (a torch.save file): options.datatypes is not a known option",
        ),
        (
            {"device": "gpu"},
            "'{path}': device is 'gpu'; expected 'cpu', 'cuda', 'cuda:1' or 'auto'",
        ),
        ({"device": 0}, "'{path}': device is 0; expected 'cpu', 'cuda', 'cuda:1' or 'auto'"),
    ],
)
def test_wrong_options_are_refused(saved, options, expected):
    """An unknown option, or a value that means nothing, is named with what is known."""
    path = saved(Autoencoder().state_dict())

    with pytest.raises(LoadError) as caught:
        opened(path, **options)
    assert str(caught.value).startswith(expected.format(path=path))


@pytest.mark.parametrize("datatypes", [["INT64", "FP32"], ["STRING"], "FP32", [["FP32"]], 3])
def test_wrong_datatypes_are_refused(scorer, tmp_path, datatypes):
    """There is one known datatype per input of a script."""
    path = scripted(scorer, tmp_path / "m.pt")

    with pytest.raises(LoadError, match="expected 1, one per input, of 'BOOL', 'UINT8'"):
        opened(path, datatypes=datatypes)


def test_a_script_that_takes_no_tensors_is_refused(tmp_path):
    """Only tensors can be sent, so an input of another type is refused when the file opens."""

    class Repeated(nn.Module):
        def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
            return x * times

    Repeated.forward.__annotations__ = {"x": torch.Tensor, "times": int, "return": torch.Tensor}
    path = scripted(Repeated(), tmp_path / "m.pt")

    with pytest.raises(
        LoadError, match="expects int for its input 'times'; only tensors are supported"
    ):
        opened(path)


def test_a_device_that_is_absent_is_refused(saved):
    """Naming a GPU that is not there is an error, from the option and from the server alike."""
    path = saved(Autoencoder().state_dict())
    absent = f"cuda:{torch.cuda.device_count()}"

    expected = f"'{path}': device is '{absent}', but torch {torch.__version__} finds"
    for call in (lambda: opened(path, device=absent), lambda: opened(path, absent)):
        with pytest.raises(LoadError) as caught:
            call()
        assert str(caught.value).startswith(expected)


def test_auto_is_whatever_is_there(saved):
    """Device auto is a GPU where there is one, else the CPU; the option overrides the server."""
    path = saved(Autoencoder().state_dict())
    expected = "cuda" if torch.cuda.is_available() else "cpu"

    assert expected == opened(path, device="auto").metadata["device"]
    context = LoadContext({"device": "cpu"}, "cuda:99")
    assert "cpu" == framework.load(path, context).metadata["device"]


def test_save_writes_an_exported_program(exported_scorer, scorer, tmp_path):
    """An exported program becomes a .pt2 that answers alike."""
    path, options = framework.save(torch.export.load(exported_scorer), tmp_path, "model")

    assert (tmp_path / "model.pt2", {}) == (path, options)
    assert np.array_equal(expected_of(scorer, X), answer(opened(path), X)[0])


def test_save_writes_a_scripted_module(scorer, tmp_path):
    """A scripted module becomes a .pt that answers alike."""
    path, options = framework.save(torch.jit.script(scorer), tmp_path, "model")

    assert (tmp_path / "model.pt", {}) == (path, options)
    assert np.array_equal(expected_of(scorer, X), answer(opened(path), X)[0])


@pytest.mark.parametrize("last", [False, True])
def test_save_writes_an_lstm_autoencoder_with_its_options(tmp_path, last):
    """A module that answers as the known architecture becomes a state dict, itself unchanged."""
    model = Autoencoder(last=last, num_layers=2, dropout=0.5).train()
    path, options = framework.save(model, tmp_path, "autoencoder")

    assert tmp_path / "autoencoder.pt" == path
    assert {
        "architecture": "lstm_autoencoder",
        "decoder_input": "last" if last else "sequence",
    } == options
    assert model.training
    sequences = np.random.default_rng(3).normal(size=(4, 6, 3))
    came = answer(opened(path, **options), sequences)[0]
    assert np.array_equal(expected_of(model, sequences), came)


@pytest.mark.parametrize(
    "make",
    [Scorer, Offset, lambda: nn.ModuleDict({"encoder": nn.LSTM(3, 4), "decoder": nn.LSTM(4, 3)})],
)
def test_save_refuses_a_module_that_needs_its_code(tmp_path, make):
    """Any other module is refused with the line that exports it, and nothing is written."""
    with pytest.raises(StoreError) as caught:
        framework.save(make(), tmp_path, "model")

    assert "whose code the server does not have; save the exported program instead: " in str(
        caught.value
    )
    assert "torch.export.export(model.eval(), (example,)" in str(caught.value)
    assert [] == list(tmp_path.iterdir())


def test_save_refuses_a_program_in_training_mode(tmp_path):
    """What load would refuse is not written."""
    program = torch.export.export(Scorer().train(), (torch.zeros(2, 3),))

    with pytest.raises(StoreError, match="component 'model' was exported in training mode"):
        framework.save(program, tmp_path, "model")


def test_save_refuses_what_is_not_torchs(tmp_path):
    """A plain object is no module."""
    with pytest.raises(StoreError, match=r"'model' is a dict; expected a torch\.nn\.Module"):
        framework.save({}, tmp_path, "model")


def test_save_names_the_file_that_it_cannot_write(tmp_path):
    """A directory that is not there is the store's error."""
    with pytest.raises(StoreError, match=r"missing/model\.pt' cannot be written: "):
        framework.save(Autoencoder(), tmp_path / "missing", "model")


class Ends:
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return sys.exit, ("ran",)


@pytest.mark.parametrize("name", ["net.pkl", "net.pickle", "net.pt", "net.joblib.gz"])
def test_a_pickled_state_dict_opens_as_the_saved_one(tmp_path, name):
    """What pickle or joblib wrote of a state dict answers as the module that it came from."""
    module = Autoencoder().eval()
    data = pickle.dumps({"epoch": 3, "model_state_dict": module.state_dict()})
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)

    assert ("torch", "model") == framework_of_file(tmp_path / name)
    predictor = framework.load(tmp_path / name, LoadContext())
    (answer,) = predictor.call("predict", [NamedTensor("x", X)], {})

    with torch.inference_mode():
        expected = module(torch.tensor(X, dtype=torch.float32)[:, None])
    np.testing.assert_allclose(expected.numpy(), np.reshape(answer, expected.shape), rtol=1e-5)


def test_a_pickled_state_dict_runs_no_code(tmp_path):
    """Whatever else a pickle names, and whatever bytes it has for a tensor, nothing of it runs."""
    state = Autoencoder().state_dict()
    bytes_of_storage = torch.storage._load_from_bytes
    path = tmp_path / "net.pt"

    class Bytes:
        def __reduce__(self):
            return bytes_of_storage, (pickle.dumps(Ends()),)

    for bad in ({**state, "encoder.extra": Ends()}, {**state, "encoder.extra": Bytes()}):
        path.write_bytes(pickle.dumps(bad))

        with pytest.raises(LoadError):
            framework.load(path, LoadContext())


@pytest.mark.parametrize(
    ("held", "found"),
    [
        ({"mean": torch.ones(3), "std": torch.ones(3)}, None),
        (torch.ones(3), None),
        ([torch.ones(3)], None),
        (nn.Linear(2, 1), ("torch", "model")),
        (nn.Linear(2, 1).state_dict(), ("torch", "model")),
    ],
    ids=["tensors by name", "tensor", "list", "module", "state dict"],
)
def test_tensors_are_data_and_a_modules_tensors_are_not(tmp_path, held, found):
    """Means and deviations in a pickle are data; the tensors of a module are its state dict."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(held))

    assert found == framework_of_file(tmp_path / "a.pkl")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ["net.pkl", "last.ckpt", "best.pth.tar"])
def test_what_torch_saved_is_torchs_under_any_name(tmp_path, name, new):
    """The content says that torch wrote a file, in either of its formats."""
    torch.save(Autoencoder().state_dict(), tmp_path / name, _use_new_zipfile_serialization=new)

    assert ("torch", "model") == framework_of_file(tmp_path / name)
    assert "predict" in framework.load(tmp_path / name, LoadContext()).methods
