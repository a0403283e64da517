"""Torch's files with code in them: under ``listed`` and ``deny`` nothing of it runs."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from bundleserver.errors import LoadError
from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.frameworks.torch.checked.expressions import checked_expression, checked_guard
from bundleserver.frameworks.torch.checked.operators import is_listed
from bundleserver.frameworks.torch.checked.problems import NotAllowed
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.tensors import NamedTensor

LISTED = CodeTrust(PicklePolicy.LISTED)
DENY = CodeTrust(PicklePolicy.DENY)
MODEL = "models/model.json"
TORCH = framework_named("torch")


class Small(nn.Module):
    """Parameters, a buffer, a constant, and sizes that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("shift", torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x) + self.shift + torch.tensor([0.5, 1.0])
        return nn.functional.gelu(y.reshape(-1, 2, 2), approximate="none").reshape(x.shape[0], 2)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """Return an archive as torch.export.save writes it."""
    path = tmp_path_factory.mktemp("honest") / "model.pt2"
    n = Dim("n", min=1, max=50)
    program = torch.export.export(Small().eval(), (torch.rand(4, 3),), dynamic_shapes=({0: 2 * n},))
    torch.export.save(program, path)
    return path


@pytest.fixture
def canary(tmp_path):
    """Return a file that gadgets write."""
    return tmp_path / "canary"


def entries_of(path):
    """Return an archive's entries by their names below the root, and the root."""
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        return {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}, root


def archived(path, entries, root="model", extra=()):
    """Write an archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in [*entries.items(), *extra]:
            archive.writestr(f"{root}/{name}", data)
    return path


def edited(honest, path, edit):
    """Write the honest archive with another program."""
    entries, root = entries_of(honest)
    program = json.loads(entries[MODEL])
    edit(program)
    entries[MODEL] = json.dumps(program).encode()
    return archived(path, entries, root)


def refused(path, trust):
    """Open a file and return why not."""
    with pytest.raises(LoadError) as refusal:
        TORCH.load(path, LoadContext(trust=trust))
    return str(refusal.value)


def graph(program):
    """Return the graph of a program's JSON."""
    return program["graph_module"]["graph"]


def runs(canary):
    """Return an expression that writes the canary."""
    return f"__import__('pathlib').Path({str(canary)!r}).write_text('ran')"


def _nodes(program, name):
    return [one for one in graph(program)["nodes"] if name in one["target"]]


def _renamed(program, old, new):
    """Give a value another name wherever it is used."""
    text = json.dumps(program).replace(json.dumps(old), json.dumps(new))
    program.clear()
    program.update(json.loads(text))


def _signature(program):
    return program["graph_module"]["module_call_graph"][0]["signature"]


def _expression(program, code):
    values = graph(program)["sym_int_values"]
    next(iter(values.values()))["as_expr"]["expr_str"] = code


def _size(program, code):
    for meta in graph(program)["tensor_values"].values():
        for size in meta["sizes"]:
            if "as_expr" in size:
                size["as_expr"]["expr_str"] = code


def _call(program, target, *arguments):
    node = copy.deepcopy(_nodes(program, "aten.linear")[0])
    node["target"] = target
    node["inputs"] = [{"name": "self", "arg": one, "kind": 1} for one in arguments]
    node["name"] = node["outputs"][0]["as_tensor"]["name"] = "evil"
    graph(program)["tensor_values"]["evil"] = graph(program)["tensor_values"]["linear"]
    graph(program)["nodes"].insert(0, node)


def _kwarg(program, code):
    node = _nodes(program, "aten.linear")[0]
    node["inputs"][0].update(name=f"input=({code},)[1:] or x, y", kind=2)


def _parameter(program, code):
    for spec in program["graph_module"]["signature"]["input_specs"]:
        if "parameter" in spec:
            spec["parameter"]["parameter_name"] = f'a") or {code} or getattr(self, "b'


def _spec(program, key):
    spec = {
        "type": "builtins.dict",
        "context": json.dumps([key]),
        "children_spec": [{"type": None, "context": None, "children_spec": []}],
    }
    empty = {"type": "builtins.tuple", "context": "null", "children_spec": []}
    whole = {"type": "builtins.tuple", "context": "null", "children_spec": [empty, spec]}
    _signature(program)["in_spec"] = json.dumps([1, whole])


def _enum_spec(program, fqn):
    context = json.dumps({"__enum__": True, "fqn": fqn, "name": "A"})
    tree = {"type": "builtins.tuple", "context": context, "children_spec": []}
    _signature(program)["in_spec"] = json.dumps([1, tree])


