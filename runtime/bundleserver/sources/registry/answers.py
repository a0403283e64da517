"""Answers of a registry are bounded before they are read: MLflow's own HTTP sessions know no limit.

MLflow reads an answer whole and parses it twice. A hook of the session reads it first, up to a
limit, and what it read is what MLflow gets. Files are not read here: ``exact`` bounds them.
"""

from __future__ import annotations

import functools
import logging
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from bundleserver.bundle.metadata_files import count_values
from bundleserver.errors import SourceError
from bundleserver.sources.registry.bounded import EndsWithItsCall

LOG = logging.getLogger(__name__)

MOST_BYTES = 8 << 20
"""The most bytes of an answer, compressed or not."""

MOST_VALUES = 500_000
"""The most values of an answer; MLflow's parsers keep the interpreter for each of them."""

_MARK = "_bundleserver_bounds_answers"
_PIECE_BYTES = 1 << 16
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Answers for which MLflow does not look at the content."""

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})")


class OddAnswer(SourceError):
    """What is wrong with an answer, without who gave it."""


def bound_answers() -> None:
    """Bound the answers to all of MLflow's requests in this process; warn where that fails."""
    from mlflow.utils import request_utils

    make: Any = getattr(request_utils, "_get_request_session", None)
    if make is None:
        LOG.warning(
            "this version of MLflow has other HTTP sessions than those whose answers are bounded; "
            "answers of the registry have no limit; mlflow-skinny 3.17 is tested"
        )
    elif not hasattr(make, _MARK):
        request_utils._get_request_session = _bounding(make)


def _bounding(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def session(*args: object, **settings: object) -> Any:
        made = make(*args, **settings)
        made.hooks["response"] = [_read_within_limits]
        made.headers["Accept-Encoding"] = "identity"
        for adapter in made.adapters.values():
            _let_calls_end(adapter)
            # Before it tries again, or gives up, urllib3 would read the whole answer.
            adapter.max_retries = adapter.max_retries.new(
                status_forcelist=(), respect_retry_after_header=False
            )
        return made

    setattr(session, _MARK, True)
    return session


def _let_calls_end(adapter: Any) -> None:
    """Let an adapter of requests make connections that end with the call that uses them."""

    def proxy_manager_for(proxy: str, **settings: object) -> Any:
        manager = make_manager(proxy, **settings)
        manager.pool_classes_by_scheme = _ending_pools(manager.pool_classes_by_scheme)
        return manager

    make_manager = adapter.proxy_manager_for
    adapter.proxy_manager_for = proxy_manager_for
    manager = adapter.poolmanager
    manager.pool_classes_by_scheme = _ending_pools(manager.pool_classes_by_scheme)


def _ending_pools(pools: Mapping[str, Any]) -> Mapping[str, Any]:
    return {scheme: _ending_pool(pool) for scheme, pool in pools.items()}


@functools.cache
def _ending_pool(pool: Any) -> Any:
    kind = pool.ConnectionCls
    if issubclass(kind, EndsWithItsCall):
        return pool
    ending = type(kind.__name__, (EndsWithItsCall, kind), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": ending})


def _read_within_limits(response: Any, *, stream: bool = False, **_: object) -> Any:
    """Read an answer, unless its caller reads it in pieces: a hook of requests.

    Raises:
        OddAnswer: it exceeds a limit, or is compressed in a way that is not known.
        HTTPError: the registry is busy or broken.
    """
    if response.status_code in _BUSY:
        response.close()
        response.raise_for_status()
    if stream and response.ok and not response.is_redirect:
        return response
    try:
        data = _decompressed(_read(response), response.headers.get("Content-Encoding", ""))
        if _is_text(response):
            count_values(data, MOST_VALUES)
    except ValueError as error:
        raise OddAnswer(str(error)) from error
    finally:
        response.close()
    # As requests leaves an answer that was read.
    response._content, response._content_consumed = data, True
    # Else requests guesses it from the whole text.
    response.encoding = "utf-8"
    return response


def _read(response: Any) -> bytes:
    most = MOST_BYTES + _requested(response)
    data = bytearray()
    while piece := response.raw.read(_PIECE_BYTES, decode_content=False):
        data += piece
        if len(data) > most:
            raise OddAnswer(f"has more than {most} bytes")
    return bytes(data)


def _requested(response: Any) -> int:
    """Return how many bytes were asked for, if a part of a file was."""
    found = _RANGE.fullmatch(response.request.headers.get("Range") or "")
    return max(0, int(found[2]) - int(found[1])) if found else 0


def _is_text(response: Any) -> bool:
    return not _requested(response)


def _decompressed(data: bytes, encoding: str) -> bytes:
    """Decompress an answer; one without compression is asked for, but proxies know better."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return data
    if encoding not in _COMPRESSED:
        raise OddAnswer(f"is compressed with '{encoding[:40]}'")
    # 32: both headers, zlib's and gzip's.
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = decompressor.decompress(data, MOST_BYTES + 1)
    except zlib.error as error:
        raise OddAnswer("is damaged where it is compressed") from error
    if len(plain) > MOST_BYTES:
        raise OddAnswer(f"has more than {MOST_BYTES} bytes when decompressed")
    return plain
