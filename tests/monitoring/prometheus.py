"""A Prometheus of a test: started, scraping each second, asked, and ended."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.end_to_end.processes import eventually
from tests.monitoring.files import RULES


class Prometheus:
    """Asks a Prometheus over its API."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30)

    def is_up(self) -> bool:
        try:
            return self._client.get("/query", params={"query": "1"}).status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """Return the series of an instant query; an invalid one is an AssertionError."""
        answer = self._client.get("/query", params={"query": expr}).json()
        assert answer["status"] == "success", f"{expr}: {answer.get('error')}"
        return list(answer["data"]["result"])

    def get(self, path: str, **parameters: object) -> Any:
        """Return the data of another path of the API."""
        answer = self._client.get(path, params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def targets(self) -> list[dict[str, Any]]:
        """Return the targets, with the error of the last scrape of each."""
        return list(self.get("/targets")["activeTargets"])


@contextmanager
def scraping(directory: Path, port: int, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """Scrape ports of this machine each second, by the names of their pods."""
    rules = directory / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": RULES["spec"]["groups"]}))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": "bundleserver",
                "static_configs": [
                    {
                        "targets": [f"127.0.0.1:{number}"],
                        "labels": {"namespace": "demo", "pod": pod},
                    }
                    for pod, number in targets.items()
                ],
            }
        ],
    }
    file = directory / "prometheus.yaml"
    file.write_text(json.dumps(config))
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
    with (directory / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            asked = Prometheus(port)
            eventually(lambda: asked.is_up() or process.poll() is not None, "Prometheus answers")
            assert process.poll() is None, (directory / "prometheus.log").read_text()
            yield asked
        finally:
            process.terminate()
            process.wait(30)
