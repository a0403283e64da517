"""The page of metrics: written off the event loop, and compressed for those who take that."""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from prometheus_client.registry import Collector

from bundleserver.serving.metrics.exposition import OPEN_METRICS, TEXT, write
from bundleserver.serving.metrics.negotiating import is_open_metrics, takes_gzip

_LEAST_BYTES = 2**13
"""Pages of fewer bytes are not compressed: they fit into a few packets."""

_LEVEL, _GZIP = 1, 31
"""Of zlib: the level that costs the least, and a window with gzip's header."""

_Headers = tuple[tuple[str, str], ...]

_VARY: _Headers = (("vary", "accept, accept-encoding"),)
"""On every page, so that a cache between gives nobody the other's."""


class Page(NamedTuple):
    """A page of metrics: its bytes, its content type, and headers beside that."""

    body: bytes
    content_type: str
    headers: _Headers = _VARY


class PageWriter:
    """Writes pages in a thread of its own, one at a time. Called from the event loop.

    A page of a thousand models takes tens of milliseconds, in which the event loop goes on.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")

    async def write(self, collector: Collector, accept: str, accept_encoding: str = "") -> Page:
        """Write what a collector or registry collects.

        Args:
            collector: collects it, in the thread.
            accept: the header ``Accept`` of the request.
            accept_encoding: its header ``Accept-Encoding``.
        """
        work = partial(write_page, collector, accept, accept_encoding)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def write_page(collector: Collector, accept: str, accept_encoding: str = "") -> Page:
    """Write a page here and now; see ``PageWriter.write``."""
    open_metrics = is_open_metrics(accept)
    body = write(collector, open_metrics=open_metrics).encode()
    content_type = OPEN_METRICS if open_metrics else TEXT
    if len(body) < _LEAST_BYTES or not takes_gzip(accept_encoding):
        return Page(body, content_type)
    compress = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    # zlib lets other threads run meanwhile.
    body = compress.compress(body) + compress.flush()
    return Page(body, content_type, (("content-encoding", "gzip"), *_VARY))
