"""The administrator's token: a file that is read anew for every request that shows one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from bundleserver.documents.bearer import MARK, MOST_BYTES, token_in
from bundleserver.documents.printable import printable
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.serving.administration.records import LineBudget

LOG = logging.getLogger(__name__)

_SHORT_BYTES = 16

_PATIENCE_SECONDS = 5.0
"""How long a request waits for a volume that hangs."""

Digests = tuple[bytes, ...]


class TokenFile:
    """Compares with the token that a file has now; a file without a token admits nobody.

    Reading it each time, and not when its times differ, follows a Kubernetes secret, whose link
    moves to other files, and every other way to replace it. On the event loop; a thread reads.
    """

    def __init__(self, path: Path, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """Read it once, in the background, so that the log tells early of what is wrong."""
        self._path = path
        self._patience_seconds = patience_seconds
        self._problem = ""
        self._is_short = False
        # Whoever flips the file fills no log with it.
        self._budget = LineBudget()
        self._begun = 0
        self._reading = self._begin()

    async def accepts(self, token: bytes | None) -> bool | None:
        """Ask whether this is the file's token; None if the file has none, so that none is."""
        digests = await self._digests()
        if not digests:
            return None
        sent = hashlib.sha256(token or b"").digest()
        found = [hmac.compare_digest(sent, own) for own in digests]
        return any(found)

    async def _digests(self) -> Digests:
        """Return what a read has found that began after this was called."""
        try:
            return await asyncio.wait_for(self._next_read(self._begun), self._patience_seconds)
        except asyncio.TimeoutError:
            self._tell(f"reading it takes longer than {self._patience_seconds:g} s")
            return ()

    async def _next_read(self, before: int) -> Digests:
        # One read at a time, for all that wait: those that hang do not add up.
        while not (self._reading.done() and self._begun > before):
            if self._reading.done():
                self._reading = self._begin()
            await asyncio.shield(asyncio.wrap_future(self._reading))
        return self._reading.result()

    def _begin(self) -> Future[Digests]:
        self._begun += 1
        reading: Future[Digests] = Future()
        # A daemon: one that hangs does not keep the process from its end.
        threading.Thread(
            target=self._read_into, args=(reading,), name="admin-token", daemon=True
        ).start()
        return reading

    def _read_into(self, reading: Future[Digests]) -> None:
        digests: Digests = ()
        try:
            digests = self._read()
        finally:
            reading.set_result(digests)

    def _read(self) -> Digests:
        try:
            with open_regular(self._path) as file:
                content = file.read(MOST_BYTES + 1)
        except (OSError, ValueError) as error:
            self._tell(f"it cannot be read: {getattr(error, 'strerror', None) or error}")
            return ()
        try:
            token = token_in(content)
        except ValueError as error:
            self._tell(str(error))
            return ()
        self._tell("")
        self._tell_short(len(token))
        return tuple(hashlib.sha256(form).digest() for form in _forms(token))

    def _tell(self, problem: str) -> None:
        """Log a problem when it begins, and when it is over; a file that flips may wait."""
        before = self._problem
        if problem == before or not self._budget.spend():
            return
        self._problem = problem
        if problem:
            LOG.warning(
                "--admin_token_file %s: %s; nobody may load or unload until it has a token",
                printable(str(self._path)),
                problem,
            )
        else:
            LOG.info("--admin_token_file %s: it has a token again", printable(str(self._path)))

    def _tell_short(self, size: int) -> None:
        is_short = size < _SHORT_BYTES
        is_news = is_short and not self._is_short
        self._is_short = is_short and (self._is_short or self._budget.spend())
        if is_news and self._is_short:
            LOG.warning(
                "--admin_token_file %s: the token has %d bytes, which can be guessed; expected at "
                "least %d, such as those of: openssl rand -hex 32",
                printable(str(self._path)),
                size,
                _SHORT_BYTES,
            )


def _forms(token: bytes) -> set[bytes]:
    """Return the bytes that clients send for a token: of UTF-8, and of Latin-1 if it has them."""
    # ``$(cat FILE)`` sends the mark of a file that has one.
    forms = {token, MARK + token}
    with suppress(UnicodeError):
        forms.add(token.decode().encode("latin-1"))
    return forms
