"""No gadget runs under ``listed`` or ``deny``; nearly all do without a gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.gadgets.corpus import GADGETS

ROOT = Path(__file__).parents[2]
POLICIES = ("any", "listed", "deny", "gate")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what became of each gadget under each policy."""
    root = tmp_path_factory.mktemp("gadgets")
    for name, gadget in GADGETS.items():
        (root / name).mkdir()
        gadget.write(root / name)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.hostile.gadgets.opening", str(root), *POLICIES],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime'}"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    found: dict[str, dict[str, dict[str, Any]]] = {policy: {} for policy in POLICIES}
    for line in map(json.loads, ran.stdout.splitlines()):
        found[line["policy"]][line["name"]] = line
    return found


def _had_its_way(outcome: dict[str, Any]) -> bool:
    return bool(outcome["ran"] or outcome["canary"])


def test_the_corpus_is_large():
    """There are at least 120 gadgets, of which at most a few are theoretical."""
    assert len(GADGETS) >= 120
    assert sum(not gadget.theoretical for gadget in GADGETS.values()) >= 100


@pytest.mark.parametrize(
    "name", [name for name in sorted(GADGETS) if not GADGETS[name].theoretical.startswith("would")]
)
def test_a_gadget_works_without_a_gate(outcomes, name):
    """Under ``any`` a gadget has its way, or says why it is theoretical."""
    assert (not GADGETS[name].theoretical) == _had_its_way(outcomes["any"][name]), outcomes["any"][
        name
    ]


@pytest.mark.parametrize("policy", ["listed", "deny", "gate"])
@pytest.mark.parametrize("name", sorted(GADGETS))
def test_no_gadget_works_at_the_gate(outcomes, name, policy):
    """Under ``listed`` and ``deny``, and without the scan, nothing runs: a LoadError says why."""
    outcome = outcomes[policy][name]

    assert not _had_its_way(outcome), outcome
    assert ("opened" if _opens_honestly(name, policy) else "refused") == outcome["outcome"], outcome


def _opens_honestly(name: str, policy: str) -> bool:
    """Ask whether a file is opened: nobody reads the part of it that is evil."""
    if name == "exported_with_evil_sample_inputs":
        return True
    return policy != "deny" and name in ("second_pickle", "distribution_with_a_template")
