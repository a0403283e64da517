from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundleserver.errors import ConfigError
from bundleserver.versions.serving_config import ServingConfig

WHERE = "/mnt/models/serving.json"

EXAMPLE = {
    "policy": "latest:2",
    "labels": {"stable": "v2", "canary": "v3"},
    "default": "stable",
    "traffic": {"stable": 90, "canary": 10},
    "shadow": ["v4"],
}

TOTAL = "expected a finite sum above 0"
LABEL_IS = "expected a letter, then letters, digits, '.', '_', '-', 64 characters at most"
WEIGHT_IS = "expected a weight: a non-negative number"
SHARE_IS = "expected a share of the requests: above 0, at most 1"
STEP_IS = "expected a share in percent: above 0, at most 100"
AGREEMENT_IS = "canary.min_agreement: is '98 %'; expected a share from 0 to 1"


def canary(**changes):
    """Make a configuration with a canary, and change it."""
    return {"default": "v2", "canary": {"version": "v3", **changes}}


def test_config_holds_what_the_file_says():
    """Each key of the file becomes its field."""
    config = ServingConfig.from_json(json.dumps(EXAMPLE), WHERE)

    assert (
        ServingConfig(
            policy="latest:2",
            labels={"stable": "v2", "canary": "v3"},
            default="stable",
            traffic={"stable": 90.0, "canary": 10.0},
            shadow=("v4",),
        )
        == config
    )


@pytest.mark.parametrize(
    "document",
    [
        {},
        EXAMPLE,
        {"default": "v2"},
        {"default": "2025-12-09", "traffic": {"1.10.0": 0.5, "v2": 0}},
        {"labels": {"a.b_C-9": "1"}, "shadow": ["a.b_C-9", "v1"]},
        {"policy": "specific:v1,v3", "labels": {}, "traffic": {}, "shadow": []},
        {"labels": {"v": "1", "vN2": "1"}},
        {"default": "v2", "shadow": ["v3"], "shadow_share": 0.25},
        canary(),
        canary(steps=[1, 100], max_p99_ratio=1.5, min_agreement=0.98, interval_seconds=0),
    ],
)
def test_config_survives_being_written_and_read(document):
    """Writing a configuration and reading it back gives an equal one."""
    config = ServingConfig.from_json(json.dumps(document).encode(), WHERE)

    assert config == ServingConfig.from_json(config.to_json(), WHERE)


def test_config_is_written_without_what_is_absent():
    """What is left to the server's flags is not written."""
    assert '{\n  "default": "v2"\n}\n' == ServingConfig(default="v2").to_json()


