"""Tables of one version and hour, until they are a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa

from bundleserver.serving.payload_log.rows.schemas import BASE
from bundleserver.serving.payload_log.rows.tables import FORMAT, Made

MOST_FORMS = 256
"""Different forms of requests in one file."""

_MOST_PIECES = 64
_PIECE_BYTES = 4_000  # what a table weighs beside its values


@dataclass
class Buffer:
    """What one file will have.

    Attributes:
        since: when the first of it came.
        about: the metadata of the file.
        size: the bytes that it holds.
        requests: how many are in it.
    """

    since: float
    about: Mapping[str, str]
    size: int = 0
    requests: int = 0
    _pieces: list[pa.Table] = field(default_factory=list)
    _forms: dict[str, int] = field(default_factory=dict)

    def is_full(self, most_bytes: int) -> bool:
        """Ask whether it is to be a file."""
        return self.size >= most_bytes or len(self._forms) >= MOST_FORMS

    def add(self, made: Made, requests: int) -> None:
        """Add a table of so many requests."""
        table = made.table
        forms = pa.nulls(table.num_rows, pa.int32())
        if made.form is not None:
            number = self._forms.setdefault(made.form, len(self._forms))
            is_other = np.ones(table.num_rows, dtype=np.bool_)
            is_other[made.starts] = False
            numbers = np.full(table.num_rows, number, dtype=np.int32)
            forms = pa.array(numbers, mask=is_other)
        self._pieces.append(table.append_column(BASE[-1], forms))
        self.size += self._pieces[-1].nbytes + _PIECE_BYTES
        self.requests += requests
        if len(self._pieces) >= _MOST_PIECES:
            whole = pa.concat_tables(self._pieces, promote_options="default").combine_chunks()
            self._pieces, self.size = [whole], whole.nbytes + _PIECE_BYTES

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return all of it, with every column of its version."""
        whole = pa.concat_tables(
            [schema.empty_table(), *self._pieces], promote_options="default"
        ).select(schema.names)
        forms = [orjson.loads(form) for form in self._forms]
        inputs = "none"
        if forms:
            is_complete = any(form["inputs"] is not None for form in forms)
            inputs = "complete" if is_complete else "not complete"
        said = {
            "bundleserver.format": FORMAT,
            **self.about,
            "bundleserver.inputs": inputs,
            "bundleserver.forms": orjson.dumps(forms).decode(),
        }
        return whole.replace_schema_metadata(said)
