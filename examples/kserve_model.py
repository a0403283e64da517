"""Serve a directory of versions from a ``kserve.ModelServer`` of your own, with KServe's flags.

python examples/kserve_model.py --model_name predictive-analytics --model_dir /mnt/models
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import kserve

from bundleserver import BundleModel


class RoundedModel(BundleModel):
    """A bundle whose answers over V1 are rounded; without this class, ``BundleModel`` will do."""

    def postprocess(self, result, headers=None):
        """Round the predictions of a V1 answer; V2 and gRPC answers are left as they are."""
        if isinstance(result, dict):
            return {"predictions": [round(value, 2) for value in result["predictions"]]}
        return result


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    parser.add_argument("--model_dir", type=Path, default=Path("/mnt/models"))
    arguments = parser.parse_args()
    # kserve sets up its own logs only; with this, loads and failures are told too.
    logging.basicConfig(level=logging.INFO)
    kserve.ModelServer().start([RoundedModel(arguments.model_name, arguments.model_dir)])


if __name__ == "__main__":
    main()
