"""What a pickle cannot do under --pickle_policy=listed, instruction by instruction."""

from __future__ import annotations

import functools
import io
import pickle
from collections import OrderedDict
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.pickles.gate import open_stream
from bundleserver.frameworks.pickles.gate.models.formulas import check_formula
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

LISTED = CodeTrust(PicklePolicy.LISTED)
X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)
RECONSTRUCT, SCALAR = np.zeros(0).__reduce__()[0], np.float64(0).__reduce__()[0]
FROM_BYTES = np.zeros(0).__reduce_ex__(5)[0]
LINEAR = b"csklearn.linear_model._base\nLinearRegression\n"


def opened(data: bytes, *allowed: str) -> object:
    """Open a pickle through the gate, with these names of an operator."""
    return open_stream(io.BytesIO(data), CodeTrust(PicklePolicy.LISTED, frozenset(allowed)))


class Calls:
    """An object whose unpickling calls a function."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> object:
        return self.call[0], self.call[1:]


MARK = "gate_mark_of_test"
RUNS = {
    "reduce": b"cposix\nmkdir\n(S'%s'\ntR.",
    "inst": b"(S'%s'\niposix\nmkdir\n.",
    "obj": b"(cposix\nmkdir\nS'%s'\no.",
    "newobj": b"\x80\x02cposix\nmkdir\nS'%s'\n\x85\x81.",
    "newobj_ex": b"\x80\x04cposix\nmkdir\nS'%s'\n\x85}\x92.",
    "stack_global": b"\x80\x04\x8c\x05posix\x8c\x05mkdir\x93S'%s'\n\x85R.",
    "python_2_name": b'c__builtin__\neval\n(S\'__import__("os").mkdir("%s")\'\ntR.',
    "import_mapping": b"\x80\x02ccommands\ngetoutput\n(S'mkdir %s'\ntR.",
    "dotted_module": b"\x80\x04\x8c\x05numpy\x8c\x0ef2py.os.system\x93S'mkdir %s'\n\x85R.",
    "dotted_listed": b"\x80\x04\x8c\x05numpy\x8c\x11float64.tofile.os\x93S'%s'\n\x85R.",
    "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\nS'%s'\ntR.",
    "getattr_of_made": b"cbuiltins\ngetattr\n(" + LINEAR + b")\x81S'__class__%s'\ntR.",
    "getattr_of_listed": b"cbuiltins\ngetattr\n(cnumpy\nfloat64\nS'tofile%s'\ntR.",
    "map": b"cbuiltins\nmap\n(cposix\nmkdir\n(S'%s'\nltR.",
    "partial": b"cfunctools\npartial\n(cposix\nmkdir\ntR(S'%s'\ntR.",
    "partial_of_form": b"cfunctools\npartial\n(cbuiltins\ngetattr\ntR(S'%s'\ntR.",
    "partial_state": (b"cfunctools\npartial\n(cnumpy\nlog1p\ntR(cposix\nmkdir\n(S'%s'\nt}Ntb(tR."),
    "calls_a_partial": b"cfunctools\npartial\n(cnumpy\nlog1p\ntR(S'%s'\ntR.",
    "calls_an_object": LINEAR + b")\x81(S'%s'\ntR.",
    "object_state": LINEAR + b")\x81}S'__class__'\ncposix\nmkdir\nsb(S'%s'\n1.",
    "memo": b"cposix\nmkdir\nq\x000h\x00(S'%s'\ntR.",
    "extension": b"\x80\x02\x82\x01(S'%s'\ntR.",
    "persistent": b"S'%s'\nQ.",
    "persistent_0": b"P%s\n.",
    "buffer": b"\x80\x05S'%s'\n\x97.",
    "reconstructor": b"ccopyreg\n_reconstructor\n(cposix\nmkdir\nS'%s'\nNtR.",
    "reconstructor_base": (b"ccopyreg\n_reconstructor\n(" + LINEAR + b"cposix\nmkdir\nS'%s'\ntR."),
    "newobj_function": b"ccopyreg\n__newobj__\n(cposix\nmkdir\nS'%s'\ntR.",
    "new_index": b"cpandas.core.indexes.base\n_new_Index\n(cposix\nmkdir\n}S'a'\nS'%s'\nstR.",
    "encode": b"c_codecs\nencode\n(S'%s'\nS'hex'\ntR.",
    "memmap": b"cnumpy\nmemmap\n(S'%s'\nS'u1'\nS'w+'\nI0\n(I1\nttR.",
    "load": b"cnumpy\nload\n(S'%s'\nN\x88tR.",
    "joblib_load": b"cjoblib\nload\n(S'%s'\ntR.",
    "old_joblib": b"\x80\x02cjoblib.numpy_pickle\nNDArrayWrapper\n(S'%s'\ncnumpy\nndarray\ntR.",
    "joblib_memory": b"cjoblib.memory\nMemory\n(S'%s'\ntR.",
    "defaultdict": b"ccollections\ndefaultdict\n(cposix\nmkdir\ntR(S'%s'\ntR.",
    "values_become_calls": b"(lcposix\nmkdir\na(S'%s'\ntR.",
    "cloudpickle": b"ccloudpickle.cloudpickle\nsubimport\n(S'%s'\ntR.",
    "type": b"cbuiltins\ntype\n(S'%s'\n(t}tR.",
    "scipy_distribution": b"cscipy.stats._distn_infrastructure\nrv_sample\n)\x81}S'a'\nS'%s'\nsb.",
    "broken_tail": b"cposix\nmkdir\n(S'%s'\ntR\xff",
    "no_stop": b"cposix\nmkdir\n(S'%s'\ntR",
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("how", ["plain", "array", "nested"])
def test_no_instruction_calls_what_is_not_listed(name: str, how: str, tmp_path: Path) -> None:
    """Whatever way a stream takes to a call, the function is not reached."""
    mark = tmp_path / MARK
    code = RUNS[name] % str(mark).encode() if b"%s" in RUNS[name] else RUNS[name]
    data = wrapped(code, how)

    with pytest.raises(Exception) as refused:  # noqa: PT011 - damaged ones say so
        opened(data, "collections.UserDict", "os.mkdir", "posix.mkdir", "builtins.eval")
    assert not mark.exists()
    if name not in ("broken_tail", "no_stop"):
        assert isinstance(refused.value, Refused), refused.value


def wrapped(code: bytes, how: str) -> bytes:
    """Put a pickle into an array of objects of joblib, or into a list."""
    if how == "array":
        file = io.BytesIO()
        joblib.dump(np.array([None], object), file)
        head, array = file.getvalue(), np.array([None], object)
        # joblib 1.3 writes it with protocol 2.
        tail = next(data for of in (5, 2) if (data := pickle.dumps(array, of)) in head)
        return head.replace(tail, code)
    if how == "nested":
        return b"(l" + code[:-1] + b"a."
    return code


POISONS = {
    "listed_class": LINEAR + b"}S'predict'\nNsb.",
    "class_slots": LINEAR + b"N}S'predict'\nNs\x86b.",
    "listed_function": b"cnumpy\nlog1p\n}S'x'\nI1\nsb.",
    "string": b"S'a'\n}S'x'\nI1\nsb.",
    "dunder": LINEAR + b")\x81}S'__class__'\nNsb.",
    "dunder_dict": LINEAR + b")\x81}S'__dict__'\n}sb.",
    "twice": LINEAR + b")\x81}b}b.",
    "method_by_slots": (
        b"\x80\x02csklearn.model_selection._split\nStratifiedKFold\n)\x81N}S'split'\nI1\ns\x86b."
    ),
    "items_of_object": LINEAR + b")\x81S'a'\nI1\ns.",
    "items_of_class": LINEAR + b"S'a'\nI1\ns.",
    "append_to_object": LINEAR + b")\x81S'a'\na.",
    "items_of_array": (
        b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntRI0\nI1\ns."
    ),
    "reference_in_list": b"(lcposix\nmkdir\na.",
    "new_in_list": b"(l" + LINEAR + b"a.",
    "new_in_dict": b"}S'a'\n" + LINEAR + b"s.",
    "new_in_tuple": b"\x80\x02" + LINEAR + b"\x85.",
    "new_in_tuple_in_list": b"\x80\x02]" + LINEAR + b"\x85a.",
    "new_as_result": LINEAR + b".",
    "form_as_result": b"cbuiltins\ngetattr\n.",
    "form_in_state": LINEAR + b")\x81}S'a'\ncbuiltins\ngetattr\nsb.",
    "form_in_args": b"ccollections\ndefaultdict\n(cbuiltins\ngetattr\ntR.",
    "member_of_an_enumeration": b"cuuid\nSafeUUID\n(I0\ntR}S'x'\nI1\nsb.",
    "new_member_of_an_enumeration": b"\x80\x02cuuid\nSafeUUID\nK\x00\x85\x81}S'x'\nI1\nsb.",
    "set_of_an_object": b"cbuiltins\nset\n(" + LINEAR + b")\x81tR.",
    "key_that_takes_for_ever": b"\x80\x02}" + b")" + b"2\x86" * 40 + b"Ns.",
    "deep_key": b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.",
    "wrapper_as_object": b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}b.",
}


@pytest.mark.parametrize("name", POISONS)
def test_nothing_is_changed_that_the_load_did_not_make(name: str) -> None:
    """States and items go to new objects of listed kinds, and references into no object."""
    before = dict(vars(__import__("sklearn.linear_model").linear_model.LinearRegression))

    with pytest.raises(Refused):
        opened(POISONS[name], "uuid.SafeUUID")
    assert before == dict(vars(__import__("sklearn.linear_model").linear_model.LinearRegression))


def pickled_dtype(code: bytes, state: object) -> bytes:
    """Return the pickle of a datatype with any state."""
    return b"cnumpy\ndtype\n(S'" + code + b"'\n\x89\x88tR" + pickle.dumps(state, 2)[2:-1] + b"b."


DTYPES = {
    "objects_without_their_flag": (b"O8", (3, "|", None, None, None, -1, -1, 0)),
    "other_size": (b"f8", (3, "<", None, None, None, 1 << 20, 8, 0)),
    "other_fields": (b"V8", (3, "|", None, ("a",), {}, 8, 1, 0)),
    "metadata": (b"f8", (4, "<", None, None, None, -1, -1, 0, {"a": 1})),
    "short": (b"f8", (3, "<")),
    "long_code": (b"f8,f8", (3, "<", None, None, None, -1, -1, 0)),
}


@pytest.mark.parametrize("name", DTYPES)
def test_a_datatype_is_what_numpy_makes_of_its_description(name: str) -> None:
    """No state of a datatype makes numpy take bytes for objects, or a value for a larger one."""
    code, state = DTYPES[name]
    try:
        made = opened(pickled_dtype(code, state))
    except (Refused, TypeError, ValueError):
        return
    assert isinstance(made, np.dtype)
    assert np.dtype(code.decode()) == made
    assert np.dtype(code.decode()).hasobject == made.hasobject
    assert np.dtype("f8").itemsize == 8


def test_an_array_never_takes_bytes_for_objects() -> None:
    """An array of objects needs a list of them, wherever its datatype comes from."""
    state = (1, (1,), np.dtype("O"), False, b"\x00" * 8)
    array = pickle.dumps(np.zeros(1), 2)
    forged = Calls(RECONSTRUCT, np.ndarray, (0,), b"b")
    data = pickle.dumps(forged, 2)[:-1] + pickle.dumps(state, 2)[2:-1] + b"b."

    with pytest.raises(Refused, match="objects has no list"):
        opened(data)
    assert isinstance(opened(array), np.ndarray)


@pytest.mark.parametrize(
    "call",
    [
        Calls(SCALAR, np.dtype("O"), b"cposix\ngetcwd\n)R."),
        Calls(FROM_BYTES, b"\0" * 8, np.dtype("O"), (1,), "C"),
        Calls(RECONSTRUCT, np.ndarray, (1 << 40,), b"b"),
        Calls(RECONSTRUCT, np.memmap, ("/etc/passwd",), b"b"),
        Calls(np.dtype, np.float64),
        Calls(bytearray, 1 << 40),
        Calls(bytes, 1 << 40),
        Calls(np.ndarray, (1 << 40,)),
    ],
    ids=lambda call: call.call[0].__name__,
)
def test_constructors_are_called_in_checked_forms_only(call: Calls) -> None:
    """What takes memory by a number, or unpickles by itself, is not called that way."""
    with pytest.raises(Refused):
        opened(pickle.dumps(call, 2))


METHOD = b"ccloudpickle.cloudpickle\n_builtin_type\n(S'MethodType'\ntR"
ETS = b"cstatsmodels.tsa.exponential_smoothing.ets\n"
METHODS = {
    "another class of Python's": METHOD.replace(b"MethodType", b"CodeType") + b".",
    "of another object": b"%b(%bETSModel.loglike\nNtR." % (METHOD, ETS),
    "of another class": METHOD + b"(cposixpath\njoin\n" + LINEAR + b")\x81tR.",
    "another one of the class": b"%b(%bETSModel.fit\n%bETSModel\n)\x81tR." % (METHOD, ETS, ETS),
    "that is called": ETS + b"ETSModel.loglike\n)R.",
}


@pytest.mark.parametrize("name", METHODS)
def test_cloudpickle_makes_no_method_but_that_which_a_model_keeps(name: str) -> None:
    """Neither of other functions, nor of other objects, and none is called."""
    with pytest.raises(Refused):
        opened(b"\x80\x02" + METHODS[name])


def test_a_value_of_the_operator_never_replaces_a_form() -> None:
    """Getattr stays the checked one if the operator lists it, under another name too."""
    data = b"cbuiltins\ngetattr\n(" + LINEAR + b")\x81S'__init__'\ntR."

    with pytest.raises(Refused):
        opened(data, "builtins.getattr")
    for name in ("cloudpickle.cloudpickle.subimport", "os.system", "types.CodeType"):
        module, _, short = name.rpartition(".")
        with pytest.raises(Refused):
            opened(f"c{module}\n{short}\n(S'x'\ntR.".encode(), name)


def test_a_module_is_imported_only_after_its_name_was_found(tmp_path: Path) -> None:
    """A name that is not listed imports nothing, not even the package that it is in."""
    package = tmp_path / "hostile_package_of_test.py"
    package.write_text(f"import os\nos.mkdir({str(tmp_path / MARK)!r})\ndef run(): pass\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        with pytest.raises(Refused):
            opened(b"chostile_package_of_test\nrun\n)R.", "other.run")
    assert not (tmp_path / MARK).exists()


def changed(model: object, change: object, tmp_path: Path) -> Path:
    """Write a model after a change."""
    change(model)
    joblib.dump(model, tmp_path / "m.joblib")
    return tmp_path / "m.joblib"


def wrong_tree(model: DecisionTreeClassifier) -> None:
    """Let a node lead outside of its tree."""
    model.tree_.children_left[0] = 1 << 20


def circular_tree(model: DecisionTreeClassifier) -> None:
    """Let a node lead to itself."""
    model.tree_.children_left[0] = 0


def wrong_feature(model: DecisionTreeClassifier) -> None:
    """Let a node ask for a column that is not there."""
    model.tree_.feature[0] = 1 << 20


def wrong_width(model: DecisionTreeClassifier) -> None:
    """Let a tree have more columns than its estimator checks."""
    model.n_features_in_ = 1


def wrong_boosting(model: GradientBoostingClassifier) -> None:
    """Let boosting have more trees for each sum than sums."""
    model.estimators_ = np.hstack([model.estimators_] * 3)


def wrong_histogram(model: HistGradientBoostingClassifier) -> None:
    """Let a node of histogram boosting lead outside of its tree."""
    model._predictors[0][0].nodes["left"][0] = 1 << 20


def wrong_vectors(model: SVC) -> None:
    """Let a support vector machine have more vectors than it says."""
    model._n_support = model._n_support * 1000


def file_input(model: CountVectorizer) -> None:
    """Let a vectorizer open the files that requests name."""
    model.input = "filename"


def other_method(model: StackingClassifier) -> None:
    """Let an ensemble call another method of its parts."""
    model.stack_method_ = ["to_pickle"]


HARMFUL = {
    "tree": (DecisionTreeClassifier().fit, wrong_tree),
    "circle": (DecisionTreeClassifier().fit, circular_tree),
    "feature": (DecisionTreeClassifier().fit, wrong_feature),
    "width": (DecisionTreeClassifier().fit, wrong_width),
    "boosting": (GradientBoostingClassifier(n_estimators=3).fit, wrong_boosting),
    "histogram": (
        HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=3).fit,
        wrong_histogram,
    ),
    "vectors": (SVC().fit, wrong_vectors),
    "stacking": (StackingClassifier([("a", LogisticRegression())]).fit, other_method),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_numbers_and_names_that_a_model_would_believe_are_refused(
    name: str, tmp_path: Path
) -> None:
    """A listed class does not get values with which it would do what the list forbids."""
    fit, change = HARMFUL[name]
    model = fit(X, Y)
    joblib.dump(model, tmp_path / "good.joblib")
    assert type(model) is type(pickles.load(tmp_path / "good.joblib", LISTED))

    with pytest.raises(LoadError, match="refused by --pickle_policy=listed"):
        pickles.load(changed(model, change, tmp_path), LISTED)


def test_a_vectorizer_that_opens_files_is_refused(tmp_path: Path) -> None:
    """A request that names a file does not have it read."""
    model = CountVectorizer().fit(["a bc"])

    with pytest.raises(LoadError, match="so it would open files"):
        pickles.load(changed(model, file_input, tmp_path), LISTED)


def test_a_tree_of_neighbors_with_other_indexes_is_refused() -> None:
    """A KD tree reads only the rows that it has."""
    model = KNeighborsClassifier(algorithm="kd_tree").fit(X, Y)
    tree = model._tree
    state = list(tree.__getstate__())
    state[1] = np.asarray(state[1]) + 1000
    maker, args, _ = tree.__reduce__()
    data = pickle.dumps(Forged(maker, args, tuple(state)), 4)

    with pytest.raises(Refused, match="tree of neighbors"):
        opened(data)
    assert type(tree) is type(opened(pickle.dumps(tree)))


class Forged:
    """An object with another state than its own."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __reduce__(self) -> object:
        return self.parts


