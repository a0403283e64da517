"""Components that are bundles themselves: nested in the directory, or other models."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from bundleserver.errors import BundleError
from bundleserver.tensors import Array, NamedTensor
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
    def needs_examples(self) -> bool:
        """Whether its code may do anything, so that nothing is made up for it."""

    def samples(self, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return inputs for calls of so many rows."""

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

    def warm_up(self, probe: str) -> None:
        """Warm the nested bundle up, as if it were alone.

        Raises:
            WarmUpError, ProbeError: as for a bundle.
        """
        self._bundle.warm_up(probe)

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
        calling = _calling.get()
        if self._model in calling:
            cycle = " → ".join((*calling, self._model))
            raise BundleError(f"models call each other in a cycle: {cycle}")
        token = _calling.set((*calling, self._model))
        try:
            with self._acquired() as bundle:
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