def test_config_cannot_be_changed():
    """Whoever holds a configuration cannot change it, nor can its maker."""
    labels = {"stable": "v2"}
    config = ServingConfig(labels=labels)
    labels["stable"] = "v3"

    assert {"stable": "v2"} == config.labels
    with pytest.raises(TypeError):
        config.labels["stable"] = "v3"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"defualt": "v1"}, "defualt: is not a known key; did you mean 'default'?"),
        (
            {"mirror": {"x": 1}},
            "mirror: is not a known key; known: 'policy', 'labels', 'default', "
            "'traffic', 'shadow', "
            "'shadow_share', 'canary'",
        ),
        (
            {"policy": "newest"},
            "policy: 'newest' is not a valid version policy; expected latest, latest:N, all or "
            "specific:v1,v3",
        ),
        ({"policy": 2}, "policy: is 2; expected a version policy: 'latest:2'"),
        ({"policy": None}, "policy: is null; expected a version policy: 'latest:2'"),
        ({"labels": ["v1"]}, "labels: is an array; expected an object with a version per label"),
        ({"labels": {"stable": 2}}, "labels.stable: is 2; expected a version"),
        (
            {"labels": {"stable": "canary", "canary": "v1"}},
            "labels.stable: is 'canary'; expected a version such as 'v2'",
        ),
        (
            {"labels": {"v2": "v1"}},
            "labels.v2: has the form of a version; expected another name for a label",
        ),
        (
            {"labels": {"2025": "v1"}},
            "labels['2025']: has the form of a version; expected another name for a label",
        ),
        (
            {"labels": {"latest": "v1"}},
            "labels.latest: is reserved; a label must not be 'default', 'latest'",
        ),
        (
            {"labels": {"default": "v1"}},
            "labels.default: is reserved; a label must not be 'default', 'latest'",
        ),
        ({"labels": {"a/b": "v1"}}, f"labels['a/b']: is not a valid label; {LABEL_IS}"),
        ({"labels": {"": "v1"}}, f"labels['']: is not a valid label; {LABEL_IS}"),
        ({"labels": {"a" * 65: "v1"}}, f"labels.{'a' * 65}: is not a valid label; {LABEL_IS}"),
        ({"labels": {"a\n": "v1"}}, f"labels['a\\n']: is not a valid label; {LABEL_IS}"),
        ({"default": 3}, "default: is 3; expected a version, or a label in 'labels'"),
        (
            {"default": "stabel", "labels": {"stable": "v1"}},
            "default: refers to 'stabel', which is neither a version nor a label; did "
            "you mean 'stable'?",
        ),
        (
            {"traffic": [1]},
            "traffic: is an array; expected an object with a weight per version or label",
        ),
        ({"traffic": {"v1": -1}}, f"traffic.v1: is -1; {WEIGHT_IS}"),
        ({"traffic": {"v1": True}}, f"traffic.v1: is true; {WEIGHT_IS}"),
        ({"traffic": {"v1": "90"}}, f"traffic.v1: is '90'; {WEIGHT_IS}"),
        ({"traffic": {"v1": 0, "v2": 0}}, f"traffic: adds up to 0.0; {TOTAL}"),
        ({"traffic": {"v1": 1e308, "v2": 1e308}}, f"traffic: adds up to inf; {TOTAL}"),
        (
            {"traffic": {"stable": 1}},
            "traffic.stable: refers to 'stable', which is neither a version nor a "
            "label; known: none",
        ),
        ({"shadow": "v4"}, "shadow: is 'v4'; expected an array of versions and labels"),
        (
            {"shadow": ["v4", "canary"]},
            "shadow[1]: refers to 'canary', which is neither a version nor a label; known: none",
        ),
        ({"shadow": ["v4", "v4"]}, "shadow[1]: is 'v4', a duplicate; name each shadow once"),
        (
            {"default": "v4", "shadow": ["v4"]},
            "shadow[0]: is 'v4', the default version; expected another version",
        ),
        (
            {"labels": {"stable": "v4"}, "default": "v4", "shadow": ["stable"]},
            "shadow[0]: is 'stable', the default version; expected another version",
        ),
        ({"shadow_share": 0}, f"shadow_share: is 0; {SHARE_IS}"),
        ({"shadow_share": 1.5}, f"shadow_share: is 1.5; {SHARE_IS}"),
        (canary(steps=[50, 25]), "canary.steps[1]: is 25 after 50; expected increasing steps"),
        (canary(steps=[5, 5]), "canary.steps[1]: is 5 after 5; expected increasing steps"),
        (
            canary(steps=[]),
            "canary.steps: is empty; expected increasing shares in percent, such as [5, 100]",
        ),
        (canary(steps=[0, 5]), f"canary.steps[0]: is 0; {STEP_IS}"),
        (canary(steps=[5, 101]), f"canary.steps[1]: is 101; {STEP_IS}"),
        (canary(steps=["5"]), f"canary.steps[0]: is '5'; {STEP_IS}"),
        (
            canary(steps=5),
            "canary.steps: is 5; expected an array of increasing shares in percent: [5, "
            "25, 50, 100]",
        ),
        (
            canary(version="v2"),
            "canary.version: is 'v2', the default version; expected another version",
        ),
        (
            canary(version="nobody"),
            "canary.version: refers to 'nobody', which is neither a version nor a "
            "label; known: none",
        ),
        (
            canary(interval_seconds=-1),
            "canary.interval_seconds: is -1; expected seconds, 0 or more",
        ),
        (
            canary(min_requests=0),
            "canary.min_requests: is 0; expected an integer of at least 1",
        ),
        (canary(max_error_rate=5), "canary.max_error_rate: is 5; expected a share from 0 to 1"),
        (canary(max_p99_ratio=0), "canary.max_p99_ratio: is 0; expected a number above 0"),
        (canary(min_agreement="98 %"), AGREEMENT_IS),
        (
            {"default": "v2", "canary": {}},
            "canary.version: is missing; expected a version, or a label in 'labels'",
        ),
        (
            {"canary": {"version": "v3"}},
            "canary: requires 'default', the version that the canary replaces",
        ),
        (
            {**canary(), "traffic": {"v2": 1}},
            "canary: cannot be combined with 'traffic'; remove one of them",
        ),
    ],
)
def test_config_that_breaks_a_rule_is_told_that_and_nothing_else(document, problem):
    """Each broken rule is told once, with its place and what is expected."""
    with pytest.raises(ConfigError) as raised:
        ServingConfig.from_json(json.dumps(document), WHERE)

    assert [problem] == [str(problem) for problem in raised.value.problems]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"traffic": {"v1": NaN}}', "traffic.v1"),
        ('{"traffic": {"v1": 1e999}}', "traffic.v1"),
        ('{"traffic": {"v1": 1, "v1": 2}}', "traffic.v1"),
        ('{"default": "v1",}', "line 1 column"),
        ("[]", ""),
    ],
)
def test_config_that_is_no_plain_json_is_told_why(text, place):
    """What is ambiguous or no JSON is refused as in a manifest."""
    with pytest.raises(ConfigError) as raised:
        ServingConfig.from_json(text, WHERE)

    (problem,) = raised.value.problems
    assert problem.where.startswith(place)


