"""Estimators of nobody's library, importable so that they can be pickled."""

import threading

import numpy as np
import pandas as pd


class Estimator:
    """Expects three numbers per row, and is fitted as far as anybody can see."""

    n_features_in_ = 3

    def fit(self, rows, labels=None):
        """Learn nothing."""
        return self

    def predict(self, rows):
        """Sum each row."""
        return np.asarray(rows).sum(axis=1)


class Pair(Estimator):
    """Returns a tuple of a number and of a vector per row."""

    def predict(self, rows):
        """Return the sum of each row, and the row."""
        return rows.sum(axis=1), rows * 2


class Named(Estimator):
    """Returns a dict."""

    def predict(self, rows):
        """Return the label and the score of each row."""
        return {"label": (rows.sum(axis=1) > 0).astype(np.int64), "score": rows.sum(axis=1)}


class Table(Estimator):
    """Returns a DataFrame of text and numbers."""

    def predict(self, rows):
        """Return the label and the score of each row."""
        total = rows.sum(axis=1)
        return pd.DataFrame({"label": np.where(total > 0, "high", "low"), "score": total})


class Domain(Estimator):
    """Accepts ages only."""

    def predict(self, rows):
        """Refuse what is no age."""
        if not ((rows >= 18) & (rows <= 120)).all():
            raise ValueError("ages are from 18 to 120 years")
        return rows.sum(axis=1)


class Missing(Estimator):
    """Has lost an attribute that every call needs."""

    def predict(self, rows):
        """Fail with any row."""
        return rows @ self.weights_


class Hanging(Estimator):
    """Waits for something that never comes."""

    def predict(self, rows):
        """Never return."""
        threading.Event().wait()


class Crashing(Estimator):
    """Ends the process, as code that was written for a script does."""

    def predict(self, rows):
        """Exit."""
        raise SystemExit(3)


class Rounding(Estimator):
    """Returns integers or floats, as the values are."""

    def predict(self, rows):
        """Sum each row; whole sums are integers."""
        total = rows.sum(axis=1)
        return total.astype(np.int64) if (total == np.floor(total)).all() else total


class UnknownWidth:
    """Says nothing of its inputs, and takes five numbers per row."""

    def predict(self, rows):
        """Multiply each row with five weights."""
        return rows @ np.arange(5.0)
