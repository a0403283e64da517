"""Programs that contain their code: ``torch.export`` archives and TorchScript files."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.utils._pytree import TreeSpec, tree_unflatten

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks.interface import first_line
from bundleserver.frameworks.torch.files import HOW_TO_EXPORT, Kind
from bundleserver.frameworks.torch.predictor import DATATYPES, Program, ProgramInput, any_rows
from bundleserver.tensors import TensorSpec

_DTYPES: Mapping[str, torch.dtype] = {
    datatype: dtype for dtype, datatype in DATATYPES.items() if dtype is not torch.bfloat16
}
_INDEX_OF = {"aten::embedding": 1, "aten::embedding_bag": 1, "aten::one_hot": 0}
"""TorchScript operations that expect integers, and the position of that argument."""

_ACCELERATOR = re.compile(rb'"type":\s*"(cuda|xpu|mps)"')


def open_exported(path: Path, options: Mapping[str, object], device: torch.device) -> Program:
    """Open a ``torch.export`` archive; option ``sequence``: rows are sequences of length 1.

    Raises:
        LoadError: this torch cannot read it, or its program cannot be served.
    """
    program = _load_exported(path)
    problem = problem_with_exported(program)
    if problem is not None:
        raise LoadError(f"'{path}' {problem}")
    tensors = [*program.state_dict.values(), *program.constants.values()]
    elsewhere = [t for t in tensors if isinstance(t, torch.Tensor) and t.device.type != "cpu"]
    if device.type != "cpu" or elsewhere:
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module = program.module()
    spec = program.call_spec.in_spec

    def run(tensors: Sequence[torch.Tensor]) -> object:
        args, kwargs = tree_unflatten(list(tensors), spec)
        return module(*args, **kwargs)

    inputs = tuple(_exported_inputs(path, program))
    outputs = tuple(_exported_outputs(program))
    shapes = [*(each.shape for each in inputs), *(output.shape for output in outputs)]
    single_row = all(shape is not None and shape[:1] == (1,) for shape in shapes)
    sequence = options.get("sequence") is True
    outputs = tuple(
        replace(output, shape=None if sequence else any_rows(output.shape, single_row))
        for output in outputs
    )
    metadata = {"file": Kind.EXPORTED.value}
    return Program(run, inputs, device, outputs, single_row, sequence, metadata)


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


def open_scripted(path: Path, options: Mapping[str, object], device: torch.device) -> Program:
    """Open a TorchScript file.

    Options: ``sequence``, as above; ``datatypes``, those of its inputs, by position. By default an
    input that indexes an embedding is INT64, and others have the parameters' datatype.

    Raises:
        LoadError: this torch cannot read it, or its ``forward`` expects other values than tensors.
    """
    try:
        module = torch.jit.load(  # type: ignore[no-untyped-call] # torch leaves it untyped
            str(path), map_location=device
        ).eval()
    except Exception as error:  # torch's own reader may raise anything
        raise _unreadable(path, Kind.SCRIPT, error) from error
    if not hasattr(module, "forward"):
        raise LoadError(f"'{path}' is a TorchScript file without a method 'forward'")
    inputs = _scripted_inputs(path, module, options.get("datatypes"))

    def run(tensors: Sequence[torch.Tensor]) -> object:
        return module(*tensors)

    sequence = options.get("sequence") is True
    metadata = {"file": Kind.SCRIPT.value}
    return Program(run, inputs, device, sequence=sequence, metadata=metadata)


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


def _load_exported(path: Path) -> ExportedProgram:
    try:
        with path.open("rb") as file:
            return torch.export.load(file)
    except Exception as error:  # torch's own reader may raise anything
        device = _accelerator_of(path)
        if device is not None and not torch.accelerator.is_available():
            raise LoadError(
                f"'{path}' was exported on a '{device}' device, which this machine lacks; export "
                f"it from the CPU: {HOW_TO_EXPORT}"
            ) from error
        raise _unreadable(path, Kind.EXPORTED, error) from error


def _accelerator_of(path: Path) -> str | None:
    """Return the type of the accelerator that an archive's tensors were on, if any."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".json") and (found := _ACCELERATOR.search(archive.read(name))):
                    return found[1].decode()
    except (zipfile.BadZipFile, OSError):
        return None
    return None