def test_config_with_many_problems_is_told_all_of_them():
    """Everything that parsed is checked, beside what did not, in one error that names the file."""
    document = {
        "polcy": "all",
        "policy": "latest:0",
        "labels": {"v2": "v1", "stable": 3, "ok": "v1"},
        "default": "stabel",
        "traffic": {"ok": 0, "nobody": 1, "stable": "x"},
        "shadow": ["stable", "who"],
    }

    with pytest.raises(ConfigError, match=f"^{WHERE}: 8 problems: ") as raised:
        ServingConfig.from_json(json.dumps(document), WHERE)

    assert {
        "polcy",
        "policy",
        "labels.v2",
        "labels.stable",
        "default",
        "traffic.nobody",
        "traffic.stable",
        "shadow[1]",
    } == {problem.where for problem in raised.value.problems}


def test_labels_that_do_not_parse_cause_no_other_problems():
    """Where the labels are unknown, no name is called unknown."""
    document = {"labels": 3, "default": "stable", "traffic": {"stable": 1}, "shadow": ["stable"]}

    with pytest.raises(ConfigError) as raised:
        ServingConfig.from_json(json.dumps(document), WHERE)

    assert ["labels"] == [problem.where for problem in raised.value.problems]


LABELS = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,9}", fullmatch=True).filter(
    lambda label: label not in ("default", "latest") and not label.lower().startswith("v")
)
VERSIONS = st.from_regex(r"v?[0-9][A-Za-z0-9._+-]{0,9}", fullmatch=True)


@settings(max_examples=100, deadline=None)
@given(
    labels=st.dictionaries(LABELS, VERSIONS, max_size=4),
    versions=st.lists(VERSIONS, min_size=1, max_size=4, unique=True),
    data=st.data(),
)
def test_any_config_survives_being_written_and_read(labels, versions, data):
    """Whatever keeps the rules is written and read back equal."""
    names = st.sampled_from([*labels, *versions])
    weights = st.floats(0.001, 1e6)
    default = data.draw(st.none() | names)
    others = [n for n in (*labels, *versions) if labels.get(n, n) != labels.get(default, default)]
    shadows = st.lists(st.sampled_from(others), max_size=3, unique=True) if others else st.just([])
    config = ServingConfig(
        policy=data.draw(st.sampled_from([None, "all", "latest:3", "specific:v1"])),
        labels=labels,
        default=default,
        traffic=data.draw(st.dictionaries(names, weights, max_size=4)),
        shadow=tuple(data.draw(shadows)),
    )

    assert config == ServingConfig.from_json(config.to_json(), WHERE)
