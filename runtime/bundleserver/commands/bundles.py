"""``init``, ``schema``: write a manifest, print the JSON Schema; and what commands read."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import orjson
import typer

from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring import probable_manifest
from bundleserver.bundle.trust import Trust
from bundleserver.commands.console import JsonFlag, say, say_json, say_json_text, working
from bundleserver.documents.printable import shell_word
from bundleserver.errors import BundleError, StoreError
from bundleserver.manifest import MANIFEST_NAME, Manifest, manifest_schema
from bundleserver.sources import open_candidate
from bundleserver.sources.one_version import find_version
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


def has_tensors(document: object) -> bool:
    """Ask whether a request is a V2 request: whether its inputs are tensors."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    first = inputs[0] if isinstance(inputs, list) and inputs else None
    return isinstance(first, dict) and {"name", "datatype", "shape"} <= first.keys()
