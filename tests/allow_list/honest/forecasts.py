"""Results of statsmodels that are served, and Prophet's models."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from tests.allow_list.honest.estimators import Model

_DRAWN = np.random.default_rng(5)
_ROWS = 60
_SERIES = 10 + np.sin(np.arange(_ROWS) / 2) + _DRAWN.normal(size=_ROWS) / 5
_X = _DRAWN.normal(size=(_ROWS, 2))
_DESIGN = np.column_stack([np.ones(_ROWS), _X])
_TABLE = pd.DataFrame(
    {
        "a": _X[:, 0],
        "b": _X[:, 1],
        "c": np.array(["u", "v", "w"])[np.arange(_ROWS) % 3],
        "g": np.arange(_ROWS) % 6,
        "y": _X @ [1.0, -2.0] + _DRAWN.normal(size=_ROWS),
        "n": _DRAWN.poisson(3.0, size=_ROWS),
        "z": (_X[:, 0] + _DRAWN.normal(size=_ROWS) > 0).astype(int),
        "q": _DRAWN.uniform(0.1, 0.9, size=_ROWS),
    }
)
FREQUENCIES = (
    *("D", "B", "h", "min", "s", "W", "W-WED", "MS", "ME", "SMS", "SME", "BMS", "BME", "QS"),
    *("QE", "QS-FEB", "BQS", "BQE", "YS", "YE", "YS-APR", "BYS", "BYE", "2D", "3h", "15min"),
    *("C", "CBMS", "CBME"),
)
"""Frequencies of dates, as pandas names them."""
_FORMULAS = {
    "plain": "y ~ a + b",
    "category": "y ~ a + C(c)",
    "functions": "y ~ np.log(q) + np.sqrt(q)",
    "interaction": "y ~ a * b + c",
    "no constant": "y ~ a + b - 1",
    "centered": "y ~ center(a) + standardize(b)",
    "spline": "y ~ bs(a, df=4)",
}


def _made(make: Callable[[], Any]) -> Any | None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return make()
        except Exception:  # noqa: BLE001  # not in this version, or not for such data
            return None


def _kept(models: dict[str, Callable[[], Any]]) -> Iterator[Model]:
    for name, make in models.items():
        if (made := _made(make)) is not None:
            yield name, made


def series() -> Iterator[Model]:
    """Yield the results of time series, on plain numbers and on dates of each frequency."""
    import statsmodels.tsa.api as tsa
    from statsmodels.tsa import deterministic
    from statsmodels.tsa.statespace.exponential_smoothing import ExponentialSmoothing

    kinds: dict[str, Callable[[Any], Any]] = {
        "ARIMA": lambda y: tsa.ARIMA(y, order=(1, 0, 1)).fit(),
        "ARIMA diff": lambda y: tsa.ARIMA(y, order=(0, 1, 1), trend="t").fit(),
        "ARIMA seasonal": lambda y: tsa.ARIMA(
            y, order=(1, 0, 0), seasonal_order=(1, 0, 0, 4)
        ).fit(),
        "ARIMA hannan": lambda y: tsa.ARIMA(y, order=(1, 0, 1)).fit(method="hannan_rissanen"),
        "ARIMA yule": lambda y: tsa.ARIMA(y, order=(2, 0, 0), trend="n").fit(method="yule_walker"),
        "ARIMA burg": lambda y: tsa.ARIMA(y, order=(2, 0, 0), trend="n").fit(method="burg"),
        "ARIMA innovations": lambda y: tsa.ARIMA(y, order=(0, 0, 1), trend="n").fit(
            method="innovations_mle"
        ),
        "SARIMAX": lambda y: tsa.SARIMAX(y, order=(1, 0, 0)).fit(disp=False, maxiter=5),
        "SARIMAX seasonal": lambda y: tsa.SARIMAX(
            y, order=(1, 1, 0), seasonal_order=(0, 1, 1, 4), trend="c"
        ).fit(disp=False, maxiter=5),
        "SARIMAX regressors": lambda y: tsa.SARIMAX(
            y, exog=_exog(y), order=(1, 0, 0), mle_regression=False
        ).fit(disp=False, maxiter=5),
        "level": lambda y: tsa.UnobservedComponents(y, "local level").fit(disp=False, maxiter=5),
        "components": lambda y: tsa.UnobservedComponents(
            y, "local linear trend", seasonal=4, cycle=True, autoregressive=1
        ).fit(disp=False, maxiter=5),
        "harmonics": lambda y: tsa.UnobservedComponents(
            y, "rwalk", freq_seasonal=[{"period": 6, "harmonics": 2}]
        ).fit(disp=False, maxiter=5),
        "smoothing of states": lambda y: ExponentialSmoothing(y, trend=True, seasonal=4).fit(
            disp=False, maxiter=5
        ),
        "AutoReg": lambda y: tsa.AutoReg(y, 2).fit(),
        "AutoReg seasonal": lambda y: tsa.AutoReg(y, 2, trend="ct", seasonal=True, period=4).fit(),
        "AutoReg terms": lambda y: tsa.AutoReg(
            y,
            1,
            trend="n",
            deterministic=deterministic.DeterministicProcess(
                y.index, constant=True, order=1, seasonal=True, fourier=1, period=4
            ),
        ).fit(),
        "ARDL": lambda y: tsa.ARDL(y, 2, _exog(y), 1).fit(),
        "ETS": lambda y: tsa.ETSModel(y).fit(disp=False, maxiter=5),
        "ETS seasonal": lambda y: tsa.ETSModel(
            y, error="mul", trend="add", seasonal="add", damped_trend=True, seasonal_periods=4
        ).fit(disp=False, maxiter=5),
        "ETS of factors": lambda y: tsa.ETSModel(
            y, error="mul", trend="mul", seasonal="mul", seasonal_periods=4
        ).fit(disp=False, maxiter=5),
        "Holt-Winters": lambda y: tsa.ExponentialSmoothing(
            y, trend="add", seasonal="mul", seasonal_periods=4
        ).fit(),
        "Holt-Winters by powers": lambda y: tsa.ExponentialSmoothing(
            y, trend="add", use_boxcox=True
        ).fit(),
        "simple": lambda y: tsa.SimpleExpSmoothing(y).fit(),
        "Holt": lambda y: tsa.Holt(y, damped_trend=True).fit(),
    }
    on: dict[str, Any] = {
        "numbers": _SERIES,
        "single precision": _SERIES.astype("f4"),
        "range": pd.Series(_SERIES),
        "named": pd.Series(_SERIES, name="sales"),
        "months": _dated("MS"),
        "periods": pd.Series(_SERIES, pd.period_range("2020-01", periods=_ROWS, freq="M")),
        "days in UTC": pd.Series(
            _SERIES, pd.date_range("2020-01-01", periods=_ROWS, freq="D", tz="UTC")
        ),
        "a table": _dated("D").to_frame("y"),
        "dates without frequency": pd.Series(_SERIES, pd.DatetimeIndex([*_dated("D").index])),
    }
    for name, make in kinds.items():
        for of, values in on.items():
            yield from _kept({f"{name} of {of}": lambda make=make, y=values: make(y)})
    for frequency in FREQUENCIES:
        yield from _kept(
            {
                f"AutoReg by {frequency}": lambda f=frequency: kinds["AutoReg"](_dated(f)),
                f"Holt by {frequency}": lambda f=frequency: kinds["Holt"](_dated(f)),
            }
        )
    for name in ("ARIMA", "SARIMAX", "ETS", "AutoReg", "Holt-Winters"):
        made = _made(lambda name=name: kinds[name](_dated("MS")))
        if hasattr(made, "remove_data") and _made(made.remove_data) is None:
            yield f"{name} without data", made
    for more in ({"simulation_smoother": None}, {"concentrate_scale": True}):
        yield from _kept(
            {
                f"SARIMAX {next(iter(more))}": lambda more=more: tsa.SARIMAX(
                    _SERIES, order=(1, 0, 0), **more
                ).fit(disp=False, maxiter=5)
            }
        )


def _exog(y: Any) -> Any:
    return pd.DataFrame(_X, y.index, ["a", "b"]) if hasattr(y, "index") else _X


def _dated(frequency: str) -> Any:
    return pd.Series(_SERIES, pd.date_range("2020-01-01", periods=_ROWS, freq=frequency))


def regressions() -> Iterator[Model]:
    """Yield results of regressions, by a design and by a formula."""
    import statsmodels.api as sm
    import statsmodels.formula.api as smf
    from statsmodels.miscmodels.ordinal_model import OrderedModel
    from statsmodels.othermod.betareg import BetaModel

    t, X = _TABLE, _DESIGN
    table = pd.DataFrame(X, columns=["const", "a", "b"])
    fast: dict[str, Any] = {"disp": False, "maxiter": 5}
    for of, design in (("numbers", X), ("a table", table)):
        models: dict[str, Callable[[], Any]] = {
            "OLS": lambda d=design: sm.OLS(t.y, d).fit(),
            "OLS HC3": lambda d=design: sm.OLS(t.y, d).fit(cov_type="HC3"),
            "OLS HAC": lambda d=design: sm.OLS(t.y, d).fit(
                cov_type="HAC", cov_kwds={"maxlags": 1}
            ),
            "OLS clusters": lambda d=design: sm.OLS(t.y, d).fit(
                cov_type="cluster", cov_kwds={"groups": t.g}
            ),
            "OLS ridge": lambda d=design: sm.OLS(t.y, d).fit_regularized(alpha=0.1, L1_wt=0.0),
            "OLS lasso": lambda d=design: sm.OLS(t.y, d).fit_regularized(alpha=0.1),
            "OLS qr": lambda d=design: sm.OLS(t.y, d).fit(method="qr"),
            "WLS": lambda d=design: sm.WLS(t.y, d, weights=t.q).fit(),
            "GLS": lambda d=design: sm.GLS(t.y, d).fit(),
            "GLSAR": lambda d=design: sm.GLSAR(t.y, d, 1).iterative_fit(2),
            "QuantReg": lambda d=design: sm.QuantReg(t.y, d).fit(0.5),
            "Logit": lambda d=design: sm.Logit(t.z, d).fit(**fast),
            "Logit regularized": lambda d=design: sm.Logit(t.z, d).fit_regularized(**fast),
            "Probit": lambda d=design: sm.Probit(t.z, d).fit(**fast),
            "MNLogit": lambda d=design: sm.MNLogit(t.g % 3, d).fit(**fast),
            "Poisson": lambda d=design: sm.Poisson(t.n, d).fit(**fast),
            "GeneralizedPoisson": lambda d=design: sm.GeneralizedPoisson(t.n, d).fit(**fast),
            "NegativeBinomial": lambda d=design: sm.NegativeBinomial(t.n, d).fit(**fast),
            "NegativeBinomialP": lambda d=design: sm.NegativeBinomialP(t.n, d).fit(**fast),
            "ZeroInflatedPoisson": lambda d=design: sm.ZeroInflatedPoisson(t.n, d).fit(**fast),
            "ZeroInflatedNegativeBinomialP": lambda d=design: sm.ZeroInflatedNegativeBinomialP(
                t.n, d
            ).fit(**fast),
            "ZeroInflatedGeneralizedPoisson": lambda d=design: sm.ZeroInflatedGeneralizedPoisson(
                t.n, d
            ).fit(**fast),
            "GEE": lambda d=design: sm.GEE(t.y, d, groups=t.g).fit(),
            "GEE exchangeable": lambda d=design: sm.GEE(
                t.n, d, groups=t.g, family=sm.families.Poisson(),
                cov_struct=sm.cov_struct.Exchangeable(),
            ).fit(),
            "GEE independence": lambda d=design: sm.GEE(
                t.n, d, groups=t.g, family=sm.families.Poisson(),
                cov_struct=sm.cov_struct.Independence(),
            ).fit(),
            "MixedLM": lambda d=design: sm.MixedLM(t.y, d, groups=t.g).fit(maxiter=5),
            "RecursiveLS": lambda d=design: sm.RecursiveLS(t.y, d).fit(),
            "PHReg": lambda d=design: sm.PHReg(t.q, d[:, 1:] if d is X else d[["a"]]).fit(),
            "OrderedModel": lambda d=design: OrderedModel(
                t.g % 3, d[:, 1:] if d is X else d[["a"]], distr="logit"
            ).fit(**fast),
            "BetaModel": lambda d=design: BetaModel(t.q, d).fit(**fast),
        }  # fmt: skip
        yield from _kept({f"{name} of {of}": make for name, make in models.items()})
        yield from _linked(sm, of, design)
        yield from _robust(sm, of, design)
    for name, formula in _FORMULAS.items():
        yield from _kept(
            {
                f"{kind} by formula: {name}": lambda kind=kind, f=formula: getattr(smf, kind)(
                    f, t
                ).fit()
                for kind in ("ols", "glm", "rlm")
            }
        )
    yield from _kept(
        {
            "logit by formula": lambda: smf.logit("z ~ a + C(c)", t).fit(**fast),
            "poisson by formula": lambda: smf.poisson("n ~ a", t).fit(**fast),
            "quantreg by formula": lambda: smf.quantreg("y ~ a", t).fit(),
            "mixedlm by formula": lambda: smf.mixedlm("y ~ a", t, groups="g").fit(maxiter=5),
            "gee by formula": lambda: smf.gee("y ~ a", "g", t).fit(),
            "wls by formula": lambda: smf.wls("y ~ a", t, weights=t.q).fit(),
        }
    )
    without = sm.OLS(t.y, table).fit()
    without.remove_data()
    yield "OLS without data", without


def _linked(sm: Any, of: str, design: Any) -> Iterator[Model]:
    """Yield generalized linear models of each family with each link."""
    links = inspect.getmembers(sm.families.links, inspect.isclass)
    targets = {"Binomial": _TABLE.z, "Poisson": _TABLE.n, "NegativeBinomial": _TABLE.n}
    for family in (
        *(
            [
                "Gaussian",
                "Binomial",
                "Poisson",
                "Gamma",
                "InverseGaussian",
                "NegativeBinomial",
                "Tweedie",
            ]
        ),
    ):
        kind = getattr(sm.families, family)
        target = targets.get(family, _TABLE.q)
        yield from _kept(
            {
                f"GLM {family} of {of}": lambda k=kind, y=target: sm.GLM(y, design, family=k()).fit(
                    maxiter=3
                ),
                **{
                    f"GLM {family} {name} of {of}": lambda k=kind, y=target, link=link: sm.GLM(
                        y, design, family=k(link=link())
                    ).fit(maxiter=1)
                    for name, link in links
                    if of == "numbers"
                },
            }
        )
    yield from _kept(
        {
            f"GLM regularized of {of}": lambda: sm.GLM(_TABLE.y, design).fit_regularized(alpha=0.1),
            f"GLM newton of {of}": lambda: sm.GLM(_TABLE.y, design).fit(method="newton"),
        }
    )


def _robust(sm: Any, of: str, design: Any) -> Iterator[Model]:
    for name, norm in inspect.getmembers(sm.robust.norms, inspect.isclass):
        yield from _kept(
            {
                f"RLM {name} of {of}": lambda norm=norm: sm.RLM(
                    _TABLE.y, design, M=norm()
                ).fit(maxiter=3)
            }
        )  # fmt: skip
    yield from _kept(
        {
            f"RLM by Huber of {of}": lambda: sm.RLM(_TABLE.y, design).fit(
                scale_est=sm.robust.scale.HuberScale(), maxiter=3
            )
        }
    )


def prophets() -> Iterator[Model]:
    """Yield Prophet's models: growths, seasons, holidays and regressors."""
    from prophet import Prophet

    for name in ("prophet", "cmdstanpy", "prophet.plot"):
        logging.getLogger(name).setLevel(logging.ERROR)
    days = pd.DataFrame(
        {"ds": pd.date_range("2022-01-01", periods=_ROWS), "y": _SERIES, "r": _X[:, 0], "cap": 20.0}
    )
    holidays = pd.DataFrame({"holiday": "x", "ds": days.ds[::20]})
    models: dict[str, Any] = {
        "linear": Prophet(),
        "flat": Prophet(growth="flat"),
        "logistic": Prophet(growth="logistic"),
        "multiplicative": Prophet(seasonality_mode="multiplicative", yearly_seasonality=True),
        "season": Prophet(weekly_seasonality=False).add_seasonality("s", 30.5, 3),
        "regressor": Prophet().add_regressor("r"),
        "holidays": Prophet(holidays=holidays),
        "uncertain": Prophet(uncertainty_samples=10),
        "no intervals": Prophet(uncertainty_samples=0),
        "of a country": Prophet(),
        "changes": Prophet(changepoints=["2022-01-20"]),
    }
    models["of a country"].add_country_holidays("DE")
    for name, model in models.items():
        yield from _kept({f"Prophet {name}": lambda model=model: model.fit(days)})


