"""The table of verdicts, row by row, with the errors that libraries raise."""

import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from patsy import PatsyError
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import NMF
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler

from bundleserver.bundle.warming.verdicts import VERDICTS, Verdict, root_of, row_of, verdict_on
from bundleserver.errors import BundleError, FrameworkError, InvalidInput, PredictionError

RNG = np.random.default_rng(3)
X = np.abs(RNG.normal(size=(30, 3)))
CITIES = pd.DataFrame({"city": ["oslo", "rome", "bonn"] * 10, "load": X[:, 0]})


def raised(call, *args, **kwargs):
    """Return what a call raises."""
    with pytest.raises(BaseException) as error:  # noqa: PT011  # whatever the library raises
        call(*args, **kwargs)
    return error.value


def columns_by_name():
    """Fit a pipeline that needs two columns."""
    split = ColumnTransformer([("c", OneHotEncoder(), ["city"]), ("n", StandardScaler(), ["load"])])
    return make_pipeline(split, LinearRegression()).fit(CITIES, X[:, 1])


class LightGBMError(Exception):
    """Stands for the library's own, which has no other base."""


class DomainError(Exception):
    """Stands for a model's own, about a number."""


def odd(x: torch.Tensor) -> torch.Tensor:
    """Refuse anything, for a reason that only its author knows."""
    raise RuntimeError("lengths differ from those of training")


CANNOT = [
    lambda: raised(LinearRegression().predict, X),
    lambda: NotFittedError("This StandardScaler instance is not fitted yet"),
    lambda: ValueError("the model must be fitted before calling predict"),
    lambda: raised(__import__, "no_such_package"),
    lambda: FrameworkError("framework 'x' needs the package 'x'"),
    lambda: BundleError("models call each other in a cycle: a → b → a"),
    lambda: raised(getattr, object(), "_fill_dtype"),
    lambda: NotImplementedError("predict"),
    lambda: MemoryError(),
    lambda: TypeError("predict() missing 1 required positional argument: 'steps'"),
    lambda: TypeError("steps must be an int"),
    lambda: Exception("There is no trained model to use predict(). Use fit() to train model."),
    lambda: ValueError("got 2 outputs; expected 3"),
    lambda: raised(getattr, LinearRegression(), "weights_"),
    lambda: RuntimeError("CUDA error: no kernel image is available for execution"),
    lambda: OSError("[Errno 2] No such file or directory: 'vocabulary.txt'"),
    lambda: SystemExit(3),
]

DOES_NOT_FIT = [
    lambda: raised(LinearRegression().fit(X, X[:, 0]).predict, X[:, :2]),
    lambda: raised(LinearRegression().fit(X, X[:, 0]).predict, X[0]),
    lambda: raised(KMeans(2).fit(X).predict, X[None]),
    lambda: raised(columns_by_name().predict, CITIES[["city"]]),
    lambda: raised(CITIES.__getitem__, ["town"]),
    lambda: raised(CITIES.__getitem__, "town"),
    lambda: raised(getattr, CITIES["load"], "str"),
    lambda: raised(X.__getitem__, "load"),
    lambda: raised(X.__getitem__, (0, 3)),
    lambda: raised(getattr, CITIES["city"], "dt"),
    lambda: raised(LabelEncoder().fit(["a", "b"]).transform, X),
    lambda: raised(StandardScaler().fit(X).transform, [["a", "b", "c"]]),
    lambda: raised(np.dot, X, X),
    lambda: raised(np.add, X, X[:7]),
    lambda: raised(torch.nn.Linear(3, 2), torch.ones(1, 4)),
    lambda: raised(torch.nn.LSTM(3, 2), torch.ones(1, 1, 4)),
    lambda: raised(torch.nn.Linear(3, 2), torch.ones(1, 3, dtype=torch.int64)),
    lambda: raised(torch.cat, [torch.ones(2, 2), torch.ones(3, 3)]),
    lambda: raised(torch.nn.Conv1d(3, 2, 1), torch.ones(4)),
    lambda: InvalidInput("input 'scaled' has shape [1, 2]; LinearRegression expects [-1, 4]"),
    lambda: InvalidInput("input 'x' has datatype BYTES; StandardScaler expects numbers"),
    lambda: LightGBMError("The number of features in data (3) is not the same as in training"),
    lambda: raised(sorted, ["a", 1.0]),
    lambda: raised(torch.jit.script(odd), torch.ones(1)),
    lambda: raised(getattr, X[0, 0], "strip"),
    lambda: raised(re.sub, "a", "b", X[0, 0]),
    lambda: raised({}.__getitem__, [1]),
    lambda: raised(math.sqrt, X),
    lambda: raised(iter, X[0, 0]),
]

REFUSES = [
    lambda: raised(columns_by_name().predict, CITIES.assign(city="kyiv")),
    lambda: raised(LabelEncoder().fit(["a", "b"]).transform, ["c"]),
    lambda: raised(NMF(2).fit(X).transform, -X),
    lambda: raised(LogisticRegression().fit(X, X[:, 0] > 1).predict, X * np.nan),
    lambda: raised(torch.nn.Embedding(3, 2), torch.tensor([7])),
    lambda: raised(divmod, 1, 0),
    lambda: raised(np.linalg.inv, np.zeros((2, 2))),
    lambda: DomainError("too young"),
    lambda: AttributeError("partially initialized module 'x' has no attribute 'y'"),
    lambda: ValueError("amounts above the credit limit are not scored"),
    lambda: InvalidInput("member 'lof' has the vote 3; expected 0 or 1"),
    lambda: PatsyError("observation with value 'x' does not match any of the expected levels"),
    lambda: LightGBMError("Unknown value in a categorical feature"),
]

EXAMPLES = [
    *((make, Verdict.CANNOT) for make in CANNOT),
    *((make, Verdict.DOES_NOT_FIT) for make in DOES_NOT_FIT),
    *((make, Verdict.REFUSES) for make in REFUSES),
]


@pytest.mark.parametrize(("make", "expected"), EXAMPLES)
def test_an_error_says_what_it_means(make, expected):
    """What is not fitted, missing or does not fit is told from a refused value, in any class."""
    error = make()

    assert expected is verdict_on(error), repr(error)


def test_every_row_of_the_table_decides_about_an_error():
    """A row that no example needs would be untested."""
    rows = {row_of(root_of(make())) for make, _ in EXAMPLES}

    assert set(VERDICTS) == rows


def test_a_lookup_of_a_sent_value_refuses_it():
    """A model that looks a value up in a table of its own answers other values."""
    error = raised({"rome": 1}.__getitem__, "a")

    assert Verdict.REFUSES is verdict_on(error, frozenset({"a"}))
    assert Verdict.DOES_NOT_FIT is verdict_on(error, frozenset({"b"}))


def test_our_own_errors_are_judged_by_what_a_library_raised():
    """A refusal that passes a library's error on has that error's verdict."""
    try:
        raise InvalidInput("Pipeline rejects the input: …") from NotFittedError("not fitted yet")
    except InvalidInput as passed:
        error = passed

    assert Verdict.CANNOT is verdict_on(error)
    assert Verdict.CANNOT is verdict_on(PredictionError("'x' version 1", "…", "0"))
