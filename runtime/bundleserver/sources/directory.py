"""Versions in a directory: ``--model_dir``, in every supported layout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bundleserver.bundle.links import File
from bundleserver.bundle.opening import manifest_of
from bundleserver.bundle.trust.verification import Origin
from bundleserver.documents.printable import printable, shell_word
from bundleserver.errors import SourceError
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.sources import Candidate, Demand, DemandOf, Listing
from bundleserver.sources.configs import Configs
from bundleserver.sources.files import (
    Contents,
    Folder,
    files_below,
    is_version,
    leads_outside,
    list_folder,
    read_contents,
)
from bundleserver.sources.layouts import Awaited, Unreadable, find_models, odd_names, shown_names
from bundleserver.sources.ordering import OrderedVersions
from bundleserver.sources.own_files import ONLY_VERSION, OwnFiles, own_files, with_own
from bundleserver.sources.settling import Settling
from bundleserver.sources.slow_reads import TIMEOUT_SECONDS, SlowReads
from bundleserver.sources.uploads import is_partial
from bundleserver.sources.wanted import Wanted
from bundleserver.versions import Version


@dataclass(frozen=True)
class _Polled:
    """A model's directory at one poll, and the notes of it."""

    model: str
    root: Folder
    own: OwnFiles | None
    directories: OrderedVersions
    notes: list[str]


