"""Entries of a payload log as the event loop makes them, and the files that come of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bundleserver.serving.payload_log.entries import Entry, Taker
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.signature import Signature
from tests.serving.fakes import SUMS

AT = 1_795_959_000.25
"""Half past one on 2026-11-29, in UTC."""
HOUR = "model=sums/version=1/date=2026-11-29/hour=13"


def tensors(**values: object) -> tuple[NamedTensor, ...]:
    """Make named tensors of lists or arrays; lists of texts become objects."""
    made = []
    for name, given in values.items():
        array = np.array(given)
        made.append(NamedTensor(name, array.astype(object) if array.dtype.kind == "U" else array))
    return tuple(made)


def answered(
    request: PredictRequest,
    outputs: dict[str, object] | None = None,
    *,
    signature: Signature = SUMS,
    version: str = "1",
    at: float = AT,
    rows: int | None = None,
    **more: object,
) -> Entry:
    """Make the entry of an answered request."""
    arrays = {t.name: t.values for t in tensors(**(outputs or {"sum": [3.0]}))}
    response = PredictResponse(request.model, version, arrays, rowwise=signature.rowwise, **more)
    if rows is None:
        rows = len(request.rows or request.tensors[0].values)
    taker = Taker(signature, f"'{request.model}' version {version}")
    return Entry(request, "v2", at, 0.002, "ok", rows, response, taker)


def one(model: str = "sums", **more: object) -> Entry:
    """Make the entry of a request of one row."""
    return answered(PredictRequest(model, tensors=tensors(features=[[1.0, 2.0]])), **more)


def failed(version: str | None = None, outcome: str = "invalid_input", at: float = AT) -> Entry:
    """Make the entry of a request that failed."""
    request = PredictRequest("sums", version, rows=[["bad"]])
    return Entry(request, "v1", at, 0.001, outcome, 1)


def files(directory: Path) -> list[Path]:
    """Return the complete files of a log, as readers find them."""
    found = [p for p in directory.rglob("*.parquet") if not p.name.startswith(".")]
    return sorted(found, key=lambda path: path.name)


def read(path: Path) -> pa.Table:
    """Read one file, without what its place says."""
    return pq.ParquetFile(path).read()
