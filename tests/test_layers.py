"""The floors of docs/design.md, held by walking the imports."""

import ast
import graphlib
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
    "spans": 0,
    "versions": 0,
    "frameworks": 1,
    "bundle": 1,
    "mlflow_pyfunc": 2,
    "sources": 2,
    "store": 2,
    "manager": 3,
    "serving": 4,
    "batch": 5,
    "settings": 5,
    "commands": 5,
    "cli": 5,
    "__main__": 5,
    "__init__": 5,
}
MOST_MODULES = 15
PURE = {"os", "io", "shutil", "pathlib", "threading", "subprocess", "socket", "tempfile"}
HEAVY = (
    "opentelemetry",
    "kserve",
    "torch",
    "prophet",
    "statsmodels",
    "sklearn",
    "mlflow",
    "pandas",
    "joblib",
)


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


def runtime_imports_of(path):
    """Yield what a file imports when it runs: not what only a type checker reads."""
    tree = ast.parse(path.read_text())
    for_types = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    skipped = {id(inner) for node in for_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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


SERVING = {
    "codecs": ("models", "metadata", "rest", "grpc", "execution", "traffic", "metrics", "kserve"),
    "traffic": ("rest", "grpc", "execution", "metrics", "kserve", "connection", "workers"),
    "metrics": ("rest", "grpc", "execution", "kserve", "connection", "workers"),
    "execution": ("rest", "grpc", "kserve", "connection", "workers", "server", "metadata"),
    "rest": ("grpc", "connection", "workers", "server"),
    "grpc": ("rest", "connection", "workers", "server"),
    "connection": ("grpc", "execution", "traffic", "metrics", "workers", "server"),
    "payload_log": ("rest", "grpc", "kserve", "connection", "workers", "server"),
    "kserve": ("rest", "grpc", "connection", "workers", "server"),
    "page": ("grpc", "connection", "workers", "server", "kserve"),
}
"""What each package of the edge may not know of: the arrows of docs/design.md."""


@pytest.mark.parametrize("package", SERVING)
def test_the_arrows_inside_the_edge_hold(package):
    """Codecs know no manager and no protocol's server; execution knows no protocol at all."""
    forbidden = tuple(f"bundleserver.serving.{name}" for name in SERVING[package])
    if package == "codecs":
        forbidden += ("bundleserver.manager",)
    above = [
        f"{path.name} imports {name}"
        for path in sorted((PACKAGE / "serving" / package).rglob("*.py"))
        for name in runtime_imports_of(path)
        if f"{name}.".startswith(tuple(f"{part}." for part in forbidden))
    ]

    assert [] == above


ONE_ROOM = {
    "kserve": ("serving/kserve",),
    "fastapi": ("serving/kserve",),
    "grpc": ("serving/grpc",),
    "grpc_health": ("serving/grpc",),
    "grpc_reflection": ("serving/grpc",),
    "uvicorn": ("serving/connection",),
    "httptools": ("serving/connection",),
    "opentelemetry": ("serving/tracing",),
}


@pytest.mark.parametrize("library", ONE_ROOM)
def test_a_servers_library_is_imported_in_one_package_only(library):
    """Whoever replaces uvicorn, grpc or kserve has one package to change."""
    rooms = ONE_ROOM[library]
    elsewhere = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if library in {name.split(".")[0] for name in imports_of(path)}
        and not str(path.relative_to(PACKAGE)).startswith(rooms)
    ]

    assert [] == elsewhere


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in MODULES}), ids=lambda path: path.name
)
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    """No folder of the package has more than fifteen modules, no module over 300 lines."""
    modules = sorted(folder.glob("*.py"))
    long = [path.name for path in modules if len(path.read_text().splitlines()) > 300]

    assert len(modules) <= MOST_MODULES
    assert [] == long


def name_of(path):
    """Name a module as imports do."""
    return ".".join(
        ("bundleserver", *path.relative_to(PACKAGE).with_suffix("").parts)
    ).removesuffix(".__init__")


def module_imports(path, known):
    """Return the modules of the package that a module imports, in functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) | ({node.module} if inner - known else set())
    return (found & known) - {name_of(path)}


def test_no_modules_import_each_other_in_a_circle():
    """Modules can be read in an order in which each knows only what came before it."""
    modules = {name_of(path): path for path in MODULES}
    graph = {name: module_imports(path, modules.keys()) for name, path in modules.items()}
    # Its attributes are lazy: whoever imports the package imports none of what they are.
    graph["bundleserver"] = set()

    graphlib.TopologicalSorter(graph).prepare()


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
