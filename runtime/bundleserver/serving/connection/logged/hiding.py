"""What an access log has of paths, queries and headers; secrets that clients put there it has not.

What may be shown is said here, not what may not: of a target the path up to the first character
that may begin a parameter, of a query nothing, of a header what its name and its value allow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "[hidden]"

_SECRETS = re.compile(
    "auth|token|cookie|secret|pass|pwd|credential|session|signature|assertion|saml|jwt|cert|"
    "(?<!routing-)key"
)
"""What has one of these in its name is not for a log; a routing key is no secret."""

_SCHEMES = re.compile(r"(?i)\b(bearer|basic|digest|negotiate|ntlm|apikey|token)\s")
_PARAMETERS = re.compile(r"(?i)[?#;&=].*|%(25)*(3f|23|3b|26|3d).*", re.DOTALL)
"""From where on something may be parameters, however often it is encoded."""

_QUERY = re.compile(r"[?#].*", re.DOTALL)
_USER = re.compile(r"//[^/?#]*@")


def shown_query(query: str) -> str:
    """Return a query as a log has it: no route has parameters, so nothing of it is of use."""
    return HIDDEN if query else ""


def shown_path(path: str) -> str:
    """Return a path as a log has it."""
    if not path.startswith("/"):
        # A target with a host may have a name and a password.
        return path if path in ("", "*") else HIDDEN
    return _PARAMETERS.sub(HIDDEN, path)


def shown_header(name: str, values: Sequence[str]) -> str:
    """Return the values of a header as a log has them; ``-`` if there are none."""
    if not values:
        return "-"
    if is_secret(name):
        return HIDDEN
    return ", ".join(map(_shown_value, values)) or "-"


def is_secret(name: str) -> bool:
    """Ask whether the value of a header or a variable of that name is not for a log."""
    return _SECRETS.search(name.lower()) is not None


def _shown_value(value: str) -> str:
    if _SCHEMES.search(value):
        return HIDDEN
    if "//" in value or value.startswith("/"):
        return _PARAMETERS.sub(HIDDEN, _USER.sub(f"//{HIDDEN}@", value))
    return _QUERY.sub(HIDDEN, value)
