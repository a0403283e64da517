"""Regressions fitted with statsmodels (OLS, GLM, Logit and others): one answer per row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from pandas import DataFrame

from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks.statsmodels.series import class_name
from bundleserver.tensors import Array, NamedTensor, TensorSpec
from bundleserver.tensors.signature import Signature


class RegressionPredictor:
    """Fitted results of a regression; its method ``predict`` is the library's own.

    The input ``exog`` FP64 ``[n, k]`` has the columns of the design, with the constant if the model
    was fitted with one; a model fitted by formula expects the variables of the formula, which must
    be numbers. Any thread may call it.
    """

    def __init__(self, results: Any, where: str) -> None:
        self._results = results
        self._variables = _formula_variables(results.model, where)
        self._columns = self._variables or tuple(str(name) for name in results.model.exog_names)
        shape = (-1, *self._probe(where)[1:])
        self.methods: Mapping[str, Signature] = MappingProxyType(
            {
                "predict": Signature(
                    inputs=(TensorSpec("exog", "FP64", (-1, len(self._columns)), self._columns),),
                    outputs=(TensorSpec("prediction", "FP64", shape),),
                )
            }
        )

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Predict the one input, whatever its name, or one input for each column.

        Raises:
            InvalidInput: not ``k`` numbers per row.
        """
        exog = self._exog(inputs)
        if exog.ndim != 2 or exog.shape[1] != len(self._columns):
            raise InvalidInput(
                f"input '{inputs[0].name}' has shape {list(exog.shape)}; the regression expects "
                f"[-1, {len(self._columns)}], the columns {', '.join(map(repr, self._columns))}"
            )
        if exog.dtype.kind not in "iuf":
            raise InvalidInput(
                f"input '{inputs[0].name}' is not numeric; the regression expects FP64"
            )
        return [self._predict(exog.astype(np.float64))]

    def close(self) -> None:
        """Release the results."""
        self._results = None

    def _exog(self, inputs: Sequence[NamedTensor]) -> Array:
        """Return the one tensor, or several with a column each in the order of the design."""
        if len(inputs) == 1:
            return inputs[0].values
        named = {tensor.name: tensor.values for tensor in inputs}
        lengths = {(values.size, *values.shape[:1]) for values in named.values()}
        is_table = len(named) == len(inputs) and named.keys() == {*self._columns}
        if is_table and len(lengths) == 1 and len({*next(iter(lengths))}) == 1:
            return np.column_stack([named[name] for name in self._columns])
        raise InvalidInput(
            f"got {len(inputs)} inputs; the regression expects one, 'exog', or a column [-1] for "
            f"each of {', '.join(map(repr, self._columns))}"
        )

    def _predict(self, exog: Array) -> Array:
        if not len(exog):
            return np.empty((0, *(self.methods["predict"].outputs[0].shape or (0,))[1:]))
        if not self._variables:
            return np.asarray(self._results.predict(exog), dtype=np.float64)
        frame = DataFrame(exog, columns=list(self._variables))
        return np.asarray(self._results.predict(frame), dtype=np.float64)

    def _probe(self, where: str) -> tuple[int, ...]:
        try:
            shape = self._predict(np.ones((2, len(self._columns)))).shape
        except Exception as error:
            raise LoadError(
                f"{where} has a {class_name(self._results)} that cannot predict: {error}"
            ) from error
        if not shape or shape[0] != 2:
            raise LoadError(f"{where} has a {class_name(self._results)} without a result per row")
        return shape


def _formula_variables(model: Any, where: str) -> tuple[str, ...]:
    """Return the training columns on the right side of the formula, in its order."""
    formula = getattr(model, "formula", None)
    if formula is None:
        return ()
    frame = getattr(model.data, "frame", None)
    if frame is None:
        raise LoadError(f"{where}: the formula's data were removed; save without remove_data")
    words = list(dict.fromkeys(re.findall(r"[^\W\d]\w*", str(formula).partition("~")[2])))
    variables = tuple(word for word in words if word in frame.columns)
    strings = [name for name in variables if frame[name].dtype.kind not in "iufb"]
    if strings:
        raise LoadError(
            f"{where}: the formula uses '{strings[0]}', which is not numeric; fit on numbers"
        )
    return variables
