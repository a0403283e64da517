"""CatBoost's own files, read and checked without the library.

The library verifies the offsets in a file and believes every number: a forged index reads, or
writes, outside of its arrays. Pickles of CatBoost's models hold the same bytes.
"""

from __future__ import annotations

from bundleserver.frameworks.cbm.checks import check_model, unchecked_parts
from bundleserver.frameworks.cbm.flatbuffer import Damaged
from bundleserver.frameworks.cbm.model import MAGIC, Feature, Kind, Model, read_model

__all__ = [
    "MAGIC",
    "Damaged",
    "Feature",
    "Kind",
    "Model",
    "check_model",
    "read_model",
    "unchecked_parts",
]
