"""What the first bytes of a file say that it is, whatever its name says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bundleserver.errors import BundleError
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.interface import reading
from bundleserver.frameworks.regular_files import open_regular

_HEAD_BYTES = 4096
_SKOPS = re.compile(rb"PK\x03\x04.{26}(?:.{0,256}\.npy|schema\.json)", re.DOTALL)
_AGAIN = "save the model itself with"


@dataclass(frozen=True)
class Kind:
    """A format of model files.

    Attributes:
        what: the format, for messages.
        begins: what its files begin with.
        suffixes: those that its files may have, the usual one first; none if no framework opens it.
        framework: whose it is.
        remedy: what to do with a file that no framework opens.
    """

    what: str
    begins: re.Pattern[bytes]
    suffixes: tuple[str, ...]
    framework: str
    remedy: str = ""

    def advice(self, path: Path) -> str:
        """Say what to do with a file whose suffix is another's."""
        return self.remedy or f"rename it to '{path.stem}{self.suffixes[0]}'"


_KINDS = (
    Kind("a CatBoost model", re.compile(rb"CBM1"), (".cbm",), "catboost"),
    Kind(
        "a LightGBM model",
        re.compile(rb"tree\r?\nversion="),
        (".txt", ".bst", ".lgb"),
        "lightgbm",
    ),
    Kind(
        "an XGBoost model in UBJSON",
        re.compile(rb"\{[iUIlL].{1,8}(learner|version)", re.DOTALL),
        (".ubj", ".bst"),
        "xgboost",
    ),
    Kind(
        "an XGBoost model in JSON",
        re.compile(rb'\s*\{\s*"(learner"\s*:\s*\{|version"\s*:\s*\[)'),
        (".json", ".bst"),
        "xgboost",
    ),
    Kind("a skops file", _SKOPS, (".skops",), "skops"),
    Kind(
        "a CatBoost model in JSON",
        re.compile(
            rb'\s*\{\s*"(features_info|oblivious_trees|model_info|scale_and_bias|trees)"\s*:\s*[{\[]'
        ),
        (),
        "catboost",
        f"{_AGAIN} save_model('model.cbm')",
    ),
    Kind(
        "a dump of XGBoost's trees, which is not a model",
        re.compile(rb'\s*(\[\s*\{\s*"(nodeid|leaf)"|booster\[0\]|0:\[)'),
        (),
        "xgboost",
        f"{_AGAIN} save_model('model.ubj')",
    ),
    Kind(
        "a dump of a LightGBM model, which is none",
        re.compile(rb'\s*\{\s*"name"\s*:\s*"tree"'),
        (),
        "lightgbm",
        f"{_AGAIN} save_model('model.txt')",
    ),
)
_OWNERS = frozenset({*(kind.framework for kind in _KINDS), "sklearn", "onnx", "torch"})


def what_is_ignored(path: Path) -> str:
    """Say what a file is that no framework opens, and what to do if it is a model.

    Raises:
        LoadError: it cannot be read.
    """
    kind = _kind_of(path)
    if kind is None:
        return "plain data"
    if suffix_of(path.name) in kind.suffixes:
        return f"{kind.what} of plain data or of a damaged object"
    return f"{kind.what}: {kind.advice(path)}"


def refuse_other_suffix(path: Path, framework: str) -> None:
    """Refuse a file that by its suffix is one framework's, and by its first bytes another's.

    Raises:
        BundleError: says what it is, and which suffix it should have.
        LoadError: it cannot be read.
    """
    if framework not in _OWNERS:
        return  # a plug-in knows its files itself
    kind = _kind_of(path)
    # Archives are of many kinds, and whoever opens one says what it lacks.
    if kind is None or kind.begins is _SKOPS or suffix_of(path.name) in kind.suffixes:
        return
    raise BundleError(
        f"'{path}' is {kind.what} by its first bytes, and has the suffix '{path.suffix}' of "
        f"another format; {kind.advice(path)}"
    )


def _kind_of(path: Path) -> Kind | None:
    with reading(path), open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    return next((kind for kind in _KINDS if kind.begins.match(head)), None)
