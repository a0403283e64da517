"""The rows of a logged request: one for each row of it, with its inputs and outputs.

Of a model that is not rowwise, such as a forecaster, a request or an instance is one row, and its
tensors are lists.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import orjson

from bundleserver.bundle.warming.examples import validate_values
from bundleserver.serving.codecs import content_types
from bundleserver.serving.execution.predict import INSTANCE_PARAMETERS
from bundleserver.serving.payload_log.entries import Entry, Taker
from bundleserver.serving.payload_log.rows.columns import dtype_name
from bundleserver.serving.payload_log.rows.schemas import ALL, MOST_COLUMNS
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor


class Column(NamedTuple):
    """A tensor for some rows, which are the first axis of ``values``, or named columns of it.

    ``role`` is ``input`` or ``output``; with ``columns``, ``values`` has one more axis for them.
    """

    role: str
    tensor: str
    columns: tuple[str, ...] | None
    values: Array

    @property
    def key(self) -> tuple[object, ...]:
        """What columns of one table have in common."""
        return self.role, self.tensor, self.columns, dtype_name(self.values), self.values.ndim


class Block(NamedTuple):
    """Some rows of one entry.

    Attributes:
        entry: the request.
        first_row: the number of the first of the rows in the request.
        height: how many rows.
        columns: their inputs and outputs.
        parameters: the request's parameters as JSON; None if there are none, or they are not
            logged.
        is_complete: with these inputs the request can be sent again.
    """

    entry: Entry
    first_row: int
    height: int
    columns: tuple[Column, ...]
    parameters: str | None = None
    is_complete: bool = False

    @property
    def total(self) -> int:
        """The number of rows of the whole request."""
        response = self.entry.response
        if response is None:
            return self.entry.row_count
        return len(response.answers) if response.answers is not None else self.height

    @property
    def kind(self) -> tuple[object, ...]:
        """What blocks of one table have in common."""
        response, asked = self.entry.response, self.entry.request.outputs
        how = None if response is None else (response.rowwise, *(wanted.name for wanted in asked))
        return (how, self.is_complete, *(column.key for column in self.columns))


def blocks_of(entry: Entry, wanted: Collection[str]) -> Iterator[Block]:
    """Yield the rows of a request; a failed one is one row without inputs and outputs.

    Args:
        entry: the request.
        wanted: names of inputs, or of columns of inputs, to log; or ``ALL``.

    Raises:
        BundleServerError, ValueError: its inputs cannot be read.
    """
    response, request = entry.response, entry.request
    if response is None:
        yield Block(entry, 0, 1, ())
        return
    takes = entry.taker if wanted else None
    if response.answers is not None:
        for index, answer in enumerate(response.answers):
            own: tuple[Column, ...] = ()
            parameters, is_complete = dict(request.parameters), False
            if takes is not None and request.rows is not None:
                inputs, more = _instance(request.rows[index], takes)
                parameters |= more
                own, is_complete = _inputs(inputs, takes, wanted, alone=True)
            outputs = _answered(answer, entry.taker)
            said, is_logged = _parameters(parameters, wanted)
            yield Block(entry, index, 1, (*own, *outputs), said, is_complete and is_logged)
        return
    own, is_complete, alone = (), False, not response.rowwise
    if takes is not None:
        inputs = _validated(entry, takes).values()
        own, is_complete = _inputs(inputs, takes, wanted, alone=alone)
    outputs = tuple(_whole("output", n, a, alone) for n, a in response.outputs.items())
    count = 1 if alone else entry.row_count
    columns = (*own, *outputs)
    if not alone and outputs:
        count = len(outputs[0].values)
    if any(len(column.values) != count for column in columns):
        raise ValueError("its inputs and outputs have different numbers of rows")
    said, is_logged = _parameters(request.parameters, wanted)
    if count:
        yield Block(entry, 0, count, columns, said, is_complete and is_logged)


def _validated(entry: Entry, taker: Taker) -> Mapping[str, NamedTensor]:
    """Return a request's inputs as its model got them."""
    request = entry.request
    if request.rows is not None:
        return taker.signature.validate_rows(request.rows, taker.identity)
    content_type = request.parameters.get("content_type")
    if content_type is not None:
        content_type = content_types.of_request(content_type)
    return taker.signature.validate_tensors(request.tensors or (), taker.identity, content_type)


def _instance(row: object, taker: Taker) -> tuple[Iterable[NamedTensor], dict[str, object]]:
    """Return the inputs of one instance and its own parameters, as ``predict`` takes them."""
    values = dict(row) if isinstance(row, dict) else {}
    names = {spec.name for spec in taker.signature.inputs}
    own = {n: values.pop(n) for n in INSTANCE_PARAMETERS if n in values and n not in names}
    return validate_values(values, taker.signature, taker.identity).values(), own


def _inputs(
    tensors: Iterable[NamedTensor], taker: Taker, wanted: Collection[str], *, alone: bool
) -> tuple[tuple[Column, ...], bool]:
    """Return the wanted columns of inputs, and whether these are all."""
    found: list[Column] = []
    is_complete, owner = True, _owner(taker)
    for tensor in tensors:
        values, columns = tensor.values, tensor.columns
        is_column = not alone and tensor.name in owner
        if is_column and values.ndim == 2 and values.shape[1] == 1:
            columns = (tensor.name,)
        whole = ALL in wanted or tensor.name in wanted
        whole = whole or (is_column and owner[tensor.name] in wanted)
        if alone or values.ndim != 2 or len(columns) != values.shape[1]:
            columns = ()
        if whole and not 0 < len(columns) <= MOST_COLUMNS:
            found.append(_whole("input", tensor.name, values, alone))
            continue
        listed = [i for i, name in enumerate(columns) if whole or name in wanted]
        is_complete = is_complete and 0 < len(columns) == len(listed)
        if len(listed) == len(columns) > 0:
            found.append(Column("input", tensor.name, columns, values))
        elif listed:
            names = tuple(columns[i] for i in listed)
            found.append(Column("input", tensor.name, names, values[:, listed]))
    return tuple(found), is_complete


def _owner(taker: Taker) -> Mapping[str, str]:
    """Return the table that columns are of where a request may have them as tensors."""
    signature = taker.signature
    if not signature.lenient or len(signature.inputs) != 1:
        return {}
    (spec,) = signature.inputs
    return dict.fromkeys(spec.columns, spec.name)


def _whole(role: str, name: str, values: Array, alone: bool) -> Column:
    return Column(role, name, None, values[np.newaxis] if alone else values)


def _answered(answer: object, taker: Taker | None) -> tuple[Column, ...]:
    """Return the outputs of one instance's answer, which are plain values."""
    specs = {spec.name: spec for spec in taker.signature.outputs} if taker else {}
    found = []
    for name, plain in answer.items() if isinstance(answer, dict) else ():
        spec = specs.get(name)
        dtype = None if spec is None or spec.datatype is None else NUMPY_DTYPES[spec.datatype]
        values = np.array(plain, dtype=dtype)
        found.append(_whole("output", name, values, alone=True))
    return tuple(found)


def _parameters(
    parameters: Mapping[str, object], wanted: Collection[str]
) -> tuple[str | None, bool]:
    """Return parameters as JSON, where they are logged, and whether none is missing then."""
    kept = {name: value for name, value in parameters.items() if name != "binary_data_output"}
    if not kept or ALL not in wanted:
        return None, not kept
    return orjson.dumps(kept, default=str).decode(), True
