"""The flags of limits and timeouts."""

from __future__ import annotations

from bundleserver.commands.flags.flag import Flag
from bundleserver.commands.flags.values import (
    grpc_bytes,
    one_of,
    parse_bytes,
    parse_float,
    parse_int,
)

LIMITS: tuple[Flag, ...] = (
    Flag(
        "--workers",
        "number of worker processes on the same ports; each loads the models itself",
        parse_int,
    ),
    Flag(
        "--max_asyncio_workers",
        "threads for the predictions of a model in each process; default: its number of CPUs",
        parse_int,
    ),
    Flag("--max_queue", "maximum number of a model's waiting requests; 0: any", parse_int),
    Flag(
        "--max_batch_rows",
        "maximum rows per batch, for models that can be batched; 0 disables batching",
        parse_int,
    ),
    Flag("--max_request_bytes", "maximum size of a REST body; 0: any", parse_bytes),
    Flag("--max_head_bytes", "maximum size of a REST request's head; 0: any", parse_bytes),
    Flag("--max_body_values", "maximum number of values in a request; 0: any", parse_int),
    Flag("--max_inflight_bytes", "maximum size of all bodies in flight; 0: any", parse_bytes),
    Flag(
        "--max_answer_values",
        "maximum values of all outputs of one request; larger ones get 413; 0: no limit",
        parse_int,
    ),
    Flag(
        "--request_timeout_seconds",
        "seconds until a request that is not answered gets 504; 0: no limit",
        parse_float,
    ),
    Flag("--grpc_max_send_message_length", "maximum gRPC response size; 0: any", grpc_bytes),
    Flag("--grpc_max_receive_message_length", "maximum gRPC request size; 0: any", grpc_bytes),
    Flag("--grpc_max_concurrent_streams", "maximum gRPC calls per connection; 0: any", parse_int),
    Flag(
        "--grpc_max_connection_idle_seconds",
        "seconds before a gRPC connection without calls is closed; 0 keeps it",
        parse_float,
    ),
    Flag(
        "--grpc_max_connection_age_seconds",
        "seconds before a gRPC client is told to connect again; its calls in flight are "
        "answered; 0: never",
        parse_float,
    ),
    Flag(
        "--event-loop",
        "auto, asyncio or uvloop; auto is uvloop if it is installed",
        one_of("auto", "asyncio", "uvloop"),
    ),
    Flag(
        "--timeout-keep-alive",
        "seconds before an idle connection is closed; above the proxy's timeout; 0 keeps it",
        parse_int,
    ),
    Flag("--timeout_receive", "timeout in seconds for a request; 0: none", parse_float),
    Flag("--timeout_send", "timeout in seconds for taking a response; 0: none", parse_float),
    Flag(
        "--grace_period_seconds",
        "seconds that in-flight requests may take after SIGTERM; keep it below "
        "terminationGracePeriodSeconds",
        parse_float,
    ),
    Flag("--heartbeat_seconds", "seconds that a worker process may hang; 0: any", parse_float),
    Flag(
        "--lame_duck_seconds",
        "seconds after SIGTERM in which each answer closes its connection; 0 disables it",
        parse_float,
    ),
)