def quick() -> Iterator[Model]:
    """Yield one result of each kind, quickly made."""
    import statsmodels.api as sm

    y, t, X = _dated("MS"), _TABLE, _DESIGN
    fast: dict[str, Any] = {"disp": False, "maxiter": 3}
    yield from _kept(
        {
            "ARIMA": lambda: sm.tsa.ARIMA(y, order=(1, 0, 0)).fit(),
            "SARIMAX": lambda: sm.tsa.SARIMAX(_SERIES).fit(**fast),
            "UnobservedComponents": lambda: sm.tsa.UnobservedComponents(y, "llevel").fit(**fast),
            "AutoReg": lambda: sm.tsa.AutoReg(y, 2).fit(),
            "ETSModel": lambda: sm.tsa.ETSModel(y, trend="add").fit(**fast),
            "ExponentialSmoothing": lambda: sm.tsa.ExponentialSmoothing(y, trend="add").fit(),
            "SimpleExpSmoothing": lambda: sm.tsa.SimpleExpSmoothing(_SERIES).fit(),
            "Holt": lambda: sm.tsa.Holt(y).fit(),
            "OLS": lambda: sm.OLS(t.y, X).fit(),
            "WLS": lambda: sm.WLS(t.y, X, weights=t.q).fit(),
            "GLS": lambda: sm.GLS(t.y, X).fit(),
            "Logit": lambda: sm.Logit(t.z, X).fit(**fast),
            "Probit": lambda: sm.Probit(t.z, X).fit(**fast),
            "MNLogit": lambda: sm.MNLogit(t.g % 3, X).fit(**fast),
            "Poisson": lambda: sm.Poisson(t.n, X).fit(**fast),
            "NegativeBinomial": lambda: sm.NegativeBinomial(t.n, X).fit(**fast),
            "QuantReg": lambda: sm.QuantReg(t.y, X).fit(0.5),
            "RLM": lambda: sm.RLM(t.y, X).fit(maxiter=3),
            "GEE": lambda: sm.GEE(t.y, X, groups=t.g).fit(),
            "GLM Gaussian": lambda: sm.GLM(t.y, X).fit(),
            "GLM Poisson": lambda: sm.GLM(t.n, X, family=sm.families.Poisson()).fit(),
            "GLM Binomial": lambda: sm.GLM(t.z, X, family=sm.families.Binomial()).fit(),
            "GLM Binomial Probit": lambda: sm.GLM(
                t.z, X, family=sm.families.Binomial(sm.families.links.Probit())
            ).fit(),
            "OLS by formula": lambda: sm.OLS.from_formula("y ~ a + C(c)", t).fit(),
            "ZeroInflatedPoisson": lambda: sm.ZeroInflatedPoisson(t.n, X).fit(**fast),
        }
    )
