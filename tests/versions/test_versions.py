from __future__ import annotations

import pytest

from bundleserver.versions import (
    Version,
    VersionPolicy,
    is_version_label,
    same_order,
    select_versions,
)


def versions(*labels: str) -> tuple[Version, ...]:
    """Return the versions of the given labels, in the given order."""
    return tuple(Version.parse(label) for label in labels)


@pytest.mark.parametrize(
    "label", ["1", "v2", "10", "1.10.0", "2025-12-09", "1.2.0-rc1", "1.0+cu118", "7_b", "9" * 64]
)
def test_label_is_a_version(label):
    """A label starts with a digit, or v and a digit, then letters, digits and '._+-' follow."""
    found = is_version_label(label)

    assert found
    assert label == str(Version.parse(label))


@pytest.mark.parametrize(
    "label",
    [
        "",
        "v",
        "V2",
        "vv2",
        "latest",
        ".1",
        "_1",
        "1/2",
        "1 2",
        "1\n",
        "٣",
        "v٣",
        "9" * 65,
        "1:2",
        "-1",
    ],
)
def test_label_is_no_version(label):
    """Any other name is refused, and the error quotes it."""
    with pytest.raises(ValueError, match="is not a valid version label") as caught:
        Version.parse(label)

    assert not is_version_label(label)
    assert f"'{label}'" in str(caught.value)


@pytest.mark.parametrize(
    "ordered",
    [
        ("v9", "v10", "10.1"),
        ("1", "v2", "3", "v10", "11"),
        (
            "1.2.0-dev3",
            "1.2.0-alpha",
            "1.2.0-beta2",
            "1.2.0-rc1",
            "1.2.0-rc2",
            "1.2.0-rc10",
            "1.2.0",
        ),
        ("1.2.0-SNAPSHOT", "1.2.0", "1.2.1"),
        ("1.2", "1.2.0", "1.2.0.1", "1.10", "2"),
        ("1.0a1", "1.0b1", "1.0rc1", "1.0"),
        ("2", "2a", "2b", "3"),
        ("v2", "v2-fix", "v2.1", "v3"),
        ("1.2.0", "1.2.0+cu118", "1.2.0+dev", "1.2.1-rc1"),
        ("1.2.0-rc1", "1.2.0-rc1+5", "1.2.0-rc2"),
        ("2024-12-31", "2025-01-02", "2025-12-09", "2025-12-09T10-30", "2025-12-10"),
        ("20241231", "20251209", "20251209T093000", "20251209T103000"),
        ("2025-2", "2025-10"),
    ],
)
def test_order_is_natural(ordered):
    """Numbers compare as numbers, pre-releases precede their release, other suffixes follow it."""
    expected = versions(*ordered)
    shuffled = [*expected[1::2], *expected[::2]]

    assert list(expected) == sorted(shuffled)


def test_order_of_labels_that_differ_by_v_is_alike():
    """'v2' and '2' are different versions of the same order; the spelling decides between them."""
    bare, prefixed = versions("2", "v2")

    assert bare != prefixed
    assert bare.order == prefixed.order
    assert [bare, prefixed] == sorted([prefixed, bare])
    assert len({bare, prefixed}) == 2


def test_order_of_every_two_labels_is_defined():
    """Any two labels compare, whatever words and numbers stand at the same place."""
    labels = [
        "1",
        "1a",
        "1.a",
        "1-1",
        "1+",
        "1rc",
        "1rc1",
        "1.",
        "v1",
        "2025-12-09",
        "1-T",
        "0",
        "00",
    ]

    assert len(labels) == len(sorted(versions(*labels)))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("latest", ["v10"]),
        ("latest:1", ["v10"]),
        ("latest:2", ["v10", "v9"]),
        ("latest:99", ["v10", "v9", "2", "1.0"]),
        ("all", ["v10", "v9", "2", "1.0"]),
        ("specific:v9", ["v9"]),
        ("specific: 1.0 , v9,v77", ["v9", "1.0"]),
        ("specific:v2", []),
    ],
)
def test_policy_selects_newest_first(text, wanted):
    """A policy keeps what it wants of what is there, newest first."""
    there = versions("v9", "2", "v10", "1.0")

    selected = select_versions(there, VersionPolicy.parse(text))

    assert wanted == [version.label for version in selected]


@pytest.mark.parametrize("text", ["latest", "latest:3", "all", "specific:1,v3"])
def test_policy_is_written_as_it_is_read(text):
    """The text of a policy reads back as the same policy."""
    policy = VersionPolicy.parse(text)

    assert text == str(policy)
    assert policy == VersionPolicy.parse(str(policy))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected latest, latest:N, all or specific:v1,v3"),
        ("newest", "'newest' is not a valid version policy"),
        ("latest:", "integer N of at least 1"),
        ("latest:0", "integer N of at least 1"),
        ("latest:-1", "integer N of at least 1"),
        ("latest:two", "integer N of at least 1"),
        ("latest:²", "integer N of at least 1"),
        ("all:2", "'all:2' is not a valid version policy"),
        ("specific", "'' is not a valid version label"),
        ("specific:", "'' is not a valid version label"),
        ("specific:v1,,v2", "'' is not a valid version label"),
        ("specific:stable", "'stable' is not a valid version label"),
    ],
)
def test_policy_refuses_other_words(text, says):
    """A text that is no policy is refused with a sentence that names it and what is expected."""
    with pytest.raises(ValueError, match="is not a valid version policy") as caught:
        VersionPolicy.parse(text)

    assert says in str(caught.value)


def test_same_order_finds_labels_that_differ_by_v():
    """Labels that order alike are reported together; the others are not."""
    found = same_order(sorted(versions("v2", "1", "2", "02", "v3")))

    assert (versions("02", "2", "v2"),) == found
