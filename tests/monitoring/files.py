"""The files of ``servingruntimes/monitoring``: their queries and alerts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from tests.kubernetes.documents import read

DIRECTORY = Path(__file__).resolve().parents[2] / "servingruntimes" / "monitoring"
DASHBOARD = json.loads((DIRECTORY / "dashboard.json").read_text(encoding="utf-8"))
(POD_MONITOR,) = read(DIRECTORY / "podmonitor.yaml")
(RULES,) = read(DIRECTORY / "prometheusrule.yaml")
ALERTS: list[dict[str, Any]] = [
    rule for group in RULES["spec"]["groups"] for rule in group["rules"]
]

_METRIC = re.compile(r"\b(?:bundleserver|request|process)_[a-z_]+")


class Query(NamedTuple):
    """A query of the dashboard, and the panel that it belongs to."""

    panel: str
    expr: str

    def filled(self, interval: str) -> str:
        """Replace Grafana's variables: all models, and an interval of rates."""
        filled = self.expr.replace("$__rate_interval", interval)
        return filled.replace("$namespace", ".*").replace("$model", ".*")


def queries() -> list[Query]:
    """Return every query of the dashboard's panels."""
    return [
        Query(panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


def variables() -> dict[str, str]:
    """Return the query of each variable that has one."""
    listed = DASHBOARD["templating"]["list"]
    return {one["name"]: one["query"]["query"] for one in listed if one["type"] == "query"}


def metrics_of(expr: str) -> set[str]:
    """Return the names of our metrics that an expression has."""
    return set(_METRIC.findall(re.sub(r'"[^"]*"', "", expr)))
