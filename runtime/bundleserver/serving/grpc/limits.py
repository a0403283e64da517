"""What a gRPC connection may do besides calls: idle, ping, and open streams."""

from __future__ import annotations

from dataclasses import dataclass

from bundleserver.serving.options import ServerOptions

_PING_SECONDS = 5
"""Clients may ping that often, also without calls; the third ping too early ends the connection.
Those of Go and Java ping every 10 seconds at most, and the network moves pings together."""

_MOST_EARLY_PINGS = 2


@dataclass(frozen=True)
class GrpcLimits:
    """Limits of each connection; 0 for none.

    Attributes:
        max_connection_idle_seconds: when one without calls is closed.
        max_connection_age_seconds: when its client is told to make another one, a tenth earlier or
            later; its calls are answered, however long they take.
        timeout_send: when one with calls is closed whose client does not answer a ping, since it
            reads nothing.
    """

    max_connection_idle_seconds: float = 300.0
    max_connection_age_seconds: float = 0.0
    timeout_send: float = 60.0

    @classmethod
    def of(cls, options: ServerOptions) -> GrpcLimits:
        """Limit connections as a server's options say."""
        return cls(
            options.grpc_max_connection_idle_seconds,
            options.grpc_max_connection_age_seconds,
            options.timeout_send,
        )

    def channel_arguments(self) -> list[tuple[str, int]]:
        """Return them as gRPC's server takes them."""
        arguments = [
            # Otherwise the window of a call that nobody reads from grows to many MiB on a fast
            # network; that of a message that is read from has its size anyway.
            ("grpc.http2.bdp_probe", 0),
            # Otherwise those without calls may ping every two hours.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _PING_SECONDS * 1000),
            ("grpc.http2.max_ping_strikes", _MOST_EARLY_PINGS),
        ]
        if self.max_connection_idle_seconds:
            idle_ms = max(1, round(self.max_connection_idle_seconds * 1000))
            arguments.append(("grpc.max_connection_idle_ms", idle_ms))
        if self.max_connection_age_seconds:
            age_ms = max(1, round(self.max_connection_age_seconds * 1000))
            arguments.append(("grpc.max_connection_age_ms", age_ms))
        if self.timeout_send:
            # Half of it each, so that both together are within it.
            half_ms = max(1, round(self.timeout_send * 500))
            arguments.append(("grpc.keepalive_time_ms", half_ms))
            arguments.append(("grpc.keepalive_timeout_ms", half_ms))
        return arguments
