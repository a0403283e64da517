from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.torch import framework
from bundleserver.tensors import NamedTensor

FEATURES = 5
ROWS = np.random.default_rng(11).normal(size=(4, FEATURES)).astype(np.float32)
SEQUENCES = np.random.default_rng(12).normal(size=(3, 6, FEATURES)).astype(np.float32)
MANY = torch.export.Dim("many")


class Network(nn.Module):
    """A recurrent network with a linear head on every step, or on the last one."""

    def __init__(self, cell: type[nn.RNNBase], batch_first: bool, last: bool) -> None:
        super().__init__()
        self.cell = cell(FEATURES, 4, batch_first=batch_first)
        self.head = nn.Linear(4, 2)
        self.batch_first = batch_first
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.cell(x)[0]
        if self.last:
            hidden = hidden[:, -1] if self.batch_first else hidden[-1]
        return self.head(hidden)

    def expected(self, sequences: np.ndarray) -> np.ndarray:
        """Run sequences [n, t, f], whichever axis is the network's batch."""
        batch = torch.tensor(sequences)
        with torch.inference_mode():
            if self.batch_first:
                return self.eval()(batch).numpy()
            found = self.eval()(batch.transpose(0, 1).contiguous())
            return (found if self.last else found.transpose(0, 1)).numpy()


class Flattened(nn.Module):
    """A network for exactly eight steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(FEATURES, 4, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0].reshape(x.size(0), -1))


class Univariate(nn.Module):
    """A network whose rows are the steps of one number, and one answer a row, squeezed."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(1, 4, batch_first=True)
        self.head = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x.unsqueeze(-1))[0][:, -1]).squeeze()


class States(nn.Module):
    """A network that returns its states too, whose rows are on their second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(FEATURES, 4, num_layers=2, batch_first=True)

    def forward(self, x: torch.Tensor):
        hidden, (state, cell) = self.cell(x)
        return hidden, state, cell


class OneSequence(nn.Module):
    """A network that makes one sequence of its rows itself."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNN(FEATURES, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell(x.unsqueeze(0))[0].squeeze(0)


