"""What MLflow loads where a registered model is a bundle: ``mlflow.pyfunc.load_model`` comes here.

The name of this module stands in the ``MLmodel`` files of registries, so it stays what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bundleserver.bundle import Bundle
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import InvalidInput
from bundleserver.tensors import Array, NamedTensor

if TYPE_CHECKING:
    import pandas as pd


class BundleModel:
    """A bundle as MLflow's tools call a model; any thread may."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def predict(
        self, model_input: object, params: Mapping[str, object] | None = None
    ) -> Array | pd.DataFrame | dict[str, Array]:
        """Answer a table, an array, arrays by input name, or a list of rows.

        Returns:
            The only output as an array; several of one length as a DataFrame, others by name.

        Raises:
            InvalidInput: the input does not fit the bundle.
            PredictionError: the bundle's own code raised.
        """
        outputs = self._bundle.predict(self._bind(model_input), dict(params or {}))
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        if all(array.ndim == 1 for array in outputs.values()):
            import pandas as pd

            if len({len(array) for array in outputs.values()}) == 1:
                return pd.DataFrame(outputs)
        return outputs

    def _bind(self, given: Any) -> dict[str, NamedTensor]:
        signature, taker = self._bundle.signature, self._bundle.identity
        if isinstance(given, Mapping):
            tensors = [NamedTensor(str(name), np.asarray(value)) for name, value in given.items()]
            return signature.validate_tensors(tensors, taker)
        if hasattr(given, "columns") and hasattr(given, "to_dict"):
            if signature.rowwise:
                return signature.validate_rows(self._rows(given), taker)
            tensors = [NamedTensor(str(name), given[name].to_numpy()) for name in given.columns]
            return signature.validate_tensors(tensors, taker)
        if isinstance(given, list):
            return signature.validate_rows(given, taker)
        if not signature.inputs:
            return signature.validate_tensors([NamedTensor("input-0", np.asarray(given))], taker)
        if len(signature.inputs) != 1:
            raise InvalidInput(f"{taker} takes {len(signature.inputs)} inputs; pass them by name")
        tensor = NamedTensor(signature.inputs[0].name, np.asarray(given))
        return signature.validate_tensors([tensor], taker)

    def _rows(self, frame: pd.DataFrame) -> list[Any]:
        """Return rows by column, or as plain lists where the bundle was fitted without names."""
        inputs = self._bundle.signature.inputs
        is_plain = len(inputs) == 1 and inputs[0].shape is not None and not inputs[0].columns
        if is_plain and [inputs[0].name] != list(frame.columns):
            return list(frame.to_numpy().tolist())
        return list(frame.to_dict("records"))


def _load_pyfunc(data_path: str) -> BundleModel:
    """Open the bundle that lies in a directory; MLflow calls this by its name.

    Raises:
        BundleServerError: there is none, or it cannot be served.
    """
    return BundleModel(open_bundle(Path(data_path), links_lead_anywhere=True))
