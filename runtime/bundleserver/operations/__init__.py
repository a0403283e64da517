"""The built-in operations of a manifest's steps: a small closed set over numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np

from bundleserver.errors import BundleError, InvalidInput
from bundleserver.operations import voting
from bundleserver.tensors import Array, NamedTensor, TensorSpec, datatype_of
from bundleserver.tensors.call_traits import CallTraits

Params = Mapping[str, object]

_LABELS = (1, -1)


@dataclass(frozen=True)
class Operation:
    """One operation; the docstring of the function that runs it says what it takes and gives.

    ``most`` is None where any number of inputs goes; ``outputs`` say what is known before it runs.
    """

    name: str
    params: frozenset[str]
    fewest: int
    most: int | None
    outputs: tuple[TensorSpec, ...]
    _run: Callable[[Sequence[NamedTensor], Params], Sequence[Array]]
    _problems: Callable[[Params, int], Sequence[str]]

    def problems(self, params: Params, inputs: int) -> tuple[str, ...]:
        """List what is wrong with a step that runs this on so many inputs; empty: nothing is."""
        unknown = [
            f"{key} is unknown; known: {', '.join(sorted(self.params)) or 'no params'}"
            for key in params
            if key not in self.params
        ]
        return (*unknown, *self._problems_with_count(inputs), *self._problems(params, inputs))

    def run(self, inputs: Sequence[NamedTensor], params: Params) -> Sequence[Array]:
        """Run on the inputs by position and return the outputs by position.

        Raises:
            InvalidInput: shapes, datatypes or values do not fit; names the tensors.
            BundleError: the step's params or number of inputs are wrong (see ``problems``).
        """
        problems = self.problems(params, len(inputs))
        if problems:
            raise BundleError(f"operation '{self.name}': {'; '.join(problems)}")
        return self._run(inputs, params)

    def call_traits(self, params: Params) -> CallTraits:
        """Say how a step behaves; what adds numbers up may do so in another order for more rows."""
        beside = self.name == "concat" and params.get("axis", 1) in (-1, 1)
        return CallTraits(predictable=True, batchable=beside or self.name == "threshold")

    def _problems_with_count(self, inputs: int) -> tuple[str, ...]:
        if self.fewest <= inputs and (self.most is None or inputs <= self.most):
            return ()
        wanted = f"{self.fewest}" if self.most == self.fewest else f"at least {self.fewest}"
        return (f"'{self.name}' takes {wanted} inputs, the step gives {inputs}",)


def reconstruction_error(inputs: Sequence[NamedTensor], params: Params) -> Sequence[Array]:
    """Measure how far a reconstruction is off: two tensors ``[n, …]`` of one shape → FP64 ``[n]``.

    The mean of the squared differences over all axes but the first, in double precision.
    """
    first, second = (_numbers(tensor) for tensor in inputs)
    _check_same_shape(inputs)
    if first.ndim == 0 or 0 in first.shape[1:]:
        raise InvalidInput(
            f"input '{inputs[0].name}' has shape {list(first.shape)}; a reconstruction error needs "
            "rows with values, [n, …]"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.square(first - second)
        return [squares.mean(axis=tuple(range(1, squares.ndim)))]


def threshold(inputs: Sequence[NamedTensor], params: Params) -> Sequence[Array]:
    """Label values: any shape → the same shape, the second label where a value is above ``above``.

    ``labels`` (default ``[1, -1]``) are two whole numbers (INT64), numbers (FP64), truths (BOOL)
    or texts (BYTES). Above is strictly above; NaN is not above.
    """
    values = _numbers(inputs[0])
    above = cast(float, params["above"])
    labels = cast("Sequence[object]", params.get("labels", _LABELS))
    choice = np.array(list(labels), dtype=_dtype_of_labels(labels))
    return [np.asarray(choice[(values > above).astype(np.intp)], dtype=choice.dtype)]


def vote(inputs: Sequence[NamedTensor], params: Params) -> Sequence[Array]:
    """Combine votes ``[n]``, one tensor per member → label INT64 ``[n]`` and score FP64 ``[n]``.

    ``weights``: equal ones when left out; ``threshold``: 0.5; ``votes``, for the label too:
    ``anomaly`` (1 is an anomaly, 0 normal) or ``sklearn`` (-1 is an anomaly, 1 normal).
    """
    weights = params.get("weights", (1,) * len(inputs))
    least = params.get("threshold", voting.THRESHOLD)
    encoding = voting.ENCODINGS[str(params.get("votes", "anomaly"))]
    return voting.combine(inputs, cast("Sequence[float]", weights), cast(float, least), encoding)


def mean(inputs: Sequence[NamedTensor], params: Params) -> Sequence[Array]:
    """Average tensors of one shape → FP64 of that shape; ``weights``: equal ones when left out."""
    arrays = [_numbers(tensor) for tensor in inputs]
    _check_same_shape(inputs)
    weights = cast("Sequence[float]", params.get("weights", (1,) * len(arrays)))
    return [np.asarray(np.average(np.stack(arrays), axis=0, weights=weights))]


def concat(inputs: Sequence[NamedTensor], params: Params) -> Sequence[Array]:
    """Put tensors beside each other along ``axis`` (default 1; -1 is the last) → one tensor.

    All other axes are equal. Numbers of different datatypes get the one that holds them all, as
    long as no value changes; texts only go with texts.
    """
    axis = cast(int, params.get("axis", 1))
    shapes = [tensor.values.shape for tensor in inputs]
    if any(not -len(shape) <= axis < len(shape) for shape in shapes):
        raise InvalidInput(
            f"{_listed(inputs)} cannot be joined along axis {axis}: there is no such axis"
        )
    others = {tuple(np.delete(shape, axis)) for shape in shapes}
    if len(others) > 1:
        raise InvalidInput(
            f"{_listed(inputs)} cannot be joined along axis {axis}: their other dimensions differ"
        )
    return [np.concatenate(_in_one_datatype(inputs), axis=axis)]


def _numbers(tensor: NamedTensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    if tensor.values.dtype.kind not in "biuf":
        raise InvalidInput(
            f"input '{tensor.name}' has datatype {datatype_of(tensor.values)}; expected numbers"
        )
    return tensor.values.astype(np.float64)


def _check_same_shape(inputs: Sequence[NamedTensor]) -> None:
    if len({tensor.values.shape for tensor in inputs}) > 1:
        raise InvalidInput(f"{_listed(inputs)} differ in shape; expected one shape")


def _listed(inputs: Sequence[NamedTensor]) -> str:
    return "inputs " + ", ".join(
        f"'{tensor.name}' {list(tensor.values.shape)}" for tensor in inputs
    )


def _in_one_datatype(inputs: Sequence[NamedTensor]) -> list[Array]:
    texts = [tensor.values.dtype.kind not in "biuf" for tensor in inputs]
    if all(texts):
        return [tensor.values.astype(object) for tensor in inputs]
    if any(texts):
        raise InvalidInput(f"{_listed(inputs)} mix texts and numbers; expected one kind")
    target = np.result_type(*(tensor.values.dtype for tensor in inputs))
    for tensor in inputs:
        if not _is_held_exactly(tensor.values, target):
            raise InvalidInput(
                f"input '{tensor.name}' has {datatype_of(tensor.values)} values that "
                f"{datatype_of(np.empty(0, target))} does not hold exactly"
            )
    return [tensor.values.astype(target) for tensor in inputs]


def _is_held_exactly(values: Array, target: np.dtype[np.generic]) -> bool:
    """Ask whether whole numbers survive as floats; every other promotion of numpy loses nothing."""
    if values.dtype.kind not in "iu" or target.kind != "f" or not values.size:
        return True
    largest: int = 2 ** (int(np.finfo(cast("np.dtype[np.float64]", target)).nmant) + 1)
    return -largest <= int(values.min()) and int(values.max()) <= largest


def _dtype_of_labels(labels: object) -> type | None:
    """Return the dtype that holds two labels; None when no single datatype does."""
    if not isinstance(labels, Sequence) or isinstance(labels, (str, bytes)) or len(labels) != 2:
        return None
    kinds = {type(label) for label in labels}
    if kinds == {str}:
        return object
    if kinds == {bool}:
        return np.bool_
    if kinds == {int}:
        return np.int64 if all(-(2**63) <= label < 2**63 for label in labels) else None
    return np.float64 if all(voting.is_finite_number(label) for label in labels) else None


def _no_problems(params: Params, inputs: int) -> Sequence[str]:
    return ()


def _problems_with_threshold(params: Params, inputs: int) -> Sequence[str]:
    problems = []
    if not voting.is_finite_number(params.get("above")):
        problems.append(f"above is {params.get('above')!r}; expected a number")
    labels = params.get("labels", _LABELS)
    if _dtype_of_labels(labels) is None:
        problems.append(f"labels is {labels!r}; expected two whole numbers, numbers or texts")
    return problems


def _problems_with_weights(params: Params, inputs: int) -> Sequence[str]:
    if "weights" not in params:
        return ()
    return voting.problems_with_weights(params["weights"], inputs)


def _problems_with_vote(params: Params, inputs: int) -> Sequence[str]:
    problems = list(_problems_with_weights(params, inputs))
    problems += voting.problems_with_threshold(params.get("threshold", voting.THRESHOLD))
    votes = params.get("votes", "anomaly")
    if not isinstance(votes, str) or votes not in voting.ENCODINGS:
        known = ", ".join(f"'{name}'" for name in voting.ENCODINGS)
        problems.append(f"votes is {votes!r}; expected one of {known}")
    return problems


def _problems_with_concat(params: Params, inputs: int) -> Sequence[str]:
    axis = params.get("axis", 1)
    if isinstance(axis, int) and not isinstance(axis, bool):
        return ()
    return (f"axis is {axis!r}; expected a whole number",)


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        operation.name: operation
        for operation in (
            Operation(
                name="reconstruction_error",
                params=frozenset(),
                fewest=2,
                most=2,
                outputs=(TensorSpec("error", "FP64", (-1,)),),
                _run=reconstruction_error,
                _problems=_no_problems,
            ),
            Operation(
                name="threshold",
                params=frozenset({"above", "labels"}),
                fewest=1,
                most=1,
                outputs=(TensorSpec("label"),),
                _run=threshold,
                _problems=_problems_with_threshold,
            ),
            Operation(
                name="vote",
                params=frozenset({"weights", "threshold", "votes"}),
                fewest=1,
                most=None,
                outputs=(TensorSpec("label", "INT64", (-1,)), TensorSpec("score", "FP64", (-1,))),
                _run=vote,
                _problems=_problems_with_vote,
            ),
            Operation(
                name="mean",
                params=frozenset({"weights"}),
                fewest=1,
                most=None,
                outputs=(TensorSpec("mean", "FP64"),),
                _run=mean,
                _problems=_problems_with_weights,
            ),
            Operation(
                name="concat",
                params=frozenset({"axis"}),
                fewest=1,
                most=None,
                outputs=(TensorSpec("joined"),),
                _run=concat,
                _problems=_problems_with_concat,
            ),
        )
    }
)
"""The closed set, by the name that a step's ``op`` gives."""
