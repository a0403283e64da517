"""Bundles with code of their own, written file by file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

SCORER = """
import helpers

class Scorer:
    def predict(self, inputs):
        import lazy
        return {"score": inputs["x"].sum(axis=1) * helpers.FACTOR + lazy.ADDED}
"""


def write_code(directory: Path, files: Mapping[str, str], *, listed: bool = True) -> list[object]:
    """Write files below ``code/``, and return their entries in a manifest."""
    for name, source in files.items():
        path = directory / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source))
    return [entry(directory, name) for name in sorted(files)] if listed else []


def entry(directory: Path, name: str) -> dict[str, object]:
    """Return what a manifest lists of a file in ``code/``."""
    data = (directory / "code" / name).read_bytes()
    return {
        "path": f"code/{name}",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }


def write_manifest(directory: Path, **changes: object) -> Path:
    """Write the manifest of a bundle whose component is a class in ``code/model.py``."""
    component = {"framework": "python", "path": "code/model.py", "options": {"class": "Scorer"}}
    document = {
        "format": "bundle/v1",
        "components": {"model": component},
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
        **changes,
    }
    (directory / "manifest.json").write_text(json.dumps(document))
    return directory


def write_scorer(directory: Path, factor: float = 2, added: float = 100) -> Path:
    """Write a bundle whose class uses two modules of its own, one of them lazily."""
    files = {
        "model.py": SCORER,
        "helpers.py": f"FACTOR = {factor}\n",
        "lazy.py": f"ADDED = {added}\n",
    }
    directory.mkdir(parents=True, exist_ok=True)
    return write_manifest(directory, code=write_code(directory, files))
