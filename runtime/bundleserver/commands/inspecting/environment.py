"""``inspect --environment``: the set of libraries, and so the image, that each version needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bundleserver import __version__
from bundleserver.bundle.libraries.recorded import Recorded, recorded_in
from bundleserver.bundle.libraries.sets import LibrarySet, in_no_set, library_sets, set_for
from bundleserver.bundle.opening import verify
from bundleserver.bundle.requirements import pip_install
from bundleserver.commands.console import one_line, say, say_json, say_table
from bundleserver.errors import BundleServerError
from bundleserver.sources import Candidate, Listing
from bundleserver.sources.directory import DirectorySource

_IMAGE = "bundleserver"


def show_environments(listings: Sequence[Listing], *, as_json: bool) -> None:
    """Print what the versions of models were saved with, and which set has that.

    Files are read, and none is opened.
    """
    if as_json:
        say_json(
            [
                {"model": listing.model, "versions": [*map(_document, listing.candidates)]}
                for listing in listings
            ]
        )
        return
    for listing in listings:
        headings = (
            "version",
            "saved with",
            "set",
            "differs in",
            "in no set",
            "ServingRuntime",
            "reason",
        )
        say_table(listing.model, headings, map(_cells, listing.candidates))
        say("")


def _recorded(candidate: Candidate) -> tuple[Recorded, str]:
    """Return what a version was saved with, and why that is not known."""
    try:
        path, manifest = DirectorySource(candidate.location).fetch(candidate)
        verify(path, manifest, links_lead_anywhere=candidate.links_lead_anywhere, any_python=True)
        return recorded_in(path, manifest), ""
    except BundleServerError as error:
        return Recorded({}), candidate.problem or one_line(error)


def _cells(candidate: Candidate) -> tuple[str, ...]:
    recorded, reason = _recorded(candidate)
    label, needed, foreign = candidate.version.label, set_for(recorded), _foreign(recorded)
    if needed is None:
        return label, str(recorded), "" if reason else _no_set(recorded), "", foreign, "", reason
    differs = ", ".join(map(str, needed.differences(recorded)))
    return label, str(recorded), needed.name, differs, foreign, f"image: {_image(needed)}", reason


def _no_set(recorded: Recorded) -> str:
    """Say why there is no set for what was recorded."""
    if any(one.runs(recorded) for one in library_sets()):
        return "any: no version of a set's libraries is recorded"
    pythons = " and ".join(sorted(recorded.code_of))
    return f"none: it has code of Python {pythons}, and no set has Python {pythons}"


def _foreign(recorded: Recorded) -> str:
    """Say which packages no image has, with the line for the Dockerfile of one that does."""
    packages = in_no_set(recorded)
    if not packages:
        return ""
    listed = ", ".join(f"{name} {' and '.join(found)}" for name, found in packages.items())
    return f"{listed} ({_line_for(packages)})"


def _line_for(packages: Mapping[str, Sequence[str]]) -> str:
    return pip_install({name: found[-1] for name, found in packages.items()})


def _document(candidate: Candidate) -> dict[str, object]:
    recorded, reason = _recorded(candidate)
    needed, foreign = set_for(recorded), in_no_set(recorded)
    return {
        "version": candidate.version.label,
        "saved_with": {name: [*found] for name, found in recorded.versions.items()},
        "set": None if needed is None else needed.name,
        "image": None if needed is None else _image(needed),
        "sets": {one.name: [*_differences(one, recorded)] for one in library_sets()},
        "in_no_set": {name: [*found] for name, found in foreign.items()},
        "dockerfile": _line_for(foreign) if foreign else None,
        "reason": reason or ("" if needed or not recorded.code_of else _no_set(recorded)),
    }


def _differences(one: LibrarySet, recorded: Recorded) -> Iterable[dict[str, str]]:
    for difference in one.differences(recorded):
        yield {"name": difference.name, "saved": difference.saved, "has": difference.has}


def _image(one: LibrarySet) -> str:
    return f"{_IMAGE}{one.image_mark}:{__version__}"
