"""Exported programs: ``torch.export`` archives, which contain their code."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.utils._pytree import tree_unflatten

from bundleserver.errors import LoadError
from bundleserver.frameworks.archives import open_archive
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.torch.checked import open_checked, with_checks
from bundleserver.frameworks.torch.checked.problems import NotAllowed
from bundleserver.frameworks.torch.files import HOW_TO_EXPORT, Kind, unreadable
from bundleserver.frameworks.torch.program import DATATYPES, Program, ProgramInput
from bundleserver.frameworks.torch.values import flat
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.tensors import TensorSpec

_RECURRENT = re.compile(r"(aten|quantized)::(lstm|gru|rnn_\w+|quantized_(lstm|gru)\w*)")
_RECURRENT_MODULES = re.compile(r"\.rnn\.(LSTM|GRU|RNN)$")
"""What a node of a decomposed program says of the module that it was part of."""

_MANY = sys.maxsize
_MOST_JSON_BYTES = 8 << 20
_ACCELERATOR = re.compile(rb'"type":\s*"(cuda|xpu|mps)"')


def open_exported(
    path: Path, options: Mapping[str, object], device: torch.device, trust: CodeTrust
) -> Program:
    """Open a ``torch.export`` archive; without the trust in any pickle, a checked one.

    Raises:
        LoadError: this torch cannot read it, or its program cannot be served.
    """
    program = _load_exported(path, trust)
    problem = problem_with_exported(program)
    if problem is not None:
        raise LoadError(f"'{path}' {problem}")
    tensors = [*program.state_dict.values(), *program.constants.values()]
    elsewhere = [t for t in tensors if isinstance(t, torch.Tensor) and t.device.type != "cpu"]
    if device.type != "cpu" or elsewhere:
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module = program.module()
    if trust.pickles is not PicklePolicy.ANY:
        with_checks(module)
    spec = program.call_spec.in_spec

    def run(tensors: Sequence[torch.Tensor]) -> object:
        args, kwargs = tree_unflatten(list(tensors), spec)
        return module(*args, **kwargs)

    inputs = tuple(_exported_inputs(path, program))
    outputs = tuple(_exported_outputs(program))
    shapes = [*(each.shape for each in inputs), *(output.shape for output in outputs)]
    single_row = all(shape is not None and shape[:1] == (1,) for shape in shapes)
    return Program(
        run,
        inputs,
        device,
        outputs,
        single_row=single_row,
        recurrent=_is_recurrent(program),
        metadata={"file": Kind.EXPORTED.value},
    )


def problem_with_exported(program: ExportedProgram) -> str | None:
    """Say why a program's answers are not reproducible; None when they are."""
    calls = list(_calls(program))
    for schema, given in calls:
        if _is_training(given):
            return (
                f"was exported in training mode: '{schema.name}' returns another result for each "
                f"call; call model.eval() first: {HOW_TO_EXPORT}"
            )
    signature = program.graph_signature
    changed = list(signature.buffers_to_mutate.values())
    for schema, given in calls:
        written = [a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write]
        names = [str(given.get(name)) for name in written]
        changed += [signature.inputs_to_buffers.get(name, "") for name in names]
    for buffer in filter(None, changed):
        return (
            f"changes its own buffer '{buffer}' with every call, so that a request would change "
            "the answer to the next; make that state an input and an output"
        )
    return None


