from __future__ import annotations

import json
import logging
import pickle

import joblib
import numpy as np
import pytest

from bundleserver.errors import InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.voting import framework
from bundleserver.tensors import NamedTensor, TensorSpec

NOTEBOOK = {
    "methods": ["Isolation Forest", "ARIMA", "Prophet", "LSTM", "Hard Voting", "Weighted Voting"],
    "weights": np.array([0.4, 0.1, 0.2, 0.3]),
    "threshold": np.float64(0.5),
    "best_method": "Weighted Voting",
    "performance": [
        {"method": "ARIMA", "f1": np.float64(0.5), "auc": float("nan"), "n": np.int64(9)}
    ],
}


@pytest.fixture
def config_path(tmp_path):
    """Write a configuration as a pickle."""

    def write(config: object, name: str = "ensemble_config.pkl"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(config))
        return path

    return write


def opened(path, **options: object) -> framework.VotingPredictor:
    """Open a configuration with these options."""
    return framework.load(path, LoadContext(options))


def answer(predictor: framework.VotingPredictor, *members: list[float]):
    """Call a predictor with one list of votes per member."""
    inputs = [NamedTensor(f"m{index}", np.array(votes)) for index, votes in enumerate(members)]
    label, score = predictor.call("predict", inputs, {})
    return label.tolist(), score.tolist()


def test_load_takes_the_dict_as_the_notebook_writes_it(config_path):
    """Members are the methods with a weight each, inputs their names in snake case."""
    predictor = opened(config_path(NOTEBOOK))

    (signature,) = predictor.methods.values()
    assert ["predict"] == list(predictor.methods)
    assert (
        TensorSpec("isolation_forest", "INT64", (-1,)),
        TensorSpec("arima", "INT64", (-1,)),
        TensorSpec("prophet", "INT64", (-1,)),
        TensorSpec("lstm", "INT64", (-1,)),
    ) == signature.inputs
    assert (
        TensorSpec("label", "INT64", (-1,)),
        TensorSpec("score", "FP64", (-1,)),
    ) == signature.outputs
    assert signature.rowwise


def test_call_weighs_the_votes(config_path):
    """Weighted voting: the score is the sum of the weights that voted, the label compares it."""
    predictor = opened(config_path(NOTEBOOK))

    labels, scores = answer(predictor, [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0])
    assert [0, 1, 0] == labels
    assert pytest.approx([0.4, 0.5, 0.3]) == scores


@pytest.mark.parametrize("spelling", ["Hard Voting", "hard", "majority", "Majority_Voting", "HARD"])
def test_call_counts_heads_under_hard_voting(config_path, spelling):
    """Hard voting in any of its spellings ignores the weights."""
    predictor = opened(config_path({**NOTEBOOK, "best_method": spelling}))

    assert ([0, 1], [0.25, 0.5]) == answer(predictor, [1, 0], [0, 1], [0, 1], [0, 0])


@pytest.mark.parametrize("spelling", ["ARIMA", "arima", "Arima"])
def test_call_gives_one_members_vote_when_that_is_best(config_path, spelling):
    """A member that decides alone gives its own vote as label and score, whatever the threshold."""
    predictor = opened(config_path({**NOTEBOOK, "best_method": spelling, "threshold": 0.0}))

    assert ([1, 0], [1.0, 0.0]) == answer(predictor, [0, 1], [1, 0], [0, 1], [0, 1])


def test_call_gives_one_members_vote_even_when_its_weight_is_zero(config_path):
    """A member that decides alone does so with any weight."""
    config = {**NOTEBOOK, "best_method": "ARIMA", "weights": [1, 0, 1, 1]}
    predictor = opened(config_path(config))

    assert ([1, 0], [1.0, 0.0]) == answer(predictor, [0, 1], [1, 0], [0, 1], [0, 1])


@pytest.mark.parametrize("best", ["Stacking", None, ""])
def test_load_weighs_when_the_best_method_is_unknown_and_says_so(config_path, caplog, best):
    """A best_method that is neither a combination nor a member means weighted, with one warning."""
    path = config_path({**NOTEBOOK, "best_method": best})
    with caplog.at_level(logging.WARNING):
        predictor = opened(path)

    assert "weighted" == predictor.metadata["rule"]
    (record,) = caplog.records
    assert (
        f"{path}: best_method is {best!r}, neither a combination nor a member; "
        "using weighted voting"
    ) == record.getMessage()


def test_load_says_nothing_about_a_known_method(config_path, caplog):
    """Weighted voting that was asked for is no warning."""
    with caplog.at_level(logging.WARNING):
        opened(config_path(NOTEBOOK))

    assert [] == caplog.records