def _unreadable(path: Path, kind: Kind, error: Exception) -> LoadError:
    return LoadError(
        f"'{path}' is {kind.value} that torch {torch.__version__} cannot open: "
        f"{first_line(error)}; it is damaged, or written by another version of torch: save it "
        "again with this one"
    )


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
        yield ProgramInput(str(name), value.dtype, _shape(value))


def _exported_outputs(program: ExportedProgram) -> Iterator[TensorSpec]:
    """Declare a program's outputs: a dict's keys, else ``output-0`` and so on; no ``None``."""
    nodes = {node.name: node for node in program.graph.nodes}
    found = program.graph_signature.user_outputs
    names = _keys(program.call_spec.out_spec) or [f"output-{index}" for index in range(len(found))]
    for name, output in zip(names, found, strict=True):
        if output is None:
            continue
        node = nodes.get(str(output))
        value = None if node is None else node.meta.get("val")
        if isinstance(value, torch.Tensor):
            yield TensorSpec(name, DATATYPES.get(value.dtype), _shape(value))
        else:
            yield TensorSpec(name)


def _keys(spec: TreeSpec | None) -> list[str]:
    """Return the keys of a flat dict of tensors, in order."""
    if spec is None or spec.type is not dict:
        return []
    keys = list(spec.context)
    return keys if spec.num_leaves == len(keys) and all(isinstance(k, str) for k in keys) else []


def _shape(value: torch.Tensor) -> tuple[int, ...]:
    return tuple(size if type(size) is int else -1 for size in value.shape)


def _scripted_inputs(
    path: Path, module: torch.jit.ScriptModule, datatypes: object
) -> tuple[ProgramInput, ...]:
    schema = module.forward.schema  # type: ignore[attr-defined] # torch leaves it untyped
    arguments = schema.arguments[1:]
    known = [str(argument.type) in ("Tensor", "Optional[Tensor]") for argument in arguments]
    count = known.index(False) if False in known else len(known)
    for argument in arguments[count:]:
        if not argument.has_default_value():
            raise LoadError(
                f"'{path}' expects {argument.type} for its input '{argument.name}'; only tensors "
                "are supported"
            )
    dtypes = _declared_dtypes(path, datatypes, count) or _dtypes_of_graph(module, count)
    return tuple(
        ProgramInput(argument.name, dtype, optional=argument.has_default_value())
        for argument, dtype in zip(arguments[:count], dtypes, strict=True)
    )


def _declared_dtypes(path: Path, datatypes: object, count: int) -> list[torch.dtype] | None:
    if datatypes is None:
        return None
    names = datatypes if isinstance(datatypes, (list, tuple)) else ()
    if len(names) != count or any(str(name) not in _DTYPES for name in names):
        raise LoadError(
            f"'{path}': options.datatypes is {datatypes!r}; expected {count}, one per input, of "
            f"{quoted(_DTYPES)}"
        )
    return [_DTYPES[str(name)] for name in names]


def _dtypes_of_graph(module: torch.jit.ScriptModule, count: int) -> list[torch.dtype]:
    """Return the inputs' dtypes: an integer for an index, else that of the parameters."""
    floats = (p.dtype for p in module.parameters() if p.is_floating_point())
    usual = next(floats, torch.float32)
    graph = module.inlined_graph
    indices = {
        list(node.inputs())[position].debugName()
        for kind, position in _INDEX_OF.items()
        for node in graph.findAllNodes(kind)  # type: ignore[attr-defined] # untyped in torch
    }
    names = [value.debugName() for value in graph.inputs()][1 : 1 + count]
    return [torch.int64 if name in indices else usual for name in names]