def _calls(
    program: ExportedProgram,
) -> Iterator[tuple[torch.FunctionSchema, dict[str, object]]]:
    """Yield the operations of a program, each with its arguments by name."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op == "call_function" and schema is not None:
            names = (argument.name for argument in schema.arguments)
            yield schema, dict(zip(names, node.args, strict=False)) | node.kwargs


def _is_training(given: Mapping[str, object]) -> bool:
    """Ask whether an operation is random, or depends on other rows of its batch, as in training."""
    if given.get("train", given.get("training")) is not True:
        return bool(given.get("dropout_p"))
    if "running_mean" in given:
        # A batch norm that keeps no statistics is the same in both modes.
        return given["running_mean"] is not None
    return given.get("p", given.get("dropout")) != 0


def _load_exported(path: Path, trust: CodeTrust) -> ExportedProgram:
    try:
        if trust.pickles is not PicklePolicy.ANY:
            return open_checked(path, trust.allowed)
        with path.open("rb") as file:
            return torch.export.load(file)
    except Exception as error:  # torch's own reader may raise anything
        if isinstance(error.__cause__, NotAllowed):
            raise
        device = _accelerator_of(path)
        if device is not None and not torch.accelerator.is_available():
            raise LoadError(
                f"'{path}' was exported on a '{device}' device, which this machine lacks; export "
                f"it from the CPU: {HOW_TO_EXPORT}"
            ) from error
        if isinstance(error, LoadError):
            raise
        raise unreadable(path, Kind.EXPORTED, error) from error


def _accelerator_of(path: Path) -> str | None:
    """Return the type of the accelerator that an archive's tensors were on, if any."""
    try:
        with open_regular(path) as file, open_archive(file) as archive:
            for name in archive.namelist():
                if not name.endswith(".json"):
                    continue
                with archive.open(name) as unpacked:
                    found = _ACCELERATOR.search(unpacked.read(_MOST_JSON_BYTES))
                if found:
                    return found[1].decode()
    except Exception:  # noqa: BLE001 - what unpacks a damaged archive may raise anything
        return None
    return None


def _exported_inputs(path: Path, program: ExportedProgram) -> Iterator[ProgramInput]:
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for name in program.graph_signature.user_inputs:
        value = nodes[name].meta.get("val") if isinstance(name, str) and name in nodes else name
        if not isinstance(value, torch.Tensor) or value.dtype not in DATATYPES:
            what = value.dtype if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
            raise LoadError(
                f"'{path}' expects {what} for its input '{name}'; only tensors of "
                "numbers are supported"
            )
        yield ProgramInput(str(name), value.dtype, _shape(value), limits=_limits(value, program))


def _exported_outputs(program: ExportedProgram) -> Iterator[TensorSpec]:
    """Declare a program's outputs: a dict's keys, else ``output-0`` and so on; no ``None``."""
    nodes = {node.name: node for node in program.graph.nodes}
    found = [
        None if output is None else nodes.get(str(output), output)
        for output in program.graph_signature.user_outputs
    ]
    spec = program.call_spec.out_spec
    parts = flat(found if spec is None else tree_unflatten(found, spec))
    is_named = all(name for name, _ in parts)
    for index, (name, node) in enumerate(parts):
        value = getattr(node, "meta", {}).get("val")
        name = name if is_named else f"output-{index}"
        if isinstance(value, torch.Tensor):
            yield TensorSpec(name, DATATYPES.get(value.dtype), _shape(value))
        else:
            yield TensorSpec(name)


def _is_recurrent(program: ExportedProgram) -> bool:
    """Ask whether a program has a recurrent network, whole or decomposed into its steps."""
    modules = {
        str(kind)
        for node in program.graph.nodes
        for _, kind in (node.meta.get("nn_module_stack") or {}).values()
    }
    schemas = (schema.name for schema, _ in _calls(program))
    return any(map(_RECURRENT.fullmatch, schemas)) or any(map(_RECURRENT_MODULES.search, modules))


def _limits(value: torch.Tensor, program: ExportedProgram) -> dict[int, tuple[int, int]]:
    """Return the least and the greatest size of each dimension that may vary."""
    found = {}
    for index, size in enumerate(value.shape):
        expression = getattr(getattr(size, "node", None), "expr", None)
        limits = program.range_constraints.get(expression)
        if limits is not None:
            found[index] = (_whole(limits.lower, 0), _whole(limits.upper, _MANY))
    return found


def _whole(limit: object, unlimited: int) -> int:
    return int(str(limit)) if str(limit).isdigit() else unlimited


def _shape(value: torch.Tensor) -> tuple[int, ...]:
    return tuple(size if type(size) is int else -1 for size in value.shape)
