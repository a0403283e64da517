"""``init``, ``predict``, ``schema``: write a manifest, try a bundle, print the JSON Schema."""

from __future__ import annotations

import os
import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated

import orjson
import typer

from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring import probable_manifest
from bundleserver.bundle.trust import TRUST_ANY, Trust
from bundleserver.commands.console import JsonFlag, say, say_json, say_json_text, working
from bundleserver.commands.trust import with_trust
from bundleserver.documents.printable import shell_word
from bundleserver.errors import BundleError, StoreError
from bundleserver.manifest import MANIFEST_NAME, Manifest, manifest_schema
from bundleserver.sources import open_candidate
from bundleserver.sources.one_version import find_version
from bundleserver.sources.own_files import own_version
from bundleserver.store.finding import complete_versions
from bundleserver.store.serving_json import read_config, resolve, serving_version
from bundleserver.store.writing import with_digests, write_manifest

MOST_INPUT_BYTES = 256 << 20
"""The most bytes of a file with requests."""

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A bundle's directory.")]


def init(
    directory: Directory,
    name: Annotated[
        str | None, typer.Option("--name", help="The model's name; default: the directory's.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="The file to use if a directory has several models; repeatable."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing manifest.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the most probable manifest of a directory of model files, to be checked and edited.

    What was guessed is printed on standard error; a server that finds such a directory refuses it.

    Example: bundleserver init anomaly-detector --model arima_model.pkl
    """
    path = directory / MANIFEST_NAME
    if os.path.lexists(path) and not force:
        raise StoreError(f"{path} already exists; use --force to replace it")
    probable = probable_manifest(directory, name or directory.absolute().name, only=model or ())
    manifest = with_digests(directory, probable.manifest)
    # A directory's name may not be a valid model name.
    Manifest.from_json(manifest.to_json(), str(path))
    write_manifest(directory, manifest)
    if as_json:
        document = orjson.loads(manifest.to_json())
        say_json({"path": str(path), "manifest": document, "guesses": probable.guesses})
        return
    say_json_text(manifest.to_json().rstrip())
    say(f"wrote {path}", err=True)
    for guess in probable.guesses:
        say(f"guessed: {guess}", err=True)
    if probable.guesses:
        say(
            f"check 'steps', and the output for a row that you know, with: bundleserver predict "
            f"{shell_word(directory)} --input FILE",
            err=True,
        )


@with_trust
def predict(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A bundle, or a directory with a model's versions."),
    ],
    source: Annotated[
        str,
        typer.Option("--input", metavar="FILE", help="A V1 or V2 request; - is standard input."),
    ] = "-",
    version: Annotated[
        str | None,
        typer.Option("--version", help="The version or label; default: the default version."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Where torch models run.")] = "cpu",
    as_json: JsonFlag = False,
    *,
    trust: Trust = TRUST_ANY,
) -> None:
    """Send a request to a bundle without a server, and print the response, which is always JSON.

    Example: echo '{"instances": [[0.5, 0.3, 0.8]]}' | bundleserver predict ./fraud --input -
    """
    body = read_requests_file(source)
    label = _choose_version(directory, version)
    with closing(open_version(directory, label, device, trust)) as bundle:
        say_json_text(_answer(bundle, body))


def schema(as_json: JsonFlag = False) -> None:
    """Print the JSON Schema of manifest.json; --json changes nothing.

    Example: bundleserver schema > bundle-v1.schema.json
    """
    say_json(manifest_schema())


def read_requests_file(source: str) -> bytes:
    """Return the content of a file or pipe with requests; ``-`` is standard input.

    Raises:
        OSError: it cannot be read.
        BundleError: it has more than requests may have; a device never ends.
    """
    # Not only regular files: a shell's <(…) is a pipe.
    with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as file:
        data = file.read(MOST_INPUT_BYTES + 1)
    if len(data) > MOST_INPUT_BYTES:
        where = "standard input" if source == "-" else f"'{source}'"
        raise BundleError(f"{where} has more than {MOST_INPUT_BYTES} bytes; split its requests")
    return data


def open_version(directory: Path, label: str | None, device: str, trust: Trust) -> Bundle:
    """Open a version of a model's directory; without a label, the directory itself."""
    source, candidate = find_version(directory, label)
    with working(f"opening {candidate.location}"):
        return open_candidate(source, candidate, device=device, trust=trust)


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


def has_tensors(document: object) -> bool:
    """Ask whether a request is a V2 request: whether its inputs are tensors."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    first = inputs[0] if isinstance(inputs, list) and inputs else None
    return isinstance(first, dict) and {"name", "datatype", "shape"} <= first.keys()


def _choose_version(directory: Path, wanted: str | None) -> str | None:
    versions, own = complete_versions(directory), own_version(directory)
    if not versions or versions == (own,):
        if wanted not in (None, own and own.label):
            raise BundleError(f"{directory} is a bundle without versions; omit --version")
        return None
    config = read_config(directory)
    chosen = resolve(directory, config, wanted) if wanted else serving_version(directory, config)
    return chosen.label
