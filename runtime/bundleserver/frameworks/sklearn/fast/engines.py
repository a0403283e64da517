"""Faster implementations of scikit-learn models, used if they are measured equal and faster.

At load, tree ensembles (forests, boosted trees, IsolationForest) and scalers are compared with the
library on random rows, **bit for bit** and for every method, and timed at several batch sizes; each
size then uses the fastest. So labels cannot flip at a boundary, and what is not equal is not used.
Only finite numbers are accelerated: the library's own code accepts or rejects all others.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Union

import numpy as np
from sklearn.pipeline import Pipeline

from bundleserver.frameworks.fast import gtil
from bundleserver.frameworks.fast.comparing import CHECKED_ROWS, draw_rows, same_bits
from bundleserver.frameworks.fast.timing import Way, choose_ways
from bundleserver.frameworks.sklearn.fast.scaling import ScalerShortcut, array_of
from bundleserver.frameworks.sklearn.fast.tree_ensembles import TreeEnsemble, is_forest, take_apart
from bundleserver.frameworks.sklearn.fast.tree_sums import (
    Engine,
    Rows,
    direct_engine,
    treelite_engine,
)
from bundleserver.frameworks.tables.columns import MOST_TRIED
from bundleserver.frameworks.tables.intake import with_columns
from bundleserver.tensors import Array

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger(__name__)

Table = Union[Array, "pd.DataFrame"]


class Shortcut(Protocol):
    """A faster implementation of an estimator's methods; immutable, so any thread may call it."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """What is accelerated and how, ready for JSON."""

    def answer(self, method: str, table: Table) -> Array | None:
        """Return the estimator's result, to the bit; None if its own code must be called."""


def use_one_thread(model: Any) -> None:
    """Let forests sum their trees in order, in the calling thread.

    With more threads, the order and so the last bits depend on their timing.
    """
    for part in _parts(model):
        if is_forest(part):
            part.n_jobs = 1


def accelerate(model: Any) -> Shortcut | None:
    """Find a faster implementation of a fitted model; None if there is none."""
    try:
        with np.errstate(all="ignore"):
            return _shortcut(model)
    except Exception as error:  # noqa: BLE001 - libraries' own code; the model itself still works
        LOG.debug("%s cannot be accelerated: %r", type(model).__name__, error)
        return None


def _parts(model: Any) -> list[Any]:
    """List a model and the models in it: steps, the best of a search, members of a vote."""
    below = [step for _, step in getattr(model, "steps", ())]
    below += [model.best_estimator_] if hasattr(model, "best_estimator_") else []
    members = getattr(model, "estimators_", ())
    below += list(members) if isinstance(members, list) and not is_forest(model) else []
    return [model, *(part for each in below for part in _parts(each))]


def _shortcut(model: Any) -> Shortcut | None:
    if type(model) is Pipeline:
        return _pipeline_shortcut(model)
    if int(getattr(model, "n_features_in_", 0)) > MOST_TRIED:
        return None
    ensemble = take_apart(model)
    if ensemble is None:
        return ScalerShortcut.of(model)
    return _ensemble_shortcut(model, ensemble)


@dataclass(frozen=True)
class PipelineShortcut:
    """Steps one after the other, each by its shortcut if it has one."""

    steps: tuple[tuple[Any, Shortcut | None], ...]
    metadata: Mapping[str, object]

    def answer(self, method: str, table: Table) -> Array | None:
        """Run every transformer, then the last step's method."""
        if method == "inverse_transform":  # it runs from the last step to the first
            return None
        for step, shortcut in self.steps[:-1]:
            table = _step_answer(step, shortcut, "transform", table)
        answer: Array = _step_answer(*self.steps[-1], method, table)
        return answer


def _step_answer(step: Any, shortcut: Shortcut | None, method: str, table: Table) -> Any:
    quick = None if shortcut is None else shortcut.answer(method, table)
    return getattr(step, method)(table) if quick is None else quick


def _pipeline_shortcut(model: Pipeline) -> Shortcut | None:
    """Accelerate the supported steps of a pipeline."""
    steps = [(name, step) for name, step in model.steps if step not in (None, "passthrough")]
    if not steps or steps[-1][1] is not model.steps[-1][1]:
        return None
    found = [(name, step, accelerate(step)) for name, step in steps]
    metadata = {name: dict(way.metadata) for name, _, way in found if way is not None}
    if not metadata:
        return None
    return PipelineShortcut(
        tuple((step, way) for _, step, way in found), MappingProxyType({"steps": metadata})
    )


