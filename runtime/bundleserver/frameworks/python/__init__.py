"""Classes of a bundle's own code that answer requests by themselves."""

from __future__ import annotations

from bundleserver.frameworks.file_facts import Opens
from bundleserver.frameworks.interface import Framework
from bundleserver.manifest import PYTHON

FRAMEWORK = Framework(
    name=PYTHON,
    module="bundleserver.frameworks.python.framework",
    # It is opened by what the manifest says alone: no file says of itself that it is such a class.
    sniff=lambda path: None,
    needs_examples=True,
    opens=Opens.DIRECTORY,
)
