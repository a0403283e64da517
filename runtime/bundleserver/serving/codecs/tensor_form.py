"""What a tensor's datatype, shape and elements may be, however the request came."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.tensor_json import shaped
from bundleserver.tensors import NUMPY_DTYPES, Array

MOST_DIMENSIONS = 32  # numpy 1's limit


def known_datatype(came: str, name: str) -> str:
    """Return the protocol's spelling of a datatype.

    Raises:
        InvalidInput: the protocol has no such datatype, or this server cannot hold it.
    """
    datatype = came.upper()
    if datatype in NUMPY_DTYPES:
        return datatype
    near = difflib.get_close_matches(datatype, NUMPY_DTYPES, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise InvalidInput(
        f"input '{name}' has the unknown datatype '{came[:40]}'; known: "
        f"{', '.join(NUMPY_DTYPES)}{hint}"
    )


def checked_shape(sizes: Iterable[int], name: str) -> tuple[int, ...]:
    """Return a request's shape; it is compared with the data before anything is allocated.

    Raises:
        InvalidInput: a size is negative, or there are too many of them.
    """
    shape = tuple(sizes)
    if len(shape) > MOST_DIMENSIONS:
        raise InvalidInput(
            f"input '{name}' has a shape of {len(shape)} dimensions; at most {MOST_DIMENSIONS} "
            "are taken"
        )
    if shape and min(shape) < 0:
        negative = next(size for size in shape if size < 0)
        raise InvalidInput(
            f"input '{name}' has the number {negative} in its shape; sizes are whole numbers from 0"
        )
    return shape


def texts(elements: Sequence[bytes], shape: tuple[int, ...], name: str) -> Array:
    """Turn BYTES elements into an array of text; bytes stay where they are not UTF-8.

    Raises:
        InvalidInput: the number of elements is not the product of the shape.
    """
    decoded = (text_or_bytes(element) for element in elements)
    return shaped(np.fromiter(decoded, object, len(elements)), shape, name)


def text_or_bytes(element: bytes) -> str | bytes:
    """Read one BYTES element as UTF-8; it stays bytes where it is something else."""
    try:
        return element.decode()
    except UnicodeDecodeError:
        return element