def _name(program, code):
    _renamed(program, "linear", f"linear = {code}; linear_")


EDITS = {
    "expression": lambda p, c: _expression(p, runs(c)),
    "expression of a size": lambda p, c: _size(p, runs(c)),
    "expression by a lambda": lambda p, c: _size(p, f"Integer((lambda: {runs(c)})())"),
    "expression by an attribute": lambda p, c: _size(p, "Integer(2).__class__.__mro__"),
    "expression with a keyword": lambda p, c: _size(p, f"Symbol('s1', integer={runs(c)})"),
    "expression in a string": lambda p, c: _size(p, f'Symbol("{runs(c)}")'),
    "expression by a name of sympy": lambda p, c: _size(p, f"sympify({runs(c)!r})"),
    "expression that never ends": lambda p, c: _size(p, "Pow(Integer(9), Pow(Integer(9), 99))"),
    "guard": lambda p, c: p["guards_code"].append(f"{runs(c)} == 3"),
    "guard of two statements": lambda p, c: p["guards_code"].append(f"1 == 1, ''); {runs(c)}; (1"),
    "guard by a key": lambda p, c: p["guards_code"].append(f"L['x\"); {runs(c)}; (\"'] == 1"),
    "guard by a method": lambda p, c: p["guards_code"].append("L['x'].numpy().tofile('x') == 1"),
    "operator of torch.os": lambda p, c: _call(p, "torch.os.system", {"as_string": f"touch {c}"}),
    "operator that loads": lambda p, c: _call(p, "torch.load", {"as_string": str(c)}),
    "operator that loads libraries": lambda p, c: _call(
        p, "torch.ops.load_library", {"as_string": str(c)}
    ),
    "operator that makes files": lambda p, c: _call(
        p,
        "torch.ops.aten.from_file.default",
        {"as_string": str(c)},
        {"as_bool": True},
        {"as_int": 4},
    ),
    "operator of TorchScript": lambda p, c: _call(
        p, "torch.ops.aten.save.default", {"as_string": "x"}, {"as_string": str(c)}
    ),
    "operator of operator": lambda p, c: _call(
        p, "_operator.methodcaller", {"as_string": "write_text"}
    ),
    "operator of math": lambda p, c: _call(p, "math.__loader__.load_module", {"as_string": "os"}),
    "operator of an extension": lambda p, c: _call(p, "#evil:op"),
    "operator that calls classes": lambda p, c: _call(
        p, "torch.ops.higher_order.call_torchbind", {"as_string": "x"}
    ),
    "operator that prints": lambda p, c: _call(
        p, "torch.ops.higher_order.print", {"as_string": "{0.__class__}"}
    ),
    "operator with raw memory": lambda p, c: _call(
        p, "torch.ops.aten.set_.source_Storage", {"as_string": "x"}
    ),
    "operator as an argument": lambda p, c: _call(
        p, "torch.ops.aten.relu.default", {"as_operator": "torch.os.system"}
    ),
    "dict as an argument": lambda p, c: _call(
        p, "torch.ops.aten.relu.default", {"as_string_to_argument": {runs(c): {"as_int": 1}}}
    ),
    "object as an argument": lambda p, c: _call(
        p, "torch.ops.aten.relu.default", {"as_custom_obj": {"name": "x", "class_fqn": "y"}}
    ),
    "name of a value": lambda p, c: _name(p, runs(c)),
    "name of an input": lambda p, c: _renamed(p, "x", f"x={runs(c)}"),
    "name that hides torch": lambda p, c: _renamed(p, "linear", "torch"),
    "name of an argument": lambda p, c: _kwarg(p, runs(c)),
    "name of a parameter": lambda p, c: _parameter(p, runs(c)),
    "names of forward": lambda p, c: _signature(p).update(
        forward_arg_names=[f"x={runs(c)}, y=None"]
    ),
    "key of the inputs": lambda p, c: _spec(p, f"x': {runs(c)}, 'y"),
    "module by an enum": lambda p, c: _enum_spec(p, "gadget_of_a_pt2:A"),
    "class of the inputs": lambda p, c: _signature(p).update(
        in_spec=_signature(p)["in_spec"].replace("builtins.dict", "collections.defaultdict")
    ),
    "device": lambda p, c: next(iter(graph(p)["tensor_values"].values()))["device"].update(
        type="privateuseone"
    ),
    "type of a value": lambda p, c: graph(p)["nodes"][0].update(target=["torch.os.system"]),
    "objects": lambda p, c: graph(p).update(
        custom_obj_values={"x": {"name": "x", "class_fqn": "y"}}
    ),
    "verifier": lambda p, c: p.update(verifiers=["EXIR"]),
    "range that never ends": lambda p, c: p["range_constraints"].update(
        u99999999999={"min_val": 0, "max_val": 1}
    ),
}


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
@pytest.mark.parametrize("name", EDITS)
def test_nothing_that_a_program_says_runs(honest, tmp_path, canary, monkeypatch, name, trust):
    """Text of an archive that torch would evaluate, import or print into source is refused."""
    (tmp_path / "gadget_of_a_pt2.py").write_text(f"import enum\n{runs(canary)}\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = edited(honest, tmp_path / "model.pt2", lambda program: EDITS[name](program, canary))

    message = refused(path, trust)

    assert "not opened under this --pickle_policy" in message
    assert not canary.exists()


@pytest.mark.parametrize(
    "name", ["expression of a size", "module by an enum", "expression with a keyword"]
)
def test_the_gadgets_are_real(honest, tmp_path, canary, monkeypatch, name):
    """Under ``any`` torch itself runs such text, which is what the other policies prevent."""
    (tmp_path / "gadget_of_a_pt2.py").write_text(f"import enum\n{runs(canary)}\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = edited(honest, tmp_path / "model.pt2", lambda program: EDITS[name](program, canary))

    refused(path, CodeTrust())

    assert canary.exists()


class Gadget:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.write_text, (self.canary, "ran")


def saved(thing, **settings):
    """Return what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(thing, buffer, **settings)
    return buffer.getvalue()


ENTRIES = {
    "legacy weights": "data/weights/model.pt",
    "legacy constants": "data/constants/model.pt",
    "object": "data/constants/custom_obj_0",
    "opaque object": "data/constants/opaque_obj_0",
    "second program": "models/other.json",
    "compiled library": "data/aotinductor/model/evil.so",
    "executorch": "data/executorch/model.pte",
    "unknown": "anything",
}


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
@pytest.mark.parametrize("name", ENTRIES)
def test_no_entry_is_opened_that_an_honest_archive_lacks(honest, tmp_path, canary, name, trust):
    """Pickles, libraries and second programs beside an honest one are refused by name."""
    entries, root = entries_of(honest)
    path = archived(tmp_path / "model.pt2", {**entries, ENTRIES[name]: saved(Gadget(canary))}, root)

    message = refused(path, trust)

    assert not canary.exists()
    assert ENTRIES[name] in message or "AOTInductor" in message


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
@pytest.mark.parametrize("place", ["weights", "constants"])
@pytest.mark.parametrize("prefix", ["", "custom_obj_0", "opaque_obj_0"])
def test_no_tensor_is_unpickled(honest, tmp_path, canary, place, prefix, trust):
    """A weight or a constant that says it is a pickle is refused."""
    entries, root = entries_of(honest)
    config = f"data/{place}/model_{place}_config.json"
    payload = json.loads(entries[config])
    first = next(iter(payload["config"].values()))
    entries[f"data/{place}/{first['path_name']}"] = saved(Gadget(canary))
    first.update(use_pickle=True, path_name=prefix or first["path_name"])
    entries[config] = json.dumps(payload).encode()
    path = archived(tmp_path / "model.pt2", entries, root)

    assert "an object that was pickled" in refused(path, trust)
    assert not canary.exists()


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
def test_sample_inputs_are_never_opened(honest, tmp_path, canary, trust):
    """The pickle of the sample inputs may be anything; the program opens without it."""
    entries, root = entries_of(honest)
    entries["data/sample_inputs/model.pt"] = saved(Gadget(canary))
    path = archived(tmp_path / "model.pt2", entries, root)

    predictor = TORCH.load(path, LoadContext(trust=trust))

    assert not canary.exists()
    assert (4, 2) == predictor.call("predict", [rows(4)], {})[0].shape


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
def test_an_entry_that_is_there_twice_is_refused(honest, tmp_path, trust):
    """Two readers of an archive with two entries of one name would open different ones."""
    entries, root = entries_of(honest)
    path = tmp_path / "model.pt2"
    with pytest.warns(UserWarning, match="Duplicate name"):
        archived(path, entries, root, extra=[(MODEL, entries[MODEL])])

    assert "is there twice" in refused(path, trust)


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
def test_a_shape_beyond_its_bytes_is_refused(honest, tmp_path, trust):
    """A weight that claims memory which is not its own is refused."""
    entries, root = entries_of(honest)
    config = "data/weights/model_weights_config.json"
    payload = json.loads(entries[config])
    payload["config"]["linear.weight"]["tensor_meta"]["strides"][0]["as_int"] = 1 << 40
    entries[config] = json.dumps(payload).encode()

    assert "larger than its bytes" in refused(
        archived(tmp_path / "model.pt2", entries, root), trust
    )


def rows(count):
    """Return the input of so many rows."""
    return NamedTensor("x", np.linspace(0, 1, 3 * count, dtype=np.float32).reshape(count, 3))


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
def test_an_honest_program_answers_the_same_under_every_policy(honest, trust):
    """What torch.export.save writes opens without code, with the same limits and numbers."""
    ours = TORCH.load(honest, LoadContext(trust=trust))
    theirs = TORCH.load(honest, LoadContext())

    for count in (4, 6, 50):
        expected = theirs.call("predict", [rows(count)], {})[0]
        np.testing.assert_array_equal(expected, ours.call("predict", [rows(count)], {})[0])
    assert theirs.methods == ours.methods


def test_an_operator_opens_operators_by_name(honest, tmp_path):
    """An operator that is not listed is named with what to add, and opens once it is added."""
    name = "torch.ops.aten.empty_like.default"
    path = edited(
        honest,
        tmp_path / "model.pt2",
        lambda program: _call(program, name, {"as_tensor": {"name": "p_linear_weight"}}),
    )

    assert name in refused(path, LISTED)
    assert "--pickle_allow" in refused(path, LISTED)
    TORCH.load(path, LoadContext(trust=CodeTrust(PicklePolicy.LISTED, frozenset({name}))))


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.relu.__class__",
        "torch.ops.aten.relu.default.__call__",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.resize_.default",
        "torch.ops.aten._print.default",
        "torch.ops.prim.device.default",
        "torch.ops.higher_order.with_effects",
        "torch.ops.import_module",
        "torch.classes.load_library",
        "torch._operator.add",
        "_operator.call",
        "_operator.pow",
        "math.trunc.__self__",
        "builtins.eval",
        "",
    ],
)
def test_an_operator_is_listed_by_its_whole_name(target):
    """Near a listed name nothing else is listed."""
    assert not is_listed(target, ())


@pytest.mark.parametrize("target", ["torch.load", "torch.os.system", "_operator.call"])
def test_the_operators_list_opens_only_operators(target):
    """A function that the operator trusts in pickles is no operator of a program."""
    assert not is_listed(target, {target})


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "Mul(Integer(2), FloorDiv(Symbol('s0', integer=True), Integer(2)))",
        "Add(Integer(-1), Pow(Symbol('s3', integer=True), Integer(2)))",
        "Max(Integer(1), Symbol('u0', integer=True))",
        "Equality(Mod(Symbol('s0'), Integer(8)), Integer(0))",
        "Float('0.5', precision=53)",
    ],
)
def test_expressions_of_sizes_pass(text):
    """What torch prints of sizes passes, and is the same expression."""
    assert text == checked_expression(text, "size")


@pytest.mark.parametrize(
    "text",
    [
        "L['x'].size()[0] == 3",
        "L['a']['b'].size()[1] % 8 == 0",
        "max(1, L['x'].size()[0] // 2) != L['y'][0].size()[0]",
        "2 <= L['x'].size()[0] <= 9 and L['k'] != 4",
    ],
)
def test_conditions_of_inputs_pass(text):
    """What torch prints of inputs passes."""
    assert text == checked_guard(text, "guard")


@pytest.mark.parametrize(
    "text",
    [
        "L.__class__",
        "L['x'].size.__self__",
        "[x for x in L]",
        "L['x'](1)",
        "max.__self__",
        "print(1, 2)",
        "(lambda: 1)() == 1",
        "L[L['x']]",
        "L['x'].size()[L['y']]",
        "f'{L}' == 'x'",
        "L['x'] if 1 else 2",
        "1 == 1 # comment\n",
        "L['x'].size()[0] is 1",
        "(y := 3) == 3",
        "-" * 5000 + "1",
        "(" * 300 + "1" + ")" * 300,
        "'a' == 'a'",
        "",
    ],
)
def test_nothing_else_passes_as_a_condition(text):
    """Whatever could call, look up or hide something is no condition."""
    with pytest.raises(NotAllowed):
        checked_guard(text, "guard")
    with pytest.raises(NotAllowed):
        checked_expression(text, "size")


def nested(text, function, times, *more):
    """Put an expression into a function, again and again."""
    for _ in range(times):
        text = f"{function}({', '.join((text, *more))})"
    return text


SIZE = "Symbol('s7', integer=True)"
SUM = f"Add({', '.join(f's{n}' for n in range(9))})"
LARGE = {
    "powers of powers": nested("Integer(9)", "Pow", 7, "Integer(4)"),
    "powers of a size": nested(SIZE, "PowByNatural", 4, "Integer(4)"),
    "a float's powers": nested("Float('1e200', precision=53)", "FloatPow", 3, "Integer(4)"),
    "products": f"Mul({', '.join(['Integer(18446744073709551615)'] * 90)})",
    "products of powers": nested(nested("s1", "Pow", 1, "Integer(4)"), "Mul", 9, "Pow(s2, 3)"),
    "roots": nested("Integer(7)", "Pow", 9, "Rational(4, 3)"),
    "powers of a sum": f"Pow({SUM}, Integer(4))",
    "products of sums": f"Mul({SUM}, {SUM}, {SUM})",
    "a power in a quotient": f"FloorDiv(Pow({SUM}, Integer(3)), s1)",
    "depth": nested("s1", "FloorDiv", 60, "Integer(2)"),
    "powers in a maximum": nested("Max(Integer(5), Integer(6))", "Pow", 6, "Integer(4)"),
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_an_expression_cannot_grow_when_it_is_evaluated(text):
    """What is short as text and no size as a value is refused before anybody evaluates it."""
    with pytest.raises(NotAllowed, match="too large to be sizes"):
        checked_expression(text, "size")


def test_an_archive_with_powers_of_powers_is_refused_at_once(honest, tmp_path):
    """A load that would compute for ever does not begin."""
    path = edited(honest, tmp_path / "model.pt2", lambda p: _size(p, LARGE["powers of powers"]))

    assert "too large to be sizes" in refused(path, DENY)


def lstm_state():
    """Return a state dict that a server can rebuild."""
    encoder, decoder = nn.LSTM(3, 4, batch_first=True), nn.LSTM(4, 3, batch_first=True)
    module = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    return {name: value.clone() for name, value in module.state_dict().items()}


WEIGHTS = {
    "torch.save": lambda thing: saved(thing),
    "torch.save, before zip archives": lambda thing: saved(
        thing, _use_new_zipfile_serialization=False
    ),
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("form", WEIGHTS)
def test_state_dicts_open_by_the_list_and_not_without_pickles(tmp_path, form):
    """Tensors alone are a restricted pickle, which ``deny`` refuses with what to do instead."""
    path = tmp_path / "model.pt"
    path.write_bytes(WEIGHTS[form](lstm_state()))

    TORCH.load(path, LoadContext(trust=LISTED))

    assert "export the model instead" in refused(path, DENY)


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
@pytest.mark.parametrize("form", WEIGHTS)
def test_nothing_in_a_state_dict_runs(tmp_path, canary, form, trust):
    """An object among the tensors is refused, and so is what other code has called safe."""
    path = tmp_path / "model.pt"
    path.write_bytes(WEIGHTS[form]({**lstm_state(), "encoder.x": Gadget(canary)}))

    with torch.serialization.safe_globals([Path.write_text, type(canary), Gadget]):
        refused(path, trust)

        assert {Path.write_text, Gadget} <= {*torch.serialization.get_safe_globals()}
    assert not canary.exists()


@pytest.mark.parametrize(
    "changed",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ccollections\nOrderedDict\n",
        b"ctorch\nSize\n",
    ],
)
def test_a_state_dict_changes_nothing_of_the_process(tmp_path, changed):
    """Setting attributes of a class or a function by BUILD is refused under every policy."""
    state = pickle.dumps(lstm_state(), 2)
    poison = b"\x80\x02" + changed + b"}X\x06\x00\x00\x00poison\x88sb0"
    path = tmp_path / "model.pkl"
    path.write_bytes(poison + state[2:])

    for trust in (CodeTrust(), LISTED, DENY):
        refused(path, trust)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "poison")
    assert not hasattr(torch.Size, "poison")


class Writer(nn.Module):
    """Makes a file when it is called; TorchScript can."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("canary", shared=True, size=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_code_of_the_bundle(tmp_path, monkeypatch):
    """It can make files, so it opens only where code of bundles may run, and never under deny."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    torch.jit.script(Writer()).save(str(path))

    for trust in (DENY, CodeTrust(bundle_code=False), CodeTrust(PicklePolicy.LISTED, (), False)):
        assert "code of its own" in refused(path, trust)
    assert not (tmp_path / "canary").exists()
    TORCH.load(path, LoadContext(trust=LISTED)).close()
