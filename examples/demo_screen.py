"""What the demo prints: progress, commands to copy, and answers in a readable size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from demo_questions import Exchange
    from demo_server import LocalServer

SHOWN_VALUES = 3
LINE_LENGTH = 100

CONSOLE = Console(highlight=False)


def heading(text: str) -> None:
    """Print a line that begins a part."""
    CONSOLE.print()
    CONSOLE.rule(f"[bold]{text}", align="left")


def command(line: str) -> None:
    """Print a command as one line, whatever the terminal's width, so that it can be copied."""
    CONSOLE.print(Text(f"$ {line}", style="cyan"), soft_wrap=True)


def progress_bar() -> Progress:
    """Make a bar that goes when its work is done; without a terminal there is none."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=CONSOLE,
        transient=True,
        disable=not CONSOLE.is_terminal,
    )


def show(exchange: Exchange) -> None:
    """Print one request, its answer and what that means."""
    heading(f"{exchange.model} · {exchange.protocol}")
    CONSOLE.print(exchange.question, soft_wrap=True)
    command(exchange.command)
    for line in json_lines(shortened(exchange.answer)):
        CONSOLE.print(JSONHighlighter()(Text(line)), soft_wrap=True)
    CONSOLE.print(f"[green]→[/] {exchange.meaning}")


def say_failure(error: Exception, server: LocalServer) -> None:
    """Print what went wrong and the end of the server's log."""
    CONSOLE.print(Text(f"failed: {error}", style="bold red"))
    CONSOLE.print(f"the last lines of {server.log}:")
    for line in server.last_lines():
        CONSOLE.print(Text(f"  {line}"), soft_wrap=True)


def shortened(answer: Any) -> Any:
    """Round every number of an answer, and leave out most values of long lists, for the eye."""
    if isinstance(answer, float):
        return round(answer, 3)
    if isinstance(answer, dict):
        return {key: shortened(value) for key, value in answer.items()}
    if isinstance(answer, list):
        short = [shortened(value) for value in answer]
        more = len(short) - SHOWN_VALUES
        if more <= 1 or any(isinstance(value, (dict, list)) for value in short):
            return short
        return [*short[:SHOWN_VALUES], f"… {more} more"]
    return answer


def json_lines(value: Any, indent: str = "", head: str = "", tail: str = "") -> Iterator[str]:
    """Yield JSON in lines: whole on one where it fits, else an entry for each line."""
    whole = indent + head + json.dumps(value, ensure_ascii=False) + tail
    if len(whole) <= LINE_LENGTH or not isinstance(value, (dict, list)):
        yield whole
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    pairs = value.items() if isinstance(value, dict) else ((None, entry) for entry in value)
    yield indent + head + opening
    for at, (key, entry) in enumerate(pairs, start=1):
        name = "" if key is None else f"{json.dumps(key)}: "
        yield from json_lines(entry, indent + "  ", name, "," if at < len(value) else "")
    yield indent + closing + tail
