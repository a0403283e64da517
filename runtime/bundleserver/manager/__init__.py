"""The loaded versions of models, their leases, and the loop that loads and unloads them."""

from bundleserver.manager.leases import collect_rarely
from bundleserver.manager.manager import Manager
from bundleserver.manager.status import ModelStatus, TrafficStatus, VersionStatus

__all__ = ["Manager", "ModelStatus", "TrafficStatus", "VersionStatus", "collect_rarely"]