FORMULAS = [
    "y ~ __import__('os').system('x')",
    "y ~ open('x').read()",
    "y ~ x.__class__",
    "y ~ (lambda: 1)()",
    "y ~ [i for i in x]",
    "y ~ np.load('x')",
    "y ~ np.lib.os.system('x')",
    "y ~ f'{x}'",
    "y ~ eval('x')",
    "y ~ C(x)(y)",
    "y ~ x[0]",
    "y ~ {x.tofile('a')}",
    "y ~ `x`",
    "y ~ Q('a')()",
    "y ~ I(exec('x'))",
    "y ~ getattr(x, 'tofile')('a')",
    "y ~ np.log(x).tofile('a')",
    "y ~ x if x else y",
    "y ~ (x := 3)",
    "y ~ 'a'.join(x)",
    "y ~ 'a' 'b'.format(x)",
    "y ~ @x",
    "y ~ np . load(x)",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_with_code_is_refused(formula: str) -> None:
    """A formula has columns, numbers, signs and well-known functions, or it is not evaluated."""
    with pytest.raises(Refused):
        check_formula(formula)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x1 + x2",
        "np.log(y) ~ C(group, Treatment(reference='b')) * x - 1",
        "y ~ bs(x, df=4) + I(x ** 2) + Q('a name')",
        "y ~ (a + b)**2 + np.power(x, 2)",
        "y ~ center(x):group + a / b",
    ],
)
def test_usual_formulas_are_evaluated(formula: str) -> None:
    """What statisticians write passes."""
    check_formula(formula)


