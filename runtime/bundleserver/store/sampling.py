"""Examples from a notebook: rows that a bundle answers once, and every later load again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path, PurePath
from typing import Protocol, cast, runtime_checkable

import numpy as np
import orjson

from bundleserver.bundle import Bundle
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import InvalidInput, StoreError
from bundleserver.manifest import DEFAULT_RTOL, Example, Manifest
from bundleserver.tensors import Array, NamedTensor, TensorSpec, array_from_rows
from bundleserver.tensors.signature import Signature

_JSON_OPTIONS = (
    orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
)


_MOST_ROWS = 1000


@runtime_checkable
class Table(Protocol):
    """What a DataFrame can do, whichever library made it."""

    @property
    def columns(self) -> Sequence[object]:
        """The names of the columns."""

    def __getitem__(self, key: object) -> Table:
        """Choose columns."""

    def to_numpy(self) -> Array:
        """Return the values."""


@dataclass(frozen=True)
class Sample:
    """One example as a notebook gave it: JSON values by input, and a table's columns."""

    inputs: Mapping[str, object]
    columns: tuple[str, ...] = ()


def plain_json(value: object, where: str) -> object:
    """Turn what notebooks hold (numpy values, dates, paths) into JSON values; NaN becomes null.

    Raises:
        StoreError: a value has no form in JSON.
    """
    try:
        plain: object = orjson.loads(orjson.dumps(value, default=_plain, option=_JSON_OPTIONS))
    except (TypeError, ValueError) as error:
        cause = error.__cause__ or error
        raise StoreError(f"{where} has a value that JSON cannot hold: {cause}") from error
    return plain


def written_examples(examples: object) -> Sequence[object] | None:
    """Return examples in the form of a manifest, to be taken as they are; None for rows."""
    if isinstance(examples, Mapping):
        return [examples] if isinstance(examples.get("inputs"), Mapping) else None
    if not isinstance(examples, (list, tuple)):
        return None
    return examples if any(isinstance(example, Mapping) for example in examples) else None


def record_example(directory: Path, manifest: Manifest, rows: object) -> Manifest:
    """Ask the bundle in a directory about rows; return its manifest with rows and answers.

    Args:
        directory: where the bundle's files are.
        manifest: the bundle's manifest, without examples.
        rows: rows of the only input, an array or a DataFrame, or values by input name.

    Raises:
        StoreError: the rows do not fit the bundle.
        BundleError: the bundle does not open.
        PredictionError: a model's own code raised.
    """
    bundle = open_bundle(directory, manifest, version="new")
    try:
        sample = _sample(rows, bundle.signature)
        bound = _bind(sample, bundle)
        answers = bundle.predict(bound, {})
        inputs = manifest.inputs or _declared(bundle.signature, bound)
    except InvalidInput as error:
        raise StoreError(f"the examples do not fit: {error}") from error
    finally:
        bundle.close()
    outputs = {output: _recorded(values) for output, values in answers.items()}
    example = Example(
        inputs=sample.inputs,
        outputs={output: values for output, values in outputs.items() if values is not None},
        rtol=_tolerance(answers),
    )
    return replace(manifest, inputs=inputs, examples=(example,))


def _declared(signature: Signature, bound: Mapping[str, NamedTensor]) -> tuple[TensorSpec, ...]:
    """Declare what the examples show and the fitted objects do not know: floats, and columns.

    Whole numbers stay open: a model that was fitted on them may well be asked with fractions.
    """
    if not signature.rowwise or {spec.name for spec in signature.inputs} != bound.keys():
        return ()
    return tuple(
        TensorSpec(
            spec.name,
            spec.datatype or ("FP64" if bound[spec.name].values.dtype.kind == "f" else None),
            columns=bound[spec.name].columns,
        )
        for spec in signature.inputs
    )


def _sample(rows: object, signature: Signature) -> Sample:
    if isinstance(rows, Mapping):
        return Sample({str(name): _values(value, str(name)) for name, value in rows.items()})
    needed = [spec for spec in signature.inputs if not spec.optional]
    names = {spec.name for spec in needed}
    table = rows if isinstance(rows, Table) else None
    if table is not None and len(needed) > 1 and names <= set(map(str, table.columns)):
        return Sample({spec.name: _values(table[spec.name], spec.name) for spec in needed})
    if len(needed) != 1:
        listed = ", ".join(f"'{spec.name}'" for spec in signature.inputs) or "any"
        raise StoreError(
            f"the examples are rows without a name, the model's inputs are {listed}; name them: "
            "examples={'horizon': [24]}, or {'input': X[:3]}"
        )
    spec = needed[0]
    if table is None:
        return Sample({spec.name: _values(rows, spec.name)})
    named = all(isinstance(column, str) for column in table.columns)
    columns = tuple(map(str, table.columns)) if named else ()
    if spec.columns and set(spec.columns) <= set(columns):
        columns = spec.columns
        table = table[list(columns)]
    return Sample({spec.name: _values(table, spec.name)}, columns)


def _values(value: object, name: str) -> object:
    """Turn one input's values into nested lists; a single value becomes a list of one."""
    if isinstance(value, Table) or hasattr(value, "to_numpy"):
        value = cast(Table, value).to_numpy()
    if isinstance(value, np.ndarray):
        # Nanoseconds, pandas' unit, would become whole numbers; no example needs them.
        value = value.astype("datetime64[us]") if value.dtype.kind == "M" else value
        value = value.tolist()
    plain = plain_json(value, f"example '{name}'")
    values = plain if isinstance(plain, list) else [plain]
    if len(values) > _MOST_ROWS:
        raise StoreError(
            f"the examples have {len(values)} rows of '{name}', and every load runs them; a few "
            f"are enough, as in X[:3], and {_MOST_ROWS} the most"
        )
    return values


def _bind(sample: Sample, bundle: Bundle) -> dict[str, NamedTensor]:
    specs = {spec.name: spec for spec in bundle.signature.inputs}
    tensors = []
    for name, value in sample.inputs.items():
        spec = specs.get(name, TensorSpec(name))
        values = array_from_rows(cast(Sequence[object], value), spec, bundle.identity)
        tensors.append(NamedTensor(name, values, sample.columns))
    return bundle.signature.validate_tensors(tensors, bundle.identity)


def _tolerance(answers: Mapping[str, Array]) -> float:
    """Return how much another machine's answers may differ.

    The last digits of single and half precision follow the processor; a save on one machine is
    not to be refused on another for them.
    """
    widths = [array.dtype.itemsize for array in answers.values() if array.dtype.kind == "f"]
    return {2: 1e-2, 4: 1e-4}.get(min(widths, default=8), DEFAULT_RTOL)


def _recorded(values: Array) -> object | None:
    """Return an answer as JSON holds it; None for what JSON would change: infinities, raw bytes."""
    if values.dtype.kind == "f" and np.isinf(values).any():
        return None
    if values.dtype.kind == "O" and any(isinstance(value, bytes) for value in values.flat):
        return None
    return plain_json(values.tolist(), "an answer to the examples")


def _plain(value: object) -> object:
    """Say what orjson does not know in values that it knows."""
    if isinstance(value, TensorSpec):
        shape = {"shape": list(value.shape)} if value.shape is not None else {}
        known = {"name": value.name, "datatype": value.datatype, "columns": list(value.columns)}
        return {key: entry for key, entry in known.items() if entry} | shape
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, date):
        # orjson knows dates, but not their subclasses, as pandas has one.
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r:.80} is a {type(value).__name__}")
