"""What the tests of the Kubernetes objects share."""

from __future__ import annotations

import pytest

from tests.kubernetes.kustomize import BUILDERS
from tests.kubernetes.schemas import DIRECTORY, are_there


@pytest.fixture(params=sorted(BUILDERS))
def build(request):
    """Build a kustomization, in each of the ways that this machine has."""
    return BUILDERS[request.param]


@pytest.fixture
def kserve_schemas():
    """Skip where KServe's own schemas, which are not part of this project, are not beside it."""
    if not are_there():
        pytest.skip(f"KServe's schemas are not there: {DIRECTORY}")
