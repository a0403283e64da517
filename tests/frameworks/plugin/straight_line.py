"""A framework of another distribution: straight lines, in a text format of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundleserver.errors import LoadError
from bundleserver.frameworks import Framework, LoadContext
from bundleserver.tensors import NamedTensor, TensorSpec
from bundleserver.tensors.signature import Signature


@dataclass(frozen=True)
class StraightLine:
    """A model that scikit-learn's framework would recognise as well, if it were asked first."""

    intercept: float
    slope: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.intercept + self.slope * x

    def fit(self, x: np.ndarray, y: np.ndarray) -> StraightLine:
        return self

    def get_params(self, deep: bool = True) -> dict[str, object]:
        return {}


class LinePredictor:
    """A line with its one method, and a fact for the metadata."""

    def __init__(self, line: StraightLine) -> None:
        self._line = line
        inputs = (TensorSpec("x", "FP64", (-1,)),)
        self.methods = {"predict": Signature(inputs, (TensorSpec("y", "FP64", (-1,)),))}
        self.metadata = {"slope": line.slope}

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[np.ndarray]:
        return [self._line.predict(inputs[0].values)]

    def close(self) -> None:
        pass


def load(path: Path, context: LoadContext) -> LinePredictor:
    """Read intercept and slope."""
    try:
        intercept, slope = map(float, path.read_text().split())
    except ValueError as error:
        raise LoadError(f"'{path}' is not a valid line; expected two numbers") from error
    return LinePredictor(StraightLine(intercept, slope))


def save(model: StraightLine, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write intercept and slope."""
    path = directory / f"{stem}.line"
    path.write_text(f"{model.intercept} {model.slope}\n")
    return path, {}


FRAMEWORK = Framework(
    name="line",
    module=__name__,
    distributions=("straight-line",),
    suffixes=frozenset({".line"}),
    recognises=lambda model: isinstance(model, StraightLine),
)
