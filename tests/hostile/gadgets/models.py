"""Models that wait for the probe or the first request, and states that run text."""

from __future__ import annotations

import functools
import pickle
from inspect import getsource
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import KernelPCA
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import SVC
from statsmodels.base.data import ModelData

from tests.hostile.gadgets.writing import Call, Name, New, State, add, source

X = np.random.default_rng(18).random((12, 3))
Y = np.arange(12) % 2


def _saves(path: str) -> functools.partial[None]:
    """Write what it is called with to a file."""
    return functools.partial(np.save, path + ".npy")


def _with(model: Any, **attributes: object) -> bytes:
    vars(model).update(attributes)
    return pickle.dumps(model)


def _step(path: str) -> FunctionTransformer:
    return FunctionTransformer(_saves(path))


def _of_columns(path: str) -> ColumnTransformer:
    made = ColumnTransformer([("a", FunctionTransformer(), [0])]).fit(X)
    made.transformers_[0][1].func = _saves(path)
    return made


for _name, _model in {
    "function_transformer": _step,
    "function_transformer_in_a_pipeline": lambda path: make_pipeline(_step(path)),
    "function_transformer_of_columns": lambda path: _of_columns(path),
    "function_transformer_in_a_union": lambda path: FeatureUnion([("a", _step(path))]),
}.items():
    add(_name, lambda path, model=_model: pickle.dumps(model(path)), uses=("transform",))

add(
    "vectorizer_tokenizer",
    lambda path: _with(CountVectorizer().fit(["a bb"]), tokenizer=_saves(path)),
    uses=("transform_text",),
)
add(
    "vectorizer_preprocessor",
    lambda path: _with(TfidfVectorizer().fit(["aa bb"]), preprocessor=_saves(path)),
    uses=("transform_text",),
)
add(
    "vectorizer_analyzer",
    lambda path: _with(CountVectorizer().fit(["aa bb"]), analyzer=_saves(path)),
    uses=("transform_text",),
)
add(
    "neighbors_metric",
    lambda path: _with(
        KNeighborsClassifier(2, algorithm="brute").fit(X, Y),
        metric=_saves(path),
        effective_metric_=_saves(path),
    ),
    uses=("predict",),
)
add(
    "neighbors_weights",
    lambda path: _with(KNeighborsClassifier(2).fit(X, Y), weights=_saves(path)),
    uses=("predict",),
)
add(
    "support_vector_kernel",
    lambda path: _with(
        SVC(kernel=lambda a, b: a @ b.T).fit(X, Y), kernel=functools.partial(np.savetxt, path)
    ),
    uses=("predict",),
)
add(
    "process_kernel",
    lambda path: _with(GaussianProcessRegressor().fit(X, Y), kernel_=_saves(path)),
    uses=("predict",),
)
add(
    "approximated_kernel",
    lambda path: _with(Nystroem(n_components=4).fit(X), kernel=functools.partial(np.savetxt, path)),
    uses=("transform",),
)
add(
    "ridge_kernel",
    lambda path: _with(KernelRidge().fit(X, Y), kernel=functools.partial(np.savetxt, path)),
    uses=("predict",),
)
add(
    "component_kernel",
    lambda path: _with(KernelPCA(2).fit(X), kernel=functools.partial(np.savetxt, path)),
    uses=("transform",),
)
add(
    "inverse_of_a_target",
    lambda path: _with(
        TransformedTargetRegressor(LinearRegression()).fit(X, Y),
        transformer_=FunctionTransformer(inverse_func=_saves(path)),
    ),
    uses=("predict",),
)
add(
    "names_of_features",
    lambda path: _with(
        OneHotEncoder().fit(X), feature_name_combiner=functools.partial(np.savetxt, path)
    ),
    uses=("get_feature_names_out",),
)
add(
    "method_in_a_state",
    lambda path: _with(LinearRegression().fit(X, Y), predict=_saves(path)),
    uses=("predict",),
)
add(
    "step_that_is_no_estimator",
    lambda path: State(
        New(Name("sklearn.pipeline.Pipeline")),
        {
            "steps": [
                (
                    "a",
                    Call(
                        Name("types.SimpleNamespace"),
                        state={
                            "transform": Call(
                                Name("functools.partial"),
                                Name("numpy.save"),
                                state=(Name("numpy.save"), (path + ".npy",), {}, None),
                            )
                        },
                    ),
                ),
                ("b", FunctionTransformer()),
            ],
            "memory": None,
            "verbose": False,
            "transform_input": None,
        },
    ),
    uses=("transform",),
)


