"""An untouched ``kserve.ModelServer`` with three models.

Usage: kserve_server.py ROOT [flags, which KServe reads from the command line itself]
"""

import logging
import sys
from pathlib import Path

# Ours first: kserve must see the command line all the same.
from bundleserver import BundleModel  # isort: skip
import kserve


class Doubled(BundleModel):
    """Doubles what comes over V1, and adds a unit to the answer."""

    async def preprocess(self, payload, headers=None):
        if isinstance(payload, dict):
            return {"instances": [[2 * value for value in row] for row in payload["instances"]]}
        return payload

    def postprocess(self, result, headers=None):
        return {**result, "unit": "mm"} if isinstance(result, dict) else result


logging.basicConfig(level=logging.INFO)
root = Path(sys.argv[1])
classes = {"plain": BundleModel, "doubled": Doubled, "late": BundleModel}
kserve.ModelServer().start(
    [make(name, root / name, poll_interval_seconds=0.1) for name, make in classes.items()]
)