def test_options_declare_the_sklearn_encoding(config_path):
    """With votes 'sklearn' -1 is an anomaly, in the votes and in the label."""
    predictor = opened(config_path(NOTEBOOK), votes="sklearn")

    labels, _ = answer(predictor, [-1, 1], [-1, 1], [1, 1], [1, 1])
    assert [-1, 1] == labels


@pytest.mark.parametrize(
    ("encoding", "vote", "takes"),
    [
        ("anomaly", -1, "1 for an anomaly or 0 for normal"),
        ("sklearn", 0, "-1 for an anomaly or 1 for normal"),
    ],
)
def test_call_never_guesses_an_encoding(config_path, encoding, vote, takes):
    """A vote of the other encoding is refused by the member's name."""
    predictor = opened(config_path(NOTEBOOK), votes=encoding)

    with pytest.raises(InvalidInput) as caught:
        answer(predictor, [1], [vote], [1], [1])
    assert f"input 'arima' has the vote {vote} in row 0; expected {takes}" == str(caught.value)


def test_call_refuses_members_of_unequal_length(config_path):
    """All members vote on the same rows."""
    predictor = opened(config_path(NOTEBOOK))

    with pytest.raises(
        InvalidInput, match="votes differ in length: 'isolation_forest' 2, 'arima' 1"
    ):
        answer(predictor, [1, 0], [1], [1, 0], [1, 0])


def test_call_refuses_another_number_of_inputs(config_path):
    """A member without a vote, or one too many, is refused with the members' names."""
    predictor = opened(config_path(NOTEBOOK))

    with pytest.raises(InvalidInput) as caught:
        answer(predictor, [1], [1])
    assert (
        "got 2 inputs: 'm0', 'm1'; the ensemble expects one of votes per member: "
        "'isolation_forest', 'arima', 'prophet', 'lstm'"
    ) == str(caught.value)


def test_load_gives_equal_weights_where_there_are_none(config_path):
    """Without weights every method that is no combination is a member, all count alike."""
    config = {key: value for key, value in NOTEBOOK.items() if key not in ("weights", "threshold")}
    predictor = opened(config_path(config))

    assert ["Isolation Forest", "ARIMA", "Prophet", "LSTM"] == predictor.metadata["members"]
    assert ([1, 0], [0.5, 0.25]) == answer(predictor, [1, 1], [1, 0], [0, 0], [0, 0])


def test_metadata_is_ready_for_json(config_path):
    """What the notebook noted about the ensemble comes out as JSON, NaN as null."""
    metadata = opened(config_path({**NOTEBOOK, "trained": np.datetime64("2025-12-09")})).metadata

    assert metadata == json.loads(json.dumps(metadata, allow_nan=False))
    assert [{"method": "ARIMA", "f1": 0.5, "auc": None, "n": 9}] == metadata["performance"]
    assert "Weighted Voting" == metadata["best_method"]
    assert [0.4, 0.1, 0.2, 0.3] == metadata["weights"]
    assert 0.5 == metadata["threshold"]
    assert "2025-12-09" == metadata["trained"]


def test_load_reads_joblib_too(tmp_path):
    """A dict that joblib wrote, compressed, opens like a pickle."""
    path = tmp_path / "ensemble_config.joblib"
    joblib.dump(NOTEBOOK, path, compress=3)

    assert "weighted" == opened(path).metadata["rule"]


def test_save_writes_json_that_same_in_parts(tmp_path, config_path):
    """A saved ensemble opens from JSON, without options, to the same answers."""
    path, options = framework.save(NOTEBOOK, tmp_path, "ensemble")

    assert tmp_path / "ensemble.json" == path
    assert {} == options
    rows = ([1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0])
    assert answer(opened(config_path(NOTEBOOK)), *rows) == answer(opened(path), *rows)


def test_save_refuses_a_malformed_dict(tmp_path):
    """What load would refuse is not written."""
    with pytest.raises(
        StoreError, match="'e' is not a valid ensemble configuration: weights has 2"
    ):
        framework.save({"methods": ["a"], "weights": [1, 1]}, tmp_path, "e")

    assert [] == list(tmp_path.iterdir())


def test_save_names_the_file_that_it_cannot_write(tmp_path):
    """A directory that is not there is the caller's to tell."""
    with pytest.raises(FileNotFoundError, match="missing"):
        framework.save(NOTEBOOK, tmp_path / "missing", "e")


