"""``compare``: two versions of a model on the same file of requests, without a server."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import orjson
import typer

from bundleserver.bundle import Bundle
from bundleserver.bundle.opening import verify
from bundleserver.bundle.trust import TRUST_ANY, Trust
from bundleserver.commands.bundles import has_tensors, open_version, read_requests_file
from bundleserver.commands.console import JsonFlag, one_line, say, say_json, say_table, working
from bundleserver.commands.trust import with_trust
from bundleserver.errors import BundleError, BundleServerError, FrameworkError, InvalidInput
from bundleserver.sources.one_version import find_version
from bundleserver.store.serving_json import read_config, resolve
from bundleserver.tensors import Array
from bundleserver.versions.comparison import OutputDifference, SideBySide
from bundleserver.versions.comparison import compare as compare_outputs

if TYPE_CHECKING:
    from bundleserver.serving.requests import PredictRequest


@with_trust
def compare(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The directory with a model's versions.")
    ],
    first: Annotated[str, typer.Argument(metavar="VERSION", help="The baseline version or label.")],
    second: Annotated[
        str, typer.Argument(metavar="VERSION", help="The version or label to compare with it.")
    ],
    source: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="FILE|DIR",
            help="V1 or V2 requests: one, a JSON array of them, or one per line; or a payload log "
            "(serve --log_requests), or one of its Parquet files.",
        ),
    ],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Plot the comparison.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Where torch models run.")] = "cpu",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only check files and requests; no code of a model runs."),
    ] = False,
    as_json: JsonFlag = False,
    *,
    trust: Trust = TRUST_ANY,
) -> None:
    """Send the same requests to two versions; compare their responses and latencies.

    Example: bundleserver compare /mnt/models/fraud v2 v3 --input requests.jsonl --plot v2-v3.png
    """
    if plot is not None:
        _check_plot(plot)
    config = read_config(directory)
    labels = [resolve(directory, config, name).label for name in (first, second)]
    requests, count = _requests_of(source, directory.absolute().name, dry_run)
    if dry_run:
        _say_unreadable(requests)
        _say_plan(directory, labels, count, as_json)
        return
    with ExitStack() as opened:
        bundles = [
            opened.enter_context(closing(open_version(directory, label, device, trust)))
            for label in labels
        ]
        with working(f"comparing {labels[0]} and {labels[1]}"):
            found = run(bundles, requests)
    _say_unreadable(requests)
    if not found.compared:
        reasons = [told for one in found.failed for told in one[:1]]
        why = reasons[0] if reasons else "it has no request that was answered"
        raise BundleError(f"'{source}' has no request that both versions can answer: {why}")
    if plot is not None:
        from bundleserver.commands.comparison_plot import draw

        draw(found, directory.absolute().name, plot)
    say_json(_document(found, plot)) if as_json else _print(found, plot)


def _requests_of(source: Path, model: str, dry_run: bool) -> tuple[Iterable[PredictRequest], int]:
    """Return the requests of a file or of a payload log; how many they are, for a dry run only.

    Raises:
        BundleServerError: they cannot be read, or there are none.
        OSError: they cannot be read.
    """
    if not (source.is_dir() or source.suffix == ".parquet"):
        read = list(read_requests(read_requests_file(str(source)), str(source), model))
        return read, len(read)
    try:
        from bundleserver.serving.payload_log.replaying import LoggedRequests
    except ModuleNotFoundError as error:
        raise FrameworkError(
            f"'{source}' requires the package 'pyarrow', which is not installed; install it with: "
            "pip install 'bundleserver[batch]'"
        ) from error
    logged = LoggedRequests.of(source, model)
    if logged.left_out:
        say(f"left out {len(logged.left_out)} files that have not all inputs", err=True)
    return logged, logged.count() if dry_run else 0


def _say_unreadable(requests: Iterable[PredictRequest]) -> None:
    """Name the files of a payload log that were not read."""
    if unreadable := getattr(requests, "unreadable", ()):
        first = "; ".join(unreadable[:_MOST_NAMED])
        say(f"left out {len(unreadable)} files that cannot be read: {first}", err=True)


def _say_plan(directory: Path, labels: Sequence[str], requests: int, as_json: bool) -> None:
    """Say what would be compared, with the files verified and nothing opened.

    Raises:
        BundleServerError: a version has no valid manifest, or its files are not those listed.
    """
    components: dict[str, dict[str, str]] = {}
    for label in labels:
        source, candidate = find_version(directory, label)
        if candidate.problem is not None:
            raise BundleError(candidate.problem)
        path, manifest = source.fetch(candidate)
        verify(path, manifest, links_lead_anywhere=candidate.links_lead_anywhere)
        components[label] = {c.name: c.framework for c in manifest.components.values()}
    if as_json:
        say_json({"versions": list(labels), "requests": requests, "components": components})
        return
    for label, parts in components.items():
        listed = ", ".join(f"{name} ({framework})" for name, framework in parts.items())
        say(f"{label}: {listed}")
    say(f"would send {requests} requests to {labels[0]} and {labels[1]}; nothing was opened")


_MOST_POINTS = 1_000_000  # values of an output that are kept for the plot
_MOST_NAMED = 10  # files that cannot be read


def read_requests(data: bytes, where: str, model: str) -> Iterator[PredictRequest]:
    """Read a file of requests: one, an array of them, or one per line.

    Raises:
        InvalidInput: a request is not a valid V1 or V2 request, or there is none.
    """
    bodies = _bodies(data)
    if not bodies:
        raise InvalidInput(f"'{where}' has no requests; expected V1 or V2 requests")
    for number, body in enumerate(bodies, 1):
        try:
            yield _decode(body, model)
        except InvalidInput as error:
            raise InvalidInput(f"'{where}', request {number}: {error}") from error


def run(bundles: Sequence[Bundle], requests: Iterable[PredictRequest]) -> SideBySide:
    """Send all requests to two bundles, and compare their responses."""
    found = SideBySide((bundles[0].version, bundles[1].version))
    for request in requests:
        if not found.requests:
            # A model's first call is slower, so it is not measured.
            for bundle in bundles:
                _predict(bundle, request)
        found.requests += 1
        responses = [_predict(bundle, request) for bundle in bundles]
        for reasons, (_, _, why) in zip(found.failed, responses, strict=True):
            reasons.extend([why] if why else [])
        if any(why for _, _, why in responses):
            continue
        found.compared += 1
        for seconds, (_, taken, _) in zip(found.seconds, responses, strict=True):
            seconds.append(taken)
        _compare(found, responses[0][0], responses[1][0])
    return found


def _compare(found: SideBySide, first: dict[str, Array], second: dict[str, Array]) -> None:
    for name, difference in compare_outputs(first, second, rowwise=True).outputs.items():
        found.outputs[name] = found.outputs.get(name, OutputDifference()).plus(difference)
        if difference.is_number and found.outputs[name].values <= _MOST_POINTS:
            found.points.setdefault(name, []).append((first[name].ravel(), second[name].ravel()))


def _predict(bundle: Bundle, request: PredictRequest) -> tuple[dict[str, Array], float, str]:
    """Return a bundle's outputs, the seconds they took, and why it failed."""
    from bundleserver.serving.execution.predict import predict
    from bundleserver.serving.traffic.mirroring import outputs_of

    if request.tensors is not None:
        # A model may write to its inputs, and the other one has to get the same.
        own = tuple(one._replace(values=one.values.copy()) for one in request.tensors)
        request = request._replace(tensors=own)
    started = time.perf_counter()
    try:
        response = predict(bundle, request)
    except BundleServerError as error:
        return {}, 0.0, one_line(error)
    seconds = time.perf_counter() - started
    return dict(outputs_of(response)), seconds, ""


