"""Score Parquet files with Ray Data: ``python ray_data.py MODEL INPUT OUTPUT [KEY …]``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Without it a session on one machine listens on all of the machine's addresses.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}

import pyarrow as pa
import ray

from bundleserver.batch import predict_batch


def predict(table: pa.Table, model: str, keep: Sequence[str]) -> pa.Table:
    """Return the model's outputs for each row, beside the columns in ``keep``."""
    return pa.Table.from_batches([predict_batch(table, model, keep=keep)])


def score(model: str, source: str, output: str, keep: Sequence[str]) -> None:
    """Write them for a whole table."""
    ray.data.read_parquet(source).map_batches(
        predict,
        batch_format="pyarrow",
        batch_size=65_536,
        fn_kwargs={"model": model, "keep": keep},
    ).write_parquet(output)


if __name__ == "__main__":
    # On a cluster ray.init() alone finds it.
    ray.init(
        num_cpus=2,
        object_store_memory=256 << 20,
        include_dashboard=False,
    )
    try:
        score(*sys.argv[1:4], keep=sys.argv[4:])
    finally:
        ray.shutdown()
