"""Any model that ``mlflow.pyfunc`` loads."""

from __future__ import annotations

from bundleserver.frameworks.interface import Framework, Opens

FRAMEWORK = Framework(
    name="pyfunc",
    module="bundleserver.frameworks.pyfunc.framework",
    library="mlflow",
    extra="mlflow",
    distributions=("mlflow-skinny",),
    needs_examples=True,
    opens=Opens.DIRECTORY,
)
