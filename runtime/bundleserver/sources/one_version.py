"""One version of a model's directory, as a server of that directory would find it."""

from __future__ import annotations

from pathlib import Path

from bundleserver.bundle.inferring.mlmodel_files import said_of_models_below
from bundleserver.errors import BundleError
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.sources import Candidate, Demand
from bundleserver.sources.directory import DirectorySource
from bundleserver.sources.files import list_folder
from bundleserver.sources.own_files import location_of
from bundleserver.versions import Version, VersionPolicy


def find_version(model_dir: Path, label: str | None) -> tuple[DirectorySource, Candidate]:
    """Find one version as a server of that ``--model_dir`` does; None is the directory itself.

    Raises:
        BundleError: it holds nothing that could be a model.
        SourceError: the directory cannot be read.
    """
    name = label and model_dir.absolute().name
    source = DirectorySource(model_dir, name, timeout_seconds=None)
    only = Demand(VersionPolicy(0), versions=frozenset({Version(label)} if label else ()))
    location = location_of(model_dir, Version(label)) if label else model_dir
    listings = source.discover(lambda _: only)
    for listing in listings:
        for candidate in listing.candidates:
            if candidate.location == location:
                return source, candidate
    reasons = [listing.reason for listing in listings if listing.reason]
    if reasons and location.is_dir():
        there = list_folder(location)
        if there.has_manifest or there.has_model_files:
            raise BundleError(reasons[0])
    below = said_of_models_below(location)
    what = "holds no bundle" if location.exists() else "does not exist"
    raise BundleError(f"'{location}' {what}; expected '{MANIFEST_NAME}' or model files{below}")
