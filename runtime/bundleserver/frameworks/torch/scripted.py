"""TorchScript files, which contain their code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks.torch.files import HOW_TO_EXPORT, Kind, unreadable
from bundleserver.frameworks.torch.program import DTYPES, Program, ProgramInput
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

_INDEX_OF = {"aten::embedding": 1, "aten::embedding_bag": 1, "aten::one_hot": 0}
"""Operations that expect integers, and the position of that argument."""

_INDEXING = (*_INDEX_OF, "aten::_pack_padded_sequence", "aten::index", "aten::gather")
"""Operations with integers, which may be computed of an input."""

_RECURRENT = re.compile(
    r"\b(aten|quantized)::(lstm|gru|rnn_tanh|rnn_relu|quantized_(lstm|gru)\w*)\("
)


def open_scripted(
    path: Path, options: Mapping[str, object], device: torch.device, trust: CodeTrust
) -> Program:
    """Open a TorchScript file, which is code of its own: it can read and write files.

    Option ``datatypes``: those of its inputs, by position. By default an input that indexes an
    embedding is INT64, and others have the parameters' datatype.

    Raises:
        LoadError: it is not trusted, this torch cannot read it, or its ``forward`` expects other
            values than tensors.
    """
    _refuse_code(path, trust)
    try:
        module = torch.jit.load(  # type: ignore[no-untyped-call] # torch leaves it untyped
            str(path), map_location=device
        ).eval()
    except Exception as error:  # torch's own reader may raise anything
        raise unreadable(path, Kind.SCRIPT, error) from error
    if not hasattr(module, "forward"):
        raise LoadError(f"'{path}' is a TorchScript file without a method 'forward'")
    inputs = _scripted_inputs(path, module, options.get("datatypes"))

    def run(tensors: Sequence[torch.Tensor]) -> object:
        return module(*tensors)

    return Program(
        run,
        inputs,
        device,
        recurrent=_RECURRENT.search(str(module.inlined_graph)) is not None,
        sizes=tuple(tuple(weight.shape) for weight in _weights(module)),
        dtypes_known="datatypes" in options or not _has_indices(module),
        metadata={"file": Kind.SCRIPT.value},
    )


def _refuse_code(path: Path, trust: CodeTrust) -> None:
    """Refuse the code of a file where the operator trusts none; torch itself checks nothing."""
    if trust.bundle_code and trust.pickles is not PicklePolicy.DENY:
        return
    flag = "--bundle_code=deny" if not trust.bundle_code else "--pickle_policy=deny"
    raise LoadError(
        f"'{path}' is a TorchScript file, which has code of its own, and {flag} allows none; "
        f"export the model instead: {HOW_TO_EXPORT}"
    )


def _has_indices(module: torch.jit.ScriptModule) -> bool:
    graph = module.inlined_graph
    return any(
        graph.findNode(kind) is not None  # type: ignore[attr-defined] # untyped in torch
        for kind in _INDEXING
    )


def _weights(module: torch.jit.ScriptModule) -> Iterator[torch.Tensor]:
    """Yield the weights in order; those of a frozen module are constants of its graph."""
    yield from module.parameters()
    yield from module.buffers()
    graph = module.inlined_graph
    for node in graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined] # untyped
        value = node.output().toIValue()
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, torch.Tensor) and one.ndim:
                yield one


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
    if len(names) != count or any(str(name) not in DTYPES for name in names):
        raise LoadError(
            f"'{path}': options.datatypes is {datatypes!r}; expected {count}, one per input, of "
            f"{quoted(DTYPES)}"
        )
    return [DTYPES[str(name)] for name in names]


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
