from __future__ import annotations

import sys

import pytest

from bundleserver.errors import FrameworkError
from bundleserver.frameworks import framework_module


@pytest.mark.parametrize("name", ["prophet", "statsmodels"])
def test_a_library_that_is_missing_is_named_with_its_extra(name, monkeypatch):
    """A framework that imports its library late is refused before a file is opened."""
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(FrameworkError) as raised:
        framework_module(name)

    said = f"framework '{name}' needs the package '{name}', which is not installed; install it with"
    assert f"{said}: pip install 'bundleserver[{name}]'" == str(raised.value)


def test_a_framework_is_there_with_one_of_its_libraries(monkeypatch):
    """Who has no lightgbm opens scikit-learn's files all the same."""
    monkeypatch.setitem(sys.modules, "lightgbm", None)

    assert framework_module("sklearn").__name__.endswith(".sklearn")
