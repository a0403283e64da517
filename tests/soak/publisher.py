"""A publisher that is killed halfway: says so on its standard output, then waits for its end.

``python -m tests.soak.publisher SOURCE TARGET model|manifest|save``: half of the model's file, all
files and half of the manifest, in place; or the store's own staging directory, half full.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

LONGEST_SECONDS = 120.0


def main(source: Path, target: Path, half: str) -> None:
    """Write half a version."""
    if half == "save":
        target = target.with_name(f".new-{target.name}")
    target.mkdir()
    files = sorted(source.iterdir(), key=lambda path: path.name == "manifest.json")
    for path in files:
        content = path.read_bytes()
        is_last = path.name == "manifest.json" if half == "manifest" else path == files[0]
        (target / path.name).write_bytes(content[: len(content) // 2] if is_last else content)
        if is_last:
            break
    sys.stdout.write("half\n")
    sys.stdout.flush()
    threading.Event().wait(LONGEST_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
