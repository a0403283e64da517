"""``inspect --url``: how a running server splits, copies and rolls out its traffic."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import orjson

from bundleserver.commands.console import one_line, say, say_table
from bundleserver.errors import SourceError

_PATIENCE_SECONDS = 10.0
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
    """Return what a server says of each of its models, one that does not answer with its reason.

    Raises:
        SourceError: nobody answers there, or not as a server of models does.
    """
    if not url.startswith(("http://", "https://")):
        raise SourceError(f"'{url}' is no address of a server; expected http://host:port")
    base = url.rstrip("/") + "/v2/models"
    models = _get(base).get("models")
    if not isinstance(models, list):
        raise SourceError(f"'{base}' lists no models; is it a bundleserver?")
    return [{"name": name, **_get(f"{base}/{quote(str(name), safe='')}")} for name in models]


def print_server(models: list[dict[str, object]]) -> None:
    """Show each model's split, canary and comparisons."""
    if not models:
        say("the server has no models")
    for model in models:
        say(f"{model['name']}: {_summary(model)}")
        traffic = _mapping(model.get("traffic"))
        for line in (*_split_lines(traffic), *_canary_lines(_mapping(traffic.get("canary")))):
            say(f"  {line}")
        shadows = traffic.get("shadow")
        pairs = [_mapping(pair) for pair in shadows] if isinstance(shadows, list) else []
        if pairs:
            say_table("shadows", _HEADINGS, [row for pair in pairs for row in _rows(pair)])
            for pair in pairs:
                if pair.get("problem"):
                    say(f"shadow {pair['version']}: {one_line(pair['problem'])}")
        say("")


def _get(address: str) -> dict[str, object]:
    try:
        # The scheme is http or https: ask_server has looked.
        with urllib.request.urlopen(address, timeout=_PATIENCE_SECONDS) as answer:  # noqa: S310
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SourceError(f"'{address}' does not answer: {reason}") from error
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SourceError(f"'{address}' answers no JSON; is it a bundleserver?") from error
    return document if isinstance(document, dict) else {}


def _summary(model: Mapping[str, object]) -> str:
    if "error" in model:
        return str(model["error"])
    versions = model.get("versions")
    ready = ", ".join(map(str, versions)) if isinstance(versions, list) else ""
    return f"default {model.get('default_version')}, ready {ready or 'none'}"


def _split_lines(traffic: Mapping[str, object]) -> Iterator[str]:
    for name, share in _mapping(traffic.get("shares")).items():
        diverted = _mapping(traffic.get("diverted")).get(name)
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


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, (int, float)) else ""
