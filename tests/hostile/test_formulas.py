"""Formulas of statsmodels that would grow while they are evaluated, and those that may."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.pickles.gate.models.formulas import check_formula
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

LISTED = CodeTrust(PicklePolicy.LISTED)
ROWS = 60
TABLE = pd.DataFrame(
    {
        "y": np.linspace(1, 9, ROWS),
        "x": np.linspace(2, 3, ROWS) ** 2,
        "z": np.cos(np.arange(ROWS)),
        "w": 1.0 + np.arange(ROWS) % 5,
        "g": ["a", "b", "c"] * 20,
        "h": ["u", "v"] * 30,
        "own name": np.arange(ROWS) % 7,
        "many": [f"label {row}" for row in range(ROWS)],
        "lists": [[row] for row in range(ROWS)],
    }
)
GROWS = {
    "powers of numbers": "y ~ x + I(9**9**9)",
    "powers of powers of numbers": "y ~ x + I((9**9)**9)",
    "powers of powers": "y ~ I(((x**9)**9)**9)",
    "a large power": "y ~ I(x ** 1000000)",
    "a power that is computed": "y ~ I(x ** w)",
    "texts": "y ~ I('a' * 9999999999)",
    "texts of a column": "y ~ I(g * 999999999)",
    "lists of a column": "y ~ I(lists * 999999999)",
    "shifts": "y ~ I(1 << 99999999999)",
    "powers of sums": "y ~ (x + z + w + g + h)**30",
    "fewer powers of more sums": "y ~ (x + z + w + g + h + many + lists + y)**8",
    "products": "y ~ " + " * ".join("xzwghxzwgh"),
    "many products": "y ~ " + " * ".join(["(x + z + w)"] * 9),
    "interactions": "y ~ " + ":".join(f"I(x + {n})" for n in range(12)),
    "columns": "y ~ many:C(many, Sum):C(g):C(many, Helmert)",
    "columns by name": "y ~ " + " + ".join(f"Q('many'):C(x + {n})" for n in range(9)),
    "knots": "y ~ bs(x, df=100000)",
    "knots by place": "y ~ bs(x, 100000)",
    "products of knots": "y ~ bs(x, df=9):bs(z, df=9):bs(w, df=9)",
    "degree": "y ~ cr(x, degree=12345678)",
    "brackets": "y ~ " + "(" * 150 + "x" + ")" * 150,
    "signs": "y ~ I(" + "-" * 4000 + "x)",
    "a deep sum in Python": "y ~ I(" + " + ".join(["x"] * 2000) + ")",
    "a long sum": "y ~ " + " + ".join(["(x + z)"] * 1100),
    "a large number": "y ~ I(x * 99999999999999999999)",
    "length": "y ~ x" + " " * 9_000 + "+ " * 900 + "z",
}


@pytest.mark.parametrize("formula", GROWS.values(), ids=GROWS)
def test_a_formula_that_grows_is_refused_before_it_is_evaluated(formula: str) -> None:
    """Numbers, texts, terms and columns of a formula are counted first."""
    with pytest.raises(Refused):
        check_formula(formula, TABLE)


CALLS = [
    "y ~ np.log(x, out=y)",
    "y ~ np.log(x, x=2)",
    "y ~ np.maximum(*x)",
    "y ~ C(**x)",
    "y ~ C(g, levels=[x])",
    "y ~ C(g, levels=[[1]])",
    "y ~ C(g)(x)",
    "y ~ Q(x)",
    "y ~ x[0]",
    "y ~ [x]",
    "y ~ (x, z)",
    "y ~ np",
    "y ~ I",
    "y ~ nowhere",
    "y ~ Q('nowhere')",
    "y ~ x ~ z",
    "y ~ I(x) if (x",
    "y ~ I(x == z == w)",
]


@pytest.mark.parametrize("formula", CALLS)
def test_a_formula_has_nothing_else(formula: str) -> None:
    """Arguments that write, items, other names and a second '~' are refused."""
    with pytest.raises(Refused):
        check_formula(formula, TABLE)


HONEST = [
    "y ~ np.maximum(x, 4.5)",
    "y ~ np.minimum(x, w) + np.abs(z)",
    "y ~ (x > 5)",
    "y ~ z + (x <= 5.5) + I(x > 4)",
    "y ~ I(g == 'a') + z",
    "y ~ C(g, levels=['c', 'b', 'a'])",
    "y ~ C(g, Treatment('b')) * z",
    "y ~ C(g, Treatment(reference='b')):x + h",
    "y ~ C(g, Sum) + C(h, Helmert)",
    "y ~ (x + z + w)**3 - x:z:w",
    "y ~ g/z + Q('own name')",
    "y ~ bs(x, df=5) + I(z**2) + I(1 / w)",
    "y ~ cr(x, df=4) + center(z) + standardize(w)",
    "np.log(y) ~ 0 + x + I(x * z) + np.where(z > 0, z, 0)",
    "y ~ x * z * w + g * h",
]


@pytest.mark.parametrize("formula", HONEST)
def test_what_statisticians_write_opens_and_answers(formula: str, tmp_path) -> None:
    """A model by an honest formula predicts as it did before it was saved."""
    fitted = smf.ols(formula, TABLE.drop(columns="lists")).fit()
    joblib.dump(fitted, tmp_path / "m.joblib")

    again = pickles.load(tmp_path / "m.joblib", LISTED)

    rows = TABLE.iloc[:9]
    np.testing.assert_allclose(fitted.predict(rows), again.predict(rows))


def test_a_load_with_a_formula_that_grows_ends_at_once(tmp_path) -> None:
    """The refusal comes in place of the evaluation, and says what is too large."""
    fitted = smf.ols("y ~ x", TABLE.drop(columns="lists")).fit()
    fitted.model.data.formula = "y ~ x + I(7**7**7**7)"
    joblib.dump(fitted, tmp_path / "m.joblib")

    with pytest.raises(LoadError, match="a power other than of a column"):
        pickles.load(tmp_path / "m.joblib", LISTED)
