"""Which failures may pass with the same files: those of a volume, a network or a machine."""

from __future__ import annotations

import errno
import os

from bundleserver.errors import SourceError

_PASSING = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN),
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTDOWN, errno.EBUSY),
        *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EREMOTEIO, errno.ENOLINK),
        *(errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ESHUTDOWN),
    }
)
# Many errors of ours, and of native libraries, have the system's words only.
_PASSING_WORDS = tuple(os.strerror(number).lower() for number in sorted(_PASSING))


def may_pass(why: str, error: BaseException | None = None) -> bool:
    """Ask whether a failure may pass without other files, as of a volume that is not reachable."""
    text, seen = why.lower(), set[int]()
    if any(words in text for words in _PASSING_WORDS) or "takes too long" in text:
        return True
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, (SourceError, TimeoutError, ConnectionError)):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        error = error.__cause__ or error.__context__
    return False
