"""The directory of trusted keys: PEM files, read anew for each load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bundleserver.bundle.metadata_files import read_metadata
from bundleserver.errors import ConfigError, FrameworkError, Problem

if TYPE_CHECKING:
    from bundleserver.bundle.trust.library import TrustedKey

_MOST_FILES = 256
_MOST_BYTES = 256 << 10


@dataclass(frozen=True)
class TrustedKeys:
    """The keys in a directory, and the files in it that are none."""

    keys: tuple[TrustedKey, ...]
    odd: tuple[Problem, ...] = ()


def require_library() -> None:
    """Check that signatures can be checked and made here.

    Raises:
        FrameworkError: a library is missing, or is another than this package needs.
    """
    try:
        import bundleserver.bundle.trust.library  # noqa: F401
    except ImportError as error:
        raise FrameworkError(
            f"signatures require the library 'model-signing', which cannot be imported ({error}); "
            "install it with: pip install 'bundleserver[signing]'"
        ) from error


def read_keys(directory: Path) -> TrustedKeys:
    """Read every PEM file of a directory; hidden names are left out.

    Kubernetes replaces the files of a secret by moving a link, so links are followed.

    Raises:
        ConfigError: the directory cannot be read, or holds too much.
    """
    from bundleserver.bundle.trust.library import read_key

    what = f"--trusted_keys '{directory}'"
    try:
        names = sorted(it.name for it in directory.iterdir() if not it.name.startswith("."))
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}; expected a directory of PEM files"
        raise ConfigError(what, [Problem("", reason)]) from error
    if len(names) > _MOST_FILES:
        reason = f"has {len(names)} files; expected at most {_MOST_FILES}"
        raise ConfigError(what, [Problem("", reason)])
    keys: dict[str, TrustedKey] = {}
    odd: list[Problem] = []
    for name in names:
        try:
            found = read_key(name, read_metadata(directory / name, _MOST_BYTES))
        except OSError as error:
            odd.append(Problem(name, f"cannot be read: {error.strerror or error}"))
        except Exception as error:  # noqa: BLE001  # whatever a library raises for odd bytes
            odd.append(Problem(name, f"is not a public key in PEM form: {error}"[:300]))
        else:
            keys.setdefault(found.key.sha256, found)
    return TrustedKeys(tuple(keys.values()), tuple(odd))


def check_keys(directory: Path) -> TrustedKeys:
    """Read trusted keys, of which there must be one.

    Raises:
        ConfigError: there is none, or the directory cannot be read; names what is no key.
        FrameworkError: a library is missing.
    """
    require_library()
    found = read_keys(directory)
    if not found.keys:
        none = Problem("", "has no public key; expected PEM files such as release.pub")
        raise ConfigError(f"--trusted_keys '{directory}'", [none, *found.odd])
    return found
