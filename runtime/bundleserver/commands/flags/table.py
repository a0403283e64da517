"""The table of ``serve``'s flags: their spelling, help and parsers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bundleserver.bundle.trust import SignaturePolicy
from bundleserver.commands.flags.flag import Flag
from bundleserver.commands.flags.limits import LIMITS
from bundleserver.commands.flags.observing import LOGGING, PAGES, PAYLOAD_LOG
from bundleserver.commands.flags.values import (
    enumerated,
    one_of,
    parse_bool,
    parse_bytes,
    parse_device,
    parse_file,
    parse_float,
    parse_int,
    parse_labels,
    parse_policy,
    parse_traffic,
)
from bundleserver.frameworks.trust import PicklePolicy
from bundleserver.versions.lifecycle import SwapPolicy

IGNORED = "accepted for compatibility with KServe, without effect"
_protocol = one_of("v1", "v2", "grpc-v2")

GROUPS: Mapping[str, tuple[Flag, ...]] = {
    "models and versions": (
        Flag(
            "--model_name",
            "model name; without it, subdirectories of --model_dir that are models are served "
            "under their own names, and a single bundle under the name in its manifest",
        ),
        Flag("--model_dir", "directory of a model, its versions, or several models", Path),
        Flag(
            "--model_uri",
            "model in an MLflow registry, polled while it is served: models:/NAME@ALIAS, "
            "models:/NAME/3, models:/NAME/latest, models:/NAME; default: $MODEL_URI",
        ),
        Flag(
            "--labels",
            "more aliases of --model_uri to load side by side, such as champion,challenger",
            parse_labels,
        ),
        Flag("--cache_dir", "cache of registry versions, shared by replicas", Path),
        Flag(
            "--cache_versions",
            "number of cached versions to keep in addition to those in use",
            parse_int,
        ),
        Flag("--cache_max_bytes", "maximum size of all cached versions", parse_bytes),
        Flag(
            "--version_policy",
            "versions to serve: latest, latest:N, all, specific:v1,v3; serving.json overrides it",
            parse_policy,
        ),
        Flag("--poll_interval_seconds", "seconds between polls of the models", parse_float),
        Flag(
            "--version_mismatch",
            "warn, or refuse to load, if installed libraries differ from those in the manifest",
            one_of("warn", "refuse"),
        ),
        Flag(
            "--probe",
            "enforce fails a version that cannot answer a call with made-up inputs; warn keeps it "
            "ready and shows the reason; off does not call it",
            one_of("enforce", "warn", "off"),
        ),
        Flag(
            "--breaking_signature",
            "warn, or refuse to let a version serve that breaks clients of the version before it: "
            "other inputs, columns, outputs, methods",
            one_of("warn", "refuse"),
        ),
        Flag(
            "--predict_proba",
            "answer with probabilities where a model has them and its manifest has neither steps "
            "nor outputs; default: $PREDICT_PROBA",
            parse_bool,
        ),
        Flag(
            "--swap_policy",
            "availability loads the new version before it unloads the old one; resource unloads "
            "the old one first, if memory is too small for both",
            enumerated(SwapPolicy),
        ),
        Flag(
            "--load_threads",
            "number of versions that are loaded at the same time; requests and unloads do not wait",
            parse_int,
        ),
        Flag(
            "--load_timeout_seconds",
            "seconds that a load may take before it fails and another may begin; 0 disables it",
            parse_float,
        ),
        Flag(
            "--strict_readiness",
            "with several models, report ready only when all of them are ready",
            parse_bool,
        ),
        Flag(
            "--first_load_failure",
            "exit ends a server that has never been ready, once no version can be loaded whose "
            "files do not change, and says why in --termination_log; wait goes on",
            one_of("exit", "wait"),
        ),
        Flag(
            "--termination_log",
            "existing file for the reason of the server's end; default: $TERMINATION_LOG, "
            "as terminationMessagePath of the container",
            parse_file,
        ),
        Flag("--device", "device for torch models: cpu, cuda, cuda:1, auto", parse_device),
        Flag(
            "--traffic",
            "traffic split of requests that name no version, such as stable=90,canary=10; applies "
            "unless serving.json has default, traffic or canary",
            parse_traffic,
        ),
        Flag(
            "--routing_header",
            "HTTP header and gRPC metadata key with the routing key of a sticky traffic split",
        ),
    ),
    "trust": (
        Flag(
            "--profile",
            "production: pickles by the list, manifests, signatures and equal libraries required, "
            "no code of bundles, nothing open to those without a token; other flags still count",
            one_of("production"),
        ),
        Flag(
            "--pickle_policy",
            "any opens every pickle, which runs its code; listed opens those that name only what "
            "is on the list; deny opens none",
            enumerated(PicklePolicy),
        ),
        Flag("--pickle_allow", "file with more names for the list, one in a line", Path),
        Flag(
            "--bundle_code",
            "whether code that ships with a bundle or a registry model may run: allow, deny",
            one_of("allow", "deny"),
        ),
        Flag("--require_manifest", "refuse directories without manifest.json", parse_bool),
        Flag("--trusted_keys", "directory of the public keys that may sign versions", Path),
        Flag(
            "--signatures",
            "off, warn, or enforce: only versions that a trusted key has signed are opened; "
            "default: enforce with --trusted_keys",
            enumerated(SignaturePolicy),
        ),
        Flag(
            "--admin",
            "who may load and unload by request without a token: closed is nobody, open is all",
            one_of("closed", "open"),
        ),
        Flag("--admin_token_file", "file with the token that admits to load and unload", Path),
        Flag(
            "--repository_index",
            "who may read the index of models: open is all, admin is who may load and unload",
            one_of("open", "admin"),
        ),
    ),
    "addresses": (
        Flag("--host", "address to listen on, such as 127.0.0.1; default: every address"),
        Flag("--http_port", "REST port; 0 selects a free port", parse_int),
        Flag("--grpc_port", "gRPC port; 0 selects a free port", parse_int),
        Flag("--enable_grpc", "serve gRPC", parse_bool),
        Flag("--enable_docs_url", "serve the Swagger UI at /docs", parse_bool),
        Flag("--ssl_certfile", "certificate for HTTPS; default: $KSERVE_TLS_CERT_FILE"),
        Flag("--ssl_keyfile", "its private key; default: $KSERVE_TLS_KEY_FILE"),
    ),
    "limits and timeouts": LIMITS,
    "page": PAGES,
    "payload log": PAYLOAD_LOG,
    "logging": LOGGING,
    IGNORED: (
        Flag("--max_threads", "gRPC uses the thread pool for predictions", parse_int),
        Flag("--nthread", "of KServe's XGBoost and LightGBM servers: threads", parse_int),
        Flag("--framework", "of KServe's predictive server; files say whose they are"),
        Flag("--enable_latency_logging", "latencies are metrics", parse_bool),
        Flag("--predictor_host", "predictor of a transformer"),
        Flag("--protocol", "older name of --predictor_protocol", _protocol),
        Flag("--predictor_protocol", "protocol of the predictor", _protocol),
        Flag("--predictor_use_ssl", "TLS for the predictor", parse_bool),
        Flag("--predictor_request_timeout_seconds", "timeout of the predictor", parse_int),
        Flag("--predictor_request_retries", "retries of the predictor", parse_int),
        Flag("--enable_predictor_health_check", "health check of the predictor", parse_bool),
    ),
}

FLAGS: Mapping[str, Flag] = MappingProxyType(
    {flag.setting: flag for group in GROUPS.values() for flag in group}
)
"""Every flag by its setting's name."""
