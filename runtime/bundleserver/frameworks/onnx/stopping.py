"""Calls of graphs with loops end with their request, or with the load that makes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

import onnxruntime

from bundleserver.errors import BundleServerError
from bundleserver.frameworks.giving_up import Abandoned, go_on
from bundleserver.tensors.budget import current_budget

_ASK_SECONDS = 0.25


@contextmanager
def stoppable() -> Iterator[onnxruntime.RunOptions]:
    """Yield options of one call, which ends soon after nobody waits for it any more.

    onnxruntime asks between two nodes, and in each round of a loop.

    Raises:
        Abandoned: nobody waits for the load any more.
        RequestCancelled, RequestTimedOut: nobody waits for the request any more.
    """
    options = onnxruntime.RunOptions()
    ended, context = threading.Event(), copy_context()

    def watch() -> None:
        while not ended.wait(_ASK_SECONDS):
            try:
                context.run(_check)
            except (BundleServerError, Abandoned):
                options.terminate = True
                return

    thread = threading.Thread(target=watch, name="onnx-stop", daemon=True)
    thread.start()
    try:
        yield options
    except Exception:
        _check()  # what it raised is only that it was ended
        raise
    finally:
        ended.set()
        thread.join()


def _check() -> None:
    go_on()
    if (budget := current_budget()) is not None:
        budget.check()
