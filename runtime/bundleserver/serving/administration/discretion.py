"""What clients are told where reasons, paths and lists are for administrators."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from bundleserver.errors import (
    AnswerTooLarge,
    BundleServerError,
    Forbidden,
    HeadTooLarge,
    HistoryTooLong,
    InvalidInput,
    ModelNotFound,
    NotReady,
    PredictionError,
    QueueFull,
    RequestCancelled,
    RequestTimedOut,
    RequestTooLarge,
    RequestTooSlow,
    TooManyBytes,
    TooManyValues,
    Unauthenticated,
    VersionNotFound,
)
from bundleserver.versions.lifecycle import State

if TYPE_CHECKING:
    from bundleserver.manager import ModelStatus, VersionStatus

P = ParamSpec("P")
T = TypeVar("T")

ELSEWHERE = (
    "for administrators: the server log, or /v2/repository/index with the administrator's token"
)
_REASON = f"the reason is {ELSEWHERE}"

_TRAFFIC_REASON = (
    "the reason is for administrators: the page of --enable_page, with the administrator's token"
)

_OF_THE_REQUEST = (
    *(InvalidInput, Unauthenticated, Forbidden, PredictionError, QueueFull),
    *(RequestTooLarge, HeadTooLarge, TooManyValues, TooManyBytes, RequestTooSlow),
    *(HistoryTooLong, AnswerTooLarge, RequestTimedOut, RequestCancelled),
)
"""Errors that tell of a request and its limits; every other one may tell of the server."""

_FOR_ADMINISTRATORS = frozenset({"probe", "library_mismatches"})

_STEP = re.compile(f"{State.FAILED.value} while ({'|'.join(state.value for state in State)})\\b")


class Discretion:
    """Shortens what requests get to know; with ``is_on`` False nothing.

    Routes and RPCs that were admitted by the administration do not ask it.
    """

    def __init__(self, is_on: bool = False) -> None:
        self._is_on = is_on

    def error(self, error: BaseException) -> BaseException:
        """Return an error of the same status whose message any client may read."""
        if not self._is_on or not isinstance(error, BundleServerError):
            return error
        if isinstance(error, _OF_THE_REQUEST):
            return error
        if isinstance(error, NotReady):
            return NotReady(error.identity, _REASON, error.retry_after_seconds)
        if isinstance(error, ModelNotFound):
            return ModelNotFound(error.model, None)
        if isinstance(error, VersionNotFound):
            return VersionNotFound(error.model, error.version, f"the known ones are {ELSEWHERE}")
        return BundleServerError(f"the request cannot be answered now: {_REASON}")

    def around(self, call: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Make a call raise its errors shortened."""
        if not self._is_on:
            return call

        async def discreet(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await call(*args, **kwargs)
            except BundleServerError as error:
                raise self.error(error) from None

        return discreet

    def status(self, status: ModelStatus) -> ModelStatus:
        """Return a model's status with classes of failures in place of their reasons."""
        if not self._is_on:
            return status
        return replace(
            status,
            reason="",
            config_problem=status.config_problem and _REASON,
            source_problem=status.source_problem and _REASON,
            versions=tuple(map(self.version, status.versions)),
        )

    def version(self, version: VersionStatus) -> VersionStatus:
        """Return a version's status with the class of a failure in place of its reason."""
        if not self._is_on:
            return version
        return replace(
            version,
            reason=_class_of(version.reason),
            probe_problem=version.probe_problem and _REASON,
            breaks=version.breaks and _REASON,
            waits_for=version.waits_for and _REASON,
            mismatches=(),
            metadata=_without_reasons(version.metadata),
        )

    def traffic(self, traffic: Mapping[str, object]) -> Mapping[str, object]:
        """Return how a model's requests are routed without why a canary or mirrored requests fail.

        Args:
            traffic: as ``Splitter.describe_traffic`` describes it.
        """
        if not self._is_on:
            return traffic
        shown = dict(traffic)
        if isinstance(canary := shown.get("canary"), Mapping):
            shown["canary"] = _without(canary, "reason")
        if isinstance(shadows := shown.get("shadow"), list):
            shown["shadow"] = [_without(shadow, "problem") for shadow in shadows]
        return shown


def _without(told: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a description with where its reason is told in place of that, if it has one."""
    return {**told, name: _TRAFFIC_REASON} if told.get(name) else told


def _class_of(reason: str) -> str:
    """Return in which state something failed; an empty string if nothing did."""
    if step := _STEP.search(reason):
        return step[0]
    return State.FAILED.value if State.FAILED.value in reason else ""


def _without_reasons(metadata: Mapping[str, object]) -> Mapping[str, object]:
    """Return a version's metadata without why it was not probed or does not verify."""
    shown = {name: value for name, value in metadata.items() if name not in _FOR_ADMINISTRATORS}
    verification = shown.get("verification")
    signature = verification.get("signature") if isinstance(verification, Mapping) else None
    if isinstance(verification, Mapping) and isinstance(signature, Mapping):
        kept = {name: value for name, value in signature.items() if name != "problem"}
        shown["verification"] = {**verification, "signature": kept}
    return shown
