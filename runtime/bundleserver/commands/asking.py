"""``inspect --url``: a running server's versions, traffic splits, canaries and shadows."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import quote

import orjson

from bundleserver.commands.console import format_metrics, one_line, say, say_table
from bundleserver.errors import SourceError

_TIMEOUT_SECONDS = 10.0
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


def ask_server(url: str) -> list[dict[str, object]]:
    """Return the metadata of each model of a server; the reason instead if it is not ready.

    Raises:
        SourceError: the server does not respond, or is not a model server.
    """
    if not url.startswith(("http://", "https://")):
        raise SourceError(f"'{url}' is not a valid server URL; expected http://host:port")
    base = url.rstrip("/") + "/v2/models"
    models = _get(base).get("models")
    if not isinstance(models, list):
        raise SourceError(f"'{base}' did not list models; is it a bundleserver?")
    index = _mappings(_ask(url.rstrip("/") + "/v2/repository/index", b"{}"))
    return [_ask_model(base, str(name), index) for name in models]


def print_server(models: list[dict[str, object]]) -> None:
    """Show each model's versions, split, canary and comparisons."""
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


def _ask_model(base: str, name: str, index: Iterable[Mapping[str, object]]) -> dict[str, object]:
    address = f"{base}/{quote(name, safe='')}"
    states = []
    for entry in index:
        if entry.get("name") == name and "version" in entry:
            label = str(entry["version"])
            about = _get(f"{address}/versions/{quote(label, safe='')}")
            known = {"metadata": about["metadata"]} if "metadata" in about else {}
            states.append({"version": label, "reason": str(entry.get("reason", "")), **known})
    return {"name": name, **_get(address), "states": states}


def _get(address: str) -> Mapping[str, object]:
    return _mapping(_ask(address))


def _ask(address: str, body: bytes | None = None) -> object:
    try:
        # The scheme is http or https: ask_server has checked it.
        with urllib.request.urlopen(address, body, _TIMEOUT_SECONDS) as answer:  # noqa: S310
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SourceError(f"'{address}' does not respond: {reason}") from error
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SourceError(f"'{address}' did not return JSON; is it a bundleserver?") from error


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