def _bodies(data: bytes) -> list[bytes]:
    """Split a file into requests; a file that is not JSON has one request per line."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return [line for line in data.splitlines() if line.strip()]
    return [orjson.dumps(item) for item in document] if isinstance(document, list) else [data]


def _decode(body: bytes, model: str) -> PredictRequest:
    from bundleserver.serving.codecs import json_body, v1, v2

    document = json_body.decode_object(body)
    if has_tensors(document):
        return v2.decode_request(body, model, None)
    return v1.decode_request(document, model, None)


def _check_plot(plot: Path) -> None:
    if plot.suffix.lower() != ".png":
        raise BundleError(f"'{plot}' is not a PNG file; expected a name that ends with .png")
    if find_spec("matplotlib") is None:
        raise FrameworkError(
            "--plot requires the package 'matplotlib', which is not installed; install it with: "
            "pip install 'bundleserver[plot]'"
        )


def _print(found: SideBySide, plot: Path | None) -> None:
    first, second = found.versions
    say(f"{first} and {second}: {found.compared} of {found.requests} requests compared")
    headings = ("output", "values", "agreement", "mean difference", "max difference", "problem")
    say_table("answers", headings, [_row(name, one) for name, one in found.outputs.items()])
    rows = [
        (version, f"{_milliseconds(seconds, 50)}", f"{_milliseconds(seconds, 99)}", _failures(why))
        for version, seconds, why in zip(found.versions, found.seconds, found.failed, strict=True)
    ]
    say_table("latency", ("version", "median ms", "p99 ms", "failed"), rows)
    say(f"{second} takes {found.latency_ratio:.2f} times as long as {first}")
    if plot is not None:
        say(f"wrote {plot}")


def _row(name: str, one: OutputDifference) -> tuple[str, ...]:
    agreement = "" if one.agreement is None else f"{one.agreement:.1%}"
    differences = ("" if value is None else f"{value:.4g}" for value in (one.mean, one.maximum))
    return (name, str(one.values), agreement, *differences, one.problem)


def _failures(reasons: Sequence[str]) -> str:
    return f"{len(reasons)}, first: {reasons[0]}" if reasons else ""


def _milliseconds(seconds: Sequence[float], percent: float) -> str:
    return f"{1000 * float(np.percentile(seconds, percent)):.3g}"


def _document(found: SideBySide, plot: Path | None) -> dict[str, object]:
    return {
        "versions": list(found.versions),
        "requests": found.requests,
        "compared": found.compared,
        "outputs": {
            name: {
                "values": one.values,
                "agreement": one.agreement,
                "mean_absolute_difference": one.mean,
                "max_absolute_difference": one.maximum,
                "problem": one.problem,
            }
            for name, one in found.outputs.items()
        },
        "latency": {
            version: {
                "median_seconds": float(np.percentile(seconds, 50)),
                "p99_seconds": float(np.percentile(seconds, 99)),
            }
            for version, seconds in zip(found.versions, found.seconds, strict=True)
        },
        "latency_ratio": found.latency_ratio,
        "failed": {
            version: {"requests": len(why), "first": why[0] if why else ""}
            for version, why in zip(found.versions, found.failed, strict=True)
        },
        "plot": None if plot is None else str(plot),
    }