WEIGHT_IS = "expected a weight: a non-negative number"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"methods": None}, "methods: is missing; expected an array of the members' names"),
        ({"methods": "ARIMA"}, "methods: is 'ARIMA'; expected an array of the members' names"),
        ({"methods": []}, "methods: is an array; expected an array of the members' names"),
        (
            {"methods": ["a", 2, "c", "d"]},
            "methods[1]: is 2; expected a name with a letter or digit",
        ),
        ({"methods": ["a", "-", "c", "d"]}, "methods[1]: is '-'; expected a name with a letter"),
        ({"methods": ["a", "b"]}, "weights has 4 entries for 2 methods"),
        (
            {"methods": ["A-b", "c", "a_b", "d"]},
            "methods 'A-b', 'a_b' have the same input name 'a_b'",
        ),
        (
            {"methods": ["a", "b", "c", "Hard Voting"]},
            "methods[3] is 'Hard Voting', a combination, which must not have a weight",
        ),
        (
            {"methods": ["hard", "weighted"], "weights": None},
            "methods is ['hard', 'weighted'], which has combinations but no member",
        ),
        ({"weights": {"a": 1}}, "weights: is an object; expected an array of weights"),
        ({"weights": [1, -1, 1, 1]}, f"weights[1]: is -1; {WEIGHT_IS}"),
        ({"weights": [1, np.nan, 1, 1]}, f"weights[1]: is null; {WEIGHT_IS}"),
        ({"weights": [0, 0, 0, 0]}, "weights: adds up to 0.0; expected a finite sum above 0"),
        ({"weights": []}, "weights: is an array; expected an array of weights, one per input"),
        (
            {"threshold": 1.5},
            "threshold: is 1.5; expected a share of the votes: a number from 0 to 1",
        ),
        (
            {"threshold": np.nan},
            "threshold: is null; expected a share of the votes: a number from 0 to 1",
        ),
        ({"best_method": 3}, "best_method: is 3; expected a name"),
    ],
)
def test_load_refuses_a_malformed_dict(config_path, change, expected):
    """Each rule of the dict has its own sentence, and no other comes with it."""
    config = {key: value for key, value in {**NOTEBOOK, **change}.items() if value is not None}
    path = config_path(config)

    with pytest.raises(LoadError) as caught:
        opened(path)
    problems = str(caught.value).removeprefix(f"'{path}' is not a valid ensemble configuration: ")
    assert problems.startswith(expected)
    assert ";" not in problems.removeprefix(expected)


def test_load_lists_every_problem_at_once(config_path):
    """Several broken rules come in one error."""
    config = {
        "methods": ["a"],
        "weights": [1, -1],
        "treshold": 0.3,
        "threshold ": 1,
        "best_method": 1,
    }

    with pytest.raises(LoadError) as caught:
        opened(config_path(config))
    for problem in (
        "'treshold' is not a known key; did you mean 'threshold'?",
        "weights has 2 entries for 1 methods",
        "weights[1]: is -1",
        "best_method: is 1",
    ):
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "is not valid JSON: "),
        (b'{"methods": ["a"], "weights": [NaN]}', "weights[0]: is null"),
        (b"[1]", "has a list; expected a dict with the keys 'methods', 'weights', 'threshold'"),
        (pickle.dumps(3), "has a int; expected a dict with the keys 'methods'"),
        (b"", "empty"),
    ],
)
def test_load_refuses_a_file_that_holds_no_dict(tmp_path, content, expected):
    """Broken JSON, another object and an empty file are refused by the file's name."""
    path = tmp_path / "ensemble_config.pkl"
    path.write_bytes(content)

    with pytest.raises(LoadError) as caught:
        opened(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_load_names_the_file_that_it_cannot_read(tmp_path):
    """A missing file is a LoadError like any other."""
    with pytest.raises(LoadError, match=r"gone\.json' cannot be read: No such file or directory"):
        opened(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"vote": "sklearn"},
            "'{path}': options.vote is not a known option; did you mean 'votes'?",
        ),
        ({"votes": "x"}, "'{path}': options.votes is 'x'; expected one of 'anomaly', 'sklearn'"),
        ({"votes": []}, "'{path}': options.votes is []; expected one of 'anomaly', 'sklearn'"),
    ],
)
def test_load_refuses_options_that_it_does_not_know(config_path, options, expected):
    """An unknown option or value is an error that names what is known."""
    path = config_path(NOTEBOOK)

    with pytest.raises(LoadError) as caught:
        opened(path, **options)
    assert expected.format(path=path) == str(caught.value)


def test_close_gives_nothing_back(config_path):
    """An ensemble holds nothing, so it closes at any time."""
    opened(config_path(NOTEBOOK)).close()
