"""Requests of a payload log, read again to be sent again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bundleserver.errors import BundleError
from bundleserver.serving.payload_log.rows.columns import array_of
from bundleserver.serving.payload_log.rows.tables import FORMAT
from bundleserver.serving.requests import PredictRequest, RequestedOutput
from bundleserver.tensors import Array, NamedTensor

_ROWS_AT_ONCE = 8192
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, TypeError)


@dataclass
class LoggedRequests:
    """The requests of one model in a payload log, in the order of its files.

    Attributes:
        model: the model whose requests these are.
        left_out: files that are not read, since they lack inputs.
        unreadable: why each file is not read that is damaged or of another kind; those that turn
            out to be damaged while they are read are added.
    """

    model: str
    files: list[Path]
    left_out: list[Path] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

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
        unreadable: list[str] = []
        for path in _files(source):
            try:
                about = _metadata(path)
            except BundleError as error:
                unreadable.append(str(error))
                continue
            whole, partial = found.setdefault(about.get("bundleserver.model", ""), ([], []))
            inputs = about.get("bundleserver.inputs")
            if inputs != "none":
                (whole if inputs == "complete" else partial).append(path)
        if not found and unreadable:
            more = f" (and {len(unreadable) - 1} more files)" if len(unreadable) > 1 else ""
            raise BundleError(f"{unreadable[0]}{more}")
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
        return cls(name, whole, partial, unreadable)

    def count(self) -> int:
        """Count the requests without reading what is in them; a damaged file has none."""
        total = 0
        for path in list(self.files):
            try:
                complete = [
                    at for at, form in enumerate(_forms(path)) if form["inputs"] is not None
                ]
                table = pq.read_table(path, columns=["form"], partitioning=None)
                total += (
                    pc.sum(pc.is_in(table["form"], pa.array(complete, pa.int32()))).as_py() or 0
                )
            except _DAMAGE as error:
                self._leave_out(path, error)
        return total

    def __iter__(self) -> Iterator[PredictRequest]:
        """Yield each answered request, with its tensors; of a forecaster, each instance.

        A file that turns out to be damaged is left out from there on.
        """
        for path in list(self.files):
            try:
                yield from self._requests_of(path)
            except _DAMAGE as error:
                self._leave_out(path, error)

    def _leave_out(self, path: Path, error: Exception) -> None:
        self.files.remove(path)
        what = " ".join(str(error).split())
        self.unreadable.append(f"'{path}' cannot be read as a payload log: {what}")

    def _requests_of(self, path: Path) -> Iterator[PredictRequest]:
        forms = _forms(path)
        with pq.ParquetFile(path) as file:
            fields = (
                name for form in forms for *_, names in form["inputs"] or () for name in names
            )
            names = ["outcome", "parameters", "form", *dict.fromkeys(fields)]
            rest: pa.Table | None = None
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=names):
                table = pa.Table.from_batches([batch])
                table = table.filter(pc.equal(table["outcome"], "ok"))
                whole = table if rest is None else pa.concat_tables([rest, table])
                starts: list[int] = np.flatnonzero(whole["form"].is_valid().to_numpy()).tolist()
                # The last request may go on in the next batch.
                for start, end in pairwise(starts):
                    yield from self._request(whole.slice(start, end - start), forms)
                rest = whole.slice(starts[-1]) if starts else None
            if rest is not None and len(rest):
                yield from self._request(rest, forms)

    def _request(
        self, rows: pa.Table, forms: Sequence[Mapping[str, Any]]
    ) -> Iterator[PredictRequest]:
        """Make a request of its rows, if they have all of its inputs."""
        form = forms[rows["form"][0].as_py()]
        if form["inputs"] is None:
            return
        tensors = []
        for name, dtype, columns, fields in form["inputs"]:
            arrays = [array_of(rows[field].combine_chunks(), dtype) for field in fields]
            values: Array = arrays[0] if columns is None else np.stack(arrays, axis=1)
            values = values if form["rowwise"] else values[0]
            tensors.append(NamedTensor(name, values, tuple(columns or ())))
        said = rows["parameters"][0].as_py()
        outputs = tuple(map(RequestedOutput, form["outputs"]))
        parameters = orjson.loads(said) if said else {}
        yield PredictRequest(
            self.model, tensors=tuple(tensors), parameters=parameters, outputs=outputs
        )


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
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BundleError(f"'{path}' is not a valid Parquet file: {error}") from error
    found = about.get("bundleserver.format")
    if found != FORMAT:
        what = "is not a file of a payload log" if found is None else f"has the format '{found}'"
        raise BundleError(f"'{path}' {what}; expected one of format {FORMAT}")
    return about


def _forms(path: Path) -> list[dict[str, Any]]:
    """Return how the requests of a file are made of its rows.

    Raises:
        ValueError: the file does not say so.
    """
    forms = orjson.loads(_metadata(path).get("bundleserver.forms", ""))
    if not isinstance(forms, list) or not all(isinstance(form, dict) for form in forms):
        raise ValueError("its metadata 'bundleserver.forms' is not a list of objects")
    return forms


def _text(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (metadata or {}).items()}
