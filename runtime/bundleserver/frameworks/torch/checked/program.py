"""The program of an archive: its schema, names, operators and expressions."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from torch._export.serde import schema
from torch._export.serde.union import _Union

from bundleserver.documents.forms import quoted
from bundleserver.frameworks.torch.checked.archive import MODEL, Archive
from bundleserver.frameworks.torch.checked.expressions import checked_expression, checked_guard
from bundleserver.frameworks.torch.checked.operators import is_listed
from bundleserver.frameworks.torch.checked.problems import NotAllowed, shown
from bundleserver.frameworks.torch.checked.schema import converted
from bundleserver.frameworks.torch.checked.trees import checked_tree

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,249}")
_DOTTED = re.compile(r"[A-Za-z0-9_]{1,250}(\.[A-Za-z0-9_]{1,250}){0,60}")
_RANGE = re.compile(r"[A-Za-z0-9_ +*/(),.-]{1,400}")
_UNBACKED = re.compile(r"(u|zuf)\d{1,4}")
_MODULES = re.compile(r"[\w.,;@\[\]()<> -]{0,20000}")
_DEVICES = frozenset({"cpu", "cuda", "xpu", "mps"})
_DIALECTS = frozenset({"ATEN", "TRAINING"})
_MOST_STRING = 2_000
_GENERATED = re.compile(r"self|torch|device|inf|nan|NoneType|math|operator|(fx_)?pytree|getattr")
"""What the source that torch generates from a program refers to; a value may not hide it."""
_PLAIN_ARGUMENT = re.compile(
    r"as_(none|string|scalar_type|memory_format|layout|device|graph|complex|nested_tensors"
    r"|tensors?|optional_tensors?|ints?|floats?|bools?|sym_(int|float|bool)s?|(int|float)_lists)"
)


def read_program(archive: Archive, allowed: Collection[str]) -> Any:
    """Return the program of an archive as torch's dataclasses, ready for its deserializer.

    Raises:
        NotAllowed: it has what a program does not need, or an operator that is not listed.
    """
    program = converted(schema.ExportedProgram, archive.document(MODEL), "program")
    unlisted: set[str] = set()
    for part, where in _parts(program, "program"):
        if isinstance(part, schema.Node) and not is_listed(part.target, allowed):
            unlisted.add(part.target)
        rule = _RULES.get(type(part))
        if rule is None:
            raise NotAllowed(where, f"is a {type(part).__name__}, which no checked program has")
        rule(part, where)
    if unlisted:
        raise NotAllowed(
            f"it calls {quoted(sorted(one[:200] for one in unlisted), most=20)},",
            "which are not listed operators; add a line with each name 'torch.ops.…' that you "
            "trust to the file of --pickle_allow, or use --pickle_policy=any",
        )
    return program


def _parts(value: object, where: str) -> Iterator[tuple[object, str]]:
    """Yield every dataclass in a program, the outer before the inner."""
    if isinstance(value, _Union):
        yield value, where
        yield from _parts(value.value, f"{where}.{value.type!s}")
    elif is_dataclass(value):
        yield value, where
        for field in fields(value):
            yield from _parts(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            if not isinstance(one, (str, int, float)):
                yield from _parts(one, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(one, str):
                yield from _parts(one, f"{where}[{shown(key)}]")


def _check_name(name: object, where: str) -> None:
    fits = isinstance(name, str) and _NAME.fullmatch(name) and not keyword.iskeyword(name)
    if not fits or _GENERATED.fullmatch(str(name)) or str(name).startswith("__"):
        raise NotAllowed(where, f"is {shown(name)}; expected the name of a value")


def _check_dotted(name: str, where: str) -> None:
    if not _DOTTED.fullmatch(name) or any(part.startswith("__") for part in name.split(".")):
        raise NotAllowed(where, f"is {shown(name)}; expected the name of a parameter or a buffer")


def _name(part: Any, where: str) -> None:
    _check_name(part.name, f"{where}.name")


def _name_of(*names: str) -> Callable[[Any, str], None]:
    def check(part: Any, where: str) -> None:
        for name in names:
            _check_dotted(getattr(part, name), f"{where}.{name}")

    return check


def _input_name(part: schema.UserInputMutationSpec, where: str) -> None:
    _check_name(part.user_input_name, f"{where}.user_input_name")


def _symbolic(part: _Union, where: str) -> None:
    if part.type == "as_name":
        _check_name(part.value, f"{where}.as_name")


def _argument(part: schema.Argument, where: str) -> None:
    if not _PLAIN_ARGUMENT.fullmatch(str(part.type)):
        raise NotAllowed(f"{where}.{part.type!s}", "is an argument that no checked program has")
    if part.type == "as_string":
        _check_string(part.value, where)


def _constant(part: schema.ConstantValue, where: str) -> None:
    if part.type == "as_string":
        _check_string(part.value, where)


def _check_string(text: str, where: str) -> None:
    if len(text) > _MOST_STRING or not text.isprintable():
        raise NotAllowed(where, f"is {shown(text)}; expected a short printable string")


def _named_argument(part: schema.NamedArgument, where: str) -> None:
    if part.name:
        fits = _NAME.fullmatch(part.name) and not part.name.startswith("__")
        if not fits:
            raise NotAllowed(f"{where}.name", f"is {shown(part.name)}; expected an argument's name")


def _node(part: schema.Node, where: str) -> None:
    if part.name:
        _check_name(part.name, f"{where}.name")
    # Notes about how it was made, which no computation needs; the modules say what is recurrent.
    stack = part.metadata.get("nn_module_stack", "")
    part.metadata = {"nn_module_stack": stack} if stack and _MODULES.fullmatch(stack) else {}


def _graph(part: schema.Graph, where: str) -> None:
    if part.custom_obj_values:
        raise NotAllowed(f"{where}.custom_obj_values", "has objects; only tensors are opened")
    for names in (
        part.tensor_values,
        part.sym_int_values,
        part.sym_bool_values,
        part.sym_float_values,
    ):
        for name in names:
            _check_name(name, where)


def _module(part: schema.GraphModule, where: str) -> None:
    part.metadata, part.treespec_namedtuple_fields = {}, {}


def _call_entry(part: schema.ModuleCallEntry, where: str) -> None:
    if part.fqn:
        _check_dotted(part.fqn, f"{where}.fqn")


def _call_signature(part: schema.ModuleCallSignature, where: str) -> None:
    part.in_spec = checked_tree(part.in_spec, f"{where}.in_spec", is_input=True)
    part.out_spec = checked_tree(part.out_spec, f"{where}.out_spec", is_input=False)
    for name in part.forward_arg_names or ():
        _check_name(name, f"{where}.forward_arg_names")


def _expression(part: schema.SymExpr, where: str) -> None:
    part.expr_str = checked_expression(part.expr_str, f"{where}.expr_str")


def _device(part: schema.Device, where: str) -> None:
    if part.type not in _DEVICES or not 0 <= (part.index or 0) < 1024:
        raise NotAllowed(where, f"is {shown(part)}; expected one of {quoted(sorted(_DEVICES))}")


def _program(part: schema.ExportedProgram, where: str) -> None:
    if not part.verifiers or not set(part.verifiers) <= _DIALECTS:
        raise NotAllowed(f"{where}.verifiers", f"is {shown(part.verifiers)}")
    for key in part.range_constraints:
        is_symbol = key[:1] == "u" or key.startswith("zuf")
        if not _RANGE.fullmatch(key) or (is_symbol and not _UNBACKED.fullmatch(key)):
            raise NotAllowed(f"{where}.range_constraints", f"has {shown(key)}; expected a symbol")
    part.guards_code = [
        checked_guard(guard, f"{where}.guards_code[{index}]")
        for index, guard in enumerate(part.guards_code)
    ]


def _nothing(part: object, where: str) -> None:
    """Accept a part that has numbers, or parts that are checked themselves."""


_RULES: dict[type, Callable[[Any, str], None]] = {
    schema.ExportedProgram: _program,
    schema.GraphModule: _module,
    schema.Graph: _graph,
    schema.Node: _node,
    schema.NamedArgument: _named_argument,
    schema.Argument: _argument,
    schema.GraphArgument: _name,
    schema.TensorArgument: _name,
    schema.TokenArgument: _name,
    schema.OptionalTensorArgument: _nothing,
    schema.SymIntArgument: _symbolic,
    schema.SymFloatArgument: _symbolic,
    schema.SymBoolArgument: _symbolic,
    schema.ComplexValue: _nothing,
    schema.TensorMeta: _nothing,
    schema.SymInt: _nothing,
    schema.SymFloat: _nothing,
    schema.SymBool: _nothing,
    schema.SymExpr: _expression,
    schema.SymExprHint: _nothing,
    schema.Device: _device,
    schema.GraphSignature: _nothing,
    schema.InputSpec: _nothing,
    schema.UserInputSpec: _nothing,
    schema.InputToConstantInputSpec: _name,
    schema.ConstantValue: _constant,
    schema.InputToParameterSpec: _name_of("parameter_name"),
    schema.InputToBufferSpec: _name_of("buffer_name"),
    schema.InputToTensorConstantSpec: _name_of("tensor_constant_name"),
    schema.OutputSpec: _nothing,
    schema.UserOutputSpec: _nothing,
    schema.LossOutputSpec: _nothing,
    schema.BufferMutationSpec: _name_of("buffer_name"),
    schema.ParameterMutationSpec: _name_of("parameter_name"),
    schema.UserInputMutationSpec: _input_name,
    schema.RangeConstraint: _nothing,
    schema.ModuleCallEntry: _call_entry,
    schema.ModuleCallSignature: _call_signature,
    schema.SchemaVersion: _nothing,
}
"""Every kind of part that a checked program may have, and what is asked of it."""
