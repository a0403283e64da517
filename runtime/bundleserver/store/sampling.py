"""Examples from a notebook: recorded with the bundle's outputs, and checked by every load."""

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
    """A DataFrame of any library."""

    @property
    def columns(self) -> Sequence[object]:
        """The column names."""

    def __getitem__(self, key: object) -> Table:
        """Select columns."""

    def to_numpy(self) -> Array:
        """Return the values."""


@dataclass(frozen=True)
class Sample:
    """One example from a notebook: JSON values by input, and a table's columns."""

    inputs: Mapping[str, object]
    columns: tuple[str, ...] = ()


def plain_json(value: object, where: str) -> object:
    """Convert a notebook's values (numpy arrays, dates, paths) to JSON values; NaN becomes null.

    Raises:
        StoreError: a value cannot be converted.
    """
    try:
        plain: object = orjson.loads(orjson.dumps(value, default=_plain, option=_JSON_OPTIONS))
    except (TypeError, ValueError) as error:
        cause = error.__cause__ or error
        raise StoreError(
            f"{where} has a value that cannot be converted to JSON: {cause}"
        ) from error
    return plain


def written_examples(examples: object) -> Sequence[object] | None:
    """Return examples that have the form of a manifest; None if they are rows."""
    if isinstance(examples, Mapping):
        return [examples] if isinstance(examples.get("inputs"), Mapping) else None
    if not isinstance(examples, (list, tuple)):
        return None
    return examples if any(isinstance(example, Mapping) for example in examples) else None


def record_example(directory: Path, manifest: Manifest, rows: object) -> Manifest:
    """Predict rows with the bundle in a directory; return its manifest with them as an example.

    Args:
        directory: the bundle's directory.
        manifest: the bundle's manifest, without examples.
        rows: rows of the only input, an array or a DataFrame, or values by input name.

    Raises:
        StoreError: the rows do not match the bundle's inputs.
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
        raise StoreError(f"the examples do not match the inputs: {error}") from error
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
    """Declare columns that only the examples show; what is declared is strict, so nothing else.

    Integers leave the datatype open: a model fitted on integers may get fractions in requests.
    """
    specs = signature.inputs
    if not signature.rowwise or {spec.name for spec in specs} != bound.keys():
        return ()
    if not any(bound[spec.name].columns and not spec.columns for spec in specs):
        return ()
    return tuple(
        TensorSpec(
            spec.name,
            spec.datatype or ("FP64" if bound[spec.name].values.dtype.kind == "f" else None),
            columns=bound[spec.name].columns,
        )
        for spec in specs
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
            f"the examples do not name their input; the model's inputs: {listed}; use "
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
    """Convert one input's values to nested lists; a single value becomes a list of one."""
    if isinstance(value, Table) or hasattr(value, "to_numpy"):
        value = cast(Table, value).to_numpy()
    if isinstance(value, np.ndarray):
        # Nanoseconds, pandas' unit, would become integers; no example needs them.
        value = value.astype("datetime64[us]") if value.dtype.kind == "M" else value
        value = value.tolist()
    plain = plain_json(value, f"example '{name}'")
    values = plain if isinstance(plain, list) else [plain]
    if len(values) > _MOST_ROWS:
        raise StoreError(
            f"the examples have {len(values)} rows of '{name}', and every load runs them; expected "
            f"at most {_MOST_ROWS}; a few are enough, such as X[:3]"
        )
    return values


def _bind(sample: Sample, bundle: Bundle) -> dict[str, NamedTensor]:
    specs = {spec.name: spec for spec in bundle.signature.inputs}
    tensors = []
    for name, value in sample.inputs.items():
        spec = specs.get(name, TensorSpec(name))
        values = array_from_rows(cast(Sequence[object], value), spec, bundle.identity)
        tensors.append(NamedTensor(name, values, sample.columns))
    # A name that no input has is probably misspelt.
    strict = replace(bundle.signature, lenient=False)
    return strict.validate_tensors(tensors, bundle.identity)


def _tolerance(answers: Mapping[str, Array]) -> float:
    """Return how much another machine's outputs may differ.

    The last digits of single and half precision depend on the processor.
    """
    widths = [array.dtype.itemsize for array in answers.values() if array.dtype.kind == "f"]
    return {2: 1e-2, 4: 1e-4}.get(min(widths, default=8), DEFAULT_RTOL)


def _recorded(values: Array) -> object | None:
    """Convert an output to JSON values; None for infinities and bytes, which JSON cannot hold."""
    if values.dtype.kind == "f" and np.isinf(values).any():
        return None
    if values.dtype.kind == "O" and any(isinstance(value, bytes) for value in values.flat):
        return None
    return plain_json(values.tolist(), "an output of the examples")


def _plain(value: object) -> object:
    if isinstance(value, TensorSpec):
        shape = {"shape": list(value.shape)} if value.shape is not None else {}
        known = {"name": value.name, "datatype": value.datatype, "columns": list(value.columns)}
        return {key: entry for key, entry in known.items() if entry} | shape
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, date):
        # orjson serializes dates, but not subclasses such as pandas'.
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r:.80} is a {type(value).__name__}")
