"""What the servers' processes weigh, and which clients hang on one of them."""

from __future__ import annotations

import os
import signal
import statistics
import time
from contextlib import suppress

import psutil

from tests.soak.checking import Kill

_MIB = 2**20
GONE_WITHIN_SECONDS = 3.0


def weigh(pid: int, samples: int = 1, apart_seconds: float = 0.5) -> float:
    """Return the memory of a process and its children in MiB, the median of some samples.

    It is the sum of their proportional set sizes: RSS, with pages that several share counted once.
    """
    weights = []
    for number in range(samples):
        if number:
            time.sleep(apart_seconds)
        total = 0
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for member in [process, *process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    total += member.memory_full_info().pss
        weights.append(total / _MIB)
    return statistics.median(weights)


def kill_worker(server: str, victim: int, ports: tuple[int, ...]) -> Kill:
    """Kill a worker process with SIGKILL; it is stopped first, so that its clients are known."""
    os.kill(victim, signal.SIGSTOP)
    connections = psutil.net_connections("tcp")
    # A connection without an owner waits to be accepted, perhaps by the victim.
    theirs = {
        connection.raddr.port
        for connection in connections
        if connection.laddr.port in ports and connection.raddr and connection.pid in (victim, None)
    }
    clients = {
        connection.pid
        for connection in connections
        if connection.laddr.port in theirs and connection.raddr and connection.pid is not None
    }
    at = time.monotonic()
    dying = psutil.Process(victim)
    os.kill(victim, signal.SIGKILL)
    return Kill(server, at, frozenset(clients), _wait_until_gone(dying))


def _wait_until_gone(process: psutil.Process) -> float:
    """Return when a killed process had closed everything: it is a zombie, or no more."""
    end = time.monotonic() + GONE_WITHIN_SECONDS
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
            time.sleep(0.001)
    return time.monotonic()
