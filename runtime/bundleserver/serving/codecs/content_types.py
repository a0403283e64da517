"""MLServer's content types of V2 inputs: how a tensor's strings are meant."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.tensor_form import string_or_bytes
from bundleserver.serving.codecs.tensor_json import kind_of
from bundleserver.serving.codecs.time_steps import Moment
from bundleserver.tensors import Array, datatype_of


def converted(values: Array, content_type: object, name: str) -> Array:
    """Convert an input's values as its parameter ``content_type`` says.

    ``np`` and ``pd`` mean the values as they are, ``str`` the same of BYTES. ``base64`` decodes
    BYTES, ``datetime`` makes them times in UTC.

    Raises:
        InvalidInput: the content type is unknown, or the values are not of it.
    """
    if content_type is None or content_type in _AS_THEY_ARE:
        return values
    convert = _OF_STRINGS.get(content_type) if isinstance(content_type, str) else None
    if convert is None:
        known = ", ".join(f"'{one}'" for one in (*_AS_THEY_ARE, *_OF_STRINGS))
        raise InvalidInput(
            f"input '{name}' has the content_type {kind_of(content_type)}, which is not supported; "
            f"expected one of {known}"
        )
    if datatype_of(values) != "BYTES":
        raise InvalidInput(
            f"input '{name}' has the content_type '{content_type}' and the datatype "
            f"{datatype_of(values)}; expected BYTES"
        )
    return convert(values, name)


def of_request(content_type: object) -> str:
    """Return the ``content_type`` of a whole V2 request.

    Raises:
        InvalidInput: it is unknown.
    """
    if isinstance(content_type, str) and content_type in _OF_REQUESTS:
        return content_type
    known = ", ".join(f"'{one}'" for one in _OF_REQUESTS)
    raise InvalidInput(
        f"parameter 'content_type' is {kind_of(content_type)}, which is not supported; expected "
        f"one of {known}"
    )


def _from_base64(values: Array, name: str) -> Array:
    decoded: list[object] = []
    for value in values.flat:
        try:
            decoded.append(
                string_or_bytes(base64.b64decode(value, validate=True))  # type: ignore[arg-type]  # str or bytes
                if value is not None
                else None
            )
        except (binascii.Error, ValueError) as error:
            raise InvalidInput(
                f"input '{name}' has {kind_of(value)} with the content_type 'base64', and it is "
                f"not valid base64: {error}"
            ) from error
    return np.fromiter(decoded, object, len(decoded)).reshape(values.shape)


def _times(values: Array, name: str) -> Array:
    times = ["NaT" if v is None else Moment.parse(v, f"input '{name}'").plain for v in values.flat]
    return np.array(times, dtype="M8[us]").reshape(values.shape)


def _strings(values: Array, name: str) -> Array:
    return values


_AS_THEY_ARE = ("np", "pd")
_OF_STRINGS: Mapping[str, Callable[[Array, str], Array]] = MappingProxyType(
    {"str": _strings, "base64": _from_base64, "datetime": _times}
)
_OF_REQUESTS = ("np", "pd", "str")
