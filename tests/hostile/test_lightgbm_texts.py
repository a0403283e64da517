"""LightGBM's texts with forged numbers: refused with a sentence, or answered; no process dies."""

from __future__ import annotations

import os
import pickle
import re

import lightgbm as lgb
import numpy as np
import pytest

from bundleserver.frameworks.lightgbm_text.model import read_model
from bundleserver.frameworks.lightgbm_text.numbers import Malformed
from bundleserver.frameworks.pickles.gate.models.boosters import check_lightgbm
from bundleserver.frameworks.pickles.gate.refusal import Refused
from tests.frameworks.lightgbm.trained import KINDS, TARGET, X
from tests.hostile.forged_texts import deaths, forged, with_sizes

KINDS_FORGED = ("regression", "multiclass", "linear", "categories", "forest", "constant")


@pytest.mark.parametrize("kind", KINDS_FORGED)
def test_no_forged_text_ends_a_process(kind: str) -> None:
    """One other value, line or byte: in a text whose sizes are right otherwise."""
    text = KINDS[kind]().booster.model_to_string()

    cases = [*forged(text, seed=KINDS_FORGED.index(kind), count=300)]

    assert [] == [*deaths(cases)]


def test_a_death_is_seen() -> None:
    """The test above fails where a process dies."""
    assert [b"a"] == [*deaths([b"a"], lambda data: os.abort())]


@pytest.fixture(scope="module")
def text() -> str:
    """Save two trees of categories and of numbers."""
    return KINDS["categories"]().booster.model_to_string(num_iteration=2)


FORGED = {
    "a child that is not there": ("left_child=", r"\S+", "99", "'left_child' or 'right_child'"),
    "a leaf that is not there": ("right_child=", r"\S+", "-99", "'left_child' or 'right_child'"),
    "a circle": ("left_child=", r"\S+", "0", "'left_child' or 'right_child'"),
    "a column that is not there": ("split_feature=", r"\S+", "5", "'split_feature'"),
    "a column before the first": ("split_feature=", r"\S+", "-1", "'split_feature'"),
    "more leaves": ("num_leaves=", r"\S+", "8", "'leaf_value'"),
    "no leaves": ("num_leaves=", r"\S+", "0", "'num_leaves'"),
    "leaves below none": ("num_leaves=", r"\S+", "-7", "'num_leaves'"),
    "very many leaves": ("num_leaves=", r"\S+", "2000000000", "'leaf_value'"),
    "more sets of categories": ("num_cat=", r"\S+", "99", "'cat_boundaries'"),
    "no sets of categories": ("num_cat=", r"\S+", "0", "'num_cat'"),
    "a set that is not there": ("cat_boundaries=", r"$", " 9", "'cat_boundaries'"),
    "too few bits": ("cat_threshold=", r".+", "", "'cat_boundaries'"),
    "another decision": ("decision_type=", r"\S+", "77", "'decision_type'"),
    "half a number": ("leaf_value=", r"\S+", "1e", "value in 'leaf_value' that is not a number"),
    "a word": ("threshold=", r"\S+", "x", "value in 'threshold' that is not a number"),
    "a linear model of nothing": ("is_linear=", r"\S+", "1", "'leaf_const'"),
    "many columns": ("max_feature_idx=", r"\S+", "999999999", "expected 1000000000, as"),
    "more classes": ("num_class=", r"\S+", "2", "a number of classes"),
    "very many classes": ("num_tree_per_iteration=", r"\S+", "999999999", "a number of classes"),
    "another objective": ("objective=", r".+", "x", "the unknown objective 'x'"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_text_is_refused_with_what_does_not_agree(what: str, text: str) -> None:
    """The field is named; nothing of it was opened."""
    line, old, new, said = FORGED[what]
    found = re.search(rf"(?m)^{line}.*$", text)
    assert found
    changed = line + re.sub(old, new, found[0].removeprefix(line), count=1)
    other = text[: found.start()] + changed + text[found.end() :]

    with pytest.raises(Malformed, match=re.escape(said)):
        read_model(with_sizes(other))


def test_wrong_sizes_of_trees_are_refused(text: str) -> None:
    """The library would read where they say, and run out of the text."""
    for sizes in ("9", "1 2", "99999999999 1", "", "-4 5", " ".join(["1"] * 10_000)):
        with pytest.raises(Malformed):
            read_model(re.sub(r"tree_sizes=.*", f"tree_sizes={sizes}", text).encode())


def test_the_library_gets_what_was_checked_and_nothing_else(text: str) -> None:
    """Parameters, importances and unknown lines are left out: their parser believes them, too."""
    odd = text.replace("[boosting: gbdt]", "[boosting").replace("tree_sizes", "odd=1\ntree_sizes")

    given = read_model(odd.encode()).text

    assert "boosting" not in given
    assert "odd" not in given
    rows = np.zeros((1, 5))
    assert lgb.Booster(model_str=text).predict(rows) == lgb.Booster(model_str=given).predict(rows)


def test_a_pickled_booster_is_checked_before_the_library_sees_it(text: str) -> None:
    """Its state has the text, under either name."""
    forged_text = text.replace("split_feature=", "split_feature=9", 1)
    for name in ("handle", "_handle"):
        check_lightgbm({name: text})
        with pytest.raises(Refused, match=r"the text of a booster of LightGBM has"):
            check_lightgbm({name: with_sizes(forged_text).decode()})


def test_the_state_of_an_estimator_is_checked_too(tmp_path) -> None:
    """An LGBMRegressor holds a booster; its pickle is not opened under ``listed``."""
    from bundleserver.errors import LoadError
    from bundleserver.frameworks import pickles
    from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

    estimator = lgb.LGBMRegressor(n_estimators=2, verbose=-1).fit(X, TARGET)
    data = pickle.dumps(estimator, 4)
    place = data.index(b"split_feature=") + len(b"split_feature=")
    (tmp_path / "sound.pkl").write_bytes(data)
    (tmp_path / "forged.pkl").write_bytes(data[:place] + b"9" + data[place + 1 :])
    listed = CodeTrust(PicklePolicy.LISTED)

    opened = pickles.load(tmp_path / "sound.pkl", listed)

    assert np.array_equal(estimator.predict(X), opened.predict(X))
    with pytest.raises(LoadError, match="trees whose 'split_feature' is not consistent"):
        pickles.load(tmp_path / "forged.pkl", listed)
