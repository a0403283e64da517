"""The loader of registered bundles for MLflow: ``mlflow.pyfunc.load_model`` imports this module.

``MLmodel`` files in registries have this module's name, so it must not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring.mlmodel_files import MLMODEL, is_mlflow_model
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import BundleError, InvalidInput
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.tensors import Array, NamedTensor

if TYPE_CHECKING:
    import pandas as pd


class BundleModel:
    """A bundle with the interface of an MLflow model; thread-safe."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def predict(
        self, model_input: object, params: Mapping[str, object] | None = None
    ) -> Array | pd.DataFrame | dict[str, Array]:
        """Predict a DataFrame, an array, arrays by input name, or a list of rows.

        Returns:
            A single output as an array; several of equal length as a DataFrame, others by name.

        Raises:
            InvalidInput: the input does not match the bundle's inputs.
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
        names = [spec.name for spec in signature.inputs] or ["input-0"]
        if isinstance(given, Mapping):
            arrays = given
        elif hasattr(given, "columns") and hasattr(given, "to_dict"):
            if signature.rowwise:
                return signature.validate_rows(self._rows(given), taker)
            arrays = {name: given[name].to_numpy() for name in given.columns}
        elif isinstance(given, list):
            return signature.validate_rows(given, taker)
        elif len(names) > 1:
            raise InvalidInput(f"{taker} has {len(names)} inputs; pass them by name")
        else:
            arrays = {names[0]: given}
        tensors = [NamedTensor(str(name), np.asarray(value)) for name, value in arrays.items()]
        return signature.validate_tensors(tensors, taker)

    def _rows(self, frame: pd.DataFrame) -> list[Any]:
        """Return rows by column, or as plain lists where the bundle was fitted without names."""
        inputs = self._bundle.signature.inputs
        is_plain = len(inputs) == 1 and inputs[0].shape is not None and not inputs[0].columns
        if is_plain and [inputs[0].name] != list(frame.columns):
            return list(frame.to_numpy().tolist())
        return list(frame.to_dict("records"))


def _load_pyfunc(data_path: str) -> BundleModel:
    """Open the bundle in a directory; MLflow calls this function by its name.

    Raises:
        BundleServerError: there is no bundle, or it cannot be served.
    """
    directory = Path(data_path)
    if is_mlflow_model(directory) and not (directory / MANIFEST_NAME).exists():
        # As an MLflow model it would be opened by MLflow, which would call this function again.
        raise BundleError(
            f"'{directory}' has no {MANIFEST_NAME}, and its {MLMODEL} is that of a bundle; put the "
            "whole bundle there"
        )
    return BundleModel(open_bundle(directory, links_lead_anywhere=True))