def _formula_data(path: str, key: str) -> object:
    import statsmodels.formula.api as smf

    table = pd.DataFrame({"y": X[:, 0], "x": X[:, 1]})
    data = smf.ols("y ~ x", table).fit().model.data
    state = dict(data.__getstate__())
    state["formula"] = f"y ~ I({source(path)} or x)"
    state[key] = state.pop("restore_design_info", None) or state.pop("restore_model_spec", True)
    return State(New(Name("statsmodels.base.data.PandasData")), state)


for _name, _key in {
    "formula_in_a_state": "restore_model_spec",
    "formula_in_an_older_state": "restore_design_info",
}.items():
    add(
        _name,
        lambda path, key=_key: _formula_data(path, key),
        theoretical="" if _key in getsource(ModelData) else "another version knows this key",
    )


def _distribution(path: str) -> object:
    from scipy import stats

    state = dict(stats.norm.__getstate__())
    state["_parse_arg_template"] = source(path) + "\n" + state["_parse_arg_template"]
    return State(New(Name("scipy.stats._continuous_distns.norm_gen")), state)


add("distribution_with_a_template", _distribution)
add(
    "results_evaluate_a_design",
    lambda path: State(
        New(Name("statsmodels.regression.linear_model.OLSResults")),
        {
            "params": np.zeros(1),
            "model": Call(
                Name("types.SimpleNamespace"),
                state={
                    "formula": "y ~ x",
                    "data": Call(
                        Name("types.SimpleNamespace"),
                        state={
                            "design_info": f"I({source(path)} or x)",
                            "model_spec": f"I({source(path)} or x)",
                        },
                    ),
                },
            ),
        },
    ),
    uses=("predict_table",),
)


def _chain(path: str) -> object:
    """Only listed names: a table evaluates the text that a kernel wrote."""
    code = f"@sparse.linalg._dsolve.linsolve.threading._os.mkdir({path!r})"
    table = pd.DataFrame({"a": [1]})
    namespace = Name("types.SimpleNamespace")
    written = State(
        New(Name("sklearn.gaussian_process.kernels.ConstantKernel")),
        {
            "constant_value": State(
                New(Name("sklearn.gaussian_process.kernels.Product")), {"k1": code, "k2": "1"}
            ),
            "constant_value_bounds": "fixed",
        },
    )
    results = State(
        New(Name("statsmodels.regression.linear_model.RegressionResultsWrapper")),
        {
            "_results": State(
                New(Name("pandas.core.frame.DataFrame")),
                {**table.__getstate__(), "model": Call(namespace, state={"data": None})},
            )
        },
    )
    stack = State(
        New(Name("sklearn.ensemble._stacking.StackingClassifier")),
        {
            "estimators_": [results],
            "stack_method_": ["eval"],
            "final_estimator_": None,
            "passthrough": False,
            "_sklearn_version": "1.9.1",
            "estimators": [],
        },
    )
    return State(
        New(Name("sklearn.pipeline.Pipeline")),
        {
            "steps": [
                ("a", Call(namespace, state={"transform": written})),
                ("b", Call(namespace, state={"transform": Name("builtins.str")})),
                ("c", stack),
            ],
            "memory": None,
            "verbose": False,
            "transform_input": None,
            "_sklearn_version": "1.9.1",
        },
    )


add("chain_of_listed_names", _chain, uses=("transform_one",))


def _parallel(path: str) -> bytes:
    from sklearn.ensemble import BaggingClassifier

    model = BaggingClassifier(n_estimators=2, n_jobs=2).fit(X, Y)
    return _with(
        model,
        _parallel_args=functools.partial(
            dict, backend="multiprocessing", temp_folder=path, max_nbytes=1
        ),
    )


add("folder_of_workers", _parallel, uses=("predict",))
