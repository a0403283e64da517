"""Valid datatypes, shapes and BYTES elements of tensors, for every protocol."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.tensor_json import flat_objects, shaped
from bundleserver.tensors import NUMPY_DTYPES, Array

MOST_DIMENSIONS = 32  # numpy 1's limit
SIZES = "expected integers of at least 0"


def known_datatype(came: str, name: str) -> str:
    """Return the protocol's spelling of a datatype.

    Raises:
        InvalidInput: it is unknown, or not supported.
    """
    datatype = came[:40].upper()
    if datatype in NUMPY_DTYPES:
        return datatype
    near = difflib.get_close_matches(datatype, NUMPY_DTYPES, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise InvalidInput(
        f"input '{name}' has the unknown datatype '{came[:40]}'; expected one of "
        f"{', '.join(NUMPY_DTYPES)}{hint}"
    )


def checked_shape(sizes: Sequence[int], name: str) -> tuple[int, ...]:
    """Return a request's shape; it is compared with the data before anything is allocated.

    Raises:
        InvalidInput: a size is negative, or there are too many of them.
    """
    if len(sizes) > MOST_DIMENSIONS:
        raise InvalidInput(
            f"input '{name}' has {len(sizes)} dimensions; expected at most {MOST_DIMENSIONS}"
        )
    shape = tuple(sizes)
    if shape and min(shape) < 0:
        negative = next(size for size in shape if size < 0)
        raise InvalidInput(f"input '{name}' has the number {negative} in its shape; {SIZES}")
    return shape


def strings(elements: Sequence[bytes], shape: tuple[int, ...], name: str) -> Array:
    """Decode BYTES elements into an array of strings; those that are not UTF-8 stay bytes.

    Raises:
        InvalidInput: the number of elements is not the product of the shape.
    """
    decoded = (string_or_bytes(element) for element in elements)
    return shaped(np.fromiter(decoded, object, len(elements)), shape, name)


def string_or_bytes(element: bytes) -> str | bytes:
    """Decode one BYTES element as UTF-8; it stays bytes if it is not."""
    try:
        return element.decode()
    except UnicodeDecodeError:
        return element


def elements_of(values: Array) -> Iterator[bytes]:
    """Yield a BYTES output's elements in order, encoded as UTF-8."""
    for value in flat_objects(values):
        yield value if isinstance(value, bytes) else str(value).encode()
