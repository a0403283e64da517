"""Tables scored offline: the rows of a file or of an Arrow batch, with the server's answers.

``predict_batch`` is a plain function of Arrow batches, for engines such as Spark, Ray and Dask;
``bundleserver predict --output`` scores files. Importing this package does not import pyarrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bundleserver.batch.predicting import predict_batch as predict_batch

__all__ = ["predict_batch"]


def __getattr__(name: str) -> object:
    if name == "predict_batch":
        from bundleserver.batch.arrow import require_arrow

        require_arrow()
        from bundleserver.batch.predicting import predict_batch

        return predict_batch
    raise AttributeError(f"module 'bundleserver.batch' has no attribute '{name}'")
