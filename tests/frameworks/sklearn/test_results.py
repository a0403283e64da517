"""What estimators return, as outputs of the protocol's datatypes."""

import numpy as np
import pandas as pd
import pytest

from bundleserver.frameworks.tables.results import dense, several_outputs


def test_a_single_value_in_a_dict_is_that_of_every_row():
    """As in a table; V1 answers an object for each row."""
    outputs = several_outputs({"score": np.array([0.1, 0.2, 0.3]), "model": "v7"}, "predict")

    assert ["v7", "v7", "v7"] == outputs["model"].tolist()
    assert [0.1, 0.2, 0.3] == outputs["score"].tolist()


def test_a_list_of_dicts_is_a_table():
    """Its keys are the names of the outputs."""
    rows = [{"label": "ok", "p": 0.25}, {"label": "bad", "p": 0.5}]

    outputs = several_outputs(rows, "predict")

    assert {"label": ["ok", "bad"], "p": [0.25, 0.5]} == {k: v.tolist() for k, v in outputs.items()}


def test_a_table_of_a_transformer_is_one_tensor_unless_its_kinds_differ():
    """What the next step takes stays one tensor."""
    numbers = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})

    assert several_outputs(numbers, "transform") is None
    assert ["a", "b"] == list(several_outputs(numbers, "predict"))
    assert ["a", "t"] == list(several_outputs(numbers[["a"]].assign(t="x"), "transform"))


@pytest.mark.parametrize(
    "answer", [None, (n for n in range(3)), [{"a"}, {"b"}], [{"a": 1}, {"b": 1}]]
)
def test_what_has_no_datatype_is_refused(answer):
    """Its representation as a string would be a wrong answer."""
    with pytest.raises(TypeError, match="the model returned"):
        dense(answer)
