from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.statsmodels import framework
from bundleserver.tensors import NamedTensor

pytestmark = pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ModelWarning")


@pytest.fixture(scope="module")
def table():
    """Make a table with columns of every kind."""
    random = np.random.default_rng(11)
    count = 90
    frame = pd.DataFrame(
        {"age": random.uniform(18, 70, count), "disk-io %": random.normal(size=count)}
    )
    frame["plan"] = random.choice(["free", "team", "firm"], count)
    frame["is_new"] = random.random(count) > 0.4
    frame["seats"] = random.integers(1, 6, count)
    frame["tier"] = pd.Categorical(
        random.choice(["low", "high"], count), categories=["low", "high", "top"]
    )
    frame["grade"] = pd.Categorical(random.choice([10, 20, 30], count))
    frame["note"] = random.choice(["a", "b"], count)
    frame["cost"] = (
        frame["age"] / 9 + 2 * frame["is_new"] + frame["seats"] + random.normal(0, 1, count)
    )
    return frame


def reload(results, directory, **how):
    """Save results and open them as the server does."""
    path = directory / "model.pkl"
    results.save(str(path), **how)
    return framework.load(path, LoadContext())


def signature(predictor):
    """Return the one input of a regression."""
    [spec] = predictor.methods["predict"].inputs
    return spec


def by_rows(predictor, frame):
    """Predict rows as V1 brings them: plain values keyed by column."""
    records = frame.to_dict("records")
    inputs = predictor.methods["predict"].validate_rows(records, "'m'")
    return predictor.call("predict", list(inputs.values()), {})[0]


def by_lists(predictor, frame):
    """Predict rows as V1 brings them: plain values in the order of the columns."""
    inputs = predictor.methods["predict"].validate_rows(frame.astype(object).values.tolist(), "'m'")
    return predictor.call("predict", list(inputs.values()), {})[0]


def by_columns(predictor, frame):
    """Predict one tensor for each column."""
    tensors = [NamedTensor(name, frame[name].to_numpy()) for name in frame.columns[::-1]]
    return predictor.call("predict", tensors, {})[0]


FORMULAS = {
    "cost ~ age + Q('disk-io %')": ("age", "disk-io %"),
    "cost ~ np.log(age) + I(age**2)": ("age",),
    "cost ~ plan * age": ("plan", "age"),
    "cost ~ C(plan, Treatment('team')) + seats": ("plan", "seats"),
    "cost ~ is_new + age": ("is_new", "age"),
    "cost ~ is_new": ("is_new",),
    "cost ~ tier + grade": ("tier", "grade"),
    "cost ~ C(seats) - 1": ("seats",),
    "cost ~ C(seats.astype(str))": ("seats",),
    "cost ~ bs(age, df=5) + cr(seats, df=3)": ("age", "seats"),
    "cost ~ center(age) + standardize(seats)": ("age", "seats"),
    "cost ~ np.where(plan == 'free', 0, age)": ("plan", "age"),
    "cost ~ age:plan:is_new": ("age", "plan", "is_new"),
}


@pytest.mark.parametrize("how", [{}, {"remove_data": True}], ids=["whole", "bare"])
@pytest.mark.parametrize("formula", FORMULAS)
def test_a_formula_answers_as_the_library(formula, how, table, tmp_path):
    """The formula's own columns come as rows, lists or columns, and get the library's numbers."""
    results = smf.ols(formula, table).fit()
    rows = table.iloc[[1, 4, 17, 40, 41]]
    expected = results.predict(rows).to_numpy()
    predictor = reload(results, tmp_path, **how)
    columns = list(FORMULAS[formula])

    assert tuple(columns) == signature(predictor).columns
    for ask in (by_rows, by_lists, by_columns):
        np.testing.assert_array_equal(expected, ask(predictor, rows[columns]))


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_row_does_not_depend_on_others(formula, table, tmp_path):
    """A row alone is answered as it is among others, of which one has a gap."""
    predictor = reload(smf.ols(formula, table).fit(), tmp_path)
    rows = table.iloc[5:9][list(FORMULAS[formula])].astype(object)
    alone = [by_rows(predictor, rows.iloc[[position]])[0] for position in range(4)]
    gaps = rows.reset_index(drop=True)
    gaps.iloc[2, 0] = None

    answer = by_rows(predictor, gaps)

    np.testing.assert_allclose([*alone[:2], np.nan, alone[3]], answer, rtol=1e-12)


@pytest.mark.parametrize(
    ("formula", "datatypes"),
    [
        ("cost ~ age + seats", ()),
        ("cost ~ plan + age + is_new + tier + grade", ("BYTES", "FP64", "BOOL", "BYTES", "FP64")),
        ("cost ~ is_new", ("BOOL",)),
    ],
)
def test_columns_tell_their_datatypes(formula, datatypes, table, tmp_path):
    """A table of numbers is one tensor FP64; else each column tells what it has."""
    spec = signature(reload(smf.ols(formula, table).fit(), tmp_path))

    assert (datatypes, None if datatypes else "FP64") == (spec.column_datatypes, spec.datatype)


