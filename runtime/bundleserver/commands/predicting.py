"""``predict``: one request, or a whole table, answered by a bundle without a server."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated

import typer

from bundleserver.batch.models import local_model, open_local
from bundleserver.batch.tables.formats import STANDARD, format_by_suffix, format_of
from bundleserver.bundle import Bundle
from bundleserver.bundle.trust import TRUST_ANY, Trust
from bundleserver.commands.bundles import has_tensors, read_requests_file
from bundleserver.commands.console import JsonFlag, say, say_json, say_json_text, working
from bundleserver.commands.trust import with_trust
from bundleserver.documents.forms import quoted
from bundleserver.errors import BundleError
from bundleserver.serving.cpus import cpu_limit


@with_trust
def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="A bundle, a directory with a model's versions, or models:/NAME@ALIAS.",
        ),
    ],
    source: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="FILE",
            help="A V1 or V2 request, or with --output a table; - is standard input.",
        ),
    ] = STANDARD,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FILE", help="Score a table into this file; - is standard output."
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", help="The version or label; default: the default version."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="The table's format: parquet, csv, csv.gz, jsonl, jsonl.gz, arrow or arrows; "
            "default: by its suffix.",
        ),
    ] = None,
    output_form: Annotated[
        str | None,
        typer.Option("--output_format", help="The output's format; default: by its suffix."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            metavar="COLUMNS",
            help="Columns to carry through: id,ts; a name with a comma in quotes: '\"a,b\",id'.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns",
            metavar="COLUMNS",
            help="The columns that a model without names of columns takes, in its order.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", help="A method of the model to ask: predict_proba."),
    ] = None,
    rejects: Annotated[
        str | None,
        typer.Option(
            "--rejects",
            metavar="FILE",
            help="Put rows that are not valid here; without it the first one ends the run.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Worker processes; default: the CPUs there are."),
    ] = None,
    batch_rows: Annotated[
        int | None,
        typer.Option("--batch_rows", min=1, help="Rows of a batch; default: 65536, if not wide."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    device: Annotated[str, typer.Option("--device", help="Where torch models run.")] = "cpu",
    as_json: JsonFlag = False,
    *,
    trust: Trust = TRUST_ANY,
) -> None:
    """Send a request to a bundle without a server, or score a table with it.

    A request's response is printed, and always JSON. A table is read and written piece by piece.

    Example: bundleserver predict ./fraud --input data.parquet --output scores.parquet --keep id
    """
    if output is not None or form is not None:
        places = _Places(source, output, form, output_form, rejects)
        names = (_names(keep), _names(columns))
        _score(
            model, version, places, names, method, jobs, batch_rows, force, device, as_json, trust
        )
        return
    of_tables = {
        "--output_format": output_form,
        "--keep": keep,
        "--columns": columns,
        "--method": method,
        "--rejects": rejects,
        "--jobs": jobs,
        "--batch_rows": batch_rows,
        "--force": force or None,
    }
    _refuse_without_output(source, [flag for flag, value in of_tables.items() if value is not None])
    body = read_requests_file(source)
    with local_model(model, version) as local, working(f"opening {model}"):
        bundle = open_local(local, device=device, trust=trust)
        with closing(bundle):
            answer = _answer(bundle, body)
    say_json_text(answer)


class _Places:
    """The files of a run, each with its format."""

    def __init__(
        self,
        source: str,
        output: str | None,
        form: str | None,
        output_form: str | None,
        rejects: str | None,
    ) -> None:
        from bundleserver.batch.arrow import require_arrow

        if output is None:
            raise BundleError("--format is that of a table; add --output FILE for its scores")
        if rejects == STANDARD:
            raise BundleError("--rejects is '-'; expected the name of a file")
        require_arrow()
        from bundleserver.batch.jobs.scoring_file import Place

        self.source = Place(source, format_of(source, form, "--format"))
        self.output = Place(output, format_of(output, output_form, "--output_format"))
        if rejects == STANDARD:
            raise BundleError("--rejects is '-'; expected the name of a file")
        self.rejects = None if rejects is None else Place(rejects, format_of(rejects, None, None))


def _score(
    model: str,
    version: str | None,
    places: _Places,
    names: tuple[tuple[str, ...], tuple[str, ...]],
    method: str | None,
    jobs: int | None,
    batch_rows: int | None,
    force: bool,
    device: str,
    as_json: bool,
    trust: Trust,
) -> None:
    from bundleserver.batch.jobs.running import Scoring
    from bundleserver.batch.jobs.scoring_file import score_file

    is_piped = places.output.name == STANDARD
    if as_json and is_piped:
        raise BundleError("--json prints the summary where '--output -' puts the scores; omit it")
    with local_model(model, version) as local:
        scoring = Scoring(
            local,
            *names,
            method=method,
            jobs=jobs or cpu_limit(),
            batch_rows=batch_rows,
            device=device,
            trust=trust,
        )
        done = score_file(
            scoring,
            places.source,
            places.output,
            places.rejects,
            force=force,
            say=lambda line: say(line, err=True),
        )
    counts = done.counts
    if as_json:
        say_json(
            {
                **counts.facts,
                "input": places.source.name,
                "output": places.output.name,
                "rows": counts.read,
                "written": counts.written,
                "rejected": counts.rejected,
                "rejects": places.rejects.name if places.rejects else None,
                "seconds": round(done.seconds, 3),
                "rows_per_second": round(done.rows_per_second),
                "jobs": done.jobs,
                "rows_independent": counts.rows_independent,
            }
        )
        return
    aside = f", {counts.rejected:,} to '{places.rejects.name}'" if places.rejects else ""
    say(
        f"scored {counts.read:,} rows with {counts.identity} in {done.seconds:.1f} s "
        f"({done.rows_per_second:,.0f} rows per second): {counts.written:,} to "
        f"'{places.output.name}'{aside}",
        err=is_piped,
    )


def _names(given: Sequence[str] | None) -> tuple[str, ...]:
    """Split lists of names at their commas; a name with a comma stands in quotes, as in CSV."""
    parts = [
        part.strip() for line in csv.reader(given or (), skipinitialspace=True) for part in line
    ]
    return tuple(filter(None, parts))


def _refuse_without_output(source: str, flags: Sequence[str]) -> None:
    """Refuse what makes sense for tables only, where a request is expected.

    Raises:
        BundleError: names the flags, or the table.
    """
    if flags:
        raise BundleError(f"{quoted(flags)} is for tables; add --output FILE for the scores")
    form = format_by_suffix(source)
    if form is not None:
        raise BundleError(f"'{source}' is a table; add --output FILE for its scores")


def _answer(bundle: Bundle, body: bytes) -> str:
    """Answer a request in its protocol, V2 if it has tensors, always as JSON."""
    from bundleserver.serving.codecs import json_body, v1, v2
    from bundleserver.serving.execution.predict import predict as answer
    from bundleserver.serving.requests import RequestedOutput

    document = json_body.decode_object(memoryview(body))
    if not has_tensors(document):
        request = v1.decode_request(document, bundle.model, None)
        return json_body.encode(v1.predictions(answer(bundle, request))).decode()
    request = v2.decode_request(body, bundle.model, None)
    plain = request._replace(
        parameters={k: v for k, v in request.parameters.items() if k != "binary_data_output"},
        outputs=tuple(RequestedOutput(output.name) for output in request.outputs),
    )
    return v2.encode_response(answer(bundle, plain), plain).body.decode()
