from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
import pytest

from bundleserver.batch.tables.json_kept import parts_of
from bundleserver.errors import InvalidInput
from tests.batch.saved import forest, save
from tests.batch.test_scoring_file import read, run

FIRST = 1000
"""The rows that tell the types."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    """Save a forest, which takes a, b and c."""
    return save(forest(), tmp_path_factory.mktemp("forest"))


def lines_of(path: Path, texts: list[str], name: str = "id") -> Path:
    """Write rows with the texts as the values of a column."""
    rows = (f'{{"a": 1, "b": 2, "c": {at}, "{name}": {text}}}' for at, text in enumerate(texts))
    path.write_text("\n".join(rows) + "\n")
    return path


LATER = {
    "another kind of number": ("1", "1001.5"),
    "a large integer": ("1", "18446744073709551617"),
    "other keys": ('{"a": 1}', '{"b": [2, {"c": 1.50}]}'),
    "another kind": ("1", '"one"'),
    "escapes": ('"\\u00e9"', '"\\/"'),
    "digits": ("1.10", "1E5"),
    "nothing at first": ("null", "-0"),
}


@pytest.mark.parametrize("name", LATER)
def test_json_lines_carry_values_through_byte_for_byte(tmp_path, directory, name):
    """Whatever stands in the first rows, and whatever in the others."""
    first, later = LATER[name]
    texts = [*[first] * FIRST, later, first]
    source = lines_of(tmp_path / "data.jsonl", texts)

    run(directory, source, tmp_path / "scores.jsonl", batch_rows=FIRST)

    for text, line in zip(texts, (tmp_path / "scores.jsonl").read_text().splitlines(), strict=True):
        assert line.startswith(f'{{"id":{text},"output-0":')


@pytest.mark.parametrize(
    ("first", "later", "kind"),
    [
        ("1", "1001.5", "int64"),
        ("1", "18446744073709551617", "int64"),
        ("1", "true", "int64"),
        ("1.5", "9007199254740993", "double"),
        ('"x"', "1", "string"),
        ("true", "null", None),
        ("[1, 2]", "[1.5]", "list<item: int64>"),
        ("1.5", "2", None),
    ],
)
def test_a_value_that_a_type_has_not_is_a_bad_row(tmp_path, directory, first, later, kind):
    """It is named, and never becomes another value."""
    source = lines_of(tmp_path / "data.jsonl", [*[first] * FIRST, later])

    run(directory, source, tmp_path / "scores.parquet", tmp_path / "bad.csv", batch_rows=FIRST)

    kept = read(tmp_path / "scores.parquet").column("id").to_pylist()
    expected = [json.loads(one) for one in ([first] * FIRST if kind else [first] * FIRST + [later])]
    bad = read(tmp_path / "bad.csv")
    assert expected == kept
    assert (1 if kind else 0) == bad.num_rows
    if kind:
        assert [1001] == bad.column("row").to_pylist()
        said = f"column 'id' has {later}; expected {kind}, as in the first rows"
        assert [said] == bad.column("reason").to_pylist()
        assert [source.read_text().splitlines()[-1]] == bad.column("line").to_pylist()
        with pytest.raises(InvalidInput, match="row 1001: column 'id' has "):
            run(directory, source, tmp_path / "more.parquet")


@pytest.mark.parametrize(
    "texts",
    [
        ["1", "1.5", "12345678901234567"],
        ["1", "2", "18446744073709551617"],
        ['{"a": 1}', '{"b": 2}'],
        ["1", '"1"', "null"],
        ['[1, "x"]', "[]"],
    ],
)
def test_values_of_no_one_type_are_their_text(tmp_path, directory, texts):
    """Objects, large integers and mixed values lose nothing in Parquet and CSV."""
    source = lines_of(tmp_path / "data.jsonl", texts)

    run(directory, source, tmp_path / "scores.parquet")
    run(directory, source, tmp_path / "scores.csv")

    expected = [None if text == "null" else text for text in texts]
    assert expected == read(tmp_path / "scores.parquet").column("id").to_pylist()
    strings = arrow_csv.ConvertOptions(column_types={"id": pa.string()}, strings_can_be_null=True)
    written = arrow_csv.read_csv(tmp_path / "scores.csv", convert_options=strings)
    plain = [one if one is None else one.strip('"') if one[0] == '"' else one for one in expected]
    assert plain == written.column("id").to_pylist()


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_columns_that_nobody_takes_are_not_looked_at(tmp_path, directory, form):
    """Neither with rejected rows nor without does another type in later rows matter."""
    texts = [*["1"] * FIRST, '"one"', "[" * 900 + "]" * 900]
    source = lines_of(tmp_path / "data.jsonl", texts, "other")

    done = run(
        directory, source, tmp_path / f"s.{form}", tmp_path / f"bad.{form}", keep=(), batch_rows=400
    )

    assert (1002, 0) == (done.counts.written, done.counts.rejected)


def test_rejected_rows_of_any_types_are_told_by_their_lines(tmp_path, directory):
    """A file of rejected rows has one schema, whatever the rows have; nothing of them is lost."""
    lines = [
        '{"a": "x", "b": 2, "c": 3, "id": 1}',
        '{"a": 1, "b": 2, "c": 3, "id": 2}',
        '{"a": [1], "b": 2, "c": 3, "id": "two"}',
        '{"a": 1, "b": 2',
        '{"a": 1, "b": {"x": 1}, "c": 3}',
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))

    run(
        directory,
        tmp_path / "data.jsonl",
        tmp_path / "scores.jsonl",
        tmp_path / "bad.parquet",
        batch_rows=1,
    )

    bad = parquet.read_table(tmp_path / "bad.parquet")
    assert ["row", "reason", "line"] == bad.column_names
    assert [lines[at] for at in (0, 2, 3, 4)] == bad.column("line").to_pylist()


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path, directory):
    """A file of a Windows editor is read as any other."""
    row = '{"a": 1, "b": 2, "c": 3, "id": 1}'
    (tmp_path / "data.jsonl").write_text(f"\ufeff\n{row}\r\n\r\n  \n{row}\n\n", newline="")

    done = run(directory, tmp_path / "data.jsonl", tmp_path / "scores.jsonl")

    assert (2, 2) == (done.counts.read, done.counts.written)


def test_a_kept_column_may_also_be_taken(tmp_path, directory):
    """The model takes its number, and the output has its text."""
    source = lines_of(tmp_path / "data.jsonl", ["1", "2"])
    source.write_text(source.read_text().replace('"b": 2', '"b": 2.50'))

    run(directory, source, tmp_path / "scores.jsonl", keep=("b",))

    assert (tmp_path / "scores.jsonl").read_text().startswith('{"b":2.50,')


@pytest.mark.parametrize(
    ("line", "texts"),
    [
        ("{}", {}),
        (' { "a" : 1 , "b":[ 1 ,2 ] }\r\n', {"a": "1", "b": "[ 1 ,2 ]"}),
        (
            '{"a": "}", "a": null, "\\u0062\\"": {"a": "\\\\"}}',
            {"a": "null", 'b"': '{"a": "\\\\"}'},
        ),
    ],
)
def test_an_object_has_the_texts_of_its_values(line, texts):
    """Of a key that is there twice the last one counts, as for the model."""
    assert texts == {name: text for name, (_, text) in parts_of(line).items()}
