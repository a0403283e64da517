"""How far a run has come: a bar on a terminal, else a line every so often, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from bundleserver.batch.jobs.running import Counts

_LINE_SECONDS = 30.0
_WHOLE = 10_000


class RunProgress:
    """Shows the rows, the rows per second and the time left of a run; used by one thread."""

    def __init__(
        self, fraction: Callable[[], float | None], rows: int | None, say: Callable[[str], None]
    ) -> None:
        """Begin to count the time.

        Args:
            fraction: returns how much of the input has been read, None if nobody knows.
            rows: how many rows there are, if that is known.
            say: writes a line, where there is no terminal.
        """
        self._fraction, self._rows, self._say = fraction, rows, say
        self._began = self._said = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> RunProgress:
        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.fields[rows]}"),
                BarColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self._bar.start()
            total = None if self._fraction() is None else _WHOLE
            self._task = self._bar.add_task("", total=total, rows="opening the model", rate="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """The seconds since the beginning."""
        return time.monotonic() - self._began

    def tell(self, counts: Counts) -> None:
        """Show how far the run has come."""
        part = self._part(counts)
        if self._bar is not None:
            done = None if part is None else int(part * _WHOLE)
            rows, rate = f"{counts.read:,} rows", f"{counts.read / self._elapsed():,.0f} rows/s"
            self._bar.update(self._task, completed=done, rows=rows, rate=rate)
        elif time.monotonic() - self._said >= _LINE_SECONDS:
            self._said = time.monotonic()
            self._say(self.line(counts))

    def line(self, counts: Counts) -> str:
        """Return the rows, the rows per second and the time left, on one line."""
        elapsed, part = self._elapsed(), self._part(counts)
        line = f"{counts.read:,} rows, {counts.read / elapsed:,.0f} rows per second"
        if part:
            line += f", {part:.0%}, {max(0.0, elapsed / part - elapsed):,.0f} s left"
        return line

    def _part(self, counts: Counts) -> float | None:
        # Of what is read some is not scored yet.
        return counts.read / self._rows if self._rows else self._fraction()

    def _elapsed(self) -> float:
        return max(self.seconds, 1e-9)
