from __future__ import annotations

import numpy as np
import pytest

from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks.forecasting.contract import (
    check_names,
    forecast_signature,
    parse_level,
    parse_request,
    shorten,
)
from bundleserver.frameworks.forecasting.forecaster import max_horizon_option
from bundleserver.tensors import NamedTensor, TensorSpec

PRICE = TensorSpec("price", "FP64", (-1,))
OPEN = TensorSpec("open", "BOOL", (-1,))


def tensor(name: str, values: object, dtype: object = None) -> NamedTensor:
    """Make one input as a request brings it."""
    return NamedTensor(name, np.array(values, dtype=dtype))


def dates(*texts: object) -> NamedTensor:
    """Make the input ds."""
    return tensor("ds", list(texts), object)


def read(*inputs: NamedTensor, regressors=(), max_horizon=100, **parameters):
    """Read a request for a model with these regressors."""
    signature = forecast_signature(regressors, timed=True)
    return parse_request(inputs, parameters, signature, max_horizon)


def test_what_a_model_cannot_take_is_no_input_and_has_a_reason():
    """An input that others take and this model cannot is refused with the reason."""
    signature = forecast_signature(timed=True, refused={"history": "it needs a refit"})

    assert ["horizon", "ds"] == [spec.name for spec in signature.inputs]
    with pytest.raises(InvalidInput, match="'history' is not supported: it needs a refit"):
        parse_request([tensor("history", [1.0])], {}, signature, 10)


def test_signature_of_a_timed_forecaster_has_four_outputs():
    """A model with a time index names its dates, and one without does not."""
    timed, plain = forecast_signature(timed=True), forecast_signature(timed=False)

    assert ["mean", "lower", "upper", "ds"] == [spec.name for spec in timed.outputs]
    assert ["mean", "lower", "upper"] == [spec.name for spec in plain.outputs]
    assert ["FP64", "FP64", "FP64", "BYTES"] == [spec.datatype for spec in timed.outputs]
    assert not timed.rowwise


def test_signature_inputs_are_optional_but_for_the_regressors():
    """Only the regressors must come."""
    signature = forecast_signature((PRICE, OPEN), timed=True)

    assert ["horizon", "ds", "history", "price", "open"] == [spec.name for spec in signature.inputs]
    assert [True, True, True, False, False] == [spec.optional for spec in signature.inputs]
    assert ((1,), "INT64") == (signature.inputs[0].shape, signature.inputs[0].datatype)


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64])
def test_horizon_is_one_whole_number(shape, dtype):
    """A scalar and a tensor of one element ask the same, in any integer datatype."""
    request = read(NamedTensor("horizon", np.full(shape, 7, dtype=dtype)))

    assert (7, None, 7, 0.95) == (request.horizon, request.ds, request.steps, request.level)


@pytest.mark.parametrize(
    ("values", "dtype", "reason"),
    [
        ([0], np.int64, "'horizon' is 0; a forecast expects 1 to 100 steps"),
        ([-3], np.int64, "'horizon' is -3; a forecast expects 1 to 100 steps"),
        ([101], np.int64, "'horizon' is 101; a forecast expects 1 to 100 steps"),
        ([10**9], np.int64, "'horizon' is 1000000000; a forecast expects 1 to 100 steps"),
        ([2**64 - 1], np.uint64, "expects 1 to 100 steps"),
        ([7.0], np.float64, "'horizon' has datatype FP64; a forecast expects INT64"),
        ([True], np.bool_, "'horizon' has datatype BOOL; a forecast expects INT64"),
        (["7"], object, "'horizon' has datatype BYTES; a forecast expects INT64"),
        ([1, 2], np.int64, "'horizon' has shape [2]; a forecast expects [1]"),
        ([[1]], np.int64, "'horizon' has shape [1, 1]; a forecast expects [1]"),
        ([], np.int64, "'horizon' has shape [0]; a forecast expects [1]"),
    ],
)
def test_horizon_that_is_no_number_of_steps_is_refused(values, dtype, reason):
    """What is not one whole number from 1 to the maximum is the caller's error."""
    with pytest.raises(InvalidInput) as refusal:
        read(tensor("horizon", values, dtype))

    assert reason in str(refusal.value)


def test_request_takes_horizon_or_ds_and_not_both():
    """A request that asks twice, or for nothing, is refused."""
    with pytest.raises(InvalidInput, match="got both"):
        read(tensor("horizon", [2]), dates("2025-01-01"))
    with pytest.raises(InvalidInput, match="got neither"):
        read(tensor("history", [1.0, 2.0]))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "'ds' has 0 dates; a forecast expects 1 to 100"),
        (["2025-01-01"] * 101, "'ds' has 101 dates; a forecast expects 1 to 100"),
        ([["2025-01-01"]], "'ds' has shape [1, 1]; a forecast expects [-1]"),
        ("2025-01-01", "'ds' has shape []; a forecast expects [-1]"),
        ([b"\xff"], "'ds' has the value b'\\xff'"),
        ([20250101], "'ds' has the value 20250101"),
        ([None], "'ds' has the value None"),
    ],
)
def test_ds_that_is_no_list_of_texts_is_refused(values, reason):
    """The dates are a list of at least one and at most the maximum, and each is a text."""
    with pytest.raises(InvalidInput) as refusal:
        read(tensor("ds", values, object))

    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "dtype", "reason"),
    [
        ([], np.float64, "'history' has no observation"),
        ([np.nan, np.nan], np.float64, "'history' has no observation"),
        ([1.0, np.inf], np.float64, "'history' has an infinite value"),
        ([[1.0], [2.0]], np.float64, "'history' has shape [2, 1]"),
        (["1"], object, "'history' has datatype BYTES; the model expects FP64"),
        ([True], np.bool_, "'history' has datatype BOOL; the model expects FP64"),
    ],
)
def test_history_that_is_no_series_is_refused(values, dtype, reason):
    """A history is one series with at least one finite observation."""
    with pytest.raises(InvalidInput) as refusal:
        read(tensor("horizon", [2]), tensor("history", values, dtype))

    assert reason in str(refusal.value)


