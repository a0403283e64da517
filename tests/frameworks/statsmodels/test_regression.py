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


def test_columns_may_come_one_by_one(macro, tmp_path):
    """One tensor per column, of one or two dimensions and in any order, is a table too."""
    results = FIT["OLS"](macro)
    predictor = reload(results, tmp_path)
    rows = np.array([[1.0, 5.0, 2.0], [1.0, 6.5, -1.0]])
    table = NamedTensor("rows", rows[:, [2, 0, 1]], ("infl", "const", "unemp"))
    columns = [
        NamedTensor("infl", rows[:, 2]),
        NamedTensor("const", np.array([[1], [1]])),
        NamedTensor("unemp", rows[:, 1]),
    ]

    for inputs in (columns, [table]):
        [answer] = predictor.call("predict", inputs, {})
        np.testing.assert_array_equal(results.predict(rows), answer)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("const", "unemp"), "missing column 'infl'"),
        (("const", "unemp", "infla"), "missing column 'infl'"),
        (("const", "unemp", "infla"), "did you mean 'infl' for 'infla'?"),
        (("const", "unemp", "infl", "infl"), "duplicate column 'infl'"),
    ],
)
def test_other_columns_are_refused(names, reason, macro, tmp_path):
    """Columns that lack, are misspelt or come twice are named."""
    predictor = reload(FIT["OLS"](macro), tmp_path)

    with pytest.raises(InvalidInput) as refusal:
        predictor.call("predict", [NamedTensor(name, np.ones(2)) for name in names], {})

    assert reason in str(refusal.value)


WITHOUT_DATA = {
    "OLS": lambda y, design: sm.OLS(y, design),
    "WLS": lambda y, design: sm.WLS(y, design, weights=np.arange(1, len(y) + 1)),
    "GLM": lambda y, design: sm.GLM(y, design, family=sm.families.Gaussian()),
    "Logit": lambda y, design: sm.Logit(y > 6, design),
    "Poisson": lambda y, design: sm.Poisson(np.round(y), design),
    "NegativeBinomial": lambda y, design: sm.NegativeBinomial(np.round(y) ** 2, design),
    "RLM": lambda y, design: sm.RLM(y, design),
    "QuantReg": lambda y, design: sm.QuantReg(y, design),
    "MNLogit": lambda y, design: sm.MNLogit(np.digitize(y, [5, 7]), design),
}


@pytest.mark.parametrize("as_table", [True, False])
@pytest.mark.parametrize("family", WITHOUT_DATA)
@pytest.mark.filterwarnings("ignore")
def test_results_without_their_data_predict(family, as_table, macro, tmp_path):
    """Results that were saved without their data answer as they did with them."""
    design = sm.add_constant(macro[["infl", "realint"]])
    quiet = {"disp": 0} if family in ("Logit", "Poisson", "NegativeBinomial", "MNLogit") else {}
    y = macro["unemp"] if as_table else macro["unemp"].to_numpy()
    results = WITHOUT_DATA[family](y, design if as_table else design.to_numpy()).fit(**quiet)
    rows = np.ascontiguousarray(design.iloc[[3, 50, 90]])
    expected = np.asarray(results.predict(rows))
    results.save(str(tmp_path / "bare.pkl"), remove_data=True)

    predictor = framework.load(tmp_path / "bare.pkl", LoadContext())

    np.testing.assert_array_equal(expected, predict(predictor, rows))
    [[sample]] = predictor.samples("predict", 4)
    assert (4, 3) == np.unique(sample.values, axis=0).shape


def test_two_inputs_are_refused(macro, tmp_path):
    """A column comes once."""
    predictor = reload(FIT["OLS"](macro), tmp_path)

    with pytest.raises(InvalidInput, match=r"missing column 'const'"):
        predictor.call("predict", [NamedTensor("a", np.ones((1, 3)))] * 2, {})
