"""Why a registry is unavailable: the same message for the same cause, whatever MLflow raised."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

from bundleserver.errors import SourceError
from bundleserver.sources.registry.answers import OddAnswer


class NoSuchThing(SourceError):
    """The registry responded that there is no such model, version, run or artifact."""


class PassingFailure(SourceError):
    """The call failed with a transient error; it is worth an immediate retry."""


_REFUSED = frozenset({401, 403})
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_STATUS_IN_TEXT = re.compile(
    r"error code (\d{3})|too many (\d{3}) error|^(\d{3}) (?:Client|Server)"
)
_NO_JSON = ("not in a valid JSON", "JSONDecodeError", "Expecting value", "Failed to parse")
# A URL may have a user and password, and a message may have the URL.
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_CODES = {
    "RESOURCE_DOES_NOT_EXIST": 404,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "CUSTOMER_UNAUTHORIZED": 401,
    "TEMPORARILY_UNAVAILABLE": 503,
    "REQUEST_LIMIT_EXCEEDED": 429,
}


def explain(error: BaseException, place: str, what: str) -> SourceError:
    """Convert MLflow's exception to ours; the message has no address, time or count.

    Args:
        error: the exception, with its causes.
        place: the registry, for messages.
        what: what was requested, for messages.
    """
    chain = list(_chain(error))
    status = next(filter(None, map(_status, chain)), None)
    where = f"the registry at '{place}'"
    if odd := next((link for link in chain if isinstance(link, OddAnswer)), None):
        return SourceError(f"{where} sent an answer for {what} that {odd}")
    if any(isinstance(link, RecursionError) for link in chain):
        return SourceError(f"{where} sent an answer for {what} that is nested too deep")
    if status == 404:
        return NoSuchThing(f"{where} does not have {what}: {_first_line(chain[0])}")
    if status in _REFUSED:
        return SourceError(
            f"{where} rejected the credentials ({status}); set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if any(text in str(link) for link in chain for text in _NO_JSON):
        return SourceError(
            f"{where} did not return JSON; check that MLFLOW_TRACKING_URI is the URL of an MLflow "
            "registry"
        )
    if reason := next(filter(None, map(_network, reversed(chain))), None):
        return PassingFailure(f"{where} cannot be reached: {reason}")
    if status in _BUSY:
        return PassingFailure(f"{where} is unavailable ({status})")
    return SourceError(f"{where} failed to return {what}: {_first_line(chain[0])}")


def without_credentials(uri: str) -> str:
    """Return a URI without its user and password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes; MLflow sets none, so the context counts too."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(code := getattr(response, "status_code", None), int):
        return code
    if (name := getattr(error, "error_code", None)) in _CODES:
        return _CODES[str(name)]
    found = _STATUS_IN_TEXT.search(str(error))
    return int(next(filter(None, found.groups()))) if found else None


def _network(error: BaseException) -> str | None:
    if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionError) or type(error).__name__ in _CUT:
        return "connection closed by the server"
    if type(error).__name__ in ("NameResolutionError", "gaierror"):
        return "unknown host name"
    if type(error).__name__ in ("SSLError", "SSLCertVerificationError"):
        return "untrusted certificate (set MLFLOW_TRACKING_SERVER_CERT_PATH to its CA)"
    if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "no route to host"
    return None


_CUT = frozenset({"RemoteDisconnected", "ProtocolError", "IncompleteRead", "ChunkedEncodingError"})


def _first_line(error: BaseException) -> str:
    text = _CREDENTIALS.sub("//", str(error).strip()) or type(error).__name__
    return text.splitlines()[0][:300].rstrip(" .")
