"""A file that the library reads without a check, opened in another process first.

The library ends its process on some damaged files. What the other process survives is opened here
too; that says nothing of a file that was made to do harm, which only its origin can.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from bundleserver.errors import LoadError
from bundleserver.frameworks import cbm
from bundleserver.frameworks.interface import first_line

_CHILD = Path(__file__).with_name("trial_child.py")
_SECONDS = 60.0
_ADDRESSES = 8 << 30
"""Bytes of address space: the library itself takes some, and a model several times its file."""


def try_first(data: bytes, said: cbm.Model, path: Path, seconds: float = _SECONDS) -> None:
    """Open and call a model in a process of its own, bounded in time and memory.

    Raises:
        LoadError: the process did not get through; names the file and how it ended.
    """
    kinds = {feature.place: feature.kind for feature in said.features}
    columns = [kinds.get(place, "number") for place in range(said.width)]
    limits = {"addresses": _ADDRESSES + 32 * len(data), "seconds": int(seconds)}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(_CHILD), json.dumps({"columns": columns, **limits})]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and file
            command, input=data, capture_output=True, timeout=seconds, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refused(path, f"was not opened in {seconds:g} seconds") from None
    except OSError as error:
        raise LoadError(
            f"'{path}' has parts that are tried in another process first, which cannot be started: "
            f"{first_line(error)}"
        ) from error
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise _refused(path, f"ended the process that tried it with {name}")
    if done.returncode:
        said_last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise _refused(path, f"is refused by CatBoost: {' '.join(said_last)[:300]}")


def _refused(path: Path, what: str) -> LoadError:
    return LoadError(f"'{path}' {what}; it is probably damaged: copy it, or save the model, again")
