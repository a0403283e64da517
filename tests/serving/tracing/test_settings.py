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
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317",
                "OTEL_EXPORTER_OTLP_INSECURE": "true",
                "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20a, x-team=b=c,",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
                "OTEL_RESOURCE_ATTRIBUTES": "team=risk,empty=",
            },
            TracingSettings(("otlp",)),
        ),
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
            TracingSettings(
                ("console",),
                reads_context=False,
                warnings=("OTEL_PROPAGATORS: b3 are not supported, and ignored",),
            ),
        ),
        (
            {
                "OTEL_TRACES_EXPORTER": "console",
                "OTEL_BSP_MAX_QUEUE_SIZE": "10",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20",
                "OTEL_BSP_SCHEDULE_DELAY": "0000000000100",
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
        ({"OTEL_BSP_SCHEDULE_DELAY": "000000009" + "9" * 18}, "OTEL_BSP_SCHEDULE_DELAY is"),
        ({"OTEL_BSP_SCHEDULE_DELAY": "000"}, "OTEL_BSP_SCHEDULE_DELAY is '000'"),
        ({"OTEL_BSP_EXPORT_TIMEOUT": "abc"}, "OTEL_BSP_EXPORT_TIMEOUT is 'abc'"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "OTEL_EXPORTER_OTLP_TIMEOUT is 'soon'"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": ""}, "OTEL_EXPORTER_OTLP_TIMEOUT is ''"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "-5"}, "expected a number of seconds above 0"),
        ({"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "0"}, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT is '0'"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "inf"}, "OTEL_EXPORTER_OTLP_TIMEOUT is 'inf'"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "OTEL_EXPORTER_OTLP_COMPRESSION is 'zip'"),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "yes"}, "expected one of true, false"),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere"}, "expected the path of a PEM file"),
        ({"OTEL_EXPORTER_OTLP_CLIENT_KEY": __file__}, "OTEL_EXPORTER_OTLP_CLIENT_KEY is '/"),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/dev/null"}, "OTEL_EXPORTER_OTLP_CERTIFICATE is"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,c"}, "OTEL_RESOURCE_ATTRIBUTES: entry 2 of 2"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "=b"}, "OTEL_RESOURCE_ATTRIBUTES: entry 1 of 1"),
    ],
)
def test_a_value_that_is_not_valid_is_named(variables, said):
    """With what it is and what is expected."""
    sampler = {"OTEL_TRACES_SAMPLER": "traceidratio"}
    with pytest.raises(ConfigError, match=said):
        read_variables({"OTEL_TRACES_EXPORTER": "otlp", **sampler, **variables})


@pytest.mark.parametrize(
    "written",
    [
        "Authorization: Bearer SECRET123",
        "a=b, =SECRET123",
        'a="SECRET123"',
        "a=SECRET123;b",
        "a=SECRET123%0d%0aHost:%20x",
        "a=SECRET123%C3%BC",
        "a=SECRET123ü",
        "key-bin=SECRET123",
        "a b=SECRET123",
    ],
)
@pytest.mark.parametrize(
    "name", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"]
)
def test_a_value_of_a_header_is_in_no_message(name, written):
    """It is a secret, also where it is not valid."""
    with pytest.raises(ConfigError, match=f"{name}: entry") as caught:
        read_variables({**KSERVE, name: written})

    assert "SECRET" not in str(caught.value)


def test_a_password_in_an_endpoint_is_in_no_message():
    """Whatever else is wrong there."""
    with pytest.raises(ConfigError) as caught:
        read_variables({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://user:SECRET123@collector:4317"})

    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, 1),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317",
                "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "TRUE",
            },
            0,
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4317"}, 0),
        ({**KSERVE, "OTEL_BSP_EXPORT_TIMEOUT": "30000"}, 1),
    ],
)
def test_what_was_probably_not_meant_is_a_warning(variables, count):
    """An endpoint without a scheme has TLS; how long an export may take is another's variable."""
    warnings = read_variables(variables).warnings

    assert count == len(warnings)
    for warning in warnings:
        assert "without a scheme" in warning or "has no effect" in warning


def test_all_that_is_wrong_is_told_together():
    """Nobody has to start a server once for each mistake."""
    wrong = {"OTEL_TRACES_EXPORTER": "otlp,x", "OTEL_TRACES_SAMPLER": "y"}
    with pytest.raises(ConfigError) as caught:
        read_variables(wrong)

    assert 2 == len(caught.value.problems)
