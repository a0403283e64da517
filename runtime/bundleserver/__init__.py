"""Serve a directory of model files as one versioned model on KServe.

``BundleStore`` saves such a directory from a notebook; ``bundleserver serve`` answers for it, and
``BundleModel`` answers in a ``kserve.ModelServer`` of your own.
Importing this package loads none of kserve, torch, prophet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bundleserver.serving.kserve.bundle_model import BundleModel as BundleModel
    from bundleserver.store import BundleStore as BundleStore

__version__ = "0.1.0"
# Without BundleModel: an import of everything needs no kserve.
__all__ = ["BundleStore", "__version__"]


def __getattr__(name: str) -> object:
    if name == "BundleStore":
        from bundleserver.store import BundleStore

        return BundleStore
    if name == "BundleModel":
        from bundleserver.serving.kserve.bundle_model import BundleModel

        return BundleModel
    raise AttributeError(f"module 'bundleserver' has no attribute '{name}'")