class DirectorySource:
    """The models in one directory; keeps the contents that it saw last to detect changes.

    ``discover`` is for one thread; ``fetch`` uses no state and is for any thread.
    """

    def __init__(
        self,
        model_dir: Path,
        model_name: str | None = None,
        *,
        settle_seconds: float = 1.0,
        timeout_seconds: float | None = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the directory; it is not read before ``discover``.

        Args:
            model_dir: the directory of models, which may not exist yet.
            model_name: the one model to serve; None for every model that is found.
            settle_seconds: how long files without a manifest must be unchanged.
            timeout_seconds: how long a poll waits for a read; None is as long as it takes.
            clock: monotonic seconds.
        """
        self._model_dir = model_dir
        self._model_name = model_name
        self._settling = Settling(settle_seconds, clock)
        self._was_there = False
        self._reads = SlowReads(timeout_seconds)
        self._ordered: dict[Path, OrderedVersions] = {}
        self._has_manifest: dict[Path, bool] = {}
        self._replaced: set[Path] = set()  # directories that are served for own files
        self._configs = Configs()
        self._names: set[str] = set()

    @property
    def place(self) -> str:
        """The directory."""
        return f"'{self._model_dir}'"

    def discover(self, demand_of: DemandOf | None = None) -> tuple[Listing, ...]:
        """Poll every model; without a demand every version is read.

        Raises:
            SourceError: the directory cannot be read, or was removed.
        """
        with self._reads.poll():
            return tuple(self._listings(demand_of))

    def fetch(self, candidate: Candidate) -> tuple[Path, Manifest]:
        """Return a candidate's directory, with links resolved, and its manifest.

        Raises:
            SourceError: the directory was removed.
            ManifestError, IntegrityError, BundleError: the manifest is invalid or not inferable.
        """
        try:
            # Resolved once, so that an atomic change of links does not mix two versions.
            directory = candidate.location.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise SourceError(f"'{candidate.location}' cannot be read: {error}") from error
        return directory, manifest_of(directory, candidate.model)

    def give_up(self, candidate: Candidate) -> None:
        """Do nothing: its files are where they are."""

    def _listings(self, demand_of: DemandOf | None) -> Iterator[Listing]:
        top = self._top()
        if top is None:
            if self._model_name is not None:
                reason = f"waiting for '{self._model_dir}', which does not exist yet"
                yield Listing(self._model_name, reason=reason)
            return
        self._forget_gone(top)
        models = list(find_models(top, self._model_name, self._list_folder, self._below))
        shown = shown_names(name for name, _ in models)
        for name, root in models:
            if shown[name] != name:
                reason = f"'{printable(name)}' has invisible characters; rename it"
                yield Listing(shown[name], reason=reason)
            elif isinstance(root, Folder):
                yield self._list_anyway(name, root, demand_of(name) if demand_of else None)
            else:
                is_read, is_model = not isinstance(root, Unreadable), not isinstance(root, Awaited)
                yield Listing(name, reason=root, is_read=is_read, is_model=is_model)

    def _forget_gone(self, top: Folder) -> None:
        names = {*top.directories, *top.labels}
        self._reads.forget(lambda path: path.parent == top.path and path.name not in names)
        gone = {top.path / name for name in self._names - names}
        self._names = names
        kept = (self._settling.known, self._ordered, self._has_manifest, self._configs.known)
        for known in kept:
            for path in list(known) if gone else ():
                if not gone.isdisjoint((path, path.parent)):
                    known.pop(path, None)

    def _top(self) -> Folder | None:
        try:
            top = self._list_folder(self._model_dir)
        except FileNotFoundError as error:
            if self._was_there:
                raise SourceError(f"'{self._model_dir}' no longer exists") from error
            return None
        except OSError as error:
            why = error.strerror or error
            raise SourceError(f"'{self._model_dir}' cannot be read: {why}") from error
        self._was_there = True
        return top

    def _list_folder(self, path: Path) -> Folder:
        return self._reads.of("names", path, lambda: list_folder(path))

    def _below(self, path: Path) -> list[File]:
        return self._reads.of("below", path, lambda: files_below(path))

    def _list_anyway(self, name: str, root: Folder, demand: Demand | None) -> Listing:
        """List a model; what its files do to whoever reads them is its own trouble."""
        try:
            return self._reads.of("model", root.path, lambda: self._list_model(name, root, demand))
        except TimeoutError as error:
            why = error.strerror or str(error)
        except (OSError, ValueError, MemoryError, RecursionError) as error:
            why = str(error) or repr(error)
        return Listing(name, reason=f"'{root.path}' cannot be read: {why}", is_read=False)

    def _list_model(self, name: str, root: Folder, demand: Demand | None) -> Listing:
        config, problem = self._configs.read(root.path)
        listing = Listing(name, config=config, config_problem=problem)
        own = own_files(root)
        if root.labels if own is None else own.beside:
            return self._list_versions(listing, root, own, demand)
        only = own or OwnFiles(ONLY_VERSION, frozenset(), has_manifest=False)
        if own is not None or root.has_foreign_files or files_below(root.path):
            return replace(listing, candidates=(self._read_own(name, root, only),))
        partial = next(filter(is_partial, root.files), None)
        return replace(
            listing,
            reason=f"waiting for '{MANIFEST_NAME}', versions such as 'v1' or model files in "
            f"'{root.path}'" + (f"; '{partial}' is not complete yet" if partial else ""),
        )

    def _read_own(self, name: str, root: Folder, own: OwnFiles) -> Candidate:
        """Read a model's own files, which lie in its directory itself."""
        is_top = root.path == self._model_dir
        contents = read_contents(root.path, links_lead_anywhere=is_top, beside=own.beside)
        origin = Origin(versions_beside=own.beside)
        candidate = self._candidate(name, own.version, root.path, contents, root)
        return replace(candidate, links_lead_anywhere=is_top, origin=origin)

    def _list_versions(
        self, listing: Listing, root: Folder, own: OwnFiles | None, demand: Demand | None
    ) -> Listing:
        ordered = self._order(root, own)
        newest_first = with_own(ordered, own)
        wanted = Wanted.of(demand, listing.config, ordered, own)
        polled = _Polled(listing.model, root, own, ordered, list(odd_names(root, ordered)))
        incomplete: list[Version] = []

        def read(version: Version) -> Candidate | None:
            found = self._read(version, polled)
            if found is None and not self._settling.is_complete(root.path / version.label):
                incomplete.append(version)
            return found

        candidates, unseen = wanted.read_from(newest_first, read)
        return replace(
            listing,
            candidates=candidates,
            unseen=unseen,
            warnings=tuple(polled.notes),
            incomplete=tuple(incomplete),
            reason="" if candidates else f"waiting for files in the versions in '{root.path}'",
        )

    def _read(self, version: Version, polled: _Polled) -> Candidate | None:
        """Read a version's contents; a directory replaces own files of its label once complete."""
        root, own = polled.root, polled.own
        if own is None or version != own.version:
            return self._read_version(version, polled)
        location = root.path / version.label
        if version.label in polled.directories.known:
            candidate = self._read_version(version, polled)
            if candidate is not None and (candidate.is_usable or location in self._replaced):
                self._replaced.add(location)
                polled.notes.append(
                    f"the files in '{root.path}' itself are not served, as '{location}' is version "
                    f"'{version}'; move them to a directory of another version"
                )
                return candidate
        self._replaced.discard(location)
        return self._read_own(polled.model, root, own)

    def _read_version(self, version: Version, polled: _Polled) -> Candidate | None:
        """Read the contents of a version's directory; None when it does not exist yet."""
        root, own = polled.root, polled.own
        location = root.path / version.label
        outside = None if root.path == self._model_dir else leads_outside(location, root.path)
        contents = read_contents(location)
        self._has_manifest[location] = contents.manifest is not None
        if contents.is_empty:
            return None
        candidate = self._candidate(polled.model, version, location, contents, root)
        is_described = own is not None and own.has_manifest
        needs_manifest = is_described or self._any_manifest(root, polled.directories)
        if not (contents.problem or is_version(contents, needs_manifest=needs_manifest)):
            if candidate.settled:
                polled.notes.append(
                    f"'{location}' is ignored: it has no '{MANIFEST_NAME}', unlike other versions; "
                    f"create one with: bundleserver init {shell_word(location)}"
                )
            return None
        return replace(candidate, problem=outside or candidate.problem)

    def _candidate(
        self, model: str, version: Version, location: Path, contents: Contents, root: Folder
    ) -> Candidate:
        return Candidate(
            model,
            version,
            location,
            contents.fingerprint,
            self._settling.is_settled(location, contents),
            contents.problem,
            root=root.path,
        )

    def _any_manifest(self, root: Folder, versions: OrderedVersions) -> bool:
        """Ask whether any version of a model has a manifest; each is checked once."""
        for version in versions.newest_first:
            location = root.path / version.label
            if location not in self._has_manifest:
                self._has_manifest[location] = (location / MANIFEST_NAME).is_file()
            if self._has_manifest[location]:
                return True
        return False

    def _order(self, root: Folder, own: OwnFiles | None) -> OrderedVersions:
        """Return the order of a model's directories, and forget removed ones."""
        before = self._ordered.get(root.path, OrderedVersions())
        labels = root.labels
        if own is not None:
            labels = tuple(label for label in labels if label in own.beside)
        ordered = self._ordered[root.path] = before.with_labels(labels)
        if ordered is not before:
            for label in before.known.keys() - ordered.known.keys():
                self._has_manifest.pop(root.path / label, None)
                self._settling.known.pop(root.path / label, None)
                self._replaced.discard(root.path / label)
        return ordered
