"""Objects in a file of skops: nothing that a pickle may not hold, and all that fitting writes."""

from __future__ import annotations

import json

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC

from bundleserver.frameworks import pickles
from bundleserver.frameworks.skops.opening import open_skops
from tests.frameworks.skops.files import skops_with
from tests.hostile.test_code import DENY, LISTED, logged, refused

pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["red ball", "blue box red"]


def _table_of_texts(edit):
    table = pd.DataFrame({"a": WORDS})
    columns = ColumnTransformer([("t", CountVectorizer(), "a")]).fit(table)
    edit(columns.named_transformers_["t"])
    return columns


def _one_hot(edit):
    encoder = OneHotEncoder(handle_unknown="ignore").fit([["a"], ["b"], ["c"]])
    edit(vars(encoder))
    return Pipeline([("e", encoder)])


def _machine(edit):
    machine = SVC().fit([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]], [0, 1, 0, 1])
    edit(vars(machine))
    return BaggingClassifier(machine).set_params(estimator=machine)


SKOPS = {
    "opens files": lambda: _table_of_texts(lambda one: vars(one).update(input="filename")),
    "opens files by object": lambda: _table_of_texts(lambda one: vars(one).update(input="file")),
    "a word far away": lambda: _table_of_texts(lambda one: one.vocabulary_.update(red=7 << 28)),
    "a word before the first": lambda: _table_of_texts(lambda one: one.vocabulary_.update(red=-9)),
    "a key far away": lambda: Pipeline(
        [("d", with_state(DictVectorizer().fit([{"k": 1}]), vocabulary_={"k": 1 << 29}))]
    ),
    "no columns to divide by": lambda: with_state(FeatureHasher(), n_features=0),
    "no columns to hash texts to": lambda: with_state(HashingVectorizer(), n_features=0),
    "more categories than columns": lambda: _one_hot(lambda s: s.update(_n_features_outs=[1])),
    "other categories": lambda: _one_hot(lambda s: s.update(categories_=[np.arange(99.0)])),
    "a category dropped before the first": lambda: _one_hot(
        lambda s: s.update(_drop_idx_after_grouping=np.array([-3], object), _n_features_outs=[2])
    ),
    "a category dropped after the last": lambda: _one_hot(
        lambda s: s.update(_drop_idx_after_grouping=np.array([7], object), _n_features_outs=[2])
    ),
    "rare categories far away": lambda: _one_hot(
        lambda s: s.update(
            _infrequent_enabled=True,
            _infrequent_indices=[np.array([1, 2])],
            _default_to_infrequent_mappings=[np.array([0, 1, 1 << 30])],
        )
    ),
    "support vectors that are not there": lambda: _machine(
        lambda s: s.update(_n_support=np.array([1 << 28, 1 << 28], np.int32))
    ),
    "a method by another name": lambda: with_state(
        StackingClassifier([("l", LogisticRegression())]), stack_method_=["__init_subclass__"]
    ),
    "too many threads": lambda: with_state(BaggingClassifier(), n_jobs=1 << 30),
    "what hides a method": lambda: with_state(LogisticRegression(), predict=np.log),
    "a random state that reads elsewhere": lambda: with_state(
        LogisticRegression(), random_state=_far_random_state()
    ),
}


def with_state(model, **state):
    """Give an object more attributes."""
    vars(model).update(state)
    return model


class _FarState(np.random.RandomState):
    """Says that it reads at another place than it does."""

    def get_state(self, legacy=True):
        """Return a state that numpy would follow."""
        state = np.random.RandomState(3).get_state(legacy=False)
        state["state"]["pos"] = 1 << 30
        return state


def _far_random_state():
    return _FarState(3)


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
@pytest.mark.parametrize("name", SKOPS)
def test_objects_of_skops_are_made_by_the_rules_for_pickles(tmp_path, name, trust):
    """What a pickle may not hold a file of skops may not hold, nested or not."""
    path = logged(tmp_path / "m")
    skops.io.dump(SKOPS[name](), path / "model.skops")
    skops_with(
        path / "model.skops",
        lambda schema: _text_of(
            schema, "_FarState", "RandomState", __name__, "numpy.random.mtrand"
        ),
    )

    said = f"refused by --pickle_policy={trust.pickles.value}, as a pickle would be"
    assert said in refused(path, trust)


def _text_of(schema, *changes):
    text = json.dumps(schema)
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        text = text.replace(f'"{old}"', f'"{new}"')
    schema.clear()
    schema.update(json.loads(text))


HONEST_SKOPS = {
    "texts": lambda: _table_of_texts(lambda one: None),
    "a list of words": lambda: CountVectorizer(vocabulary=["red", "box"]).fit(WORDS),
    "words with numbers": lambda: TfidfVectorizer(vocabulary={"red": 1, "box": 0}).fit(WORDS),
    "categories": lambda: _one_hot(lambda s: None),
    "a category dropped": lambda: OneHotEncoder(drop="first").fit([["a"], ["b"], ["c"]]),
    "dropped where there are two": lambda: OneHotEncoder(drop="if_binary").fit(
        [["a", "x"], ["b", "y"], ["c", "x"]]
    ),
    "rare categories": lambda: OneHotEncoder(
        min_frequency=2, handle_unknown="infrequent_if_exist", drop="first"
    ).fit([["a"], ["a"], ["b"], ["b"], ["c"], ["d"]]),
    "a machine": lambda: _machine(lambda s: None),
    "hashing": lambda: HashingVectorizer(n_features=16),
    "keys": lambda: DictVectorizer().fit([{"a": 1, "b": 2}]),
    "an ensemble": lambda: BaggingClassifier(
        LogisticRegression(random_state=np.random.RandomState(2)), n_estimators=2
    ).fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1]),
}


@pytest.mark.parametrize("name", HONEST_SKOPS)
def test_honest_objects_of_skops_are_made(tmp_path, name):
    """The rules refuse nothing that fitting writes, whichever of both formats it is saved in."""
    model = HONEST_SKOPS[name]()
    skops.io.dump(model, tmp_path / "m.skops")

    again = open_skops(tmp_path / "m.skops", DENY)

    joblib.dump(model, tmp_path / "m.joblib")
    assert type(model) is type(again) is type(pickles.load(tmp_path / "m.joblib", LISTED))
    assert {*vars(model)} == {*vars(again)}
