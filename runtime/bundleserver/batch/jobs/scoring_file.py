"""A file scored into another one: opened, scored, completed or abandoned, and summed up."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from bundleserver.batch.jobs.progress import RunProgress
from bundleserver.batch.jobs.running import Counts, Scoring, score_table
from bundleserver.batch.tables.formats import STANDARD, Format
from bundleserver.batch.tables.pieces import MOST_ROWS, Reader
from bundleserver.batch.tables.reading import open_reader
from bundleserver.batch.tables.writing import TableWriter
from bundleserver.errors import InvalidInput, StoreError

_SMALL_BYTES = 1 << 20


@dataclass(frozen=True)
class Place:
    """A file or ``-``, and its format."""

    name: str
    form: Format


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    counts: Counts
    seconds: float
    jobs: int

    @property
    def rows_per_second(self) -> float:
        """Rows of the input for each second, the opening of the model included."""
        return self.counts.read / max(self.seconds, 1e-9)


def score_file(
    scoring: Scoring,
    source: Place,
    output: Place,
    rejects: Place | None,
    *,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Summary:
    """Score a table into a file, which has its name only once it is complete.

    Args:
        scoring: what to score, and how.
        source: the table.
        output: where the scores go.
        rejects: where rows go that are not valid; without it the first one ends the run.
        force: whether existing files are replaced.
        say: writes a line about the run.

    Raises:
        InvalidInput: a row is not valid, or the table as a whole.
        StoreError: a file exists, or cannot be written.
        BundleServerError: the model cannot be opened, or fails.
        OSError: the table cannot be read.
    """
    _check_places(source, output, rejects)
    counts = Counts()
    with ExitStack() as opened:
        reader = opened.enter_context(closing(open_reader(source.name, source.form)))
        writers = []
        for place in filter(None, (rejects, output)):
            writers.append(TableWriter(place.name, place.form, force=force))
            opened.callback(writers[-1].abandon)
        scoring = replace(scoring, jobs=_jobs(reader, source, scoring))
        progress = RunProgress(reader.fraction, reader.rows, say)
        try:
            with progress:
                more = writers[0] if rejects is not None else None
                score_table(scoring, reader, writers[-1], more, counts, progress.tell)
            for writer in writers:
                writer.complete()
            if not counts.written and not counts.has_outputs:
                say(
                    f"'{output.name}' has no columns of outputs: no row was scored, and "
                    f"{counts.identity} names them with answers"
                )
        except BaseException as error:
            if counts.read and not isinstance(error, BrokenPipeError):
                say(f"stopped after row {counts.read:,} of '{source.name}'")
            elif isinstance(error, KeyboardInterrupt):
                say(f"stopped before the first row of '{source.name}' was scored")
            if isinstance(error, InvalidInput):
                raise InvalidInput(_told(error, source, output, rejects)) from error
            raise
        return Summary(counts, progress.seconds, scoring.jobs)


def _told(error: InvalidInput, source: Place, output: Place, rejects: Place | None) -> str:
    said = str(error)
    where = said if f"'{source.name}'" in said else f"'{source.name}': {said}"
    kept = "" if output.name == STANDARD else f"; '{output.name}' was not written"
    is_row = said.startswith("row ") and rejects is None
    return where + kept + ("; --rejects FILE puts such rows aside" if is_row else "")


def _check_places(source: Place, output: Place, rejects: Place | None) -> None:
    """Refuse two uses of one file.

    Raises:
        StoreError: the input would be replaced, or two outputs are the same file.
    """
    places = [("--input", source), ("--output", output)]
    if rejects is not None:
        places.append(("--rejects", rejects))
    for index, (flag, place) in enumerate(places):
        for other_flag, other in places[:index]:
            is_pipe = STANDARD in (place.name, other.name)
            if not is_pipe and _is_same(place.name, other.name):
                raise StoreError(f"{flag} and {other_flag} are the same file, '{place.name}'")


def _is_same(first: str, second: str) -> bool:
    try:
        return Path(first).samefile(second)
    except OSError:
        return Path(first).resolve() == Path(second).resolve()


def _jobs(reader: Reader, source: Place, scoring: Scoring) -> int:
    """Return how many processes are worth their start: no more than there are batches."""
    if reader.rows is not None:
        batches = math.ceil(reader.rows / (scoring.batch_rows or MOST_ROWS))
        return max(1, min(scoring.jobs, batches))
    if source.name != STANDARD and Path(source.name).stat().st_size < _SMALL_BYTES:
        return 1
    return scoring.jobs