def test_a_model_by_formula_opens_if_its_formula_is_plain(tmp_path: Path) -> None:
    """Results by formula are opened for the formula's text, and predict from columns."""
    import statsmodels.formula.api as smf

    table = pd.DataFrame({"y": X[:, 0], "x": X[:, 1], "g": np.where(Y, "a", "b")})
    plain = smf.ols("y ~ x + C(g)", table).fit()
    joblib.dump(plain, tmp_path / "m.pkl")
    again = pickles.load(tmp_path / "m.pkl", LISTED)
    assert np.allclose(plain.predict(table), again.predict(table))

    plain.model.data.formula = "y ~ x + os.system('x')"
    joblib.dump(plain, tmp_path / "m.pkl")
    with pytest.raises(LoadError, match="could run code"):
        pickles.load(tmp_path / "m.pkl", LISTED)
    plain.model.data.formula = "y ~ x + C(g)"
    plain.model.model_spec = "y ~ x + os.system('x')"
    joblib.dump(plain, tmp_path / "m.pkl")
    with pytest.raises(LoadError, match="in place of a formula"):
        pickles.load(tmp_path / "m.pkl", LISTED)


def test_two_loads_with_other_lists_do_not_see_each_other() -> None:
    """A name that one load may use is unknown to the next."""
    data = pickle.dumps(functools.partial(np.log1p))
    assert callable(opened(data))
    mine = b"ccollections\nUserDict\n)\x81."

    assert opened(mine, "collections.UserDict") is not None
    with pytest.raises(Refused):
        opened(mine)


def test_what_is_honest_opens() -> None:
    """Containers, arrays and functions of numpy are values."""
    model = FunctionTransformer(np.log1p, kw_args={"order": "K"})
    values = [OrderedDict(a=1), {1, 2}, (np.float32(2), b"x"), X, pd.Timestamp("2020-01-01"), model]

    for protocol in range(6):
        again = opened(pickle.dumps(values, protocol))
        assert str(values) == str(again)
