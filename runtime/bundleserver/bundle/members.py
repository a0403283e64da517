"""Components that are bundles themselves: nested in the directory, or other models."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from bundleserver.errors import BundleError
from bundleserver.frameworks import Predictor, framework_named
from bundleserver.frameworks.forecasting.history import History
from bundleserver.manifest import Component
from bundleserver.spans import current as current_span
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.budget import Budget, current_budget, spending
from bundleserver.tensors.signature import Signature


class Callee(Protocol):
    """The interface of a member; a Bundle has it."""

    @property
    def signature(self) -> Signature:
        """Its inputs and outputs."""

    @property
    def identity(self) -> str:
        """Its name in messages."""

    @property
    def parameters(self) -> Sequence[str]:
        """The parameters of requests that its components have."""

    @property
    def values_per_row(self) -> int:
        """How many values its outputs have for a row, or a step of a forecast."""

    @property
    def has_open_widths(self) -> bool:
        """Whether its outputs may have more values than ``values_per_row`` tells."""

    @property
    def needs_examples(self) -> bool:
        """Whether its code may do anything, so that nothing is made up for it."""

    def samples(self, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return inputs for calls of so many rows."""

    def history(self, points: int) -> History | None:
        """Return the last points of the series that its forecaster was fitted on."""

    def warm_up(self, probe: str) -> None:
        """Run its examples, or the probe."""

    def predict(
        self, inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]
    ) -> dict[str, Array]:
        """Run it."""

    def close(self) -> None:
        """Close it."""


Members = Callable[[str], AbstractContextManager[Callee]]
"""Acquires the default version of another model of this process."""

MOST_NESTED, MOST_CALLS = 8, 64
"""How deep calls of other models nest at most, and how many there are for one request or instance.

Models that call several others which do the same would else take exponential time.
"""

_calling: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("calling", default=())


class BundleMember:
    """A nested bundle as a component: inputs and outputs by position, a forecaster's by name."""

    def __init__(self, bundle: Callee) -> None:
        self._bundle = bundle
        self.methods: Mapping[str, Signature] = {"predict": bundle.signature}

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Run the nested bundle and return its outputs in their order."""
        return _call_by_position(self._bundle, inputs, parameters)

    @property
    def parameters(self) -> Sequence[str]:
        """Those of the nested bundle."""
        return self._bundle.parameters

    @property
    def needs_examples(self) -> bool:
        """Whether the nested bundle does."""
        return self._bundle.needs_examples

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return inputs of the nested bundle."""
        return self._bundle.samples(rows)

    def history(self, points: int) -> History | None:
        """Return the series of the nested bundle's forecaster."""
        return self._bundle.history(points)

    def warm_up(self, probe: str) -> None:
        """Warm the nested bundle up, as if it were alone.

        Raises:
            WarmUpError, ProbeError: as for a bundle.
        """
        self._bundle.warm_up(probe)

    @property
    def values_per_row(self) -> int:
        """How many values the nested bundle's outputs have for a row or a step."""
        return self._bundle.values_per_row

    @property
    def has_open_widths(self) -> bool:
        """Whether the nested bundle has."""
        return self._bundle.has_open_widths

    def close(self) -> None:
        """Close the nested bundle."""
        self._bundle.close()


class ModelMember:
    """Another model of this process as a component; acquired for each call."""

    methods: Mapping[str, Signature] = {"predict": Signature()}

    def __init__(self, model: str, members: Members | None) -> None:
        self._model = model
        self._members = members

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Acquire the model's default version, run it and return its outputs in their order."""
        budget = current_budget()
        if budget is None:
            with spending(Budget()):
                return self.call(method, inputs, parameters)
        budget.check()
        path = (*_calling.get(), self._model)
        budget.calls += 1
        _check_calls(path, budget.calls)
        token = _calling.set(path)
        try:
            with self._acquired() as bundle:
                if (span := current_span()) is not None:
                    span.set("bundleserver.called", bundle.identity)
                return _call_by_position(bundle, inputs, parameters)
        finally:
            _calling.reset(token)

    @property
    def needs_examples(self) -> bool:
        """Whether the model does."""
        with self._acquired() as bundle:
            return bundle.needs_examples

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return inputs of the model."""
        with self._acquired() as bundle:
            return bundle.samples(rows)

    def _acquired(self) -> AbstractContextManager[Callee]:
        if self._members is None:
            raise BundleError(
                f"the bundle calls the model '{self._model}', which requires a server; serve both "
                "from one --model_dir"
            )
        return self._members(self._model)

    def close(self) -> None:
        """Do nothing: the manager closes the model."""


def needs_examples(component: Component, predictor: Predictor) -> bool:
    """Ask whether a component's code may do anything, so that nothing is made up for it."""
    if isinstance(predictor, BundleMember | ModelMember):
        return predictor.needs_examples
    return framework_named(component.framework).needs_examples


def _check_calls(path: Sequence[str], calls: int) -> None:
    """Refuse a call of another model, made on the way that a path tells."""
    if path[-1] in path[:-1]:
        raise BundleError(f"models call each other in a cycle: {' → '.join(path)}")
    if len(path) > MOST_NESTED:
        raise BundleError(
            f"calls of models are nested {len(path)} deep, {' → '.join(path)}; expected at most "
            f"{MOST_NESTED}"
        )
    if calls > MOST_CALLS:
        raise BundleError(
            f"one request calls other models {calls} times, the last '{path[-1]}'; expected at "
            f"most {MOST_CALLS} calls"
        )


def _call_by_position(
    bundle: Callee, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
) -> Sequence[Array]:
    specs = bundle.signature.inputs
    if bundle.signature.rowwise and len(specs) == len(inputs):
        inputs = [
            NamedTensor(spec.name, tensor.values, tensor.columns)
            for spec, tensor in zip(specs, inputs, strict=True)
        ]
    bound = bundle.signature.validate_tensors(inputs, bundle.identity)
    return list(bundle.predict(bound, parameters).values())
