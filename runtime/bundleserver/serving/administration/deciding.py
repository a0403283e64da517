"""The decision: who may change what is served, and read its index where that is closed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry

from bundleserver.errors import BundleServerError, Forbidden, Unauthenticated
from bundleserver.serving.administration.asking import Asked
from bundleserver.serving.administration.discretion import Discretion
from bundleserver.serving.administration.records import (
    ALLOWED,
    CLOSED,
    CROSS_SITE,
    UNAUTHENTICATED,
    AdminLog,
    AdminMetrics,
    described,
)
from bundleserver.serving.administration.token_file import TokenFile
from bundleserver.serving.options import ServerOptions

LOG = logging.getLogger(__name__)

_INDEX = "the repository index"


class _Decision(NamedTuple):
    """A result, as the metric spells it, and the reason of a refusal."""

    result: str
    reason: str = ""


class Administration:
    """Decides about every load and unload that a request asks for, and about the index.

    Whoever answers such a request, in whichever protocol, first awaits ``admit_change`` or
    ``admit_index``, before it looks at the models. On the event loop.

    Attributes:
        discretion: shortens what all others are told, where the index is for administrators.
    """

    def __init__(
        self,
        admin: str = "closed",
        token_file: Path | None = None,
        repository_index: str = "open",
        metrics: AdminMetrics | None = None,
    ) -> None:
        """Decide as the flags of these names say; without any of them all changes are refused."""
        self._is_open = admin == "open"
        self._token = None if token_file is None else TokenFile(token_file)
        self._index_is_open = repository_index == "open"
        self.discretion = Discretion(not self._index_is_open)
        self._metrics = metrics
        # Apart, so that whoever asks for the index keeps no refused change out of the log.
        self._log, self._index_log = AdminLog(), AdminLog()
        if self._is_open and self._token is not None:
            LOG.warning("--admin=open has no effect: with --admin_token_file the token decides")
        elif self._is_open:
            LOG.warning("--admin=open: whoever reaches this server may load and unload its models")

    @classmethod
    def of(cls, options: ServerOptions, registry: CollectorRegistry = REGISTRY) -> Administration:
        """Decide as a server's options say, and count in a registry."""
        metrics = AdminMetrics(registry)
        return cls(options.admin, options.admin_token_file, options.repository_index, metrics)

    async def admit_change(self, verb: str, model: str, version: str | None, asked: Asked) -> None:
        """Return if a request may load or unload; it is logged and counted either way.

        Raises:
            Forbidden: it may not, whoever sends it.
            Unauthenticated: it may with the administrator's token, which it does not have.
        """
        decision = await self._decide(asked)
        self._note(verb, described(verb, model, version), asked, decision.result)
        if error := _error("loading and unloading", decision):
            raise error

    @property
    def index_asks(self) -> str:
        """What the index asks of a request: ``nothing``, a ``token``, or ``no page of others``.

        ``closed``: nobody may read it.
        """
        if self._index_is_open:
            return "nothing"
        if self._token is not None:
            return "token"
        return "no page of others" if self._is_open else "closed"

    async def admit_index(self, asked: Asked) -> None:
        """Return if a request may read the index of models.

        Raises:
            Forbidden, Unauthenticated: as of ``admit_change``.
        """
        if self._index_is_open:
            return
        decision = await self._decide(asked)
        if decision.result == ALLOWED:
            self._count("index", asked, ALLOWED)
            return
        self._note("index", _INDEX, asked, decision.result)
        if error := _error(_INDEX, decision):
            raise error

    async def _decide(self, asked: Asked) -> _Decision:
        if asked.headers is None:
            return _Decision(CLOSED, "is not open to this kind of request")
        if self._token is not None:
            return await self._decide_by_token(self._token, asked)
        if not self._is_open:
            return _Decision(CLOSED, f"is closed on this server; {_HOW_TO_OPEN}")
        sign = asked.foreign_sign()
        return _Decision(ALLOWED) if sign is None else _Decision(CROSS_SITE, _CROSS_SITE + sign)

    async def _decide_by_token(self, own: TokenFile, asked: Asked) -> _Decision:
        sent = asked.token()
        is_own = await own.accepts(sent)
        if is_own:
            return _Decision(ALLOWED)
        if is_own is None:
            return _Decision(CLOSED, f"is closed on this server: {_UNUSABLE}")
        count = len(asked.values(b"authorization"))
        if sent is not None:
            found = "has another one"
        elif count > 1:
            found = f"has {count} authorization headers"
        else:
            found = "has none"
        return _Decision(UNAUTHENTICATED, f"{_REQUIRES}; the request {found}")

    def _note(self, request: str, what: str, asked: Asked, result: str) -> None:
        log = self._index_log if what == _INDEX else self._log
        log.note(what, asked, result)
        self._count(request, asked, result)

    def _count(self, request: str, asked: Asked, result: str) -> None:
        if self._metrics is not None:
            self._metrics.count(request, asked.protocol, result)


_HOW_TO_OPEN = (
    "start it with --admin_token_file FILE and send the token of that file as the header "
    "'Authorization: Bearer TOKEN', or start it with --admin=open"
)
_UNUSABLE = "its --admin_token_file has no token now; its log says why"
_REQUIRES = (
    "requires the administrator's token in one header 'Authorization: Bearer TOKEN' (over gRPC the "
    "metadata 'authorization')"
)
_CROSS_SITE = "is refused, since a page of another site may have asked a browser for it: "


def _error(what: str, decision: _Decision) -> BundleServerError | None:
    """Make the error of a refusal; None for what is allowed."""
    if decision.result == ALLOWED:
        return None
    kind = Unauthenticated if decision.result == UNAUTHENTICATED else Forbidden
    return kind(f"{what} {decision.reason}")
