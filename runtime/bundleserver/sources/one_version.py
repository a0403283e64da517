"""One version of a model's directory, as a server of that directory would find it."""

from __future__ import annotations

from pathlib import Path

from bundleserver.errors import BundleError
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.sources import Candidate, Demand
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions import Version, VersionPolicy


def find_version(model_dir: Path, label: str | None) -> tuple[DirectorySource, Candidate]:
    """Find one version as a server of that ``--model_dir`` does; None is the directory itself.

    Raises:
        BundleError: it holds nothing that could be a model.
        SourceError: the directory cannot be read.
    """
    source = DirectorySource(model_dir, label and model_dir.absolute().name)
    only = Demand(VersionPolicy(0), versions=frozenset({Version(label)} if label else ()))
    location = model_dir / label if label else model_dir
    for listing in source.discover(lambda _: only):
        for candidate in listing.candidates:
            if candidate.location == location:
                return source, candidate
    what = "holds no bundle" if location.exists() else "does not exist"
    raise BundleError(f"'{location}' {what}; expected '{MANIFEST_NAME}' or model files")
