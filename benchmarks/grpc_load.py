"""Sends one gRPC message again and again, from a process for each connection; prints JSON.

The message is bytes and stays bytes, so that the client costs as little as a Python client can.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import grpc

METHOD = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True)
class Report:
    """What one client saw: the seconds that each answer took, and how many were failures."""

    times: list[float]
    failed: int
    started: float
    seconds: float


def main() -> None:
    """Ask over as many connections as told, for as long as told, and add up what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("message", type=Path)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    args = parser.parse_args()
    message = args.message.read_bytes()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(args.connections)
    results = context.SimpleQueue()
    clients = [
        context.Process(
            target=_report, args=(results, args.address, message, args.seconds, barrier)
        )
        for _ in range(args.connections)
    ]
    for client in clients:
        client.start()
    reports = [results.get() for _ in clients]
    for client in clients:
        client.join()
    print(json.dumps(_summary(reports)))  # noqa: T201  # its answer to whoever started it


def _report(
    results: SimpleQueue[Report],
    address: str,
    message: bytes,
    seconds: float,
    barrier: Barrier,
) -> None:
    results.put(_ask(address, message, seconds, barrier))
    results.close()
    # grpc's threads may wait for ever in a forked process that ends in the usual way.
    os._exit(0)


def _ask(address: str, message: bytes, seconds: float, barrier: Barrier) -> Report:
    """Ask until the time is over, once all clients are connected."""
    call = grpc.insecure_channel(address, OPTIONS).unary_unary(METHOD)
    call(message, timeout=60)
    barrier.wait(60)
    times: list[float] = []
    failed = 0
    started = now = time.perf_counter()
    while now < started + seconds:
        before = now
        try:
            call(message, timeout=60)
        except grpc.RpcError:
            failed += 1
        now = time.perf_counter()
        times.append(now - before)
    return Report(times, failed, started, now - started)


def _summary(reports: list[Report]) -> dict[str, float]:
    times = sorted(duration for report in reports for duration in report.times)
    return {
        "started": min(report.started for report in reports),
        "requests": len(times),
        "seconds": max(report.seconds for report in reports),
        "failed": sum(report.failed for report in reports),
        "p50_ms": times[len(times) // 2] * 1e3,
        "p99_ms": times[len(times) * 99 // 100] * 1e3,
    }


if __name__ == "__main__":
    main()
