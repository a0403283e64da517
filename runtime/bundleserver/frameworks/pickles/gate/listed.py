"""Files under ``--pickle_policy=listed``, and what whoever publishes them is told."""

from __future__ import annotations

import shlex
from _compat_pickle import NAME_MAPPING
from collections.abc import Iterable
from pathlib import Path

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks.pickles.gate import open_stream
from bundleserver.frameworks.pickles.gate.forms import FORMS, STAND_INS
from bundleserver.frameworks.pickles.gate.listing import built_in, why_never
from bundleserver.frameworks.pickles.gate.refusal import NotListed, Refused, Uncheckable
from bundleserver.frameworks.pickles.made import ClassName
from bundleserver.frameworks.pickles.scan import decompressed
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.trust import CodeTrust

DENIED = (
    "is a pickle, and --pickle_policy=deny opens none; save it in a format without code: skops "
    "(scikit-learn), safetensors or '.pt2' (torch), or JSON (Prophet)"
)

_HOW_TO_LIST = (
    "'bundleserver inspect --pickles {}' prints the lines for the file of --pickle_allow; "
    "--pickle_policy=any would open the file and run its code"
)


def open_listed(path: Path, trust: CodeTrust) -> object:
    """Open a pickle or joblib file, compressed or not, as far as the lists allow.

    Raises:
        Refused: it does what is not allowed.
        Exception: it is damaged.
    """
    with open_regular(path) as raw:
        return open_stream(decompressed(raw, raw.peek(16)[:16]), trust)


def is_listed(name: str, trust: CodeTrust) -> bool:
    """Ask whether a pickle may name a class or function at all."""
    if name in FORMS or name in STAND_INS or name in built_in():
        return True
    return name in trust.allowed and not why_never(name)


def refuse_unlisted(path: Path, named: Iterable[ClassName], trust: CodeTrust) -> None:
    """Reject a file for all that it names and no list has, before anything of it is opened.

    Raises:
        LoadError: lists those names, and what to do.
    """
    names = sorted({name_today(name) for name in named if name.module != "?"})
    unlisted = [name for name in names if not is_listed(name, trust)]
    if unlisted:
        raise LoadError(f"'{path}' {_why_unlisted(unlisted, path)}")


def name_today(name: ClassName) -> str:
    """Return a name as Python 3 has it; the scan shows that of Python 2, as some files do."""
    # The module's name may be that of Python 3 already, and the other still that of Python 2.
    of = "__builtin__" if name.module == "builtins" else name.module
    return ".".join(NAME_MAPPING.get((of, name.qualname), name))


def why_refused(error: Refused, path: Path) -> str:
    """Say why a file was refused while it was opened."""
    if isinstance(error, NotListed):
        return _why_unlisted([error.name], path)
    if isinstance(error, Uncheckable):
        return (
            f"is refused by --pickle_policy=listed: {error}; if you trust who wrote it, serve with "
            "--pickle_policy=any, which runs the file's code"
        )
    return (
        f"is refused by --pickle_policy=listed: {error}; no library writes such a file of a model "
        "that it fitted, or it is beyond what is checked. If you trust who wrote it, serve with "
        "--pickle_policy=any, which runs the file's code"
    )


def _why_unlisted(names: list[str], path: Path) -> str:
    never = [name for name in names if why_never(name)]
    if never:
        reasons = "; ".join(f"'{name}': {why_never(name)}" for name in never[:3])
        others = [name for name in names if name not in never]
        return (
            f"uses {quoted(never)}, which no list can allow ({reasons})"
            + (f", and {quoted(others)}, which are not listed" if others else "")
            + "; use a function of an installed module in their place and save the model again, or "
            "serve with --pickle_policy=any, which runs the file's code"
        )
    # The file may be opened from a copy, whose path is nobody else's.
    directory = Path(f"{path}").parent
    how = _HOW_TO_LIST.format(shlex.quote(str(directory)))
    return f"uses {quoted(names)}, which --pickle_policy=listed does not allow; {how}"
