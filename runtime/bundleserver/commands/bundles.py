"""``init``, ``predict``, ``schema``: write a bundle's manifest, try a bundle, print the format."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer

from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring import infer_manifest
from bundleserver.commands.console import JsonFlag, say, say_json, working
from bundleserver.errors import BundleError, StoreError
from bundleserver.manifest import MANIFEST_NAME, Manifest, manifest_schema
from bundleserver.sources import open_candidate
from bundleserver.sources.directory import find_version
from bundleserver.store.recording import with_digests, write_manifest
from bundleserver.store.serving_json import (
    complete_versions,
    read_config,
    resolve,
    serving_version,
)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A bundle's directory.")]


def init(
    directory: Directory,
    name: Annotated[
        str | None, typer.Option("--name", help="The model's name; the directory's if not given.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A file to take where a directory holds several models; may be repeated.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the manifest that is there.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the manifest of a directory of model files, so that it can be read and edited.

    Example: bundleserver init anomaly-detector --model arima_model.pkl
    """
    path = directory / MANIFEST_NAME
    if os.path.lexists(path) and not force:
        raise StoreError(f"{path} exists already; --force replaces it")
    inferred = infer_manifest(directory, name or directory.absolute().name, only=model or ())
    manifest = with_digests(directory, inferred)
    # What is written down must be readable again: a directory's name may be no model's name.
    Manifest.from_json(manifest.to_json(), str(path))
    write_manifest(directory, manifest)
    if as_json:
        say_json({"path": str(path), "manifest": orjson.loads(manifest.to_json())})
    else:
        say(manifest.to_json().rstrip())
        typer.echo(f"wrote {path}", err=True)


def predict(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A bundle's directory, or one with a model's versions."),
    ],
    source: Annotated[
        str,
        typer.Option("--input", metavar="FILE", help="A V1 or V2 request; - is standard input."),
    ] = "-",
    version: Annotated[
        str | None,
        typer.Option("--version", help="The version or label to ask; the default if not given."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Where torch models run.")] = "cpu",
    as_json: JsonFlag = False,
) -> None:
    """Ask a bundle without a server and print the answer, as JSON in either case.

    Example: echo '{"instances": [[0.5, 0.3, 0.8]]}' | bundleserver predict ./fraud --input -
    """
    body = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    found, candidate = find_version(directory, _choose_version(directory, version))
    with working(f"opening {candidate.location}"):
        bundle = open_candidate(found, candidate, device=device)
    try:
        say(_answer(bundle, body))
    finally:
        bundle.close()


def schema(as_json: JsonFlag = False) -> None:
    """Print the JSON Schema of manifest.json, with and without --json.

    Example: bundleserver schema > bundle-v1.schema.json
    """
    say_json(manifest_schema())


def _answer(bundle: Bundle, body: bytes) -> str:
    """Answer a request in its own protocol, V2 if it has tensors, always as JSON."""
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


def has_tensors(document: object) -> bool:
    """Ask whether a request is of V2: whether its inputs are tensors."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    first = inputs[0] if isinstance(inputs, list) and inputs else None
    return isinstance(first, dict) and {"name", "datatype", "shape"} <= first.keys()


def _choose_version(directory: Path, wanted: str | None) -> str | None:
    """Choose the version of a directory to open, the default if none is wanted; None is itself."""
    versions = complete_versions(directory)
    if (directory / MANIFEST_NAME).exists() or not versions:
        if wanted is not None:
            raise BundleError(
                f"{directory} is one bundle and holds no versions; leave --version out"
            )
        return None
    config = read_config(directory)
    chosen = resolve(directory, config, wanted) if wanted else serving_version(directory, config)
    return chosen.label
