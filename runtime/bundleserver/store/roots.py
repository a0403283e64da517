"""The directory of models that a notebook writes to if nobody names one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bundleserver.errors import StoreError
from bundleserver.store.staging import make_directory

ROOT_VARIABLE = "BUNDLE_STORE"
USUAL_ROOTS = (Path("/mnt/models"), Path("/opt/app-root/src/models"))


def usual_root(roots: Sequence[Path] = USUAL_ROOTS) -> Path:
    """Return the first writable directory, created if necessary.

    Raises:
        StoreError: there is none; lists all of them.
    """
    refused = []
    for root in roots:
        try:
            make_directory(root)
        except OSError as error:
            refused.append(f"{root} ({error.strerror or error})")
            continue
        if os.access(root, os.W_OK | os.X_OK):
            return root
        refused.append(f"{root} (not writable)")
    raise StoreError(
        f"no directory for models: ${ROOT_VARIABLE} is not set, and no default directory is "
        f"writable: {', '.join(refused)}; set one: BundleStore('models')"
    )
