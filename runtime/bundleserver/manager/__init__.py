"""The versions that are open, lent to requests, and the loop that keeps them as they should be."""

from bundleserver.manager.leases import collect_rarely
from bundleserver.manager.manager import Manager
from bundleserver.manager.status import ModelStatus, TrafficStatus, VersionStatus

__all__ = [
    "Manager",
    "ModelStatus",
    "TrafficStatus",
    "VersionStatus",
    "collect_rarely",
]
