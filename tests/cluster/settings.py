"""What the environment says of the cluster; ``run.sh`` sets it for the one that it starts."""

from __future__ import annotations

import os

import pytest

SLIM = os.environ.get("CLUSTER_SLIM", "bundleserver-sklearn:0.1.0")
"""The slim image, under the name by which the nodes have it or pull it."""

FULL = os.environ.get("CLUSTER_FULL", "")
"""The full image; without it what needs torch, statsmodels or prophet is skipped."""

SERVICES = os.environ.get("CLUSTER_SERVICES", "")
"""The image with an MLflow server, an object store and KServe's storage initializer."""

STORAGE_CLASS = os.environ.get("CLUSTER_STORAGE_CLASS", "")
"""The class of the tests' volumes; without it they are directories of ``VOLUMES``."""

ACCESS_MODE = os.environ.get("CLUSTER_ACCESS_MODE", "ReadWriteMany")
"""``ReadWriteOnce`` suffices on one node."""

VOLUMES = os.environ.get("CLUSTER_VOLUMES", "")
"""A directory of this machine that is also the node's, for volumes without a class."""

IMAGE = FULL or SLIM
"""What stands for ``bundleserver`` in the manifests."""

needs_full = pytest.mark.skipif(not FULL, reason="CLUSTER_FULL names no full image")
needs_services = pytest.mark.skipif(not SERVICES, reason="CLUSTER_SERVICES names no image")
