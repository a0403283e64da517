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

from bundleserver.commands.flag_values import (
    one_of,
    parse_bool,
    parse_bytes,
    parse_float,
    parse_int,
    parse_labels,
    parse_policy,
    parse_swap_policy,
    parse_traffic,
)
from bundleserver.errors import ConfigError, Problem
from bundleserver.settings import Settings
from bundleserver.versions.lifecycle import SwapPolicy


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


@dataclass(frozen=True)
class Flag:
    """How one setting is spelled, explained and read."""

    spelling: str
    group: str
    text: str
    parse: Callable[[str], object] = str


_MODELS = "models and versions"
_ADDRESSES = "addresses"
_LIMITS = "limits and patience"
_LOGS = "logs"
_IGNORED = "accepted because KServe has them, without effect here"
_protocol = one_of("v1", "v2", "grpc-v2")

_ALL = (
    Flag(
        "--model_name",
        _MODELS,
        "the name to serve under; without it, sub-directories of --model_dir that are models are "
        "served under their own names, and a single bundle under its manifest's",
    ),
    Flag("--model_dir", _MODELS, "where the model, its versions or several models lie", Path),
    Flag(
        "--model_uri",
        _MODELS,
        "a model of an MLflow registry, followed while it is served: models:/NAME@ALIAS, "
        "models:/NAME/3, models:/NAME/latest, models:/NAME; else $MODEL_URI",
    ),
    Flag(
        "--labels",
        _MODELS,
        "further aliases of that model to load side by side, as in champion,challenger",
        parse_labels,
    ),
    Flag(
        "--cache_dir",
        _MODELS,
        "where versions from a registry are kept, shared by replicas; the directory for temporary "
        "files if not given",
        Path,
    ),
    Flag(
        "--cache_versions",
        _MODELS,
        "how many cached versions to keep besides those in use",
        parse_int,
    ),
    Flag("--cache_max_bytes", _MODELS, "the most that cached versions may take", parse_bytes),
    Flag(
        "--version_policy",
        _MODELS,
        "which versions to serve: latest, latest:N, all, specific:v1,v3; serving.json overrides it",
        parse_policy,
    ),
    Flag("--poll_interval_seconds", _MODELS, "time between two looks at --model_dir", parse_float),
    Flag(
        "--version_mismatch",
        _MODELS,
        "warn or refuse, when installed libraries differ from those a bundle was saved with",
        one_of("warn", "refuse"),
    ),
    Flag(
        "--swap_policy",
        _MODELS,
        "availability loads a new version before the old one goes; resource lets the old one go "
        "first, for machines that hold only one",
        parse_swap_policy,
    ),
    Flag(
        "--load_threads",
        _MODELS,
        "how many versions are loaded at a time; requests, roll-backs and unloads wait for none",
        parse_int,
    ),
    Flag(
        "--strict_readiness",
        _MODELS,
        "with several models, be ready only when all of them are",
        parse_bool,
    ),
    Flag("--device", _MODELS, "where torch models run: cpu, cuda, cuda:1, auto"),
    Flag(
        "--traffic",
        _MODELS,
        "how requests that name no version are split, as in stable=90,canary=10; holds while "
        "serving.json names no default, traffic or canary",
        parse_traffic,
    ),
    Flag(
        "--routing_header",
        _MODELS,
        "the header, and gRPC metadata, whose value keeps a caller with one version of a split",
    ),
    Flag("--http_port", _ADDRESSES, "the port of REST; 0 takes a free one", parse_int),
    Flag("--grpc_port", _ADDRESSES, "the port of gRPC; 0 takes a free one", parse_int),
    Flag("--enable_grpc", _ADDRESSES, "serve gRPC", parse_bool),
    Flag("--enable_docs_url", _ADDRESSES, "serve Swagger's page at /docs", parse_bool),
    Flag("--ssl_certfile", _ADDRESSES, "the certificate for HTTPS, else $KSERVE_TLS_CERT_FILE"),
    Flag("--ssl_keyfile", _ADDRESSES, "its private key, else $KSERVE_TLS_KEY_FILE"),
    Flag(
        "--workers",
        _LIMITS,
        "the number of processes that serve, on the same ports; each has the models of its own",
        parse_int,
    ),
    Flag(
        "--max_asyncio_workers",
        _LIMITS,
        "the number of threads that predict in each worker; as many as its CPUs if not given",
        parse_int,
    ),
    Flag("--max_queue", _LIMITS, "how many requests may wait before 503", parse_int),
    Flag(
        "--max_batch_rows",
        _LIMITS,
        "how many rows of waiting requests one call answers, where that changes no answer; 0 joins "
        "none",
        parse_int,
    ),
    Flag("--max_request_bytes", _LIMITS, "the largest REST body, as in 64MiB", parse_bytes),
    Flag("--grpc_max_send_message_length", _LIMITS, "the largest gRPC answer", parse_bytes),
    Flag("--grpc_max_receive_message_length", _LIMITS, "the largest gRPC request", parse_bytes),
    Flag(
        "--event-loop",
        _LIMITS,
        "auto, asyncio or uvloop; auto is uvloop where it is installed",
        one_of("auto", "asyncio", "uvloop"),
    ),
    Flag(
        "--timeout-keep-alive",
        _LIMITS,
        "seconds an idle connection is kept; longer than the proxy keeps it",
        parse_int,
    ),
    Flag("--timeout_receive", _LIMITS, "seconds a request may take to arrive; 0: any", parse_float),
    Flag(
        "--grace_period_seconds",
        _LIMITS,
        "what requests in flight get after SIGTERM; less than the pod's",
        parse_float,
    ),
    Flag(
        "--log_level",
        _LOGS,
        "debug, info, warning or error",
        one_of("debug", "info", "warning", "error"),
    ),
    Flag("--configure_logging", _LOGS, "set up KServe's and uvicorn's logging", parse_bool),
    Flag("--log_config_file", _LOGS, "a logging configuration, YAML or JSON"),
    Flag("--access_log", _LOGS, "log each request", parse_bool),
    Flag("--access_log_format", _LOGS, "the format of the access log"),
    Flag("--max_threads", _IGNORED, "gRPC shares the threads that predict", parse_int),
    Flag("--enable_latency_logging", _IGNORED, "metrics have the latencies", parse_bool),
    Flag("--predictor_host", _IGNORED, "the predictor of a transformer"),
    Flag("--protocol", _IGNORED, "the old --predictor_protocol", _protocol),
    Flag("--predictor_protocol", _IGNORED, "how to call it", _protocol),
    Flag("--predictor_use_ssl", _IGNORED, "call it over TLS", parse_bool),
    Flag("--predictor_request_timeout_seconds", _IGNORED, "its timeout", parse_int),
    Flag("--predictor_request_retries", _IGNORED, "its retries", parse_int),
    Flag("--enable_predictor_health_check", _IGNORED, "ask for its health", parse_bool),
)

FLAGS: Mapping[str, Flag] = MappingProxyType(
    {flag.spelling.removeprefix("--").replace("-", "_"): flag for flag in _ALL}
)
"""Every flag by the name of its setting."""

_VARIABLES = MappingProxyType(
    {
        "ssl_certfile": "KSERVE_TLS_CERT_FILE",
        "ssl_keyfile": "KSERVE_TLS_KEY_FILE",
        "model_uri": "MODEL_URI",
    }
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
    shown = "" if plain is None or plain == () else f" (default: {str(plain).lower()})"
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
            hint = f"did you mean {near[0]}?" if near else "serve --help lists all of them"
            found.append(Problem("", f"there is no flag {name}; {hint}"))
        elif not found:
            found.append(Problem("", f"'{argument}' follows no flag; serve takes only flags"))
    return found
