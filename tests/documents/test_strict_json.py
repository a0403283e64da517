from __future__ import annotations

import json

import pytest

from bundleserver.documents.strict_json import DEEPEST, json_path, pretty, read_object, shown
from bundleserver.errors import ConfigError, ManifestError

WHERE = "/mnt/models/7/manifest.json"


def told(data: bytes | str) -> list[str]:
    """Return what a text is told, whether or not it can be read at all."""
    try:
        _, problems = read_object(data, WHERE, ManifestError)
    except ManifestError as error:
        return [str(problem) for problem in error.problems]
    return [str(problem) for problem in problems.values()]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty; expected a JSON object"),
        (b" \n\t", "is empty; expected a JSON object"),
        (b"\xef\xbb\xbf{}", "starts with a byte order mark; save the file as UTF-8 without one"),
        ("\ufeff{}", "starts with a byte order mark; save the file as UTF-8 without one"),
        (b'{"a":\n "\xe9"}', "line 2: byte 8 is not UTF-8; save the file as UTF-8"),
        ("{}".encode("utf-16"), "line 1: byte 0 is not UTF-8; save the file as UTF-8"),
        (b"[]", "is an array; expected a JSON object"),
        (b'"text"', "is 'text'; expected a JSON object"),
        (b"null", "is null; expected a JSON object"),
        (b"3", "is 3; expected a JSON object"),
        (b'{"a": 1} x', "line 1 column 10: is not valid JSON: extra data"),
        (b'{"a": {"b": 1, "b": 2}}', "a.b: is a duplicate key; keep one of them"),
        (
            b'{"x": [NaN]}',
            "x[0]: is not a valid JSON number (NaN or infinity); use a finite number, "
            "or null in a tensor",
        ),
        (
            b'{"x": -Infinity}',
            "x: is not a valid JSON number (NaN or infinity); use a finite number, or "
            "null in a tensor",
        ),
        (
            b'{"x": 1e999}',
            "x: is not a valid JSON number (NaN or infinity); use a finite number, or "
            "null in a tensor",
        ),
        (
            b'{"x": 1' + b"0" * 400 + b"}",
            "x: is not a valid JSON number (NaN or infinity); use a finite number, or "
            "null in a tensor",
        ),
        (b'{"x": "\\ud800"}', "x: contains an unpaired surrogate, which is not a valid character"),
        (
            b'{"x": {"\\udfff": 1}}',
            "x: has a key with an unpaired surrogate, which is not a valid character",
        ),
    ],
)
def test_text_that_is_not_plain_json_is_told_why(data, problem):
    """Each way in which a text is no unambiguous JSON object has its own sentence and place."""
    assert [problem] == told(data)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b'{\n  "a": 1,\n}', "line "),
        (b'{\n  "a": 1\n  "b": 2}', "line 3 column 3: is not valid JSON: expecting ',' delimiter"),
        (b"{'a': 1}", "line 1 column 2: is not valid JSON: "),
        (b'{"a": tru}', "line 1 column 7: is not valid JSON: expecting value"),
        (b'{"a": "b\n"}', "line 1 column 9: is not valid JSON: invalid control character at"),
        (b'{"a": 1', "line 1 column 8: is not valid JSON: "),
    ],
)
def test_text_with_broken_syntax_is_told_the_line_and_column(data, line):
    """Where the syntax breaks, line and column are named."""
    (problem,) = told(data)

    assert problem.startswith(line)


@pytest.mark.parametrize("depth", [DEEPEST + 1, 900, 1000, 100_000])
def test_text_that_is_nested_too_deep_is_refused(depth):
    """However deep a text is nested, that is one problem and no exhausted stack."""
    (problem,) = told('{"a": ' + "[" * depth + "]" * depth + "}")

    assert problem.endswith(f"is nested deeper than {DEEPEST} levels")


def test_text_that_is_nested_deep_enough_for_anyone_is_read():
    """The deepest nesting allowed is read."""
    document, problems = read_object(
        '{"a": ' + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1) + "}", WHERE, ManifestError
    )

    assert ["a"] == list(document)
    assert {} == problems


def test_number_with_thousands_of_digits_is_refused():
    """A number that Python refuses to read is one problem, not a ValueError."""
    assert 1 == len(told(b'{"a": ' + b"9" * 5000 + b"}"))


def test_oddities_of_a_text_are_told_together():
    """What leaves a text readable is told with all the rest, in the text's order."""
    problems = told('{"a": NaN, "b": 1, "b": {"c": "\\ud800"}, "d": [1, Infinity]}')

    assert ["b", "a", "b.c", "d[1]"] == [problem.partition(":")[0] for problem in problems]


def test_error_is_the_one_that_was_asked_for():
    """Each kind of document has its own error, which names the file."""
    with pytest.raises(ConfigError, match=r"^/x/serving\.json: is empty"):
        read_object(b"", "/x/serving.json", ConfigError)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ((), ""),
        (("components", "my-model", "path"), "components.my-model.path"),
        (("steps", 1, "inputs", 0), "steps[1].inputs[0]"),
        (("labels", "1.2"), "labels['1.2']"),
        (("a", "b c", "it's"), "a['b c'][\"it's\"]"),
        (("",), "['']"),
    ],
)
def test_place_is_written_as_people_write_it(place, path):
    """A plain key follows a dot, any other stands in brackets."""
    assert path == json_path(place)


def test_long_value_is_cut_in_a_sentence():
    """A sentence names a long value by its beginning."""
    assert "'" + "x" * 79 + "…" == shown("x" * 1000)


def test_pretty_text_breaks_lines_only_where_it_must():
    """What fits on a line stays there; what does not has one line for each entry."""
    value = {"short": [1, {"a": 2}], "long": ["x" * 60, {"y": "y" * 60}], "empty": {}}

    text = pretty(value)

    assert json.loads(text) == value
    assert [
        "{",
        '  "short": [1, {"a": 2}],',
        '  "long": [',
        f'    "{"x" * 60}",',
        f'    {{"y": "{"y" * 60}"}}',
        "  ],",
        '  "empty": {}',
        "}",
    ] == text.splitlines()
