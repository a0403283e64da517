"""Forge the state of fitted models, one attribute at a time, and ask the models in a child.

``python -m tests.hostile.forging [NAME …]`` does it to every estimator of scikit-learn: an hour;
``test_forged_states.py`` does it to those of compiled code, and not with every value.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import pickle
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler

from bundleserver.frameworks.pickles.gate import open_stream
from bundleserver.frameworks.sklearn.fast.tree_ensembles import take_apart
from bundleserver.frameworks.sklearn.fast.tree_sums import direct_engine
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

_GONE = object()
_WIDE = 300_000
_FORGED = ("sklearn", "scipy", "_loss")
_METHODS = (
    "predict", "predict_proba", "decision_function", "transform", "score_samples", "kneighbors",
    "radius_neighbors", "apply", "inverse_transform",
)  # fmt: skip
_SECONDS = 2
_MEMORY = 6 << 30


class Place(NamedTuple):
    """An attribute of an object in a model, or an argument that it is made with."""

    number: int
    kind: str
    part: int
    key: Any


class Death(NamedTuple):
    """What killed a process."""

    name: str
    place: Place
    value: str
    signal: int


class _Pickler(pickle.Pickler):
    """Write a model, with other values in one place."""

    def __init__(self, file: Any, place: Place | None = None, value: object = None) -> None:
        super().__init__(file, 4)
        self.places: dict[Place, object] = {}
        self._place, self._value, self._count = place, value, 0

    def reducer_override(self, obj: Any) -> Any:
        if type(obj).__module__.partition(".")[0] not in _FORGED or isinstance(obj, type):
            return NotImplemented
        if type(obj).__name__ == "function":
            return NotImplemented
        reduced = obj.__reduce_ex__(4)
        number, self._count = self._count, self._count + 1
        if not isinstance(reduced, tuple):
            return NotImplemented
        changed = list(reduced)
        for part in (1, 2):
            values = reduced[part] if len(reduced) > part else None
            items = (
                values.items()
                if isinstance(values, dict)
                else enumerate(values)
                if isinstance(values, tuple)
                else ()
            )
            for key, value in items:
                place = Place(number, type(obj).__name__, part, key)
                self.places[place] = value
                if place == self._place:
                    changed[part] = _replaced(values, key, self._value)
        return tuple(changed)


def _replaced(values: Any, key: Any, value: object) -> Any:
    if isinstance(values, dict):
        left = {name: old for name, old in values.items() if name != key}
        return left if value is _GONE else {**left, key: value}
    new = list(values)
    new[key] = value
    return tuple(new)


def forged(model: object) -> Iterator[tuple[Place, object, bytes]]:
    """Yield a model's pickle with each other value in each place."""
    pickler = _Pickler(io.BytesIO())
    pickler.dump(model)
    first: dict[str, int] = {}
    for place, value in pickler.places.items():
        if first.setdefault(place.kind, place.number) != place.number:
            continue  # of objects of one class, the first stands for all
        for other in others(value, place.key):
            file = io.BytesIO()
            try:
                _Pickler(file, place, other).dump(model)
            except Exception:  # noqa: BLE001, S112  # it does not pickle so
                continue
            yield place, other, file.getvalue()


def others(value: Any, key: object) -> Iterator[object]:
    """Yield values of other sizes, types and contents in place of one."""
    if isinstance(key, str):
        yield _GONE
    if isinstance(value, (bool, np.bool_)):
        yield not value
    elif isinstance(value, (int, np.integer)):
        yield from (0, -1, int(value) + 1, int(value) * 2 + 1, 1, 1 << 31, (1 << 40) + 7, _WIDE)
        yield from (1.5, None, np.array([int(value)]))
    elif isinstance(value, float):
        yield from (float("nan"), -1.0, 1e300, 0.0, np.ones(3))
    elif isinstance(value, str):
        yield from _WORDS.get(key, ()) if isinstance(key, str) else ()
    elif value is None:
        yield from (1, np.zeros(1), StandardScaler().fit(np.ones((2, 1))))
    elif isinstance(value, np.ndarray):
        yield from _arrays(value)
    elif scipy.sparse.issparse(value):
        yield from (value[:1], scipy.sparse.csr_matrix(value.shape), value[:, :1], value.toarray())
    elif isinstance(value, (list, tuple)):
        yield from _lists(value)
    elif isinstance(value, dict):
        for name, old in [*value.items()][:2]:
            for new in others(old, 0):
                yield {**value, name: new}
            yield {other: v for other, v in value.items() if other is not name}
    elif isinstance(value, BaseEstimator):
        yield StandardScaler().fit(np.ones((2, 1)))
        yield None


_WORDS = {
    "kernel": ("linear", "poly", "rbf", "sigmoid", "precomputed"),
    "metric": ("manhattan", "haversine", "mahalanobis", "seuclidean", "precomputed"),
    "_fit_method": ("brute", "kd_tree", "ball_tree"),
    "effective_metric_": ("manhattan", "haversine", "seuclidean", "precomputed"),
    "algorithm": ("brute", "kd_tree", "ball_tree", "lloyd", "elkan"),
    "weights": ("uniform", "distance"),
    "init_": ("zero",),
    "drop": ("first", "if_binary"),
    "handle_unknown": ("ignore", "infrequent_if_exist"),
    "encode": ("onehot", "onehot-dense", "ordinal"),
    "knots": ("uniform", "quantile"),
    "extrapolation": ("error", "constant", "linear", "continue", "periodic"),
    "transform_algorithm": ("lasso_lars", "lasso_cd", "lars", "omp", "threshold"),
    "solver": ("cd", "mu", "lsqr", "svd", "eigen"),
    "covariance_type": ("full", "tied", "diag", "spherical"),
}


