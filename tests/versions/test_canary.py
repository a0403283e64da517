"""The decision on a canary: what holds it, what lets it go on, what sends it back."""

from __future__ import annotations

import pytest

from bundleserver.versions.canary import (
    CanaryRules,
    Counts,
    Verdict,
    Window,
    decide,
    error_rate,
    latency_class,
    percentile_seconds,
)

RULES = CanaryRules("v3", (5, 50, 100), 600, 200, 0.05, 1.5, 0.98)


def counts(requests=1000, errors=0, refused=0, seconds=0.1, slow=0, slow_seconds=1.0):
    """Count requests, some of them slow."""
    answered = requests - errors - refused
    latencies = {latency_class(seconds): answered - slow, latency_class(slow_seconds): slow}
    return Counts(requests, errors, refused, {at: n for at, n in latencies.items() if n})


def window(canary=None, base=None, comparisons=500, compared=1000, agreed=1000):
    """Make what was counted in a step that went well, but for what is given."""
    return Window(canary or counts(), base or counts(), comparisons, compared, agreed)


def verdict(found, step=0, elapsed_seconds=600.0, base=None, rules=RULES):
    """Decide, and return verdict and reason."""
    decision = decide(rules, step, found, elapsed_seconds, base or Counts())
    return decision.verdict, decision.reason


@pytest.mark.parametrize(
    ("step", "expected", "reason"),
    [
        (0, Verdict.ADVANCE, "from 5 % to 50 %: 1000 requests, 0.0% errors, p99 1.00 times the"),
        (1, Verdict.ADVANCE, "from 50 % to 100 %"),
        (2, Verdict.PROMOTE, "at 100 %"),
    ],
)
def test_a_canary_that_keeps_its_rules_goes_on(step, expected, reason):
    """It walks the steps, and the last one too has to be kept."""
    found, told = verdict(window(), step)

    assert expected is found
    assert told.startswith(reason)


@pytest.mark.parametrize(
    ("found", "elapsed_seconds", "reason"),
    [
        (window(), 599.0, "at 5 %: 1 s left"),
        (window(counts(199)), 9999.0, "at 5 %: 199 of 200 requests"),
        (Window(), 9999.0, "at 5 %: 0 of 200 requests"),
        (
            window(comparisons=199, compared=400, agreed=0),
            9999.0,
            "at 5 %: 199 of 200 comparisons with the default",
        ),
        (
            window(base=counts(10, seconds=0.001)),
            9999.0,
            "at 5 %: 10 of 200 requests to the default",
        ),
    ],
)
def test_a_canary_waits_until_it_can_be_judged(found, elapsed_seconds, reason):
    """Too few requests or too little time decide nothing, and it is said what is missing."""
    assert (Verdict.WAIT, reason) == verdict(found, elapsed_seconds=elapsed_seconds)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            window(counts(1000, errors=51)),
            "51 of 1000 requests failed; max_error_rate is 0.05",
        ),
        (
            window(counts(1000, refused=60), counts(1000, refused=5)),
            "0 of 1000 requests failed and 60 were rejected as invalid (400); "
            "max_error_rate is 0.05",
        ),
        (
            window(counts(slow=20, slow_seconds=0.2)),
            "the p99 latency is 2.00 times the default's; max_p99_ratio is 1.5",
        ),
        (
            window(agreed=979),
            "97.9% of the compared values equal the default's; min_agreement is 0.98",
        ),
        (
            window(compared=0, agreed=0),
            "0.0% of the compared values equal the default's; min_agreement is 0.98",
        ),
    ],
)
def test_a_canary_that_breaks_a_rule_is_demoted_at_once(found, reason):
    """Each rule demotes for its own reason, without waiting for the interval's end."""
    assert (Verdict.DEMOTE, reason) == verdict(found, elapsed_seconds=0.0)


@pytest.mark.parametrize(
    "found",
    [
        window(counts(1000, errors=50)),
        window(counts(1000, refused=900), counts(1000, refused=900)),
        window(counts(slow=10, slow_seconds=0.2)),
        window(counts(slow=50, slow_seconds=0.14)),
        window(agreed=980),
    ],
)
def test_a_canary_at_the_edge_of_a_rule_keeps_it(found):
    """A rule is broken beyond its limit, and by the canary: what callers do wrong alike is not."""
    assert Verdict.ADVANCE is verdict(found)[0]


def test_a_canary_that_fails_everything_is_demoted_before_it_has_answered_enough():
    """It does not get 200 requests to fail when 11 are more than it may."""
    assert Verdict.WAIT is verdict(window(counts(10, errors=10)))[0]
    assert Verdict.DEMOTE is verdict(window(counts(11, errors=11)))[0]


def test_rules_that_nobody_set_are_not_judged():
    """Without max_p99_ratio and min_agreement a slow canary of its own mind passes."""
    rules = CanaryRules("v3", (100,), 0)
    found = window(counts(slow=900), base=Counts(), comparisons=0)

    assert Verdict.PROMOTE is verdict(found, rules=rules)[0]


def test_at_the_whole_share_the_default_of_the_step_before_is_the_measure():
    """The default answers nothing at 100 %; its latencies of the step before count on."""
    slow = window(counts(seconds=0.3), Counts())

    assert Verdict.DEMOTE is verdict(slow, 2, base=counts())[0]
    found, reason = verdict(slow, 2)
    assert Verdict.PROMOTE is found
    assert "p99 not compared" in reason


@pytest.mark.parametrize("seconds", [1e-6, 0.004, 0.1, 30.0])
def test_a_percentile_is_right_within_two_percent(seconds):
    """Classes of latencies keep what a ratio needs."""
    found = percentile_seconds({latency_class(seconds): 1000}, 0.99)

    assert found == pytest.approx(seconds, rel=0.02)


@pytest.mark.parametrize(("slow", "expected"), [(1, 0.1), (2, 1.0)])
def test_the_99th_percentile_leaves_one_of_a_hundred_out(slow, expected):
    """One slow answer of a hundred is not in it, the second is."""
    latencies = counts(100, slow=slow).latencies

    assert expected == pytest.approx(percentile_seconds(latencies, 0.99), rel=0.02)


def test_nothing_has_no_percentile_and_no_errors():
    """A version that has answered nothing is neither slow nor wrong."""
    assert percentile_seconds({}, 0.99) is None
    assert 0.0 == error_rate(Counts(), Counts())
    assert 0.0 == error_rate(Counts(10, refused=10), Counts())