def test_history_keeps_missing_observations():
    """NaN is a missing observation, for the model to take or refuse."""
    request = read(tensor("horizon", [2]), tensor("history", [1.0, np.nan, 3.0]))

    np.testing.assert_array_equal([1.0, np.nan, 3.0], request.history)


@pytest.mark.parametrize("level", [0.5, 0.95, 1e-9, 1 - 1e-12])
def test_level_between_0_and_1_is_taken(level):
    """Every probability that leaves room on both sides is a level."""
    assert level == parse_level({"level": level})


@pytest.mark.parametrize(
    "level", [0, 1, 0.0, 1.0, -0.1, 95, True, False, None, "0.9", "abc", float("nan"), [0.9]]
)
def test_level_that_is_no_probability_is_refused(level):
    """A level that is no number between 0 and 1 is refused, numbers as text too."""
    with pytest.raises(InvalidInput, match=r"parameter 'level' is .*between 0 and 1"):
        parse_level({"level": level})


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([], "missing input 'price', 'open'"),
        ([tensor("price", [1.0, 2.0])], "missing input 'open'"),
        ([tensor("price", [1.0]), tensor("open", [True, False])], "'price' has shape [1]"),
        ([tensor("price", [[1.0, 2.0]]), tensor("open", [True, False])], "expects [2]"),
        ([tensor("price", [1.0, np.nan]), tensor("open", [True, False])], "NaN or infinite"),
        ([tensor("price", [1.0, -np.inf]), tensor("open", [True, False])], "NaN or infinite"),
        ([tensor("price", ["a", "b"]), tensor("open", [True, False])], "has datatype BYTES"),
        ([tensor("price", [1.0, 2.0]), tensor("open", [1.0, 0.0])], "'open' has datatype FP64"),
        (
            [tensor("prize", [1.0, 2.0])],
            "unknown input 'prize'; the model expects 'horizon', 'ds'",
        ),
        ([tensor("horizon", [2])], "duplicate input 'horizon'"),
    ],
)
def test_regressors_that_do_not_fit_are_refused(inputs, reason):
    """Each regressor comes once, with one finite value per step, under its own name."""
    with pytest.raises(InvalidInput) as refusal:
        read(tensor("horizon", [2]), *inputs, regressors=(PRICE, OPEN))

    assert reason in str(refusal.value)


def test_regressors_are_given_in_the_order_of_the_model():
    """Regressors are matched by name, whatever their order, and are FP64."""
    request = read(
        tensor("open", [True, False]),
        tensor("price", [1, 2]),
        tensor("horizon", [2]),
        regressors=(PRICE, OPEN),
    )

    assert ["price", "open"] == list(request.regressors)
    assert [1.0, 2.0] == request.regressors["price"].tolist()
    assert np.float64 == request.regressors["price"].dtype


def test_history_start_needs_a_history_and_a_text():
    """The parameter that dates a history is refused without one, and when it is no text."""
    history = tensor("history", [1.0, 2.0])
    taken = read(tensor("horizon", [1]), history, history_start="2020-01-01")

    assert "2020-01-01" == taken.history_start
    with pytest.raises(InvalidInput, match="requires the input 'history'"):
        read(tensor("horizon", [1]), history_start="2020-01-01")
    with pytest.raises(InvalidInput, match="'history_start' is 2020"):
        read(tensor("horizon", [1]), history, history_start=2020)


@pytest.mark.parametrize("name", ["horizon", "ds", "history", "price"])
def test_regressor_that_a_request_could_not_tell_apart_is_refused(name):
    """A model whose regressor shares a name with another input does not load."""
    with pytest.raises(LoadError, match=f"regressor '{name}'"):
        check_names((PRICE, TensorSpec(name, "FP64", (-1,))), "'model.pkl'")


def test_max_horizon_has_a_default():
    """Without the option a forecast has at most 10000 steps."""
    assert 10_000 == max_horizon_option({}, "'m'")
    assert 5 == max_horizon_option({"max_horizon": 5}, "'m'")


@pytest.mark.parametrize(
    "options", [{"max_horizon": value} for value in (0, -1, 2.0, "7", True, None)] + [{"max": 3}]
)
def test_max_horizon_that_is_no_count_is_refused(options):
    """An option that is unknown or no whole number of at least 1 does not load."""
    with pytest.raises(LoadError, match="'m': options"):
        max_horizon_option(options, "'m'")


def test_long_values_are_shortened_in_messages():
    """A message quotes at most 60 characters of what came."""
    assert 60 == len(shorten("x" * 10_000))
    assert "'2025'" == shorten("2025")
