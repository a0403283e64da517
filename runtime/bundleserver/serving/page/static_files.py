"""The page's scripts and styles: a fixed table, so that no request makes a path of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType

from bundleserver.serving.rest.http import Answer

_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "js": "text/javascript; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "svg": "image/svg+xml",
        "LICENSE": "text/plain; charset=utf-8",
    }
)
FORM_SCRIPTS = (
    *("form-json.js", "form-values.js", "form-body.js", "form-requests.js", "form-answer.js"),
    *("form-view.js", "form-options.js", "form-follow.js", "forecast.js", "compare.js", "form.js"),
)
"""The scripts of a model's form, in the order in which they run."""

NAMES = (
    *("page.css", "page.js", "plots.js", "icon.svg"),
    *("uplot.js", "uplot.css", "uplot.LICENSE"),
    *("form.css", *FORM_SCRIPTS),
)
"""Every file that is served; uPlot's are those of its npm package."""

_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


@dataclass(frozen=True)
class StaticFile:
    """A file's content, its media type, and the mark that changes with its content."""

    content: bytes
    content_type: str
    mark: str


def read_static_files() -> Mapping[str, StaticFile]:
    """Read every file of the table from the package."""
    folder = files(__package__).joinpath("static")
    found = {}
    for name in NAMES:
        content = folder.joinpath(name).read_bytes()
        mark = hashlib.sha256(content).hexdigest()[:16]
        found[name] = StaticFile(content, _KINDS[name.rpartition(".")[2]], mark)
    return MappingProxyType(found)


def static_answer(file: StaticFile, asked_mark: str, known: str | None) -> Answer:
    """Answer with a file: kept for ever under the address with its mark, else asked for again.

    ``known``: the request's ``If-None-Match``.
    """
    etag = f'"{file.mark}"'
    cache = _FOR_EVER if asked_mark == file.mark else _ASK_AGAIN
    headers = {"etag": etag, "cache-control": cache}
    if known is not None and etag in known:
        return Answer(b"", 304, headers, file.content_type)
    return Answer(file.content, 200, headers, file.content_type)
