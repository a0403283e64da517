"""``inspect --url``: a running server's versions, traffic splits, canaries and shadows."""

from __future__ import annotations

import http.client
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import orjson

from bundleserver.commands.console import format_metrics, one_line, say, say_table
from bundleserver.documents.bearer import MOST_BYTES, token_in
from bundleserver.errors import SourceError, StoreError
from bundleserver.frameworks.regular_files import open_regular

_TIMEOUT_SECONDS = 10.0
"""How long a server may say nothing."""
_ANSWER_SECONDS = 30.0
"""How long one answer may take as a whole."""
_ALL_SECONDS = 300.0
_MOST_BYTES = 8 << 20
_NOT_A_LIST = "its answer is no list of versions"
_ODD = "has answers that are not those of a bundleserver"
_VERSION_HEADINGS = ("version", "state", "answers", "trained", "metrics", "digest", "reason")
_HEADINGS = (
    "shadow",
    "compared with",
    "output",
    "values",
    "agreement",
    "mean difference",
    "max difference",
    "latency ratio",
    "copies",
)


def read_token(path: Path) -> bytes:
    """Return the administrator's token in a file, as a server reads it.

    Raises:
        StoreError: it cannot be read, or has no token.
    """
    try:
        with open_regular(path) as file:
            return token_in(file.read(MOST_BYTES + 1))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"--admin_token_file {path}: {reason}; expected a token") from error


def ask_server(url: str, token: bytes | None = None) -> tuple[list[dict[str, object]], str]:
    """Return the metadata of each model of a server; the reason instead if it is not ready.

    Args:
        url: where the server is.
        token: the administrator's; it is sent with the request for the index alone.

    Returns:
        The models, and why the index, which has the states of versions, was refused, if it was.

    Raises:
        SourceError: the server does not respond, is not a model server, or refuses the token.
    """
    if not url.startswith(("http://", "https://")):
        raise SourceError(f"'{url}' is not a valid server URL; expected http://host:port")
    base, end = url.rstrip("/") + "/v2/models", time.monotonic() + _ALL_SECONDS
    models = _get(base, end).get("models")
    if not isinstance(models, list):
        raise SourceError(f"'{base}' did not list models; is it a bundleserver?")
    answer = _ask(url.rstrip("/") + "/v2/repository/index", end, b"{}", token)
    refusal = "" if isinstance(answer, list) else _mapping(answer).get("error", _NOT_A_LIST)
    if refusal and token is not None:
        raise SourceError(f"'{url}' does not show its index of versions: {refusal}")
    index = _mappings(answer)
    return [_ask_model(base, str(name), index, end) for name in models], str(refusal)


def print_server(models: list[dict[str, object]], refusal: str = "") -> None:
    """Show each model's versions, split, canary and comparisons, or why there are no versions.

    Raises:
        SourceError: what was answered is not what a bundleserver answers.
    """
    try:
        _print(models)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise SourceError(f"the server {_ODD}: {error!r}") from error
    if refusal:
        say(f"the server does not show the states of its versions: {one_line(refusal)}")
        say("to see them add --admin_token_file FILE, with the token of its administrators")


def _print(models: list[dict[str, object]]) -> None:
    if not models:
        say("the server has no models")
    for model in models:
        traffic = _mapping(model.get("traffic"))
        rows = [_version_row(model, version) for version in _mappings(model.get("states"))]
        if rows:
            say_table(f"{model['name']}: {_summary(model)}", _VERSION_HEADINGS, rows)
        else:
            say(f"{model['name']}: {_summary(model)}")
        in_table = {row[0] for row in rows}
        canary = _mapping(traffic.get("canary"))
        for line in (*_split_lines(traffic, in_table), *_canary_lines(canary)):
            say(f"  {line}")
        pairs = _mappings(traffic.get("shadow"))
        if pairs:
            say_table("shadows", _HEADINGS, [row for pair in pairs for row in _rows(pair)])
            for pair in pairs:
                if pair.get("problem"):
                    say(f"shadow {pair['version']}: {one_line(pair['problem'])}")
        say("")


def _ask_model(
    base: str, name: str, index: Iterable[Mapping[str, object]], end: float
) -> dict[str, object]:
    address = f"{base}/{quote(name, safe='')}"
    states = []
    for entry in index:
        if entry.get("name") == name and "version" in entry:
            label = str(entry["version"])
            about = _get(f"{address}/versions/{quote(label, safe='')}", end)
            known = {"metadata": about["metadata"]} if "metadata" in about else {}
            states.append({"version": label, "reason": str(entry.get("reason", "")), **known})
    return {**_get(address, end), "name": name, "states": states}


def _get(address: str, end: float) -> Mapping[str, object]:
    return _mapping(_ask(address, end))