@dataclass(frozen=True)
class TreeEnsembleShortcut:
    """The methods of one tree ensemble, by the fastest engine for the number of rows.

    ``engines`` are pairs of the maximum rows of an engine (None: any number) and the engine, in
    rising order; None as an engine is the library.
    """

    ensemble: TreeEnsemble
    columns: tuple[str, ...]
    engines: tuple[tuple[int | None, Engine | None], ...]
    metadata: Mapping[str, object]

    def answer(self, method: str, table: Table) -> Array | None:
        """Use an engine if it is faster for so many rows and every number is finite."""
        finish = self.ensemble.finish.get(method)
        engine = self._engine_for(len(table))
        if finish is None or engine is None:
            return None
        rows = plain_rows(table, self.columns, self.ensemble.total.datatype)
        if rows is None or rows.shape[1] != self.ensemble.total.width:
            return None
        return finish(engine(rows))

    def _engine_for(self, count: int) -> Engine | None:
        for most, engine in self.engines:
            if most is None or count <= most:
                return engine
        return None


def plain_rows(table: Any, columns: tuple[str, ...], datatype: type) -> Rows | None:
    """Return a table's finite numbers in C order; None if it has other values.

    A DataFrame must have the columns in their order. The conversion is the library's: to the common
    datatype of the columns, then to ``datatype``.
    """
    table = array_of(table, columns)
    if table is None or table.ndim != 2 or table.dtype.kind not in "iuf":
        return None
    rows: Rows = np.ascontiguousarray(table, dtype=datatype)
    return rows if np.isfinite(rows).all() else None


def _ensemble_shortcut(model: Any, ensemble: TreeEnsemble) -> Shortcut | None:
    rows = draw_rows(ensemble.total.trees, ensemble.total.width)
    engines = _equal_engines(model, ensemble, rows)
    method, columns = next(iter(ensemble.finish)), _columns(model)
    choices = choose_ways(
        getattr(model, method),
        {name: _way(ensemble, method, columns, engine) for name, engine in engines.items()},
        lambda size: _as_fitted(model, np.resize(rows, (size, rows.shape[1]))),
        beyond="direct",
    )
    used = {name for _, name in choices if name is not None}
    if not used:
        return None
    known: dict[str, object] = {
        "methods": list(ensemble.finish),
        "engines": [{"rows_at_most": most, "engine": name or "native"} for most, name in choices],
        "equal": f"bit for bit on {CHECKED_ROWS} random rows",
    }
    if "treelite" in used:
        known["treelite"] = gtil.version()
        known["memory_bytes"] = ensemble.total.treelite_bytes
    by_size = tuple((most, engines.get(name or "")) for most, name in choices)
    return TreeEnsembleShortcut(ensemble, columns, by_size, MappingProxyType(known))


def _way(ensemble: TreeEnsemble, method: str, columns: tuple[str, ...], engine: Engine) -> Way:
    shortcut = TreeEnsembleShortcut(ensemble, columns, ((None, engine),), {})
    return lambda table: shortcut.answer(method, table)


def _equal_engines(model: Any, ensemble: TreeEnsemble, rows: Rows) -> dict[str, Engine]:
    """Build the engines; keep those equal in every method, for all rows together and for one."""
    # The first is preferred if both are equally fast: the library's own trees need no copy.
    built = {"direct": direct_engine(ensemble.total), "treelite": treelite_engine(ensemble.total)}
    engines = {name: engine for name, engine in built.items() if engine is not None}
    if not engines:
        return {}
    for some in (rows, rows[:1]):
        converted: Rows = some.astype(ensemble.total.datatype)
        sums = {name: engine(converted) for name, engine in engines.items()}
        for method, finish in ensemble.finish.items():
            native = getattr(model, method)(_as_fitted(model, some))
            for name in [name for name in engines if not same_bits(native, finish(sums[name]))]:
                LOG.info("%s is not accelerated by %s: %s differs", type(model), name, method)
                del engines[name]
    return engines


def _as_fitted(model: Any, rows: Rows) -> Table:
    return with_columns(rows, _columns(model))


def _columns(model: Any) -> tuple[str, ...]:
    return tuple(getattr(model, "feature_names_in_", ()))
