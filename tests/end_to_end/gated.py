"""Models of classes that can be imported, as a team's own package would have them.

They wait at a named pipe, so that a test decides when they go on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator


class Times(BaseEstimator):
    """Multiplies a row's first number."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def fit(self, X=None, y=None):
        self.n_features_in_ = 1
        return self

    def predict(self, X):
        return np.asarray(X, dtype=np.float64)[:, 0] * self.factor


class SlowToOpen(Times):
    """Opens when someone writes to the pipe."""

    def __init__(self, factor: float = 1.0, pipe: str = "") -> None:
        super().__init__(factor)
        self.pipe = pipe

    def __setstate__(self, state):
        Path(state["pipe"]).read_text()
        super().__setstate__(state)


class OpensOnce(Times):
    """Opens in the first process that tries, and in no other: it takes a file away."""

    def __init__(self, factor: float = 1.0, token: str = "") -> None:
        super().__init__(factor)
        self.token = token

    def __setstate__(self, state):
        Path(state["token"]).unlink()
        super().__setstate__(state)


class SlowToSave(Times):
    """Says ``saving`` and is pickled when someone writes to the pipe."""

    def __init__(self, factor: float = 1.0, pipe: str = "") -> None:
        super().__init__(factor)
        self.pipe = pipe

    def __getstate__(self):
        sys.stdout.write("saving\n")
        sys.stdout.flush()
        Path(self.pipe).read_text()
        return super().__getstate__()


def is_asked(X):
    """Tell a test's rows, of whole numbers, from those of the probe before READY."""
    return bool((np.asarray(X) == np.floor(X)).all())


class SlowToPredict(Times):
    """Answers a test when someone writes to the pipe."""

    def __init__(self, factor: float = 1.0, pipe: str = "") -> None:
        super().__init__(factor)
        self.pipe = pipe

    def predict(self, X):
        if is_asked(X):
            Path(self.pipe).read_text()
        return super().predict(X)


class Raises(Times):
    """Raises its own error on every request of a test."""

    def predict(self, X):
        if is_asked(X):
            raise RuntimeError("the sensor table is empty")
        return super().predict(X)


class CountsCalls(Times):
    """Answers how often it was asked, and counts in a large array that it was fitted with."""

    def fit(self, X=None, y=None):
        self.counts_ = np.zeros(300_000)
        return super().fit(X, y)

    def predict(self, X):
        self.counts_[5] += 1
        return np.full(len(X), self.counts_[5])


def open_gate(pipe: Path) -> None:
    """Let one call through that waits at the pipe; waits for the call if it has not come yet."""
    pipe.write_text("go")