def test_true_and_false_may_be_numbers(table, tmp_path):
    """A column of true and false takes 1 and 0 too."""
    predictor = reload(smf.ols("cost ~ is_new + age", table).fit(), tmp_path)
    rows = table[["is_new", "age"]][:6]

    numbers = rows.assign(is_new=rows["is_new"].astype(int))

    np.testing.assert_array_equal(by_rows(predictor, rows), by_rows(predictor, numbers))


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (
            "plan",
            "pro",
            "column 'plan' has the unknown value 'pro'; the model was fitted on 'firm'",
        ),
        ("plan", 3, "column 'plan' has the value 3; expected text"),
        ("tier", "low ", "column 'tier' has the unknown value 'low '"),
        ("is_new", 2, "column 'is_new' has the value 2; expected true or false"),
        ("is_new", "yes", "column 'is_new' has the value 'yes'"),
        ("seats", 9, "column 'seats' has the unknown value 9"),
        ("age", "old", "column 'age' has the value 'old'; expected a number"),
        ("age", 99, "the formula rejects a row: .*outermost knots"),
    ],
)
def test_values_that_do_not_fit_are_refused(column, value, reason, table, tmp_path):
    """A value of another kind, or one that the model never saw, is the caller's error."""
    formula = "cost ~ plan + tier + is_new + C(seats) + bs(age, df=4)"
    predictor = reload(smf.ols(formula, table).fit(), tmp_path)
    rows = table[["plan", "tier", "is_new", "seats", "age"]][:3].astype(object)
    rows.loc[1, column] = value

    with pytest.raises(InvalidInput, match=reason):
        by_rows(predictor, rows)


def test_text_that_only_code_reads_may_be_any(table, tmp_path):
    """Where a formula maps text by itself, no value is unknown."""
    results = smf.ols("cost ~ np.where(plan == 'free', 1, 0)", table).fit()
    rows = pd.DataFrame({"plan": ["free", "never seen"]})

    answer = by_rows(reload(results, tmp_path), rows)

    np.testing.assert_array_equal(results.predict(rows), answer)


def test_a_formula_without_columns_counts_rows(table, tmp_path):
    """A model of a constant answers it for each row."""
    results = smf.ols("cost ~ 1", table).fit()

    answer = by_lists(reload(results, tmp_path), pd.DataFrame({"Intercept": [1.0, 1.0]}))

    np.testing.assert_array_equal(results.predict(pd.DataFrame({"row": [1, 2]})), answer)


def test_a_column_that_no_request_can_bring_is_refused(table, tmp_path):
    """A column of dates is told at load."""
    data = table.assign(day=pd.date_range("2024-01-01", periods=len(table)))
    results = smf.ols("cost ~ day.dt.dayofweek", data).fit()

    with pytest.raises(LoadError, match="uses 'day', a column of datetime64"):
        reload(results, tmp_path)


@pytest.mark.parametrize("formula", FORMULAS)
def test_samples_are_rows_that_the_model_takes(formula, table, tmp_path):
    """What the model offers as plausible calls has different rows, all answered by numbers."""
    predictor = reload(smf.ols(formula, table).fit(), tmp_path)

    for rows in (1, 2, 256):
        [inputs] = predictor.samples("predict", rows)
        bound = predictor.methods["predict"].validate_tensors(inputs, "'m'")
        [answer] = predictor.call("predict", list(bound.values()), {})
        assert (rows,) == answer.shape
        assert np.isfinite(answer).all()


@pytest.mark.parametrize("family", ["glm", "logit", "poisson", "quantreg", "mnlogit", "wls"])
def test_every_family_takes_a_formula(family, table, tmp_path):
    """Categories and true and false serve in all families."""
    counts = table.assign(cost=table["seats"] // 2 if family != "logit" else table["is_new"] * 1)
    quiet = {"disp": 0} if family in ("logit", "poisson", "mnlogit") else {}
    results = getattr(smf, family)("cost ~ plan + age", counts).fit(**quiet)
    rows = table[["plan", "age"]][3:6]

    answer = by_rows(reload(results, tmp_path, remove_data=True), rows)

    np.testing.assert_array_equal(np.asarray(results.predict(rows)), answer)


def test_the_other_engine_of_formulas_serves_too(table, tmp_path):
    """With formulaic the columns and their levels are known as with patsy."""
    code = f"""
import pickle, sys
import numpy as np, pandas as pd, statsmodels.formula.api as smf
from pathlib import Path
from bundleserver.errors import InvalidInput
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.statsmodels import framework
from bundleserver.tensors import NamedTensor
table = pd.read_pickle({str(tmp_path / "table.pkl")!r})
results = smf.ols("cost ~ C(plan) + is_new + np.log(age) + Q('disk-io %') + tier", table).fit()
assert "formulaic" in type(results.model.data.model_spec).__module__
results.save({str(tmp_path / "model.pkl")!r})
predictor = framework.load(Path({str(tmp_path / "model.pkl")!r}), LoadContext())
names = predictor.methods["predict"].inputs[0].columns
assert names == ("plan", "is_new", "age", "disk-io %", "tier"), names
rows = table.iloc[[2, 5, 7]]
def ask(rows):
    tensors = [NamedTensor(name, rows[name].to_numpy()) for name in names]
    return predictor.call("predict", tensors, {{}})
np.testing.assert_array_equal(results.predict(rows), ask(rows)[0])
for column in ("plan", "tier"):
    try:
        ask(rows.assign(**{{column: "x"}}))
    except InvalidInput as refusal:
        assert f"column '{{column}}' has the unknown value 'x'" in str(refusal)
    else:
        raise AssertionError(column)
"""
    table.to_pickle(tmp_path / "table.pkl")

    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "SM_FORMULA_ENGINE": "formulaic"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == ran.returncode, ran.stderr


def test_a_library_that_cannot_predict_is_told_with_the_installed_versions(table, tmp_path):
    """Results that load but do not predict say which versions would have to save them."""
    results = smf.ols("cost ~ age", table).fit()
    results._results.params = results.params.to_numpy()[:1]

    with pytest.raises(
        LoadError, match=r"cannot predict a row: .* with statsmodels \d.*, patsy \d"
    ):
        reload(results, tmp_path)
