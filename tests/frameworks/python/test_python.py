"""The python framework: a class of the bundle's own code answers by itself."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import InvalidInput, LoadError, PredictionError, StoreError
from bundleserver.frameworks import LoadContext, framework_for, framework_named
from bundleserver.frameworks.python import framework
from bundleserver.tensors import NamedTensor
from tests.bundle.own_code.bundles import write_code, write_manifest

X = np.array([[1.0, 2.0], [3.0, 4.0]])
PREDICT = "    def predict(self, inputs): return {'score': inputs['x'][:, 0] * self.by}\n"


def bundle_of(directory, source, options=None, **changes):
    """Write a bundle whose component is a class in this source."""
    directory.mkdir(exist_ok=True)
    given = {"class": "Scorer"} if options is None else options
    model = {"framework": "python", "path": "code/model.py", "options": given}
    code = write_code(directory, {"model.py": source})
    return write_manifest(directory, code=code, components={"model": model}, **changes)


def answer(directory, **inputs):
    """Open a bundle and ask it."""
    with closing(open_bundle(directory)) as bundle:
        tensors = {name: NamedTensor(name, values) for name, values in inputs.items()}
        return bundle.predict(tensors, {})


@pytest.mark.parametrize(
    "source",
    [
        "class Scorer:\n    def load(self, directory): self.by = 3\n" + PREDICT,
        "class Scorer:\n    by = 3\n" + PREDICT,
        "class Scorer:\n    def __init__(self): self.by = 3\n" + PREDICT,
        "class Scorer:\n    @classmethod\n    def load(cls, directory):\n        made = cls()\n"
        "        made.by = 3\n        return made\n" + PREDICT,
        "class Base:\n    def load(self, directory): self.by = 3\n" + PREDICT + "\n"
        "class Scorer(Base): pass\n",
    ],
)
def test_a_class_is_made_and_loaded_in_its_own_way(tmp_path, source):
    """``load`` is a method, or makes the object; without it nothing is read."""
    assert [3.0, 9.0] == [*answer(bundle_of(tmp_path, source), x=X)["score"]]


def test_load_gets_the_directory_of_the_bundle(tmp_path):
    """What lies beside the code, and in it, is there."""
    np.save(tmp_path / "weights.npy", np.array([2.0, 10.0]))
    source = """
        import numpy as np
        from pathlib import Path
        class Scorer:
            def load(self, directory):
                assert isinstance(directory, Path)
                self.weights = np.load(directory / "weights.npy")
                self.source = (directory / "code" / "model.py").read_text()
                assert Path(__file__) == directory / "code" / "model.py"
            def predict(self, inputs):
                return {"score": inputs["x"] @ self.weights, "of": [self.source[:7]] * 2}
    """

    answers = answer(bundle_of(tmp_path, source), x=X)

    assert [22.0, 46.0] == [*answers["score"]]
    assert ["\nimport"] * 2 == [*answers["of"]]


def test_load_opens_pickles_of_its_own_classes(tmp_path):
    """What looks for modules by itself finds those of its version, and calls stay side by side."""
    source = """
        import pickle
        class Weights:
            by = 3
        class Scorer:
            def load(self, directory):
                self.weights = pickle.loads(b"\\x80\\x04cmodel\\nWeights\\n)\\x81.")
            def predict(self, inputs):
                return {"score": inputs["x"][:, 0] * self.weights.by}
    """

    assert [3.0, 9.0] == [*answer(bundle_of(tmp_path, source), x=X)["score"]]


def test_inputs_and_outputs_are_named_arrays(tmp_path):
    """Each declared input comes under its name; outputs are numbers, booleans and text."""
    source = """
        class Scorer:
            def predict(self, inputs):
                return {
                    "sum": inputs["a"] + inputs["b"],
                    "big": inputs["a"] > 1,
                    "word": [word.upper() for word in inputs["word"]],
                    "pair": [[1, 2], [3, 4]],
                }
    """
    inputs = [
        {"name": "a", "datatype": "FP64", "shape": [-1]},
        {"name": "b", "datatype": "FP64", "shape": [-1]},
        {"name": "word", "datatype": "BYTES", "shape": [-1]},
    ]
    directory = bundle_of(tmp_path, source, inputs=inputs)
    words = np.array(["yes", "no"], dtype=object)

    answers = answer(directory, a=X[:, 0], b=X[:, 1], word=words)

    said = {name: values.tolist() for name, values in answers.items()}
    assert {
        "sum": [3.0, 7.0],
        "big": [False, True],
        "word": ["YES", "NO"],
        "pair": [[1, 2], [3, 4]],
    } == said


def test_a_class_is_one_component_of_several(tmp_path):
    """Steps name its inputs and outputs as those of any component."""
    source = """
        class Scorer:
            def predict(self, inputs):
                return {"low": inputs["x"].min(axis=1), "high": inputs["x"].max(axis=1)}
    """
    steps = [
        {"component": "model", "inputs": ["x"], "outputs": ["low", "high"]},
        {"op": "mean", "inputs": ["low", "high"], "outputs": ["score"]},
    ]

    answers = answer(bundle_of(tmp_path, source, steps=steps), x=X)

    assert [1.5, 3.5] == [*answers["score"]]


def test_examples_hold_for_a_class(tmp_path):
    """Outputs that were recorded are compared before the version is ready."""
    source = "class Scorer:\n    by = 3\n" + PREDICT
    example = {"inputs": {"x": X.tolist()}, "outputs": {"output-0": [3.0, 9.0]}}
    outputs = [{"name": "score", "datatype": "FP64", "shape": [-1]}]
    good = {**example, "outputs": {"score": [3.0, 9.0]}}
    bad = {**example, "outputs": {"score": [3.0, 8.0]}}

    open_bundle(bundle_of(tmp_path, source, examples=[good], outputs=outputs)).close()
    with pytest.raises(Exception, match="score"):
        open_bundle(bundle_of(tmp_path, source, examples=[bad], outputs=outputs))


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("[1, 2]", "predict returned a list; expected a dict"),
        ("None", "predict returned a NoneType; expected a dict"),
        ("{}", "predict returned an empty dict"),
        ("{1: [1, 2]}", "predict returned an output named 1"),
        ("{'score': [1, 2, 3]}", "'score' with shape [3]; expected 2 as its first size"),
        ("{'score': 3.0}", "'score' with shape []; expected 2 as its first size"),
        ("{'score': [[1], [2, 3]]}", "'score', which is not an array"),
        ("{'score': [{}, {}]}", "'score' with values of the kind dict"),
        ("{'score': [None, 'a']}", "'score' with values of the kind NoneType"),
        ("{'score': [b'a', b'b']}", "'score' with values of the kind |S1"),
        ("{'score': inputs['x'].astype('longdouble')}", "'score' with values of the kind float128"),
        ("{'score': __import__('numpy').ma.masked_less(inputs['x'], 2)}", "'score' with masked"),
        ("1/0", "ZeroDivisionError"),
        ("exit(3)", "SystemExit: 3"),
    ],
)
def test_what_a_class_returns_is_checked(tmp_path, result, said):
    """The class is to blame, and not whoever asked; the process goes on."""
    source = f"class Scorer:\n    def predict(self, inputs): return {result}\n"

    with pytest.raises(PredictionError) as failed:
        answer(bundle_of(tmp_path, source), x=X)

    assert said in str(failed.value)


def test_a_class_says_that_a_value_is_the_callers_mistake(tmp_path):
    """What it raises as InvalidInput is a 400."""
    source = """
        from bundleserver.errors import InvalidInput
        class Scorer:
            def predict(self, inputs): raise InvalidInput("x is too small")
    """

    with pytest.raises(InvalidInput, match="x is too small"):
        answer(bundle_of(tmp_path, source), x=X)


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("", {}, "options.class is None; expected the name of a class with load"),
        ("", {"class": "a b"}, "options.class is 'a b'"),
        ("", {"clas": "Scorer"}, "options.clas is not a known option; did you mean 'class'"),
        ("class Scores: pass", None, "has no class 'Scorer', which options.class names; did you"),
        ("Scorer = 3", None, "has a int in place of 'Scorer'"),
        ("class Scorer: pass", None, "class Scorer has no method 'predict'; expected a class"),
        ("class Scorer:\n    predict = 3", None, "'predict' that is not a plain method"),
        ("class Scorer:\n    async def predict(self, x): pass", None, "not a plain method"),
        (
            "class Scorer:\n    def __init__(self, a): pass\n    def predict(self, x): pass",
            None,
            "class Scorer cannot be loaded: TypeError",
        ),
        (
            "class Scorer:\n    def load(self, d): open(d / 'no')\n    def predict(self, x): pass",
            None,
            "class Scorer cannot be loaded: FileNotFoundError",
        ),
        (
            "class Scorer:\n    @staticmethod\n    def load(d): return 3\n"
            "    def predict(self, x): pass",
            None,
            "load returned a int; expected an object of it",
        ),
        (
            "class Scorer:\n    def load(self, d): import absent\n    def predict(self, x): pass",
            None,
            "it needs the module 'absent', which is neither in 'code/' nor installed here",
        ),
        ("raise SystemExit('bye')", None, "cannot be imported: SystemExit: bye"),
    ],
)
def test_a_class_that_cannot_be_loaded_says_why(tmp_path, source, options, said):
    """The file, the class and the reason are named, and no error ends the process."""
    with pytest.raises(LoadError) as refused:
        open_bundle(bundle_of(tmp_path, source, options))

    assert f"'{tmp_path}/code/model.py'" in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("path", ["model.py", "code/model.txt", "code/a-b/model.py"])
def test_a_class_lies_in_a_module_of_the_code(tmp_path, path):
    """A file elsewhere, or with a name that nothing can import, is refused."""
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text("class Scorer: pass")
    component = {"framework": "python", "path": path, "options": {"class": "Scorer"}}
    write_manifest(tmp_path, components={"model": component})

    with pytest.raises(LoadError, match="is not a module of the bundle's own code"):
        open_bundle(tmp_path)


def test_a_class_is_opened_by_a_bundle_alone(tmp_path):
    """Nothing else says what its code may import."""
    (tmp_path / "model.py").write_text("class Scorer: pass")

    with pytest.raises(LoadError, match="is not a module of the bundle's own code"):
        framework.load(tmp_path / "model.py", LoadContext({"class": "Scorer"}))


def test_no_object_is_recognised_and_none_is_saved(tmp_path):
    """A file of code is saved by ``code=…``; the component is given as in a manifest."""
    with pytest.raises(StoreError, match=r"with code=\['model.py'\]"):
        framework_named("python").save(object(), tmp_path, "model")

    assert framework_for(object()) is None
