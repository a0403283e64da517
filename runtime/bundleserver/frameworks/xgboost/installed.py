"""Which XGBoost is installed."""

from __future__ import annotations

import re

from bundleserver.frameworks.xgboost.checked.recorded import Version


def installed_version() -> Version:
    """Return the version of the package; importing it is up to the caller's need."""
    import xgboost

    major, minor, patch = (*map(int, re.findall(r"\d+", xgboost.__version__)), 0, 0)[:3]
    return major, minor, patch
