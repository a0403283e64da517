"""Any model that ``mlflow.pyfunc`` loads."""

from __future__ import annotations

from bundleserver.frameworks.file_facts import Opens
from bundleserver.frameworks.interface import Framework

FRAMEWORK = Framework(
    name="pyfunc",
    module="bundleserver.frameworks.pyfunc.framework",
    library="mlflow",
    extra="mlflow",
    distributions=("mlflow-skinny",),
    needs_examples=True,
    opens=Opens.DIRECTORY,
)