def _arrays(value: Any) -> Iterator[object]:
    yield from (
        (None, value[:0], value[:1], value[:-1], np.concatenate([value, value]))
        if (value.ndim)
        else ()
    )
    if value.ndim == 2:
        yield from (value[:, :1].copy(), value[:, :0], np.hstack([value, value]), value.T.copy())
    if value.ndim > 2:
        yield from (value[0], value[:, :1], value[:, :, :1])
    if value.ndim == 1:
        yield from (value[:, None], value[None])
    if value.dtype.kind in "iu":
        yield from (_filled(value, number) for number in (-1, 0, 1 << 30, 1 << 40))
        yield value.astype("i4" if value.dtype.itemsize == 8 else "i8")
    elif value.dtype.kind == "f":
        yield from (_filled(value, number) for number in (np.nan, 1e30, -1e30))
        yield value.astype("f4" if value.dtype.itemsize == 8 else "f8")
    elif value.dtype.names:
        for name in value.dtype.names:
            for number in (0, 1, 2, 1 << 30, 255):
                new = value.copy()
                with np.errstate(all="ignore"):
                    new[name] = np.array(number).astype(value.dtype[name])
                yield new
    elif value.dtype == object and value.size:
        for new in [*others(value.flat[0], 0)]:
            changed = value.copy()
            changed.flat[0] = new
            yield changed


def _filled(value: Any, number: float) -> Any:
    with np.errstate(all="ignore"):
        return np.full_like(value, np.array(number).astype(value.dtype))


def _lists(value: Any) -> Iterator[object]:
    kind = type(value)
    yield from (kind(value[:0]), kind(value[:1]), kind(value[:-1]), kind([*value, *value]))
    for place in dict.fromkeys((0, len(value) - 1)) if value else ():
        for new in others(value[place], 0):
            yield kind([*value[:place], new, *value[place + 1 :]])


Asked = Callable[[Any, Any], object]


def ask(model: Any, rows: Any) -> None:
    """Call all that is served of a model, in any way that a forged one could be."""
    width = getattr(model, "n_features_in_", None)
    tables = [rows, rows[:1]]
    if type(width) is int and getattr(rows, "shape", (0, width))[1] != width and 0 < width <= _WIDE:
        tables = [np.full((1, width), 0.5)]
    for table in tables:
        for name in _METHODS:
            try:
                with np.errstate(all="ignore"):
                    found = getattr(model, name)(table)
                if scipy.sparse.issparse(found):
                    found.toarray()
            except (Exception, MemoryError):  # noqa: BLE001, S110  # anything but a signal is well
                pass
    with contextlib.suppress(Exception):
        _hurry(model)


def _hurry(model: Any) -> None:
    """Call the trees as our own faster way does."""
    if (found := take_apart(model)) and (engine := direct_engine(found.total)):
        engine(np.zeros((2, min(found.total.width, _WIDE)), found.total.datatype))


def deaths(
    name: str,
    model: object,
    rows: object,
    every: int = 1,
    first: int = 0,
    asked: Asked = ask,
) -> Iterator[Death]:
    """Yield what kills a process that opens a forged model through the gate, and asks it."""
    cases = [*forged(model)][first::every]
    at = 0
    while at < len(cases):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            _work(cases[at:], rows, writing, asked)
        os.close(writing)
        with os.fdopen(reading, "rb") as done:
            count = len(done.read())
        _, status = os.waitpid(child, 0)
        at += count
        if at >= len(cases):
            return
        place, value, _ = cases[at]
        died = os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)
        if died != signal.SIGALRM:
            yield Death(name, place, _said(value), died)
        at += 1


def _said(value: object) -> str:
    if value is _GONE:
        return "gone"
    return repr(value)[:120].replace("\n", " ")


def _work(cases: list[tuple[Place, object, bytes]], rows: Any, writing: int, asked: Asked) -> None:
    """In the child: open and ask each; what was done is a byte each."""
    code = 1
    try:
        warnings.simplefilter("ignore")
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for _, _, data in cases:
            signal.alarm(_SECONDS)
            try:
                model = open_stream(io.BytesIO(data), CodeTrust(PicklePolicy.LISTED))
            except Exception:  # noqa: BLE001  # refused
                model = None
            if model is not None:
                with contextlib.suppress(Exception):  # anything but a signal is well
                    asked(model, rows)
            model = None
            os.write(writing, b".")
        code = 0
    finally:
        os._exit(code)


def _main(names: list[str]) -> None:
    from tests.allow_list.honest.estimators import DATA, constructed, fitted_on

    for name, model in constructed():
        if names and not any(name.startswith(some) for some in names):
            continue
        for of, data in DATA.items():
            again = fitted_on(data, model)
            if again is None:
                continue
            count = sum(1 for _ in forged(again))
            sys.stdout.write(f"{name} of {of}: {count}\n")
            for death in deaths(name, again, data[0]):
                sys.stdout.write(f"DEATH {death}\n")
            sys.stdout.flush()
            if of not in ("two classes",):
                break


if __name__ == "__main__":
    _main(sys.argv[1:])