def _ask(address: str, end: float, body: bytes | None = None, token: bytes | None = None) -> object:
    """Return the document that a server answers, in bounded time whatever it sends."""
    answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_answer(address, body, token))
        except Exception as error:  # noqa: BLE001  # handed to the thread that waits
            answers.put(error)

    # A thread, as only that ends a wait for a head that trickles, or for a name server.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, min(_ANSWER_SECONDS, end - time.monotonic())))
    except queue.Empty:
        raise SourceError(
            f"'{address}' has not answered completely within {_ANSWER_SECONDS:g} s, or the server "
            f"as a whole within {_ALL_SECONDS:g} s"
        ) from None
    if isinstance(answer, (OSError, ValueError, http.client.HTTPException)):
        # Why there is no connection; of an answer that is not HTTP, what it is instead.
        reason = getattr(answer, "reason", None) or str(answer) or type(answer).__name__
        how = " as a server" if isinstance(answer, http.client.HTTPException) else ""
        raise SourceError(f"'{address}' does not respond{how}: {reason}") from answer
    if isinstance(answer, Exception):
        raise answer
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise SourceError(f"'{address}' did not return JSON; is it a bundleserver?") from error


def _answer(address: str, body: bytes | None, token: bytes | None) -> bytes:
    # The scheme is http or https: ask_server has checked it.
    request = urllib.request.Request(address, body)  # noqa: S310
    if token is not None:
        # Not to where a server may redirect to. Headers are written in Latin-1: these bytes.
        request.add_unredirected_header("Authorization", f"Bearer {token.decode('latin-1')}")
    try:
        answer = urllib.request.urlopen(request, None, _TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        read: bytes = answer.read(_MOST_BYTES + 1)
        if len(read) > _MOST_BYTES:
            raise SourceError(f"'{address}' {_ODD}: one has more than {_MOST_BYTES} bytes")
        # What is missing of the announced length; an error has its answer inside.
        missing = getattr(answer, "length", None) or getattr(answer.fp, "length", None)
    if missing:
        raise SourceError(f"'{address}' ended its answer {missing} bytes before the announced end")
    return read


def _summary(model: Mapping[str, object]) -> str:
    if "error" in model:
        return str(model["error"])
    labels = _mapping(model.get("labels"))
    named = "".join(f", {label} → {version}" for label, version in labels.items())
    return f"default {model.get('default_version')}{named}"


def _version_row(model: Mapping[str, object], version: Mapping[str, object]) -> tuple[str, ...]:
    label, reason = str(version["version"]), str(version["reason"])
    state = reason.split(":", 1)[0].split(";", 1)[0].split(" ", 1)[0]
    metadata = _mapping(version.get("metadata"))
    return (
        label,
        state,
        _answers(model, label),
        str(metadata.get("trained_at") or ""),
        format_metrics(metadata.get("metrics")),
        str(metadata.get("digest") or "")[:12],
        "" if reason == state else reason,
    )


def _answers(model: Mapping[str, object], label: str) -> str:
    """Return this version's share of the requests that name no version."""
    labels = _mapping(model.get("labels"))
    shares = _mapping(_mapping(model.get("traffic")).get("shares"))
    if not shares:
        return "by default" if label == model.get("default_version") else ""
    own = [share for name, share in shares.items() if label in (name, labels.get(name))]
    return _number(sum(float(str(share)) for share in own), ".1%") if own else ""


def _split_lines(traffic: Mapping[str, object], in_table: Collection[str]) -> Iterator[str]:
    """Yield what the table lacks: shares of labels, and diverted requests."""
    for name, share in _mapping(traffic.get("shares")).items():
        diverted = _mapping(traffic.get("diverted")).get(name)
        if name in in_table and not diverted:
            continue
        note = f"; {diverted} requests went to the default instead" if diverted else ""
        yield f"{_number(share, '.1%')} to {name}{note}"


def _canary_lines(canary: Mapping[str, object]) -> Iterator[str]:
    if canary:
        yield (
            f"canary {canary.get('version')} {canary.get('state')} at "
            f"{_number(canary.get('percent'), 'g')} %: {one_line(canary.get('reason'))}"
        )


def _rows(pair: Mapping[str, object]) -> Iterator[tuple[str, ...]]:
    copies = ", ".join(f"{count} {how}" for how, count in _mapping(pair["copies"]).items() if count)
    ends = (_number(pair.get("latency_ratio"), ".2f"), copies)
    who = (str(pair["version"]), str(pair["compared_with"]))
    outputs = _mapping(pair.get("outputs"))
    if not outputs:
        yield (*who, "", "", "", "", "", *ends)
    for name, found in outputs.items():
        one = _mapping(found)
        yield (
            *who,
            name,
            _number(one.get("values"), "d"),
            _number(one.get("agreement"), ".1%"),
            _number(one.get("mean_absolute_difference"), ".4g"),
            _number(one.get("max_absolute_difference"), ".4g"),
            *ends,
        )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[Mapping[str, object]]:
    return [_mapping(item) for item in value] if isinstance(value, list) else []


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, (int, float)) else ""