class Attention(nn.Module):
    """Attention between the steps of a sequence, which may come without a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(FEATURES, FEATURES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.scale(x) @ x.transpose(-2, -1)).softmax(-1) @ x


class Centred(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


class Summed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(0)


class Total(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


class Normal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(FEATURES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x)


class Noisy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


def scripted(model: nn.Module, path, example=None):
    """Script a model into a file."""
    torch.jit.script(model.eval()).save(str(path))
    return path


def frozen(model: nn.Module, path, example=None):
    """Script a model and freeze its weights."""
    torch.jit.freeze(torch.jit.script(model.eval())).save(str(path))
    return path


def traced(model: nn.Module, path, example=None):
    """Trace a model into a file."""
    example = torch.zeros(2, 3, FEATURES) if example is None else example
    torch.jit.trace(model.eval(), (example,)).save(str(path))
    return path


def exported(model: nn.Module, path, example=None, decomposed=False):
    """Export for any number of rows, or for one where torch needs to know their number."""
    example = torch.zeros(3, 1, FEATURES) if example is None else example
    try:
        shapes = ({0: MANY},)
        program = torch.export.export(model.eval(), (example,), dynamic_shapes=shapes)
    except RuntimeError:  # torch needs to know the number of rows of this one
        fixed = example[:1] if example.ndim == 3 else example
        program = torch.export.export(model.eval(), (fixed,))
    torch.export.save(program.run_decompositions() if decomposed else program, str(path))
    return path


def decomposed(model: nn.Module, path):
    """Export a model whose network is no operation of its own any more."""
    return exported(model, path, decomposed=True)


def opened(path, **options: object):
    """Open a file with these options."""
    return framework.load(path, LoadContext(options, "cpu"))


def answer(predictor, rows):
    """Call a predictor on one array; return its outputs."""
    return predictor.call("predict", [NamedTensor("x", np.asarray(rows))], {})


@pytest.mark.parametrize(("cell", "last"), [(nn.LSTM, False), (nn.GRU, True), (nn.RNN, False)])
@pytest.mark.parametrize("write", [scripted, frozen, traced, exported, decomposed])
def test_rows_are_sequences_of_one_step(tmp_path, write, cell, last):
    """Rows of a recurrent network are sequences of one step, in every kind of file."""
    model = Network(cell, batch_first=True, last=last)
    predictor = opened(write(model, tmp_path / "m"))
    expected = model.expected(ROWS[:, np.newaxis])
    expected = expected if last else expected[:, 0]

    assert np.allclose(expected, answer(predictor, ROWS)[0], atol=1e-6)
    assert np.allclose(expected[::-1], answer(predictor, ROWS[::-1])[0], atol=1e-6)
    assert np.allclose(expected[:1], answer(predictor, ROWS[:1])[0], atol=1e-6)
    assert np.allclose(expected, answer(predictor, ROWS[:, np.newaxis])[0].reshape(4, 2), atol=1e-6)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("write", [scripted, traced])
@pytest.mark.parametrize("batch_first", [True, False])
def test_sequences_have_their_rows_first(tmp_path, write, cell, last, batch_first):
    """Sequences [n, t, f] give n answers, also where the network has its batch second."""
    model = Network(cell, batch_first, last)
    predictor = opened(write(model, tmp_path / "m"))
    expected = model.expected(ROWS[:, np.newaxis])

    assert np.allclose(model.expected(SEQUENCES), answer(predictor, SEQUENCES)[0], atol=1e-6)
    came = answer(predictor, ROWS)[0]
    assert np.allclose(expected if last else expected[:, 0], came, atol=1e-6)


def test_every_output_has_its_rows_first(tmp_path):
    """States that a network returns as [layers, n, h] are answered as [n, layers, h]."""
    model = States()
    predictor = opened(scripted(model, tmp_path / "m.pt"))
    hidden, state, cell = answer(predictor, SEQUENCES)

    with torch.inference_mode():
        expected, (last, last_cell) = model.cell(torch.tensor(SEQUENCES))
    assert np.allclose(expected, hidden, atol=1e-6)
    assert np.allclose(last.transpose(0, 1), state, atol=1e-6)
    assert np.allclose(last_cell.transpose(0, 1), cell, atol=1e-6)


@pytest.mark.parametrize("write", [scripted, traced])
def test_rows_that_the_network_makes_sequences_of_stay_as_they_are(tmp_path, write):
    """A row may be a sequence of numbers already; a squeezed answer to one row is still a row."""
    model = Univariate()
    example = torch.zeros(3, 7)
    predictor = opened(write(model, tmp_path / "m.pt", example))

    with torch.inference_mode():
        expected = model(torch.tensor(ROWS)).numpy()
    assert np.allclose(expected, answer(predictor, ROWS)[0], atol=1e-6)
    assert (1,) == answer(predictor, ROWS[:1])[0].shape


def test_a_network_for_so_many_steps_takes_these_alone(tmp_path):
    """A flattened sequence says how long it is; rows are not sequences of one step there."""
    predictor = opened(scripted(Flattened(), tmp_path / "m.pt"))

    ((sample,),) = predictor.samples("predict", 3)
    assert (3, 8, FEATURES) == sample.values.shape
    with pytest.raises(InvalidInput, match="the model rejects inputs"):
        answer(predictor, ROWS)


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (OneSequence(), torch.zeros(6, FEATURES)),
        (Centred(), torch.zeros(3, FEATURES)),
        (Summed(), torch.zeros(3, FEATURES)),
        (Total(), torch.zeros(3, FEATURES)),
        (Centred(), torch.zeros(3, 2, 4)),
    ],
)
@pytest.mark.parametrize("write", [scripted, traced, exported])
def test_rows_that_depend_on_each_other_are_refused(tmp_path, write, model, example):
    """A row's answer has to be the same alone; the message has the option that serves the file."""
    path = write(model, tmp_path / "m", example)

    with pytest.raises(LoadError, match="depend on each other") as caught:
        opened(path)
    assert '"options": {"rows": "dependent"}' in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_batch_norm_that_was_traced_in_training_mode_is_refused(tmp_path):
    """It takes the statistics of the request's rows; in evaluation mode it takes its own."""
    trained = tmp_path / "train.pt"
    torch.jit.trace(Normal().train(), torch.randn(4, FEATURES), check_trace=False).save(trained)

    with pytest.raises(LoadError, match="depend on each other"):
        opened(trained)
    assert (4, FEATURES) == answer(opened(scripted(Normal(), tmp_path / "m")), ROWS)[0].shape


def test_a_program_for_four_rows_is_compared_with_four_equal_ones(tmp_path):
    """A program for a fixed number of rows is refused too, if they depend on each other."""
    for model, refused in ((Centred(), True), (nn.Linear(FEATURES, 2), False)):
        program = torch.export.export(model.eval(), (torch.zeros(4, FEATURES),))
        torch.export.save(program, str(tmp_path / "m.pt2"))
        if refused:
            with pytest.raises(LoadError, match="depend on each other"):
                opened(tmp_path / "m.pt2")
        else:
            assert (4, 2) == answer(opened(tmp_path / "m.pt2"), ROWS)[0].shape


