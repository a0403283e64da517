"""Fitted models for the form: tables, strings, sequences, an ensemble and forecasters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from prophet import Prophet
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from statsmodels.tsa.arima.model import ARIMA

from bundleserver import BundleStore
from tests.end_to_end.adr import write_volume
from tests.end_to_end.published import save_all

HOSTILE = '"><img src=x onerror="document.title=\'broken\'">'
SPOOFED = "it's $(touch never) \u202egnp.exe\n`id`"
NAMES = (HOSTILE, SPOOFED, "plain")


def save_forest(root: Path) -> RandomForestClassifier:
    """Save a scaler and a forest whose columns have names."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.random((200, 3)), columns=["amount", "age", "hour"])
    model = make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0))
    model.fit(table, (table["amount"] > 0.5).astype(int))
    BundleStore(root).save("fraud", model)
    return model


def save_categories(root: Path) -> object:
    """Save a column transformer: strings, numbers and booleans beside each other."""
    table = pd.DataFrame(
        {
            "city": ["Graz", "Linz", "Wien", "Graz"] * 10,
            "size": np.arange(40, dtype=np.float64),
            "rooms": np.arange(40) % 5,
        }
    )
    columns = make_column_transformer(
        (OneHotEncoder(), ["city"]), (StandardScaler(), ["size", "rooms"])
    )
    model = make_pipeline(columns, LogisticRegression())
    model.fit(table, np.where(table["size"] > 20, "large", "small"))
    BundleStore(root).save("flats", model)
    return model


def save_hostile(root: Path) -> None:
    """Save a model whose columns have names that are an attack on a page, a shell or a reader."""
    table = pd.DataFrame(np.random.default_rng(0).random((30, 3)), columns=list(NAMES))
    BundleStore(root).save("hostile", LinearRegression().fit(table, table["plain"]))


def save_wide(root: Path) -> None:
    """Save a forest with more columns than a person fills in."""
    table = pd.DataFrame(
        np.random.default_rng(0).random((50, 60)), columns=[f"c{place}" for place in range(60)]
    )
    model = RandomForestClassifier(5, random_state=0).fit(table, (table["c0"] > 0.5).astype(int))
    BundleStore(root).save("wide", model)


def save_demand(root: Path) -> None:
    """Save a monthly ARIMA with a manifest, and a Prophet with a regressor."""
    months = pd.date_range("2018-01-01", periods=90, freq="MS")
    wave = 100 + 10 * np.sin(np.arange(90) / 6 * np.pi) + np.random.default_rng(0).normal(0, 1, 90)
    BundleStore(root).save("demand", ARIMA(pd.Series(wave, index=months), order=(12, 0, 0)).fit())
    days = pd.date_range("2025-01-01", periods=200, freq="D")
    sales = pd.DataFrame({"ds": days, "price": np.random.default_rng(1).random(200)})
    sales["y"] = 50 + 20 * sales["price"] + 5 * np.sin(np.arange(200) / 3.5 * np.pi)
    prophet = Prophet(yearly_seasonality=False)
    prophet.add_regressor("price")
    BundleStore(root).save("sales", prophet.fit(sales, seed=1))


def write_tables(root: Path) -> None:
    """Write every model but the forecasters of this module."""
    write_volume(root)
    save_all(root)  # the detector in two versions, and a model of text
    save_forest(root)
    save_categories(root)
    save_hostile(root)
    save_wide(root)
