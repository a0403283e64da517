"""The payload log: a share of the requests and their answers, as Parquet files.

``logged_models`` notes requests on the event loop, ``log`` queues them and has the one thread that
turns them into ``tables`` and writes ``files``; ``replaying`` reads them again. pyarrow is imported
by that thread's modules only, so only where ``--log_requests`` is given.
"""