def test_dependent_rows_are_one_sequence(tmp_path):
    """Option rows serves a program on all rows of a request at once, as it takes them."""
    model = OneSequence()
    path = scripted(model, tmp_path / "m.pt")

    with torch.inference_mode():
        expected = model(torch.tensor(ROWS)).numpy()
    assert np.allclose(expected, answer(opened(path, rows="dependent"), ROWS)[0], atol=1e-6)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_dependent_rows_get_a_batch_where_the_network_has_one(tmp_path, batch_first, last):
    """A network of sequences [n, t, f] gets the request's rows as the one sequence of a batch."""
    model = Network(nn.LSTM, batch_first, last)
    predictor = opened(scripted(model, tmp_path / "m.pt"), rows="dependent")
    expected = model.expected(ROWS[np.newaxis])

    assert np.allclose(expected if last else expected[0], answer(predictor, ROWS)[0], atol=1e-6)


def test_dependent_rows_of_an_autoencoder_are_one_sequence(tmp_path):
    """A state dict is served so as well."""
    tensors = {}
    encoder, decoder = nn.LSTM(3, 4, batch_first=True), nn.LSTM(4, 3, batch_first=True)
    for name, part in (("encoder", encoder), ("decoder", decoder)):
        tensors |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    torch.save(tensors, tmp_path / "m.pt")
    predictor = opened(tmp_path / "m.pt", rows="dependent")

    with torch.inference_mode():
        expected = decoder(encoder(torch.tensor(ROWS[:, :3])[None])[0])[0][0].numpy()
    assert np.allclose(expected, answer(predictor, ROWS[:, :3])[0], atol=1e-6)


def test_attention_between_steps_takes_sequences_alone(tmp_path):
    """Rows would attend to each other, so that only sequences [n, t, f] are taken."""
    predictor = opened(scripted(Attention(), tmp_path / "m.pt"))

    assert (-1, -1, FEATURES) == predictor.methods["predict"].inputs[0].shape
    assert SEQUENCES.shape == answer(predictor, SEQUENCES)[0].shape
    with pytest.raises(InvalidInput, match=r"expects \[-1, -1, 5\]"):
        answer(predictor, ROWS)


def test_a_program_that_draws_numbers_is_not_judged(tmp_path):
    """Its rows differ from themselves, which says nothing of the others."""
    assert ROWS.shape == answer(opened(scripted(Noisy(), tmp_path / "m.pt")), ROWS)[0].shape


def test_options_rows_has_two_values(tmp_path):
    """Another value is refused, with those that there are."""
    path = scripted(Network(nn.RNN, True, True), tmp_path / "m.pt")

    with pytest.raises(LoadError, match=r"options\.rows is 'some'; expected one of 'independent'"):
        opened(path, rows="some")


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Linear(9, 2)), (3, 9)),
        (nn.Sequential(nn.Conv1d(2, 4, 3), nn.AdaptiveAvgPool1d(1)), (3, 2, 32)),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 2)),
            (3, 1, 28, 28),
        ),
        (nn.Sequential(nn.Conv3d(2, 1, 3)), (3, 2, 16, 16, 16)),
        (nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(48, 2)), (3, 16)),
        (Network(nn.GRU, False, True), (3, FEATURES)),
    ],
)
def test_samples_are_what_a_script_takes(tmp_path, model, shape):
    """The weights say what a TorchScript program takes; its samples are so many different rows."""
    predictor = opened(scripted(model, tmp_path / "m.pt"))

    for sample in predictor.samples("predict", 3):
        outputs = predictor.call("predict", sample, {})
        assert {3} == {len(output) for output in outputs}
    assert shape == predictor.samples("predict", 3)[0][0].values.shape


def test_samples_of_an_exported_program_keep_its_limits(tmp_path):
    """Dimensions that vary within limits get sizes within them."""
    sizes = ({0: MANY, 1: torch.export.Dim("steps", min=5, max=12)},)
    model = nn.Sequential(nn.Linear(FEATURES, 2))
    program = torch.export.export(model, (torch.zeros(3, 6, FEATURES),), dynamic_shapes=sizes)
    torch.export.save(program, str(tmp_path / "m.pt2"))
    predictor = opened(tmp_path / "m.pt2")

    ((sample,),) = predictor.samples("predict", 2)
    assert (2, 5, FEATURES) == sample.values.shape
    assert (2, 5, 2) == predictor.call("predict", [sample], {})[0].shape
