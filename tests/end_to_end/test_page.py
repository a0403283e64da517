"""The page of a server of several worker processes."""

from __future__ import annotations

import httpx

from bundleserver import BundleStore
from tests.end_to_end.processes import eventually, running
from tests.end_to_end.published import Detector

COUNT = 20
ROWS = {"instances": [[0.5, 0.3, 0.8]]}


def test_every_worker_process_shows_the_requests_of_all(tmp_path):
    """Whichever answers the browser, its figures and plots are of the whole server."""
    Detector(1).save(BundleStore(tmp_path))
    with running(tmp_path, enable_page=True, workers=2) as server:
        server.wait_until_ready("detector")
        for _ in range(COUNT):
            # A connection each, so that both get some.
            httpx.post(f"{server.rest}/v1/models/detector:predict", json=ROWS).raise_for_status()

        def shown(_: int) -> float:
            plots = httpx.get(f"{server.rest}/page/models/detector/data").json()["plots"]
            return round(sum(plots["requests"]) * 5)

        eventually(lambda: {COUNT} == {*map(shown, range(4))}, "all show all")
