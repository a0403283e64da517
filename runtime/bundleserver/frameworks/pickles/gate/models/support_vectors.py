"""Support vector machines: libsvm reads several arrays side by side, and believes their sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from bundleserver.frameworks.pickles.gate.models.checking import (
    check,
    is_count,
    own_arrays,
    within,
)
from bundleserver.frameworks.pickles.gate.session import Session


def check_support_vectors(_session: Session, made: object) -> None:
    """Check the arrays that libsvm reads side by side.

    Raises:
        Refused: they do not agree.
    """
    attributes: Any = vars(made)
    if "support_vectors_" not in attributes:
        return
    own_arrays(made)
    check(holds=_is_sound(made, attributes), what="the support vectors of a model")


def _is_sound(made: object, attributes: Any) -> bool:
    vectors, weights = attributes["support_vectors_"], attributes.get("_dual_coef_")
    is_sparse = attributes.get("_sparse")
    if type(is_sparse) is not bool or "_impl" in attributes:
        return False
    kinds = [_is_sparse(array) for array in (vectors, weights)]
    if kinds != [is_sparse] * 2 or (is_sparse and not vectors.format == weights.format == "csr"):
        return False
    if vectors.ndim != 2 or not _fits(attributes, vectors, is_sparse=is_sparse):
        return False
    count = np.size(attributes.get("support_"))
    is_classifier = "classes_" in attributes
    classes = len(attributes["classes_"]) if is_classifier else 2
    # The data of a sparse matrix are read as if it had them all.
    has_all = not is_sparse or weights.data.size == weights.shape[0] * weights.shape[1]
    own, pairs = np.asarray(attributes.get("_n_support")), classes * (classes - 1) // 2
    return bool(
        classes >= 2
        and weights.shape == (classes - 1, count)
        and has_all
        and np.shape(attributes["support_"]) == (count,)
        and own.shape == (classes,)
        and within(own, 0, count + 1)
        and (int(own.sum()) == count or not is_classifier)
        and np.shape(attributes.get("_intercept_")) == (pairs,)
        and all(np.size(attributes.get(name, ())) in (0, pairs) for name in ("_probA", "_probB"))
    )


def _is_sparse(array: object) -> bool:
    return type(array).__module__.startswith("scipy.sparse.")


def _fits(attributes: Any, vectors: Any, *, is_sparse: bool) -> bool:
    """Ask whether the vectors have a number for each column that a request has."""
    kernel, shape = attributes.get("kernel"), attributes.get("shape_fit_")
    if type(shape) is not tuple or len(shape) != 2 or not all(map(is_count, shape)):
        return False
    if not callable(kernel) and type(kernel) is not str:
        return False
    width, rows = attributes.get("n_features_in_"), np.asarray(attributes.get("support_"))
    if not callable(kernel) and kernel != "precomputed":
        is_all = vectors.shape[0] == rows.size
        return is_all and is_count(width, 1) and vectors.shape[1] == width == shape[1]
    if is_sparse or vectors.size:
        return False
    # It keeps no vectors, but their places in the rows that it was fitted on.
    if not within(rows, 0, shape[0]) or not (callable(kernel) or width == shape[0]):
        return False
    fitted = attributes.get("_BaseLibSVM__Xfit")
    return not callable(kernel) or (np.ndim(fitted) == 2 and np.shape(fitted)[0] == shape[0])
