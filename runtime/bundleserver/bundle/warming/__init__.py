"""Warming up: the manifest's examples, else the probe, within a deadline."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from bundleserver.bundle.libraries import mismatches
from bundleserver.bundle.steps import Plan, StepFailed
from bundleserver.bundle.warming.examples import check_output, validate_values
from bundleserver.bundle.warming.probe import (
    ProbeResult,
    Recorder,
    Run,
    as_announced,
    completed,
    probe,
)
from bundleserver.bundle.warming.samples import recorded_samples_of, samples_of
from bundleserver.errors import InvalidInput, PredictionError, ProbeError, WarmUpError
from bundleserver.frameworks.interface import named_line
from bundleserver.frameworks.pickles import version_skew
from bundleserver.manifest import BUNDLE, Example, Manifest
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.budget import Budget, spending
from bundleserver.tensors.signature import Signature

LOG = logging.getLogger(__name__)

DEADLINE_SECONDS = 60.0
"""Maximum time for examples and probe: what answers one row no faster serves nobody."""


class Warming(Protocol):
    """What is warmed up; a Bundle has it."""

    @property
    def directory(self) -> Path:
        """Where its files are."""

    @property
    def manifest(self) -> Manifest:
        """Its manifest, with the examples."""

    @property
    def signature(self) -> Signature:
        """Its inputs and outputs."""

    @property
    def identity(self) -> str:
        """Its name in messages."""

    @property
    def needs_examples(self) -> bool:
        """Whether its code may do anything, so that nothing is made up for it."""


def warm_up(
    bundle: Warming, plan: Plan, run: Run, policy: str, *, compares: bool = True
) -> ProbeResult:
    """Run the examples, or the probe if there are none.

    Args:
        bundle: what is warmed up.
        plan: its plan.
        run: runs a plan's steps.
        policy: ``enforce``, ``warn`` or ``off``.
        compares: the outputs of the examples are this plan's; else they only have to run.

    Raises:
        WarmUpError: an example fails, or its outputs differ.
        ProbeError: it cannot answer, and the policy is ``enforce``.
        NotReady, ModelNotFound: another model that it calls is not ready.
    """

    def run_alone(
        plan: Plan, inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]
    ) -> Mapping[str, Array]:
        # Each call as if it were a request: calls of other models are counted.
        with spending(Budget()):
            return run(plan, inputs, parameters)

    try:
        return _within(
            DEADLINE_SECONDS, lambda: _warmed_up(bundle, plan, run_alone, policy, compares)
        )
    except ProbeError as error:
        if policy == "enforce":
            raise
        LOG.warning("%s: ready although its probe failed: %s", bundle.identity, error)
        return replace(_unprobed(plan, str(error)), problem=str(error))


def _warmed_up(bundle: Warming, plan: Plan, run: Run, policy: str, compares: bool) -> ProbeResult:
    if bundle.manifest.examples:
        return _run_examples(bundle, plan, run, compares)
    if policy == "off":
        return _unprobed(plan, "the probe is turned off (--probe=off)")
    samples = samples_of(plan, 1)
    if bundle.needs_examples:
        samples = recorded_samples_of(plan)
    result = probe(
        plan,
        run,
        samples,
        bundle.identity,
        lambda: version_differences(bundle.directory, bundle.manifest),
    )
    if not result.answered:
        LOG.info("%s: not probed: %s", bundle.identity, result.reason)
    return result


def _unprobed(plan: Plan, reason: str) -> ProbeResult:
    return ProbeResult(False, reason, "", completed(plan, {}, {}))


def _run_examples(bundle: Warming, plan: Plan, run: Run, compares: bool) -> ProbeResult:
    inputs: Mapping[str, NamedTensor] = {}
    outputs: Mapping[str, Array] = {}
    for index, example in enumerate(bundle.manifest.examples):
        where = f"examples[{index}] of {bundle.identity}"
        recorder = Recorder(plan)
        try:
            inputs = validate_values(example.inputs, bundle.signature, bundle.identity)
            outputs = run(recorder.plan, inputs, example.parameters)
        except (InvalidInput, PredictionError) as error:
            raise WarmUpError(f"{where} failed: {error}") from error
        except StepFailed as failed:
            cause = failed.__cause__ or failed
            raise WarmUpError(f"{where} failed: {failed.what}: {named_line(cause)}") from cause
        if problem := recorder.problem():
            raise ProbeError(problem)
        if compares:
            _compare(where, bundle.identity, outputs, example)
    floats = as_announced(plan, inputs)
    if any(floats[name] is not tensor for name, tensor in inputs.items()):
        # Its datatypes follow those of its inputs, which are announced as FP64.
        with suppress(Exception):
            inputs, outputs = floats, run(plan, floats, example.parameters)
    return ProbeResult(True, "", "", completed(plan, inputs, outputs))


def _compare(where: str, identity: str, outputs: Mapping[str, Array], example: Example) -> None:
    for name, recorded in example.outputs.items():
        if name not in outputs:
            known = ", ".join(f"'{output}'" for output in outputs)
            raise WarmUpError(
                f"{where} has the output '{name}'; {identity} has the outputs {known}"
            )
        check_output(where, name, outputs[name], recorded, example.rtol)


def _within(seconds: float, work: Callable[[], ProbeResult]) -> ProbeResult:
    """Run work in a thread of its own; one that hangs is left alone."""
    done: list[ProbeResult] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            failed.append(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name="probe", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise ProbeError(
            f"it did not answer within {seconds:g} s of its first call; a call that waits for "
            "something else, or needs more processors, never answers here"
        )
    return done[0]


def version_differences(directory: Path, manifest: Manifest) -> str:
    """Say how recorded and installed libraries differ; an empty string if they do not."""
    problems = [found.problem for found in mismatches(manifest.requirements)]
    skews = (
        version_skew(directory / component.path)
        for component in manifest.components.values()
        if component.path is not None and component.framework != BUNDLE
    )
    listed = "".join(f"; {problem}" for problem in problems)
    return listed + next(filter(None, skews), "")
