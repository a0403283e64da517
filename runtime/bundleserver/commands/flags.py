"""The flags of ``serve``: spelled as KServe spells them, read into ``Settings``."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from bundleserver.errors import ConfigError, Problem
from bundleserver.lifecycle import SwapPolicy
from bundleserver.settings import Settings
from bundleserver.versions import VersionPolicy


def read_settings(
    arguments: Sequence[str], environ: Mapping[str, str] = MappingProxyType(os.environ)
) -> Settings:
    """Read the flags of ``serve``; the last one wins where one is repeated.

    ``--help`` prints the help and leaves the process with 0.

    Raises:
        ConfigError: a flag is unknown (names the nearest), or a value cannot be used.
    """
    values, unknown = _parser().parse_known_args(list(arguments))
    if problems := _unknown_flags(unknown):
        raise ConfigError("serve", problems)
    from_environment = {
        name: environ[variable] for name, variable in _VARIABLES.items() if environ.get(variable)
    }
    try:
        return Settings(**{**from_environment, **vars(values)})
    except ConfigError as error:
        flags = [Problem(FLAGS[problem.where].spelling, problem.what) for problem in error.problems]
        raise ConfigError("serve", flags) from error


def ignored_flags(settings: Settings) -> tuple[str, ...]:
    """Return the flags that were given a value, and have no effect."""
    return tuple(
        FLAGS[field.name].spelling
        for field in fields(settings)
        if FLAGS[field.name].group == _IGNORED and getattr(settings, field.name) != field.default
    )


def parse_bool(text: str) -> bool:
    """Read a truth value; the words are KServe's.

    Raises:
        argparse.ArgumentTypeError: the text is none of them.
    """
    word = text.lower()
    if word in ("y", "yes", "t", "true", "on", "1"):
        return True
    if word in ("n", "no", "f", "false", "off", "0"):
        return False
    raise argparse.ArgumentTypeError(f"is '{text}'; expected true or false")


def parse_bytes(text: str) -> int:
    """Read a number of bytes: ``1048576``, ``64MiB``, ``64Mi``, ``1GB``.

    Raises:
        argparse.ArgumentTypeError: the text is no such number.
    """
    plain = text.strip().lower().removesuffix("b")
    digits = plain.rstrip("kmgi ")
    scale = _SCALES.get(plain[len(digits) :].strip())
    if scale is None or not (digits.isascii() and digits.isdecimal()):
        raise argparse.ArgumentTypeError(f"is '{text}'; expected bytes, as in 1048576 or 64MiB")
    return int(digits) * scale


_SCALES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"is '{text}'; expected a whole number") from None


def _parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"is '{text}'; expected a number") from None


def _parse_policy(text: str) -> VersionPolicy:
    try:
        return VersionPolicy.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@dataclass(frozen=True)
class Flag:
    """How one setting is spelled, explained and read."""

    spelling: str
    group: str
    text: str
    parse: Callable[[str], object] = str


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text in words:
            return text
        near = difflib.get_close_matches(text, words, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise argparse.ArgumentTypeError(f"is '{text}'; expected {' or '.join(words)}{hint}")

    return parse


def _parse_swap_policy(text: str) -> SwapPolicy:
    return SwapPolicy(_one_of(*(policy.value for policy in SwapPolicy))(text))


_MODELS = "models and versions"
_ADDRESSES = "addresses"
_LIMITS = "limits and patience"
_LOGS = "logs"
_IGNORED = "accepted because KServe has them, without effect here"
_protocol = _one_of("v1", "v2", "grpc-v2")

_ALL = (
    Flag(
        "--model_name",
        _MODELS,
        "the name to serve under; without it, sub-directories of --model_dir that are models are "
        "served under their own names, and a single bundle under its manifest's",
    ),
    Flag("--model_dir", _MODELS, "where the model, its versions or several models lie", Path),
    Flag(
        "--version_policy",
        _MODELS,
        "which versions to serve: latest, latest:N, all, specific:v1,v3; serving.json overrides it",
        _parse_policy,
    ),
    Flag("--poll_interval_seconds", _MODELS, "time between two looks at --model_dir", _parse_float),
    Flag(
        "--version_mismatch",
        _MODELS,
        "warn or refuse, when installed libraries differ from those a bundle was saved with",
        _one_of("warn", "refuse"),
    ),
    Flag(
        "--swap_policy",
        _MODELS,
        "availability loads a new version before the old one goes; resource lets the old one go "
        "first, for machines that hold only one",
        _parse_swap_policy,
    ),
    Flag(
        "--strict_readiness",
        _MODELS,
        "with several models, be ready only when all of them are",
        parse_bool,
    ),
    Flag("--device", _MODELS, "where torch models run: cpu, cuda, cuda:1, auto"),
    Flag("--http_port", _ADDRESSES, "the port of REST; 0 takes a free one", _parse_int),
    Flag("--grpc_port", _ADDRESSES, "the port of gRPC; 0 takes a free one", _parse_int),
    Flag("--enable_grpc", _ADDRESSES, "serve gRPC", parse_bool),
    Flag("--enable_docs_url", _ADDRESSES, "serve Swagger's page at /docs", parse_bool),
    Flag("--ssl_certfile", _ADDRESSES, "the certificate for HTTPS, else $KSERVE_TLS_CERT_FILE"),
    Flag("--ssl_keyfile", _ADDRESSES, "its private key, else $KSERVE_TLS_KEY_FILE"),
    Flag(
        "--max_asyncio_workers",
        _LIMITS,
        "the number of threads that predict; as many as CPUs if not given",
        _parse_int,
    ),
    Flag("--max_queue", _LIMITS, "how many requests may wait before 503", _parse_int),
    Flag("--max_request_bytes", _LIMITS, "the largest REST body, as in 64MiB", parse_bytes),
    Flag("--grpc_max_send_message_length", _LIMITS, "the largest gRPC answer", parse_bytes),
    Flag("--grpc_max_receive_message_length", _LIMITS, "the largest gRPC request", parse_bytes),
    Flag(
        "--timeout-keep-alive",
        _LIMITS,
        "seconds an idle connection is kept; longer than the proxy keeps it",
        _parse_int,
    ),
    Flag(
        "--grace_period_seconds",
        _LIMITS,
        "what requests in flight get after SIGTERM; less than the pod's",
        _parse_float,
    ),
    Flag(
        "--log_level",
        _LOGS,
        "debug, info, warning or error",
        _one_of("debug", "info", "warning", "error"),
    ),
    Flag("--configure_logging", _LOGS, "set up KServe's and uvicorn's logging", parse_bool),
    Flag("--log_config_file", _LOGS, "a logging configuration, YAML or JSON"),
    Flag("--access_log", _LOGS, "log each request", parse_bool),
    Flag("--access_log_format", _LOGS, "the format of the access log"),
    Flag("--workers", _IGNORED, "one process serves, with threads", _parse_int),
    Flag("--max_threads", _IGNORED, "gRPC shares the threads that predict", _parse_int),
    Flag("--event-loop", _IGNORED, "the event loop", _one_of("auto", "asyncio", "uvloop")),
    Flag("--enable_latency_logging", _IGNORED, "metrics have the latencies", parse_bool),
    Flag("--predictor_host", _IGNORED, "the predictor of a transformer"),
    Flag("--protocol", _IGNORED, "the old --predictor_protocol", _protocol),
    Flag("--predictor_protocol", _IGNORED, "how to call it", _protocol),
    Flag("--predictor_use_ssl", _IGNORED, "call it over TLS", parse_bool),
    Flag("--predictor_request_timeout_seconds", _IGNORED, "its timeout", _parse_int),
    Flag("--predictor_request_retries", _IGNORED, "its retries", _parse_int),
    Flag("--enable_predictor_health_check", _IGNORED, "ask for its health", parse_bool),
)

FLAGS: Mapping[str, Flag] = MappingProxyType(
    {flag.spelling.removeprefix("--").replace("-", "_"): flag for flag in _ALL}
)
"""Every flag by the name of its setting."""

_VARIABLES = MappingProxyType(
    {"ssl_certfile": "KSERVE_TLS_CERT_FILE", "ssl_keyfile": "KSERVE_TLS_KEY_FILE"}
)


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises our error instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        where, _, what = message.removeprefix("argument ").partition(": ")
        raise ConfigError("serve", [Problem(where, what) if what else Problem("", message)])


def _parser() -> _Parser:
    parser = _Parser(
        prog="bundleserver serve",
        usage="%(prog)s [--flag value | --flag=value] ...",
        description="Serve the models of a directory over the V1, V2 and gRPC protocols.",
        epilog="example: bundleserver serve --model_name fraud --model_dir /mnt/models "
        "--version_policy latest:2",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    defaults = {field.name: field.default for field in fields(Settings)}
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, flag in FLAGS.items():
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group)
        _add_flag(groups[flag.group], name, flag, defaults[name])
    return parser


def _add_flag(group: argparse._ArgumentGroup, name: str, flag: Flag, default: object) -> None:
    plain = default.value if isinstance(default, SwapPolicy) else default
    shown = "" if plain is None else f" (default: {str(plain).lower()})"
    text = (flag.text + shown).replace("%", "%%")
    if flag.parse is parse_bool:
        # KServe's switches take a value; one without is on, as people write it.
        group.add_argument(
            flag.spelling,
            dest=name,
            type=flag.parse,
            nargs="?",
            const=True,
            metavar="true|false",
            help=text,
        )
    else:
        group.add_argument(flag.spelling, dest=name, type=flag.parse, metavar="VALUE", help=text)


def _unknown_flags(arguments: Sequence[str]) -> list[Problem]:
    """Describe every unknown flag; the values that follow one belong to it."""
    known = [flag.spelling for flag in FLAGS.values()]
    found: list[Problem] = []
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("-"):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; serve --help lists all flags"
            found.append(Problem(name, f"is no known flag{hint}"))
        elif not found:
            found.append(Problem(argument, "has no flag before it; serve takes only flags"))
    return found
