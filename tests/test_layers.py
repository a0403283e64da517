"""The floors of docs/design.md, held by walking the imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bundleserver

PACKAGE = Path(bundleserver.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "errors": 0,
    "documents": 0,
    "tensors": 0,
    "operations": 0,
    "manifest": 0,
    "versions": 0,
    "frameworks": 1,
    "bundle": 1,
    "mlflow_pyfunc": 2,
    "sources": 2,
    "store": 2,
    "manager": 3,
    "serving": 4,
    "settings": 5,
    "commands": 5,
    "cli": 5,
    "__main__": 5,
    "__init__": 5,
}
MOST_MODULES = 15
PURE = {"os", "io", "shutil", "pathlib", "threading", "subprocess", "socket", "tempfile"}
HEAVY = ("kserve", "torch", "prophet", "statsmodels", "sklearn", "mlflow", "pandas", "joblib")


def part_of(path):
    """Name the part of the package that a file belongs to: its module or sub-package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Yield every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module == "bundleserver":
                yield from (f"bundleserver.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_floor_and_below(path):
    """No module knows of a floor above its own."""
    floor = FLOORS[part_of(path)]
    above = [
        name
        for name in imports_of(path)
        if name.startswith("bundleserver.") and FLOORS.get(name.split(".")[1], 0) > floor
    ]

    assert [] == above


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if FLOORS[part_of(path)] == 0],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_the_ground_floor_does_no_input_or_output(path):
    """Deciding is separate from doing: floor 0 imports nothing that touches files or threads."""
    assert set() == PURE & {name.split(".")[0] for name in imports_of(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_serving_floor_imports_kserve_and_grpc(path):
    """Whatever is below floor 4 works where no server is installed."""
    if FLOORS[part_of(path)] >= 4:
        return
    assert set() == {"kserve", "grpc", "fastapi"} & {
        name.split(".")[0] for name in imports_of(path)
    }


def test_only_the_connection_imports_uvicorn():
    """The rest of the server does not depend on what uvicorn is like inside."""
    importers = {
        path.parent.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if "uvicorn" in {name.split(".")[0] for name in imports_of(path)}
    }

    assert {"serving/connection"} == importers


@pytest.mark.parametrize(
    "statement",
    [
        "import bundleserver; bundleserver.BundleStore",
        "import bundleserver.cli",
        "import bundleserver.manager, bundleserver.sources.directory",
        "import bundleserver.serving.server",
    ],
)
def test_importing_bundleserver_loads_no_heavy_library(statement):
    """A notebook that imports the package pays for none of the frameworks."""
    script = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert "[]" == done.stdout.strip()
