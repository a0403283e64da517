"""Versions in a directory: ``--model_dir``, in every supported layout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bundleserver.bundle.opening import manifest_of
from bundleserver.documents.printable import printable, shell_word
from bundleserver.errors import SourceError
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.sources import Candidate, Demand, DemandOf, Listing, named_versions, policy_of
from bundleserver.sources.configs import Configs
from bundleserver.sources.files import (
    Contents,
    Folder,
    is_model_file,
    leads_outside,
    list_folder,
    read_contents,
)
from bundleserver.sources.layouts import find_models, readable_manifest, shown_names
from bundleserver.sources.ordering import OrderedVersions
from bundleserver.sources.slow_reads import TIMEOUT_SECONDS, SlowReads
from bundleserver.versions import Version, VersionPolicy, is_version_label

_ONLY_VERSION = Version("1")


@dataclass(frozen=True)
class _Observation:
    """The contents of a version's directory, since when, and whether they are complete."""

    contents: Contents
    since: float
    settled: bool


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
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._was_there = False
        self._reads = SlowReads(timeout_seconds)
        self._seen: dict[Path, _Observation] = {}
        self._ordered: dict[Path, OrderedVersions] = {}
        self._has_manifest: dict[Path, bool] = {}
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
        models = list(find_models(top, self._model_name, self._list_folder))
        shown = shown_names(name for name, _ in models)
        for name, root in models:
            if shown[name] != name:
                reason = f"'{printable(name)}' has invisible characters; rename it"
                yield Listing(shown[name], reason=reason)
            elif isinstance(root, Folder):
                yield self._list_anyway(name, root, demand_of(name) if demand_of else None)
            else:
                yield Listing(name, reason=root)

    def _forget_gone(self, top: Folder) -> None:
        names = {*top.directories, *top.labels}
        self._reads.forget(lambda path: path.parent == top.path and path.name not in names)
        gone = {top.path / name for name in self._names - names}
        self._names = names
        for known in (self._seen, self._ordered, self._has_manifest, self._configs.known):
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
            raise SourceError(
                f"'{self._model_dir}' cannot be read: {error.strerror or error}"
            ) from error
        self._was_there = True
        return top

    def _list_folder(self, path: Path) -> Folder:
        return self._reads.of("names", path, lambda: list_folder(path))

    def _list_anyway(self, name: str, root: Folder, demand: Demand | None) -> Listing:
        """List a model; what its files do to whoever reads them is its own trouble."""
        try:
            return self._reads.of("model", root.path, lambda: self._list_model(name, root, demand))
        except TimeoutError as error:
            return Listing(name, reason=f"'{root.path}' cannot be read: {error.strerror or error}")
        except (OSError, ValueError, MemoryError, RecursionError) as error:
            return Listing(name, reason=f"'{root.path}' cannot be read: {error or repr(error)}")

    def _list_model(self, name: str, root: Folder, demand: Demand | None) -> Listing:
        config, problem = self._configs.read(root.path)
        listing = Listing(name, config=config, config_problem=problem)
        if root.labels and not root.has_manifest:
            return self._list_versions(listing, root, demand)
        if root.has_manifest or root.has_model_files:
            return replace(listing, candidates=self._list_root_itself(name, root))
        return replace(
            listing,
            reason=f"waiting for '{MANIFEST_NAME}', versions such as 'v1' or model files in "
            f"'{root.path}'",
        )

    def _list_root_itself(self, name: str, root: Folder) -> tuple[Candidate, ...]:
        manifest = readable_manifest(root)
        label = manifest.version if manifest is not None else None
        version = Version.parse(label) if label else _ONLY_VERSION
        is_top = root.path == self._model_dir
        contents = read_contents(root.path, links_lead_anywhere=is_top)
        candidate = self._candidate(name, version, root.path, contents)
        return (replace(candidate, links_lead_anywhere=is_top),)

    def _list_versions(self, listing: Listing, root: Folder, demand: Demand | None) -> Listing:
        ordered = self._order(root)
        demand = demand or Demand(VersionPolicy(None))
        # Both policies: that of serving.json may not be in effect yet.
        policies = (demand.policy, policy_of(listing.config, demand.policy))
        specific = {version for policy in policies for version in policy.specific}
        named = {*demand.versions, *specific, *named_versions(listing.config)}
        named = {version for version in named if version.label in ordered.known}
        wanted = _most(policies)
        candidates: list[Candidate] = []
        unseen: list[Version] = []
        notes = list(_odd_names(root, ordered))
        sound = 0
        for at, version in enumerate(ordered.newest_first):
            is_enough = wanted is not None and sound >= wanted + demand.further
            if is_enough and not named:
                unseen += ordered.newest_first[at:]
                break
            if is_enough and version not in named:
                unseen.append(version)
                continue
            named.discard(version)
            if candidate := self._read_version(listing.model, version, root, ordered, notes):
                candidates.append(candidate)
                sound += candidate.is_usable
        return replace(
            listing,
            candidates=tuple(candidates),
            unseen=tuple(unseen),
            warnings=tuple(notes),
            reason="" if candidates else f"waiting for files in the versions in '{root.path}'",
        )

    def _read_version(
        self,
        model: str,
        version: Version,
        root: Folder,
        siblings: OrderedVersions,
        notes: list[str],
    ) -> Candidate | None:
        """Read one version's contents; None when it does not exist yet."""
        location = root.path / version.label
        outside = None if root.path == self._model_dir else leads_outside(location, root.path)
        contents = read_contents(location)
        self._has_manifest[location] = has_manifest = contents.manifest is not None
        if contents.is_empty:
            return None
        candidate = self._candidate(model, version, location, contents)
        if not has_manifest and contents.problem is None and self._any_manifest(root, siblings):
            if candidate.settled:
                notes.append(
                    f"'{location}' is ignored: it has no '{MANIFEST_NAME}', unlike other versions; "
                    f"create one with: bundleserver init {shell_word(location)}"
                )
            return None
        return replace(candidate, problem=outside or candidate.problem)

    def _candidate(
        self, model: str, version: Version, location: Path, contents: Contents
    ) -> Candidate:
        settled = self._is_settled(location, contents)
        return Candidate(model, version, location, contents.fingerprint, settled, contents.problem)

    def _is_settled(self, location: Path, contents: Contents) -> bool:
        """Ask whether files are complete: at once with a new manifest, which is written last."""
        now = self._clock()
        before = self._seen.get(location)
        if before is None or before.contents.fingerprint != contents.fingerprint:
            old = before.contents.manifest if before else None
            now_seen = _Observation(contents, now, contents.manifest not in (None, "", old))
        else:
            rested = before.settled or now - before.since >= self._settle_seconds
            now_seen = _Observation(contents, before.since, rested)
        self._seen[location] = now_seen
        return now_seen.settled

    def _any_manifest(self, root: Folder, versions: OrderedVersions) -> bool:
        """Ask whether any version of a model has a manifest; each is checked once."""
        for version in versions.newest_first:
            location = root.path / version.label
            if location not in self._has_manifest:
                self._has_manifest[location] = (location / MANIFEST_NAME).is_file()
            if self._has_manifest[location]:
                return True
        return False

    def _order(self, root: Folder) -> OrderedVersions:
        """Return a model's versions in order, and forget removed ones."""
        before = self._ordered.get(root.path, OrderedVersions())
        ordered = self._ordered[root.path] = before.with_labels(root.labels)
        if ordered is not before:
            for label in before.known.keys() - ordered.known.keys():
                self._has_manifest.pop(root.path / label, None)
                self._seen.pop(root.path / label, None)
        return ordered


def _most(policies: Iterable[VersionPolicy]) -> int | None:
    """Return the maximum number of newest versions that the policies select; None is all."""
    counts = [0 if policy.specific else policy.count for policy in policies]
    return None if None in counts else max(count or 0 for count in counts)


def _odd_names(root: Folder, versions: OrderedVersions) -> Iterator[str]:
    for group in versions.alike:
        names = " and ".join(f"'{version}'" for version in group)
        yield (
            f"versions {names} in '{root.path}' have the same order; '{group[-1]}' counts as the "
            "newest; rename one"
        )
    for name in root.files:
        if is_version_label(name) and not is_model_file(name):
            path = root.path / name
            yield f"'{path}' is named like a version but is a file; a version must be a directory"
