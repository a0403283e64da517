"""Scripted programs with inputs of several kinds: sequences beside rows, optional ones, indices."""

import numpy as np
import pytest
import torch
from torch import nn

from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.torch import framework
from bundleserver.tensors import NamedTensor


class Beside(nn.Module):
    """A sequence beside what does not change with time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(5, 3, batch_first=True)
        self.head = nn.Linear(7, 2)

    def forward(self, steps, fixed):
        return self.head(torch.cat([self.cell(steps)[0][:, -1], fixed], 1))


class Weighted(nn.Module):
    """An optional factor of the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 2)

    def forward(self, x, weight: torch.Tensor | None = None):
        answer = self.head(x)
        return answer if weight is None else answer * weight


class Padded(nn.Module):
    """Sequences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(4, 3, batch_first=True)

    def forward(self, x, counts):
        packed = nn.utils.rnn.pack_padded_sequence(
            x, counts.to(torch.int64), batch_first=True, enforce_sorted=False
        )
        return self.cell(packed)[1][-1]


class Categories(nn.Module):
    """Two categories beside numbers; an index is taken out of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.shop = nn.Embedding(6, 2)
        self.day = nn.Embedding(7, 3)
        self.head = nn.Linear(8, 1)

    def forward(self, codes, numbers):
        return self.head(torch.cat([self.shop(codes[:, 0]), self.day(codes[:, 1]), numbers], 1))


class Slightly(nn.Module):
    """Rows that depend a little on the others, in a column beside a much larger one."""

    def __init__(self, large: float, little: float) -> None:
        super().__init__()
        self.head = nn.Linear(5, 2)
        self.large = large
        self.little = little

    def forward(self, x):
        y = self.head(x)
        return torch.cat([y * self.large, y + self.little * y.mean(0)], 1)


def opened(model, tmp_path):
    """Open a scripted model as a bundle, and warm it up."""
    torch.jit.script(model.eval()).save(str(tmp_path / "model.pt"))
    bundle = open_bundle(tmp_path)
    bundle.warm_up()
    return bundle


def ask(bundle, **inputs):
    """Ask with tensors by name; return the only output."""
    tensors = [NamedTensor(name, np.asarray(values)) for name, values in inputs.items()]
    bound = bundle.signature.validate_tensors(tensors, "the model")
    (answer,) = bundle.predict(bound, {}).values()
    return answer


def numbers(*shape):
    """Draw numbers."""
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def expected(model, *inputs):
    """Run a model on arrays."""
    with torch.inference_mode():
        return model(*map(torch.tensor, inputs)).numpy()


def test_rows_beside_sequences_stay_as_they_are(tmp_path):
    """Only an input of sequences gets the axis of a step."""
    model, steps, fixed = Beside(), numbers(3, 6, 5), numbers(3, 4)

    answer = ask(opened(model, tmp_path), steps=steps, fixed=fixed)

    np.testing.assert_allclose(answer, expected(model, steps, fixed), rtol=1e-5)


def test_an_optional_tensor_may_be_left_out(tmp_path):
    """A model with an optional tensor is ready, and answers with and without it."""
    model, x, weight = Weighted(), numbers(3, 5), numbers(3, 1)
    bundle = opened(model, tmp_path)

    assert bundle.probe.answered
    np.testing.assert_allclose(ask(bundle, x=x), expected(model, x), rtol=1e-5)
    np.testing.assert_allclose(ask(bundle, x=x, weight=weight), expected(model, x, weight), 1e-5)


def test_a_refusal_of_guessed_shapes_is_no_failure(tmp_path):
    """Where no shape is known, a program that refuses those made up may take others."""
    model, x, counts = Padded(), numbers(3, 6, 4), np.array([2, 6, 1])
    bundle = opened(model, tmp_path)

    np.testing.assert_allclose(ask(bundle, x=x, counts=counts), expected(model, x, counts), 1e-5)


def test_an_index_within_a_tensor_makes_it_an_integer(tmp_path):
    """An input whose numbers index an embedding is INT64, in whatever way they do."""
    model, codes, other = Categories(), np.array([[5, 6], [0, 3]]), numbers(2, 3)
    bundle = opened(model, tmp_path)

    assert ["INT64", "FP32"] == [spec.datatype for spec in bundle.signature.inputs]
    answer = ask(bundle, codes=codes, numbers=other)
    np.testing.assert_allclose(answer, expected(model, codes, other), rtol=1e-5)


@pytest.mark.parametrize(("steps", "fixed"), [((3, 6, 5), (3, 9)), ((3, 6, 2), (3, 4))])
def test_shapes_that_do_not_fit_are_the_callers(steps, fixed, tmp_path):
    """Whatever the interpreter says of a shape, the request is not valid."""
    bundle = opened(Beside(), tmp_path)

    with pytest.raises(InvalidInput, match="rejects inputs"):
        ask(bundle, steps=numbers(*steps), fixed=numbers(*fixed))


@pytest.mark.parametrize(("large", "little"), [(2000.0, 1.0), (1.0, 2e-3)])
def test_a_little_dependence_is_refused(large, little, tmp_path):
    """The tolerance of rounding is a column's own."""
    torch.jit.script(Slightly(large, little)).save(str(tmp_path / "model.pt"))

    with pytest.raises(LoadError, match="depend on each other"):
        framework.load(tmp_path / "model.pt", LoadContext({}, "cpu"))
