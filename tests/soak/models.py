"""The models of the soak: every version answers values that only it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bundleserver import BundleStore
from tests.soak.checking import Book

COLUMNS = 4
ROWS = np.random.default_rng(0).normal(size=(16, COLUMNS)).astype(np.float32).astype(np.float64)
"""The rows that clients ask; what each version answers to them is in the book."""

APART = 100.0
"""How far the answers of two versions lie apart, more than those of two rows."""


@dataclass(frozen=True)
class Kind:
    """How a model is asked, and how closely its values have to be met."""

    datatype: str = "FP64"
    tolerance: float = 1e-9
    member: str | None = None


KINDS = {
    "forest": Kind(),
    "scaled": Kind(),
    "network": Kind("FP32", 1e-5),
    "member": Kind(member="forest"),
}
SWAPPED = ("forest", "scaled", "network")
REGISTERED = "registered"


def kind_of(model: str) -> Kind:
    """Return how a model is asked."""
    return KINDS.get(model, Kind())


def save(store: BundleStore, book: Book, model: str, number: int, label: str) -> None:
    """Fit and publish a version, after its values are in the book."""
    components, values = FITS[model](number)
    book.write(model, label, values)
    kind = kind_of(model)
    first, *others = components
    steps = [{"component": first, "inputs": ["x"], "outputs": ["y"]}]
    if others:
        steps = [
            {"component": first, "method": "transform", "inputs": ["x"], "outputs": ["z"]},
            {"component": others[0], "method": "predict", "inputs": ["z"], "outputs": ["y"]},
        ]
    store.save(
        model,
        components,
        inputs=[{"name": "x", "datatype": kind.datatype, "shape": [-1, COLUMNS]}],
        outputs=[{"name": "y", "datatype": kind.datatype}],
        steps=steps,
        examples=None if kind.member else {"x": ROWS[:2].astype(_NUMPY[kind.datatype])},
        version=label,
    )


Fitted = tuple[dict[str, object], np.ndarray]
_NUMPY = {"FP64": np.float64, "FP32": np.float32}


def _fit_forest(number: int) -> Fitted:
    from sklearn.ensemble import RandomForestRegressor

    table = np.random.default_rng(number).normal(size=(200, COLUMNS))
    forest = RandomForestRegressor(n_estimators=20, random_state=number)
    forest.fit(table, table.sum(axis=1) + APART * number)
    return {"model": forest}, forest.predict(ROWS)


def _fit_scaled(number: int) -> Fitted:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.random.default_rng(number).normal(number, 2, (50, COLUMNS)))
    forest = _fit_forest(number)[0]["model"]
    return {"scaler": scaler, "model": forest}, forest.predict(scaler.transform(ROWS))


def _fit_network(number: int) -> Fitted:
    import torch

    torch.manual_seed(number)
    layers = torch.nn.Linear(COLUMNS, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
    network = torch.nn.Sequential(*layers).eval()
    rows = torch.tensor(ROWS, dtype=torch.float32)
    with torch.inference_mode(False), torch.no_grad():
        layers[2].bias += APART * number
        values = network(rows).numpy().ravel()
    return {"model": torch.jit.trace(network, rows[:2])}, values


def _fit_member(_: int) -> Fitted:
    return {"model": {"framework": "model", "model": "forest"}}, np.zeros(len(ROWS))


FITS: dict[str, Callable[[int], Fitted]] = {
    "forest": _fit_forest,
    "scaled": _fit_scaled,
    "network": _fit_network,
    "member": _fit_member,
    REGISTERED: _fit_scaled,
}
