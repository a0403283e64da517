"""Tables whose columns an MLflow signature names: bound by name, and integers where it says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol, TypeVar

import numpy as np

from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks.interface import (
    HasMetadata,
    MakesSamples,
    Predictor,
    TellsCallTraits,
)
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.tensors.signature import Signature

_DATATYPES = ("FP64", "INT32", "INT64")


def read_columns(value: object, where: str) -> Mapping[str, str]:
    """Parse the option ``columns``: an object of datatypes by name.

    Raises:
        LoadError: it is something else.
    """
    if isinstance(value, Mapping) and value and {*value.values()} <= {*_DATATYPES}:
        return {str(name): str(datatype) for name, datatype in value.items()}
    expected = f"an object with a datatype for each column, one of {quoted(_DATATYPES)}"
    raise LoadError(f"{where}: options.columns is {value!r}; expected {expected}")


class Estimator(Predictor, TellsCallTraits, HasMetadata, Protocol):
    """What opens an estimator: ``SklearnPredictor``."""


class LoggedTable:
    """An estimator of a table with these columns, whether it was fitted with names or without."""

    def __init__(self, columns: Mapping[str, str], estimator: Estimator) -> None:
        self._estimator = estimator
        self._columns = tuple(columns)
        self._integers = {
            name: np.iinfo(datatype.lower())
            for name, datatype in columns.items()
            if datatype != "FP64"
        }
        self.methods: Mapping[str, Signature] = MappingProxyType(
            {method: self._named(signature) for method, signature in estimator.methods.items()}
        )

    @property
    def metadata(self) -> Mapping[str, object]:
        """The estimator's own."""
        return self._estimator.metadata

    def call_traits(self, method: str) -> CallTraits:
        """Return the estimator's own."""
        return self._estimator.call_traits(method)

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array] | Mapping[str, Array]:
        """Run one method as ``SklearnPredictor`` does, with the columns in their order.

        Raises:
            InvalidInput: a column is missing or unknown, or has booleans, or a value that is not an
                integer.
        """
        (spec,) = self.methods[method].inputs
        if spec.columns:
            for tensor in inputs:
                _refuse_booleans(tensor)
                self._check_integers(tensor, tensor.columns or spec.columns, len(inputs) > 1)
        if len(inputs) > 1 and spec.columns == self._columns:
            inputs = self._in_order(inputs)
        return self._estimator.call(method, inputs, parameters)

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return the estimator's own samples, with integers in columns of integers."""
        estimator = self._estimator
        calls = estimator.samples(method, rows) if isinstance(estimator, MakesSamples) else ()
        return [[self._rounded(tensor) for tensor in call] for call in calls]

    def close(self) -> None:
        """Release the estimator."""
        self._estimator.close()

    def _named(self, signature: Signature) -> Signature:
        """Name the columns of an estimator that was fitted without names."""
        (spec,) = signature.inputs
        if spec.columns or spec.shape != (-1, len(self._columns)):
            return signature
        return replace(signature, inputs=(replace(spec, columns=self._columns),))

    def _in_order(self, inputs: Sequence[NamedTensor]) -> Sequence[NamedTensor]:
        named = {tensor.name: tensor for tensor in inputs}
        missing = [f"missing column '{name}'" for name in self._columns if name not in named]
        unknown = [f"unknown column '{name}'" for name in named if name not in self._columns]
        if problems := missing + unknown:
            raise InvalidInput(
                f"{', '.join(problems)} in the request; the model's signature has the columns "
                f"{quoted(self._columns)}"
            )
        return [named[name] for name in self._columns]

    def _check_integers(
        self, tensor: NamedTensor, columns: tuple[str, ...], is_column: bool
    ) -> None:
        if tensor.values.dtype.kind not in "iuf" or not self._integers:
            return
        if is_column:
            self._check_column(tensor.name, tensor.values)
        elif tensor.values.shape[1:] == (len(columns),):
            for index, name in enumerate(columns):
                self._check_column(name, tensor.values[:, index])

    def _check_column(self, name: str, values: Array) -> None:
        limits = self._integers.get(name)
        if limits is None:
            return
        at_least, at_most = np.greater_equal(values, limits.min), np.less_equal(values, limits.max)
        is_valid = (values == np.floor(values)) & at_least & at_most
        if not is_valid.all():
            raise InvalidInput(
                f"column '{name}' has the value {values[~is_valid][0]}; the model's signature "
                f"expects {limits.dtype.name}"
            )

    def _rounded(self, tensor: NamedTensor) -> NamedTensor:
        values = tensor.values
        is_integer = [name in self._integers for name in tensor.columns or self._columns]
        if values.dtype.kind != "f" or values.shape[1:] != (len(is_integer),):
            return tensor
        return tensor._replace(values=np.where(is_integer, np.rint(values), values))


def _refuse_booleans(tensor: NamedTensor) -> None:
    if tensor.values.dtype.kind == "b":
        what = "column" if tensor.name in tensor.columns or not tensor.columns else "input"
        raise InvalidInput(
            f"{what} '{tensor.name}' has booleans; the model's signature expects numbers"
        )


Opened = TypeVar("Opened", bound=Estimator)


def with_logged_columns(
    predictor: Opened, options: Mapping[str, object], where: str
) -> Opened | LoggedTable:
    """Return a predictor with the columns of the option ``columns``; itself without the option.

    Raises:
        LoadError: the option is not valid.
    """
    if "columns" not in options:
        return predictor
    return LoggedTable(read_columns(options["columns"], where), predictor)
