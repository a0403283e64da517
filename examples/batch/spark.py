"""Score Parquet files with Spark: ``python spark.py MODEL INPUT OUTPUT [KEY …]``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark.sql import SparkSession

from bundleserver.batch import predict_batch


def score(spark: SparkSession, model: str, source: str, output: str, keep: Sequence[str]) -> None:
    """Write the model's outputs for each row of ``source``, beside the columns in ``keep``."""

    def predict(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield predict_batch(batch, model, keep=keep)

    table = spark.read.parquet(source)
    # Spark wants the columns beforehand: those that a few rows give.
    few = predict_batch(table.limit(8).toArrow(), model, keep=keep)
    columns = spark.createDataFrame(pa.Table.from_batches([few])).schema
    table.mapInArrow(predict, columns).write.parquet(output)


if __name__ == "__main__":
    # On a cluster, spark-submit says all of this but the size of the batches.
    os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", False)
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", 65_536)
        .getOrCreate()
    )
    try:
        score(session, *sys.argv[1:4], keep=sys.argv[4:])
    finally:
        session.stop()
