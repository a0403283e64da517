"""A batch of rows scored by one bundle, as its server answers them; bad rows are found and told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundleserver.batch.binding import Binding
from bundleserver.batch.inputs import tensors_of
from bundleserver.batch.outputs import column_of, type_of
from bundleserver.batch.questions import STEP, answer_questions
from bundleserver.batch.texts import Problems
from bundleserver.batch.values import values_of
from bundleserver.bundle import Bundle
from bundleserver.errors import InvalidInput, OutOfMemory, PredictionError
from bundleserver.serving.execution.predict import predict
from bundleserver.serving.requests import PredictRequest, RequestedOutput
from bundleserver.tensors import Array

Places = npt.NDArray[np.int64]


@dataclass
class Scored:
    """The outputs of a batch's rows.

    Attributes:
        columns: a column of each output.
        rows: the rows of the batch that they belong to, in order; a forecast has several for one.
        problems: why the other rows have none.
    """

    columns: dict[str, Any]
    rows: Places
    problems: Problems = field(default_factory=dict)


class Scorer:
    """Scores batches of one table with one bundle; any thread may call it."""

    def __init__(
        self, bundle: Bundle, binding: Binding, method: str | None = None, *, is_text: bool = False
    ) -> None:
        """Prepare to score.

        Raises:
            InvalidInput: the method is neither an output nor a method of the model.
        """
        if method and binding.questions:
            raise InvalidInput(
                f"method: {bundle.identity} answers each row by itself, by its own method; leave "
                "'method' out"
            )
        outputs = (RequestedOutput(method),) if method else ()
        self._request = PredictRequest(bundle.model, bundle.version, outputs=outputs)
        self._bundle = bundle
        self._view = bundle.answering([method]) if method else bundle
        made = [spec.name for spec in self._view.signature.outputs]
        # A model whose outputs are known by its answers only has other names there.
        announced = [spec.name for spec in bundle.probe.signature.outputs] or made
        if method and made and method not in (*made, *announced):
            raise InvalidInput(bundle.methods.unknown_output(method, announced, bundle.identity))
        self._binding = binding
        self._is_text = is_text
        self.identity = bundle.identity
        self.facts = {
            "model": bundle.model,
            "version": bundle.version,
            "digest": str(bundle.metadata()["digest"]),
        }

    @property
    def rows_independent(self) -> bool:
        """Whether a row's result has the same bits in every batch; found out by a few calls."""
        self._view.measure_calls()
        return self._view.call_traits.batchable

    def score(
        self, batch: pa.RecordBatch, bad: Mapping[int, str] | None = None, *, first: bool = False
    ) -> Scored:
        """Score a batch in one call of the model, without its bad rows.

        Args:
            batch: the rows, with the columns of the binding.
            bad: rows that are known to be bad, and why.
            first: whether nothing but the first bad row matters.

        Raises:
            InvalidInput: the batch as a whole is not valid, and no single row is the reason.
            PredictionError: the model raised, likewise; or there is too little memory.
            BundleServerError: the model cannot answer now.
        """
        problems = dict(bad or {})
        if self._binding.questions:
            scored = answer_questions(self._bundle, self._binding, batch, problems, first=first)
            return Scored(*scored)
        columns: list[Array] = []
        for use in self._binding.uses:
            values, found = values_of(batch.column(use.column), use, is_text=self._is_text)
            columns.append(values)
            problems = {**found, **problems}
        rows: Places = np.arange(batch.num_rows)
        if problems:
            rows = np.setdiff1d(rows, list(problems))
            if first:
                rows = rows[rows < min(problems)]
        return self._score_rows(columns, rows, problems, first=first)

    def sample_columns(self) -> dict[str, pa.DataType]:
        """Return the outputs' names and types as far as they are known without any row."""
        seen = self._bundle.probe.signature.outputs
        specs = self._view.signature.outputs if self._request.outputs else seen
        announced = {spec.name: spec for spec in seen}
        types = {spec.name: type_of(announced.get(spec.name, spec)) for spec in specs}
        known = {name: kind for name, kind in types.items() if kind is not None}
        return {STEP: pa.int64(), **known} if self._binding.questions else known

    def _score_rows(
        self, columns: Sequence[Array], rows: Places, problems: Problems, *, first: bool
    ) -> Scored:
        try:
            return Scored(self._outputs(columns, rows), rows, problems)
        except OutOfMemory:
            raise
        except (InvalidInput, PredictionError):
            with _quietly():
                found = dict(self._bad_rows(columns, rows, first=first))
            if not found:
                raise
        problems |= found
        rows = np.setdiff1d(rows, list(found))
        if first:
            rows = rows[rows < min(problems)]
        return Scored(self._outputs(columns, rows), rows, problems)

    def _bad_rows(
        self, columns: Sequence[Array], rows: Places, *, first: bool
    ) -> Iterator[tuple[int, str]]:
        """Yield the rows that the model refuses, in order, found by halves of what it refuses."""
        halves = [rows[len(rows) // 2 :], rows[: len(rows) // 2]] if len(rows) > 1 else [rows]
        while halves:
            part = halves.pop()
            try:
                self._outputs(columns, part)
            except OutOfMemory:
                raise
            except (InvalidInput, PredictionError) as error:
                if len(part) > 1:
                    halves += [part[len(part) // 2 :], part[: len(part) // 2]]
                    continue
                yield int(part[0]), reason_of(error)
                if first:
                    return

    def _outputs(self, columns: Sequence[Array], rows: Places) -> dict[str, Any]:
        """Call the model with some of the rows, once for each shape that these have."""
        if not len(rows):
            return {}
        is_all = all(len(rows) == len(column) for column in columns)
        taken = columns if is_all else [column[rows] for column in columns]
        groups = _groups(self._binding, taken)
        if groups is None:
            return self._call(taken, len(rows))
        parts = []
        for places in groups:
            same = [_stacked(column[places], self._binding, i) for i, column in enumerate(taken)]
            parts.append(pa.table(self._call(same, len(places))))
        order = np.argsort(np.concatenate(groups), kind="stable")
        whole = pa.concat_tables(parts).take(pa.array(order)).combine_chunks()
        return {name: whole.column(name).combine_chunks() for name in whole.column_names}

    def _call(self, columns: Sequence[Array], rows: int) -> dict[str, Any]:
        tensors, inputs = tensors_of(self._bundle, self._binding, columns)
        request = self._request._replace(tensors=tensors)
        outputs = predict(self._bundle, request, inputs).outputs
        return {name: column_of(values, name, rows) for name, values in outputs.items()}


def reason_of(error: Exception) -> str:
    """Return why a row was refused, without what only a server's log explains."""
    return str(error.cause) if isinstance(error, PredictionError) else str(error)


def _groups(binding: Binding, columns: Sequence[Array]) -> list[Places] | None:
    """Return the places of rows of equal shape, in the order of their first; None if all are."""
    ragged = [
        column
        for use, column in zip(binding.uses, columns, strict=True)
        if use.shape != () and column.dtype == object and column.ndim == 1 and _has_arrays(column)
    ]
    if not ragged:
        return None
    found: dict[object, list[int]] = {}
    for place, values in enumerate(zip(*ragged, strict=True)):
        found.setdefault(tuple((v.shape, v.dtype.str) for v in values), []).append(place)
    return [np.array(places) for places in found.values()]


def _has_arrays(column: Array) -> bool:
    return any(isinstance(value, np.ndarray) for value in column)


def _stacked(column: Array, binding: Binding, index: int) -> Array:
    is_ragged = binding.uses[index].shape != () and column.dtype == object and column.ndim == 1
    return np.stack(list(column)) if is_ragged and _has_arrays(column) else column


_thread = threading.local()


class _Quiet(logging.Filter):
    """Keeps the log free of the calls that only find out which row is bad."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_thread, "is_quiet", False)


_QUIET = _Quiet()


@contextmanager
def _quietly() -> Iterator[None]:
    logging.getLogger("bundleserver.bundle").addFilter(_QUIET)
    _thread.is_quiet = True
    try:
        yield
    finally:
        _thread.is_quiet = False
