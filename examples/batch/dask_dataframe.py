"""Score Parquet files with Dask: ``python dask_dataframe.py MODEL INPUT OUTPUT [KEY …]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import dask
import dask.dataframe
import pandas as pd
import pyarrow as pa

from bundleserver.batch import predict_batch


def predict(rows: pd.DataFrame, model: str, keep: Sequence[str]) -> pd.DataFrame:
    """Return the model's outputs for each row, beside the columns in ``keep``."""
    batch = pa.RecordBatch.from_pandas(rows, preserve_index=False)
    return predict_batch(batch, model, keep=keep).to_pandas()


def score(model: str, source: str, output: str, keep: Sequence[str]) -> None:
    """Write them for a whole table."""
    table = dask.dataframe.read_parquet(source)
    # Dask wants the columns beforehand: those that a few rows give.
    columns = predict(table.head(8, npartitions=-1), model, keep).iloc[:0]
    scores = table.map_partitions(predict, model, keep, meta=columns)
    scores.to_parquet(output, write_index=False)


if __name__ == "__main__":
    # On a cluster a dask.distributed.Client takes the place of this line.
    with dask.config.set(scheduler="processes", num_workers=2):
        score(*sys.argv[1:4], keep=sys.argv[4:])
