from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.statsmodels import framework
from bundleserver.tensors import NamedTensor


@pytest.fixture(scope="module")
def macro():
    """American quarters."""
    return sm.datasets.macrodata.load_pandas().data


def reload(results, directory):
    """Save results as the notebook does and open them as the server does."""
    path, options = framework.save(results, directory, "model")
    return framework.load(path, LoadContext(options=options))


def predict(predictor, rows):
    """Call predict on rows."""
    [answer] = predictor.call("predict", [NamedTensor("exog", np.asarray(rows))], {})
    return answer


FIT = {
    "OLS": lambda data: sm.OLS(data["realgdp"], sm.add_constant(data[["unemp", "infl"]])).fit(),
    "GLM": lambda data: sm.GLM(data["realgdp"], data[["unemp", "infl", "tbilrate"]]).fit(),
    "Logit": lambda data: sm.Logit(data["unemp"] > 6, data[["infl", "realint", "m1"]]).fit(disp=0),
    "OLS regularized": lambda data: sm.OLS(
        data["realgdp"], sm.add_constant(data[["unemp", "infl"]])
    ).fit_regularized(),
}


@pytest.mark.parametrize("family", FIT)
def test_predict_equals_the_library_in_process(family, macro, tmp_path):
    """A regression predicts each row as the library does, to the bit."""
    results = FIT[family](macro)
    rows = np.array([[1.0, 5.0, 2.0], [1.0, 6.5, -1.0]])

    answer = predict(reload(results, tmp_path), rows)

    np.testing.assert_array_equal(results.predict(rows), answer)


def test_signature_names_the_columns_of_the_design(macro, tmp_path):
    """The one input names its columns, the constant too, and one output answers each row."""
    signature = reload(FIT["OLS"](macro), tmp_path).methods["predict"]

    assert ("const", "unemp", "infl") == signature.inputs[0].columns
    assert ((-1, 3), (-1,)) == (signature.inputs[0].shape, signature.outputs[0].shape)
    assert signature.rowwise


def test_several_classes_answer_several_columns(macro, tmp_path):
    """A model that answers a probability per class declares as many columns."""
    classes = np.digitize(macro["unemp"], [5, 7])
    results = sm.MNLogit(classes, macro[["infl", "realint"]]).fit(disp=0)
    predictor = reload(results, tmp_path)

    assert (-1, 3) == predictor.methods["predict"].outputs[0].shape
    assert (2, 3) == predict(predictor, [[1.0, 2.0], [3.0, 4.0]]).shape
    assert (0, 3) == predict(predictor, np.empty((0, 2))).shape


def test_formula_takes_its_variables(macro, tmp_path):
    """A model fitted by formula takes the variables that the formula uses."""
    results = smf.ols("realgdp ~ infl + unemp + infl:unemp", macro).fit()
    predictor = reload(results, tmp_path)

    answer = predict(predictor, macro[["infl", "unemp"]][:4])

    assert ("infl", "unemp") == predictor.methods["predict"].inputs[0].columns
    np.testing.assert_array_equal(results.predict(macro[:4]), answer)


def test_formula_over_text_is_refused(macro, tmp_path):
    """A tensor of numbers cannot hold a column of texts, and that is told at load."""
    data = macro.assign(party=np.where(macro["year"] % 8 < 4, "a", "b"))

    with pytest.raises(LoadError, match="the formula uses 'party', which is not numeric"):
        reload(smf.ols("realgdp ~ C(party) + unemp", data).fit(), tmp_path)


def test_results_without_an_answer_per_row_are_refused(macro, tmp_path):
    """Results that predict something else than one answer per row do not load."""
    results = sm.PHReg(macro["realgdp"], macro[["unemp"]]).fit()

    with pytest.raises(LoadError, match="PHRegResults' "):
        reload(results, tmp_path)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.ones((2, 2)), "shape [2, 2]; the regression expects [-1, 3]"),
        (np.ones(3), "shape [3]; the regression expects [-1, 3]"),
        (np.array([["a", "b", "c"]], dtype=object), "not numeric"),
        (np.ones((1, 3), dtype=bool), "not numeric"),
    ],
)
def test_rows_that_do_not_fit_are_refused(values, reason, macro, tmp_path):
    """Rows of another width or datatype are the caller's error."""
    predictor = reload(FIT["OLS"](macro), tmp_path)

    with pytest.raises(InvalidInput) as refusal:
        predict(predictor, values)

    assert reason in str(refusal.value)


def test_two_inputs_are_refused(macro, tmp_path):
    """A regression takes one input."""
    predictor = reload(FIT["OLS"](macro), tmp_path)

    with pytest.raises(InvalidInput, match="got 2 inputs"):
        predictor.call("predict", [NamedTensor("a", np.ones((1, 3)))] * 2, {})
