"""Write the sets of libraries that the package knows, from the files of constraints.

``python -m tests.library_sets.make`` writes them anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bundleserver.bundle.libraries import sets

PROJECT = Path(__file__).parents[2]

CONSTRAINTS = {"current": "constraints.txt", "lowest": "constraints-lowest.txt"}
"""The file of each set."""

# What models are saved with; of the rest no file tells, and no answer depends on it.
LIBRARIES = frozenset(
    {
        "catboost", "cloudpickle", "joblib", "lightgbm", "numpy", "onnxruntime", "pandas", "patsy",
        "prophet", "safetensors", "scikit-learn", "scipy", "skops", "statsmodels", "torch",
        "treelite", "xgboost-cpu",
    }
)  # fmt: skip

PYTHON = "python==3.11"
"""The Python of the images, and of both files."""


def lines_of(name: str) -> Iterator[str]:
    """Yield the lines of a set."""
    text = (PROJECT / CONSTRAINTS[name]).read_text()
    yield f"# Made of {CONSTRAINTS[name]} by 'make library-sets'."
    yield PYTHON
    lines = [line for line in text.splitlines() if "==" in line and not line.startswith("#")]
    yield from (line for line in lines if line.partition("==")[0] in LIBRARIES)
    yield "# Of what follows any version will do."
    names = (line.partition("==")[0] for line in lines)
    yield from (name for name in names if name not in LIBRARIES)


def main() -> None:
    """Write every set."""
    sets.SETS.mkdir(exist_ok=True)
    for name in CONSTRAINTS:
        (sets.SETS / f"{name}.txt").write_text("\n".join(lines_of(name)) + "\n")


if __name__ == "__main__":
    main()
