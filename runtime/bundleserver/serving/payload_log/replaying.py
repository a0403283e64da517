"""Requests of a payload log, read again to be sent again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bundleserver.errors import BundleError
from bundleserver.serving.payload_log.columns import array_of
from bundleserver.serving.payload_log.tables import FORMAT
from bundleserver.serving.requests import PredictRequest
from bundleserver.tensors import Array, NamedTensor

_ROWS_AT_ONCE = 8192


@dataclass
class LoggedRequests:
    """The requests of one model in a payload log, in the order of its files.

    Attributes:
        model: the model whose requests these are.
        left_out: files that are not read, since they lack inputs.
    """

    model: str
    files: list[Path]
    left_out: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, source: Path, model: str) -> LoggedRequests:
        """Find the requests of a model in a file or a directory.

        Args:
            source: a payload log, a directory of it, or one of its files.
            model: its name; a log with a single model is read whatever that is named.

        Raises:
            BundleError: it has none, or none with all inputs; says what to do.
            OSError: it cannot be read.
        """
        found: dict[str, tuple[list[Path], list[Path]]] = {}
        for path in _files(source):
            about = _metadata(path)
            whole, partial = found.setdefault(about.get("bundleserver.model", ""), ([], []))
            inputs = about.get("bundleserver.inputs")
            if inputs != "none":
                (whole if inputs == "complete" else partial).append(path)
        if not found:
            raise BundleError(f"'{source}' has no files of a payload log; expected *.parquet")
        if model not in found and len(found) > 1:
            listed = ", ".join(f"'{name}'" for name in sorted(found))
            raise BundleError(
                f"'{source}' has no requests to '{model}'; it has some to {listed}: name the "
                "directory of one of them, such as model=NAME"
            )
        name = model if model in found else next(iter(found))
        whole, partial = found[name]
        if not whole and not partial:
            raise BundleError(f"'{source}' has only requests that failed, which are not sent again")
        if not whole:
            raise BundleError(
                f"'{source}' does not have all inputs of its requests, so they cannot be sent "
                "again; log them with --log_columns all"
            )
        return cls(name, whole, partial)

    def count(self) -> int:
        """Count the requests without reading what is in them."""
        total = 0
        for path in self.files:
            table = pq.read_table(path, columns=["row", "outcome"], partitioning=None)
            table = table.filter(pc.equal(table["outcome"], "ok"))
            total += len(_starts(table, _is_rowwise(_metadata(path))))
        return total

    def __iter__(self) -> Iterator[PredictRequest]:
        """Yield each answered request, with its tensors; of a forecaster, each instance.

        Raises:
            BundleError: a file is damaged.
        """
        for path in self.files:
            try:
                yield from self._requests_of(path)
            except (pa.ArrowException, OSError, ValueError, KeyError) as error:
                raise BundleError(f"'{path}' cannot be read as a payload log: {error}") from error

    def _requests_of(self, path: Path) -> Iterator[PredictRequest]:
        with pq.ParquetFile(path) as file:
            inputs = _inputs(file.schema_arrow)
            is_rowwise = _is_rowwise(_text(file.schema_arrow.metadata))
            names = ["row", "outcome", "parameters"]
            names += [part.name for parts in inputs.values() for part in parts]
            rest: pa.Table | None = None
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names):
                table = pa.Table.from_batches([batch])
                table = table.filter(pc.equal(table["outcome"], "ok"))
                whole = table if rest is None else pa.concat_tables([rest, table])
                starts = _starts(whole, is_rowwise)
                # The last request may go on in the next batch.
                for start, end in pairwise(starts):
                    yield self._request(whole.slice(start, end - start), inputs, is_rowwise)
                rest = whole.slice(starts[-1]) if starts else None
            if rest is not None and len(rest):
                yield self._request(rest, inputs, is_rowwise)

    def _request(
        self, rows: pa.Table, inputs: Mapping[str, list[pa.Field]], is_rowwise: bool
    ) -> PredictRequest:
        tensors = []
        for name, parts in inputs.items():
            told = [_text(part.metadata) for part in parts]
            arrays = [
                array_of(rows[part.name].combine_chunks(), about["dtype"])
                for part, about in zip(parts, told, strict=True)
            ]
            columns = tuple(about["column"] for about in told if "column" in about)
            values = _stacked(arrays) if columns else arrays[0]
            tensors.append(NamedTensor(name, values if is_rowwise else values[0], columns))
        said = rows["parameters"][0].as_py()
        parameters = orjson.loads(said) if said else {}
        return PredictRequest(self.model, tensors=tuple(tensors), parameters=parameters)


def _files(source: Path) -> Iterator[Path]:
    """Yield complete files, in the order of versions and time."""
    if not source.is_dir():
        yield source
        return
    for path in sorted(source.rglob("*.parquet")):
        if not path.name.startswith((".", "_")) and path.is_file():
            yield path


def _metadata(path: Path) -> dict[str, str]:
    try:
        about = _text(pq.read_schema(path).metadata)
    except (pa.ArrowException, ValueError) as error:
        raise BundleError(f"'{path}' is not a valid Parquet file: {error}") from error
    found = about.get("bundleserver.format")
    if found != FORMAT:
        what = "is no file of a payload log" if found is None else f"has the format '{found}'"
        raise BundleError(f"'{path}' {what}; expected one of format {FORMAT}")
    return about


def _text(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (metadata or {}).items()}


def _is_rowwise(about: Mapping[str, str]) -> bool:
    return about.get("bundleserver.rows") == "rows"


def _inputs(schema: pa.Schema) -> dict[str, list[pa.Field]]:
    """Return the columns of each input."""
    found: dict[str, list[pa.Field]] = {}
    for part in schema:
        about = _text(part.metadata)
        if about.get("role") == "input":
            found.setdefault(about["tensor"], []).append(part)
    return found


def _starts(table: pa.Table, is_rowwise: bool) -> list[int]:
    """Return where requests begin."""
    if not is_rowwise:
        return list(range(len(table)))
    starts: list[int] = np.flatnonzero(table["row"].to_numpy() == 0).tolist()
    return starts


def _stacked(columns: list[Array]) -> Array:
    """Join the columns of a table; texts make all of it objects."""
    if any(column.dtype.kind == "O" for column in columns):
        columns = [column.astype(object) for column in columns]
    return np.stack(columns, axis=1)
