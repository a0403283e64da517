"""What the runtimes ask for follows from what was measured, and the pages say both."""

from __future__ import annotations

import re

import pytest

from tests.kubernetes.documents import PROJECT, README
from tests.kubernetes.pods import RUNTIMES

PAGES = (README, PROJECT / "docs" / "kubernetes.md")
MEASURED = (PROJECT / "benchmarks" / "small_pods.md").read_text(encoding="utf-8")
SHORT = MEASURED.partition("## For pages")[2]
MEBIBYTES = {"Mi": 1, "Gi": 1024}
SPARE = 1.5


def resources(name):
    """Return what a runtime's container asks for, and may use."""
    return RUNTIMES[name]["spec"]["containers"][0]["resources"]


def table():
    """Return the cells of the table that pages show."""
    lines = [line for line in SHORT.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_show_what_was_measured(page):
    """Who measures again changes both pages."""
    lines = [line for line in SHORT.splitlines() if line.startswith("|")]

    assert [] == [line for line in lines if line not in page.read_text("utf-8").splitlines()]
    assert lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_say_what_the_runtimes_ask_for(page):
    """The sentence above the table has the numbers of the manifests."""
    text = " ".join(page.read_text("utf-8").partition("## Small pods")[2].split())
    full, slim = (resources(name) for name in ("standard", "sklearn"))

    assert "half a CPU and 1 GiB" in text
    assert "512 MiB" in text
    assert "may use 2 CPUs" in text
    assert [("500m", "1Gi"), ("500m", "512Mi")] == [
        (it["requests"]["cpu"], it["requests"]["memory"]) for it in (full, slim)
    ]
    assert ["2", "2"] == [it["limits"]["cpu"] for it in (full, slim)]


@pytest.mark.parametrize(("name", "image"), [("standard", "full"), ("sklearn", "slim")])
def test_memory_is_half_as_much_again_as_was_measured(name, image):
    """A swap of versions, and pandas where a model needs it, fit beside the most that was held."""
    header, *_, held = table()
    most = max(
        int(cell.split()[0])
        for title, cell in zip(header, held, strict=True)
        if title.endswith(f", {image}")
    )
    number, unit = re.fullmatch(r"(\d+)(\w+)", resources(name)["limits"]["memory"]).groups()

    assert most * SPARE <= int(number) * MEBIBYTES[unit]


def test_no_pod_restarted_while_it_was_measured():
    """The startup probe waits for a start at a tenth of a CPU."""
    rows = [line.strip("|").split("|") for line in MEASURED.partition("## For")[0].splitlines()]
    restarts = [row[-1].strip() for row in rows if row[0].strip() == "0.1"]
    probe = RUNTIMES["standard"]["spec"]["containers"][0]["startupProbe"]
    listens = [float(row[3]) for row in rows if row[0].strip() == "0.1"]

    assert {"0"} == set(restarts)
    assert max(listens) * 10 < probe["periodSeconds"] * probe["failureThreshold"]
