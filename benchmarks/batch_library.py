"""What a notebook does with a table: read all of it, one ``predict``, write; prints JSON.

``python batch_library.py MODEL.joblib TABLE.parquet SCORES.parquet THREADS``
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import joblib
import pyarrow as pa
import pyarrow.parquet as pq


def main() -> None:
    """Predict, and print the seconds of the call alone."""
    model_path, source, output, threads = sys.argv[1:]
    model = joblib.load(model_path)
    table = pq.read_table(source)
    rows = table.drop_columns("id").to_pandas()
    began = time.perf_counter()
    # Isolation forests go by joblib's setting, forests by theirs, boosting by OMP_NUM_THREADS.
    with joblib.parallel_config(backend="threading", n_jobs=int(threads)):
        answers = model.predict(rows)
    seconds = time.perf_counter() - began
    pq.write_table(pa.table({"id": table["id"], "output": answers}), Path(output))
    print(json.dumps({"predict": seconds}))  # noqa: T201  # its answer to whoever started it


if __name__ == "__main__":
    main()
