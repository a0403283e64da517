"""What a pickle that is trusted would need in the lists: the tool of whoever writes them."""

from __future__ import annotations

import io

import joblib

from bundleserver.frameworks.pickles.gate import open_stream
from bundleserver.frameworks.pickles.gate.listing import built_in
from bundleserver.frameworks.pickles.gate.refusal import NotListed
from bundleserver.frameworks.trust import CodeTrust


def needs(data: bytes, extra: dict[str, frozenset[str]]) -> object:
    """Open a pickle of ours; add to ``extra`` the names and ways that the lists lack.

    A function that makes an instance of the class that it gets is ``make``, which is for whoever
    reads the result to say: it is recorded as ``call``, and its class as ``value``.
    """
    while True:
        listed = dict(built_in())
        for name, ways in extra.items():
            listed[name] = listed.get(name, frozenset()) | ways
        try:
            return open_stream(io.BytesIO(data), CodeTrust(), listed=listed)
        except NotListed as error:
            known = extra.get(error.name, frozenset())
            more = frozenset({error.way or "named"})
            if more <= known:
                raise
            extra[error.name] = (known - {"named"}) | more


def dumped(model: object) -> bytes:
    """Return what joblib writes for a model."""
    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue()
