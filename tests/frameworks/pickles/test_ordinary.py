"""Ordinary models that the lists once left out, and what a refusal tells who wrote one."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pytest
from scipy import stats
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import RandomizedSearchCV
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from tests.allow_list.honest.estimators import DATA
from tests.hostile.test_gate_models import opened, with_state

LISTED = CodeTrust(PicklePolicy.LISTED)
NUMBERS, TARGET = DATA["numbers"]


@pytest.mark.parametrize(
    "drawn", [stats.loguniform(0.1, 9.0), stats.randint(1, 9)], ids=["of numbers", "of integers"]
)
def test_a_search_forgets_what_it_drew_from(drawn: object) -> None:
    """The best model of a search answers; distributions, which compile text, are not made."""
    search = RandomizedSearchCV(Ridge(), {"alpha": drawn}, n_iter=2, cv=2, random_state=1)
    search.fit(NUMBERS, TARGET)
    again = opened(search)
    assert np.array_equal(search.predict(NUMBERS), again.predict(NUMBERS))
    assert not hasattr(again.param_distributions["alpha"], "rvs")


def test_a_distribution_is_nowhere_else() -> None:
    """A model that would ask it is refused, and does not open without it."""
    with pytest.raises(Refused, match="a distribution of scipy"):
        opened(with_state(StandardScaler(), mean_=stats.norm(0, 1)))


def test_missing_numbers_are_imputed_in_turns() -> None:
    """The models of an imputer are estimators, and no tree without its checks."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # it adds the next
    from sklearn.impute import IterativeImputer

    rows = DATA["missing"][0]
    model = IterativeImputer(DecisionTreeRegressor(random_state=1), max_iter=2).fit(rows)
    assert np.array_equal(model.transform(rows), opened(model).transform(rows))
    last = model.imputation_sequence_[-1]
    model.imputation_sequence_[-1] = last._replace(estimator=last.estimator.tree_)
    with pytest.raises(Refused, match="no model has there"):
        opened(model)


def test_a_function_gets_no_number_of_processes() -> None:
    """What a model calls does not start others."""
    with pytest.raises(Refused, match="'n_jobs'"):
        opened(FunctionTransformer(np.round, kw_args={"n_jobs": 900}))


def test_methods_of_texts_open() -> None:
    """A vectorizer may write texts otherwise, and take them apart."""
    texts = ["Some Words", "other words"]
    model = TfidfVectorizer(preprocessor=str.lower, tokenizer=str.split).fit(texts)
    assert opened(model).get_feature_names_out().tolist() == ["other", "some", "words"]


def test_a_refusal_says_what_to_do(tmp_path: Path) -> None:
    """The command has the folder of the file, and no reason is said that is not so."""
    folder = tmp_path / "a model"
    folder.mkdir()
    joblib.dump(FunctionTransformer(np.linalg.det), folder / "model.joblib")
    with pytest.raises(LoadError, match=f"bundleserver inspect --pickles '{folder}'"):
        pickles.load(folder / "model.joblib", LISTED)
    joblib.dump(FunctionTransformer(str.title), folder / "model.joblib")
    with pytest.raises(LoadError, match=r"'builtins' has what runs anything, so only"):
        pickles.load(folder / "model.joblib", LISTED)
    model = with_state(LinearRegression().fit(NUMBERS, TARGET), coef_=stats.norm(0, 1))
    joblib.dump(model, folder / "model.joblib")
    with pytest.raises(LoadError, match="If you trust who wrote it"):
        pickles.load(folder / "model.joblib", LISTED)
