"""Output of commands: results on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import orjson
import typer

from bundleserver.documents.printable import printable

_INVISIBLE = re.compile(r"[^ -~\n]")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllowBreakingFlag = Annotated[
    bool,
    typer.Option(
        "--allow-breaking",
        "--allow_breaking",
        help="Publish it although clients of what serves now would break.",
    ),
]


def say(text: str, *, err: bool = False) -> None:
    """Print one line of the result, or of what is said about it on standard error."""
    typer.echo(printable(text, len(text)), err=err)


def say_json(value: object) -> None:
    """Print the result as JSON."""
    try:
        text = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode()
    except TypeError:
        # The name of a file that is no text, or an integer of many digits.
        text = json.dumps(value, default=str, indent=2)
    say_json_text(text)


def say_json_text(text: str) -> None:
    """Print a JSON document, with JSON's own escapes for what is not printable."""
    typer.echo(_INVISIBLE.sub(_json_escape, text))


def say_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table without its empty columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    filled = [[printable(cell, len(cell)) for cell in row] for row in rows]
    kept = [at for at in range(len(headings)) if any(row[at] for row in filled)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at in kept:
        table.add_column(headings[at], overflow="fold")
    for row in filled:
        # Text, so that file names are not parsed as markup.
        table.add_row(*(Text(row[at]) for at in kept))
    console = Console(highlight=False)
    # Not the table's own title, which would be wrapped to the width of the table.
    if console.is_terminal:
        console.print(Text(printable(title, len(title)), style="italic"))
        console.print(table)
        return
    say(title)
    # A file or a pipe has no width, so lines are not wrapped.
    wide = Console(highlight=False, width=1000)
    with wide.capture() as capture:
        wide.print(table)
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def format_metrics(metrics: object) -> str:
    """Format a bundle's metrics on one line; invalid ones are left out."""
    if not isinstance(metrics, dict):
        return ""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in metrics.items()
    )


def say_error(text: object) -> None:
    """Print an error on one line."""
    typer.echo(f"error: {one_line(text)}", err=True)


def say_unexpected(error: BaseException) -> None:
    """Print an error that nobody expected, and where it was raised: the last resort of commands."""
    frame = next(iter(reversed(traceback.extract_tb(error.__traceback__))), None)
    place = f" ({Path(frame.filename).name}:{frame.lineno})" if frame else ""
    try:
        what = printable(" ".join(str(error).split()))
    except Exception as failure:  # noqa: BLE001  # a model's class may raise in its __str__
        what = f"it cannot be shown: {type(failure).__name__}"
    say_error(f"unexpected {type(error).__name__}{place}: {what or 'it has no message'}")


def one_line(text: object) -> str:
    """Join a message's lines into one, with what is no text escaped."""
    joined = " ".join(str(text).split())
    return printable(joined, len(joined))


def _json_escape(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else json.dumps(character)[1:-1]


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show a progress indicator, on a terminal only."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    # Text, so that a path is not parsed as markup.
    with console.status(Text(one_line(what))):
        yield


class OneLineFormatter(logging.Formatter):
    """Formats log records as ``warning: …``, on one line and without tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's level and message."""
        return f"{record.levelname.lower()}: {one_line(record.getMessage())}"
