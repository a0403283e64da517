"""A new format is one file and one entry point of another distribution, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.end_to_end.processes import command, environment, running

PLUGIN = Path(__file__).parent / "plugin" / "straight_line.py"
SAVE = """
    import sys
    from bundleserver import BundleStore
    from straight_line import StraightLine

    store = BundleStore(sys.argv[1])
    store.save("lines", StraightLine(1.0, 2.0), examples=[{"inputs": {"x": [3.0]}}])
"""
X = {"name": "x", "shape": [2], "datatype": "FP64", "data": [0.0, 3.0]}


def install(site: Path, value: str) -> None:
    """Install the plug-in into a directory, with an entry point of that value."""
    shutil.copy(PLUGIN, site)
    info = site / "straight_line-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: straight-line\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[bundleserver.frameworks]\nline = {value}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Make a directory that other processes find packages in."""
    path = tmp_path / "site"
    path.mkdir()
    both = filter(None, (str(path), os.environ.get("PYTHONPATH")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(both))
    return path


@pytest.fixture
def root(tmp_path, site):
    """Save a version of a model of the plug-in's, and lay a file of its format down bare."""
    install(site, "straight_line:FRAMEWORK")
    models = tmp_path / "models"
    (models / "bare").mkdir(parents=True)
    (models / "bare" / "trend.line").write_text("5 -1\n")
    code = "\n".join(line.strip() for line in SAVE.splitlines())
    subprocess.run(
        [sys.executable, "-c", code, str(models)], check=True, env=environment(), timeout=60
    )
    return models


def test_a_format_of_a_plug_in_is_saved_inferred_and_listed(root):
    """Its class and its suffix are enough, and the manifest records its distribution."""
    listed = {
        entry["model"]: entry["versions"] for entry in command("inspect", root, "--json").document
    }
    manifest = json.loads((root / "lines" / "v1" / "manifest.json").read_text())
    validated = command("validate", root / "lines" / "v1")

    assert {"lines", "bare"} == listed.keys()
    assert all([{"model": "line"}] == [v["components"] for v in found] for found in listed.values())
    assert "2.5" == manifest["requirements"]["packages"]["straight-line"]
    assert 0 == validated.code, validated.err


def test_a_format_of_a_plug_in_is_served(root):
    """A server answers for both directories, and the metadata name the framework."""
    with running(root) as server:
        for name, y in (("lines", [1.0, 7.0]), ("bare", [5.0, 2.0])):
            server.wait_until_ready(name)

            answer = server.infer(name, X).json()
            known = server.get(f"/v2/models/{name}").json()

            assert y == answer["outputs"][0]["data"]
            assert "line" == known["metadata"]["components"]["model"]["framework"]
            assert "slope" in known["metadata"]["components"]["model"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("straight_line:missing", "AttributeError: module 'straight_line' has no attribute"),
        ("straight_line:StraightLine", "is a type; expected a bundleserver.frameworks.Framework"),
        ("sys:exit", "is a builtin_function_or_method; expected"),
        ("bundleserver.frameworks.sklearn:FRAMEWORK", "framework 'sklearn' already exists"),
    ],
)
def test_an_unusable_entry_point_is_logged_and_left_out(site, value, problem):
    """A broken plug-in breaks nothing but itself."""
    install(site, value)
    code = "from bundleserver.frameworks import frameworks; print(*frameworks())"

    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment()
    )

    assert "prophet statsmodels torch ensemble pyfunc python sklearn\n" == done.stdout
    assert f"entry point 'line' is skipped: {problem}" in done.stderr


BROKEN = """
    from bundleserver.frameworks import Framework

    def odd(_):
        raise RuntimeError("odd")

    {statement}
"""
USE = """
    import sys
    from pathlib import Path
    from sklearn.dummy import DummyRegressor
    from bundleserver import BundleStore
    from bundleserver.bundle.inferring import infer_manifest

    store = BundleStore(sys.argv[1])
    version = store.save("m", DummyRegressor().fit([[1.0]], [1.0]))
    bare = Path(sys.argv[1]) / "bare"
    bare.mkdir()
    (Path(sys.argv[1]) / "m" / str(version) / "model.joblib").rename(bare / "model.joblib")
    print(infer_manifest(bare, "bare").components["model"].framework)
"""


@pytest.mark.parametrize(
    "statement",
    [
        "raise KeyboardInterrupt",
        "raise SystemExit(3)",
        "FRAMEWORK = Framework(name='line', module='broken', suffixes=None)",
        "FRAMEWORK = Framework(name='line', module='broken', suffixes='.joblib')",
        "FRAMEWORK = Framework(name='', module='broken')",
        "FRAMEWORK = Framework(name='line', module='broken', sniff=None)",
        "FRAMEWORK = Framework('line', 'broken', suffixes=frozenset({'.joblib'}), sniff=odd)",
        "FRAMEWORK = Framework('line', 'broken', recognises=odd)",
    ],
)
def test_a_broken_plug_in_is_skipped_and_named(tmp_path, site, statement):
    """Models of the built-in frameworks are saved and inferred as without it."""
    install(site, "broken:FRAMEWORK")
    (site / "broken.py").write_text(textwrap.dedent(BROKEN).format(statement=statement))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(USE), str(tmp_path / "models")],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )

    assert "sklearn" == done.stdout.strip(), done.stderr
    assert "skipped" in done.stderr
    assert "line" in done.stderr
