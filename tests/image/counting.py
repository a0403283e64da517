"""A model that counts the threads of the libraries; mounted as a team's own package would be."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_info


def library_threads() -> dict[str, int]:
    """Return the threads of torch and of every OpenMP and BLAS library that is loaded."""
    found = {library["filepath"]: library["num_threads"] for library in threadpool_info()}
    return {"torch": torch.get_num_threads(), **found}


class ThreadCounter(BaseEstimator):
    """Predicts the largest number of threads that a library would use in this thread."""

    n_features_in_ = 1

    def __init__(self) -> None:
        self.opened_with = 0

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def __setstate__(self, state):
        super().__setstate__(state)
        self.opened_with = max(library_threads().values())

    def predict(self, X):
        """Answer in the thread of the request: the most while opening, and the most now."""
        now = max(library_threads().values())
        return np.tile([self.opened_with, now], (len(X), 1)).astype(np.int64)
