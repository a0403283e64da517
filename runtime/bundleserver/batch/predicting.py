"""``predict_batch``: a plain function of Arrow batches."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bundleserver.batch.binding import Binding, bind
from bundleserver.batch.models import opened_once
from bundleserver.batch.outputs import with_identity
from bundleserver.batch.scoring import Scored, Scorer
from bundleserver.bundle import Bundle
from bundleserver.bundle.trust import TRUST_ANY, Trust
from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput

_MOST_TOLD = 3
_lock = threading.Lock()
_scorers: dict[object, tuple[Bundle, Scorer]] = {}


def predict_batch(
    batch: pa.RecordBatch | pa.Table,
    model: str | os.PathLike[str] | Bundle,
    *,
    version: str | None = None,
    method: str | None = None,
    keep: Sequence[str] = (),
    columns: Sequence[str] = (),
    device: str = "cpu",
    trust: Trust = TRUST_ANY,
) -> pa.RecordBatch:
    """Score the rows of a batch in one call of the model, and return its outputs.

    A model that is named is opened at the first call of the process and stays open, so workers of
    an engine call this for each of their batches; any thread may call it.

    Args:
        batch: the rows. A model that knows the names of its columns takes those, in any order,
            and ignores others. A model with several inputs takes a column for each. A model
            without names takes the columns that are not kept, in their order, or one column of
            lists. A forecaster takes each row as one question.
        model: a bundle's directory, or that of its versions; ``models:/NAME@alias`` of the
            registry in ``MLFLOW_TRACKING_URI``; or an open bundle.
        version: a version or a label; None is the default one.
        method: a method of the model in the place of its outputs, such as ``predict_proba``.
        keep: columns to carry through untouched; they come first.
        columns: the columns that a model without names takes, in its order.
        device: where torch models run.
        trust: what the model's files may do while they are opened.

    Returns:
        The kept columns, then one for each output: values for ``[n]``, lists for ``[n, m]``. A
        forecast has a row for each of its steps, numbered in ``step``. The schema's metadata has
        ``bundleserver.model``, ``bundleserver.version`` and ``bundleserver.digest``.

    Raises:
        InvalidInput: a column is missing, or rows are not valid; names the first ones, from 1.
        PredictionError: the model's own code raised.
        BundleServerError: the model cannot be opened.
    """
    for what, given in (("keep", keep), ("columns", columns)):
        if isinstance(given, str):
            raise InvalidInput(f"{what} is the string '{given}'; expected a list of names")
    bundle = model if isinstance(model, Bundle) else opened_once(model, version, device, trust)
    if isinstance(model, Bundle) and version not in (None, bundle.version):
        raise InvalidInput(f"{bundle.identity} is open; version '{version}' cannot be chosen")
    scorer = _scorer(bundle, batch.schema, method, tuple(keep), tuple(columns))
    if isinstance(batch, pa.Table):
        batch = one_batch(batch)
    scored = scorer.score(batch)
    if scored.problems:
        raise InvalidInput(_told(scored.problems))
    return assembled(scored, batch, keep, scorer)


def assembled(
    scored: Scored, batch: pa.RecordBatch, keep: Sequence[str], scorer: Scorer
) -> pa.RecordBatch:
    """Put the kept columns of a batch beside its outputs.

    Raises:
        InvalidInput: an output has the name of a kept column.
    """
    outputs = scored.columns
    if not len(scored.rows):
        outputs = {n: pa.array([], kind) for n, kind in scorer.sample_columns().items()}
    check_names(keep, outputs)
    is_all = np.array_equal(scored.rows, np.arange(batch.num_rows))
    kept: dict[str, Any] = {
        name: batch.column(name) if is_all else batch.column(name).take(pa.array(scored.rows))
        for name in keep
    }
    return with_identity({**kept, **outputs}, scorer.facts)


def check_names(keep: Sequence[str], outputs: object) -> None:
    """Refuse a kept column that has the name of an output.

    Raises:
        InvalidInput: names it.
    """
    taken = [name for name in keep if name in outputs]  # type: ignore[operator]  # any container
    if taken:
        raise InvalidInput(
            f"keep: {quoted(taken)} is also the name of an output; rename the column of the table"
        )


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """Make one batch of a table's chunks."""
    batches = table.combine_chunks().to_batches()
    if not batches:
        return pa.RecordBatch.from_pylist([], schema=table.schema)
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _scorer(
    bundle: Bundle, schema: pa.Schema, method: str | None, *names: tuple[str, ...]
) -> Scorer:
    """Return what scores such tables, made once for each of their schemas."""
    # Serialized: a schema with extension types may have no hash.
    key = (id(bundle), method, names, schema.remove_metadata().serialize().to_pybytes())
    with _lock:
        known = _scorers.get(key)
    if known is not None and known[0] is bundle:
        return known[1]
    keep, columns = names
    binding: Binding = bind(bundle, schema, keep=keep, columns=columns)
    scorer = Scorer(bundle, binding, method)
    with _lock:
        if len(_scorers) >= _MOST_KEPT:
            _scorers.clear()
        _scorers[key] = (bundle, scorer)
    return scorer


_MOST_KEPT = 64


def _told(problems: dict[int, str]) -> str:
    rows = sorted(problems)
    told = "; ".join(f"row {row + 1}: {problems[row]}" for row in rows[:_MOST_TOLD])
    more = f"; and {len(rows) - _MOST_TOLD} more rows" if len(rows) > _MOST_TOLD else ""
    return f"{told}{more}"
