"""How a call ends that is not answered: with the status of an error."""

from __future__ import annotations

from typing import NoReturn

import grpc

from bundleserver.serving.errors import ErrorAnswer

_LONGEST_DETAILS = 4000
"""Bytes of a status's details, percent-encoded: its trailers have at most 8 KiB."""


async def end_call(context: grpc.aio.ServicerContext, answer: ErrorAnswer) -> NoReturn:
    """End a call with an error's answer.

    Raises:
        grpc.aio.AbortError: gRPC's own, which it keeps with all that the frames before it name.
    """
    await context.abort(grpc.StatusCode[answer.grpc_code], _shortened(answer.message))
    raise grpc.aio.AbortError


def _shortened(message: str) -> str:
    """Truncate a message to a status's limit, where one byte outside ASCII counts as three."""
    size = 0
    for position, character in enumerate(message):
        size += 1 if " " <= character <= "~" else 3 * len(character.encode(errors="replace"))
        if size > _LONGEST_DETAILS:
            return message[:position] + "..."
    return message
