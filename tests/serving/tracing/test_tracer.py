"""Which requests are traced, and what is read of their headers."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bundleserver.serving.tracing.tracer import Tracer, read_traceparent, read_tracestate

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WHOLE = ",".join(f"k{number}=v" for number in range(32))
VALID = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("written", "is_sampled"),
    [
        (VALID, True),
        (f" {VALID}\t", True),
        (f"00-{TRACE}-{PARENT}-00", False),
        (f"00-{TRACE}-{PARENT}-fe", False),
        (f"cc-{TRACE}-{PARENT}-03-what-comes-later", True),
    ],
)
def test_a_valid_traceparent_is_read(written, is_sampled):
    """As W3C has it, later versions included; OpenTelemetry's own reader says the same."""
    assert (int(TRACE, 16), int(PARENT, 16), is_sampled) == read_traceparent(written)

    carrier = {"traceparent": written.strip()}
    (theirs,) = TraceContextTextMapPropagator().extract(carrier).values()
    context = theirs.get_span_context()
    assert (int(TRACE, 16), int(PARENT, 16)) == (context.trace_id, context.span_id)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "00",
        VALID.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{VALID}-more",
        f"{VALID}\n",
        f"{VALID},{VALID}",
        f"cc-{TRACE}-{PARENT}-01{'-x' * 5000}",
        f"00-{TRACE}-{PARENT}-0\uff11",
        "00-" + "٣" * 32 + f"-{PARENT}-01",
    ],
)
def test_what_is_not_valid_is_ignored(written):
    """Whatever its length and its characters."""
    assert read_traceparent(written) is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("vendor=1,other=2", "vendor=1,other=2"),
        (" a=b ", "a=b"),
        (None, ""),
        ("a=b\nc=d", ""),
        ("a=\xff", ""),
        ("a=b," * 200, ""),
        ("a=b, ,c=d\t,", "a=b,c=d"),
        ("tenant@vendor=x y", "tenant@vendor=x y"),
        ("1a/b_c-d*e=\x21~", "1a/b_c-d*e=!~"),
        ("a", ""),
        ("=b", ""),
        ("a=", ""),
        ("a=b=c", ""),
        ("A=b", ""),
        ("a@b@c=d", ""),
        ("a b=c", ""),
        ("a=b,a=c", ""),
        ("a=b,!", ""),
        (WHOLE, WHOLE),
        (",".join(f"k{number}=v" for number in range(33)), ""),
        (f"{'k' * 257}=v", ""),
        (f"k={'v' * 257}", ""),
    ],
)
def test_a_state_goes_on_if_it_is_what_w3c_has(written, expected):
    """Or else is dropped as a whole."""
    assert expected == read_tracestate(written)


def test_a_ratio_samples_the_same_traces_as_opentelemetry():
    """So that a trace is whole where each service decides for itself."""
    tracer = Tracer(lambda span: None, 0.3, follows_parent=False)
    theirs = TraceIdRatioBased(0.3)
    ids = [(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128 or 1 for number in range(1, 500)]

    ours = [tracer.sample(f"00-{trace:032x}-{PARENT}-00") is not None for trace in ids]

    assert [theirs.should_sample(None, trace, "").decision.is_sampled() for trace in ids] == ours
    assert 0 < sum(ours) < len(ours)


@pytest.mark.parametrize(
    ("ratio", "follows_parent", "flags", "is_sampled"),
    [
        (0, True, "01", True),
        (0, True, "00", False),
        (0, True, None, False),
        (1, True, "00", False),
        (1, True, None, True),
        (0, False, "01", False),
        (1, False, "00", True),
    ],
)
def test_who_decides(ratio, follows_parent, flags, is_sampled):
    """A parent where there is one and the sampler follows it; else the ratio."""
    tracer = Tracer(lambda span: None, ratio, follows_parent=follows_parent)
    header = flags and f"00-{TRACE}-{PARENT}-{flags}"

    sampled = tracer.sample(header)

    assert is_sampled == (sampled is not None)


def test_without_a_propagator_no_header_is_read():
    """The trace is a new one, without a parent."""
    tracer = Tracer(lambda span: None, 1, reads_context=False)
    trace, parent = tracer.sample(VALID)

    assert (True, 0) == (trace != int(TRACE, 16), parent)


def test_loads_are_traced_unless_nothing_is():
    """A ratio is for requests, of which there are many."""
    assert Tracer(lambda span: None, 1e-9).begin("load", {}) is not None
    assert Tracer(lambda span: None, 0).begin("load", {}) is None
