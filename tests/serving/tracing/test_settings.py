"""OpenTelemetry's variables, as settings."""

from __future__ import annotations

import pytest

from bundleserver.errors import ConfigError
from bundleserver.serving.tracing.settings import TracingSettings, read_variables

KSERVE = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel-collector:4317",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.05",
}
"""What an empty ``spec.tracing`` stands for."""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"OTEL_TRACES_EXPORTER": ""}, None),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1"}, None),
        ({"OTEL_TRACES_EXPORTER": "console,none"}, None),
        ({**KSERVE, "OTEL_SDK_DISABLED": "TRUE"}, None),
        (KSERVE, TracingSettings(("otlp",), ratio=0.05)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, TracingSettings(("otlp",))),
        (
            {
                "OTEL_TRACES_EXPORTER": " console , OTLP ",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_TRACES_SAMPLER": "always_off",
            },
            TracingSettings(
                ("console", "otlp"), protocol="http/protobuf", ratio=0.0, follows_parent=False
            ),
        ),
        (
            {"OTEL_TRACES_EXPORTER": "console", "OTEL_PROPAGATORS": "b3,baggage"},
            TracingSettings(("console",), reads_context=False, ignored=("b3",)),
        ),
        (
            {
                "OTEL_TRACES_EXPORTER": "console",
                "OTEL_BSP_MAX_QUEUE_SIZE": "10",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20",
                "OTEL_BSP_SCHEDULE_DELAY": "100",
            },
            TracingSettings(("console",), queue=20, batch=20, delay_seconds=0.1),
        ),
    ],
)
def test_variables_become_settings(variables, expected):
    """An exporter or an endpoint switches tracing on, and nothing else does."""
    assert expected == read_variables(variables)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_TRACES_EXPORTER": "otlp,zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin'"),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER is 'jaeger_remote'"),
        ({"OTEL_TRACES_SAMPLER_ARG": "1.5"}, "expected a number from 0 to 1"),
        ({"OTEL_TRACES_SAMPLER_ARG": "nan"}, "OTEL_TRACES_SAMPLER_ARG is 'nan'"),
        ({"OTEL_TRACES_SAMPLER_ARG": "\x1b[2J"}, r"OTEL_TRACES_SAMPLER_ARG is '\\x1b\[2J'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "expected one of grpc, http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "OTEL_EXPORTER_OTLP_ENDPOINT is 'http://'"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://a:1"}, "expected a URL such as"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:99999999"}, "expected a URL such as"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "a b:1"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "OTEL_BSP_MAX_QUEUE_SIZE is '-1'"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "9" * 5000}, "OTEL_BSP_SCHEDULE_DELAY is"),
    ],
)
def test_a_value_that_is_not_valid_is_named(variables, said):
    """With what it is and what is expected."""
    sampler = {"OTEL_TRACES_SAMPLER": "traceidratio"}
    with pytest.raises(ConfigError, match=said):
        read_variables({"OTEL_TRACES_EXPORTER": "otlp", **sampler, **variables})


def test_all_that_is_wrong_is_told_together():
    """Nobody has to start a server once for each mistake."""
    wrong = {"OTEL_TRACES_EXPORTER": "otlp,x", "OTEL_TRACES_SAMPLER": "y"}
    with pytest.raises(ConfigError) as caught:
        read_variables(wrong)

    assert 2 == len(caught.value.problems)
