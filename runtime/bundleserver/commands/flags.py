"""The flags of ``serve``: spelled as KServe spells them, parsed into ``Settings``."""

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
    """Parse the flags of ``serve``; of a repeated flag the last one counts.

    ``--help`` prints the help and exits with 0.

    Raises:
        ConfigError: a flag is unknown (names the nearest), or a value is invalid.
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
    """Return the flags that are set but have no effect."""
    return tuple(
        FLAGS[field.name].spelling
        for field in fields(settings)
        if FLAGS[field.name].group == _IGNORED and getattr(settings, field.name) != field.default
    )


@dataclass(frozen=True)
class Flag:
    """One setting's flag, help text and parser."""

    spelling: str
    group: str
    text: str
    parse: Callable[[str], object] = str


_MODELS = "models and versions"
_ADDRESSES = "addresses"
_LIMITS = "limits and timeouts"
_LOGS = "logging"
_IGNORED = "accepted for compatibility with KServe, without effect"
_protocol = one_of("v1", "v2", "grpc-v2")

_ALL = (
    Flag(
        "--model_name",
        _MODELS,
        "model name; without it, subdirectories of --model_dir that are models are served under "
        "their own names, and a single bundle under the name in its manifest",
    ),
    Flag("--model_dir", _MODELS, "directory of a model, its versions, or several models", Path),
    Flag(
        "--model_uri",
        _MODELS,
        "model in an MLflow registry, polled while it is served: models:/NAME@ALIAS, "
        "models:/NAME/3, models:/NAME/latest, models:/NAME; default: $MODEL_URI",
    ),
    Flag(
        "--labels",
        _MODELS,
        "more aliases of --model_uri to load side by side, such as champion,challenger",
        parse_labels,
    ),
    Flag("--cache_dir", _MODELS, "cache of registry versions, shared by replicas", Path),
    Flag(
        "--cache_versions",
        _MODELS,
        "number of cached versions to keep in addition to those in use",
        parse_int,
    ),
    Flag("--cache_max_bytes", _MODELS, "maximum size of all cached versions", parse_bytes),
    Flag(
        "--version_policy",
        _MODELS,
        "versions to serve: latest, latest:N, all, specific:v1,v3; serving.json overrides it",
        parse_policy,
    ),
    Flag("--poll_interval_seconds", _MODELS, "seconds between polls of the models", parse_float),
    Flag(
        "--version_mismatch",
        _MODELS,
        "warn, or refuse to load, if installed libraries differ from those in the manifest",
        one_of("warn", "refuse"),
    ),
    Flag(
        "--swap_policy",
        _MODELS,
        "availability loads the new version before it unloads the old one; resource unloads the "
        "old one first, if memory is too small for both",
        parse_swap_policy,
    ),
    Flag(
        "--load_threads",
        _MODELS,
        "number of versions that are loaded at the same time; requests and unloads do not wait",
        parse_int,
    ),
    Flag(
        "--strict_readiness",
        _MODELS,
        "with several models, report ready only when all of them are ready",
        parse_bool,
    ),
    Flag("--device", _MODELS, "device for torch models: cpu, cuda, cuda:1, auto"),
    Flag(
        "--traffic",
        _MODELS,
        "traffic split of requests that name no version, such as stable=90,canary=10; applies "
        "unless serving.json has default, traffic or canary",
        parse_traffic,
    ),
    Flag(
        "--routing_header",
        _MODELS,
        "HTTP header and gRPC metadata key with the routing key of a sticky traffic split",
    ),
    Flag("--http_port", _ADDRESSES, "REST port; 0 selects a free port", parse_int),
    Flag("--grpc_port", _ADDRESSES, "gRPC port; 0 selects a free port", parse_int),
    Flag("--enable_grpc", _ADDRESSES, "serve gRPC", parse_bool),
    Flag("--enable_docs_url", _ADDRESSES, "serve the Swagger UI at /docs", parse_bool),
    Flag("--ssl_certfile", _ADDRESSES, "certificate for HTTPS; default: $KSERVE_TLS_CERT_FILE"),
    Flag("--ssl_keyfile", _ADDRESSES, "its private key; default: $KSERVE_TLS_KEY_FILE"),
    Flag(
        "--workers",
        _LIMITS,
        "number of worker processes on the same ports; each loads the models itself",
        parse_int,
    ),
    Flag(
        "--max_asyncio_workers",
        _LIMITS,
        "size of the thread pool for predictions in each process; default: the number of its CPUs",
        parse_int,
    ),
    Flag("--max_queue", _LIMITS, "maximum number of waiting requests; more get 503", parse_int),
    Flag(
        "--max_batch_rows",
        _LIMITS,
        "maximum rows per batch, for models that can be batched; 0 disables batching",
        parse_int,
    ),
    Flag("--max_request_bytes", _LIMITS, "maximum size of a REST body, such as 64MiB", parse_bytes),
    Flag("--grpc_max_send_message_length", _LIMITS, "maximum gRPC response size", parse_bytes),
    Flag("--grpc_max_receive_message_length", _LIMITS, "maximum gRPC request size", parse_bytes),
    Flag(
        "--event-loop",
        _LIMITS,
        "auto, asyncio or uvloop; auto is uvloop if it is installed",
        one_of("auto", "asyncio", "uvloop"),
    ),
    Flag(
        "--timeout-keep-alive",
        _LIMITS,
        "seconds before an idle connection is closed; keep it above the proxy's timeout",
        parse_int,
    ),
    Flag(
        "--timeout_receive",
        _LIMITS,
        "timeout in seconds for receiving a request; 0 disables it",
        parse_float,
    ),
    Flag(
        "--grace_period_seconds",
        _LIMITS,
        "seconds that in-flight requests may take after SIGTERM; keep it below "
        "terminationGracePeriodSeconds",
        parse_float,
    ),
    Flag(
        "--log_level",
        _LOGS,
        "debug, info, warning or error",
        one_of("debug", "info", "warning", "error"),
    ),
    Flag("--configure_logging", _LOGS, "set up KServe's and uvicorn's logging", parse_bool),
    Flag("--log_config_file", _LOGS, "logging configuration file, YAML or JSON"),
    Flag("--access_log", _LOGS, "log each request", parse_bool),
    Flag("--access_log_format", _LOGS, "format of the access log"),
    Flag("--max_threads", _IGNORED, "gRPC uses the thread pool for predictions", parse_int),
    Flag("--enable_latency_logging", _IGNORED, "latencies are metrics", parse_bool),
    Flag("--predictor_host", _IGNORED, "predictor of a transformer"),
    Flag("--protocol", _IGNORED, "older name of --predictor_protocol", _protocol),
    Flag("--predictor_protocol", _IGNORED, "protocol of the predictor", _protocol),
    Flag("--predictor_use_ssl", _IGNORED, "TLS for the predictor", parse_bool),
    Flag("--predictor_request_timeout_seconds", _IGNORED, "timeout of the predictor", parse_int),
    Flag("--predictor_request_retries", _IGNORED, "retries of the predictor", parse_int),
    Flag("--enable_predictor_health_check", _IGNORED, "health check of the predictor", parse_bool),
)

FLAGS: Mapping[str, Flag] = MappingProxyType(
    {flag.spelling.removeprefix("--").replace("-", "_"): flag for flag in _ALL}
)
"""Every flag by its setting's name."""

_VARIABLES = MappingProxyType(
    {
        "ssl_certfile": "KSERVE_TLS_CERT_FILE",
        "ssl_keyfile": "KSERVE_TLS_KEY_FILE",
        "model_uri": "MODEL_URI",
    }
)


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises our error instead of exiting."""

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
        # KServe's switches have a value; without one a switch is on.
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
    """Describe every unknown flag; values after one belong to it."""
    known = [flag.spelling for flag in FLAGS.values()]
    found: list[Problem] = []
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("-"):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see serve --help"
            found.append(Problem("", f"unknown flag {name}; {hint}"))
        elif not found:
            found.append(Problem("", f"unexpected argument '{argument}'; expected only flags"))
    return found
