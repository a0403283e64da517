"""Ensembles: a pickled or JSON configuration that combines named votes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError, StoreError
from bundleserver.frameworks import LoadContext, pickles
from bundleserver.frameworks.interface import check_options, reading
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.trust import CodeTrust
from bundleserver.frameworks.voting.config import (
    KEYS,
    VotingEnsemble,
    json_config,
    names_a_combination,
    problems_with_config,
)
from bundleserver.operations import voting
from bundleserver.tensors import Array, NamedTensor, TensorSpec
from bundleserver.tensors.signature import Signature

logger = logging.getLogger(__name__)

_MOST_BYTES = 4 << 20


class VotingPredictor:
    """An ensemble with its one method ``predict``: votes by member → ``label`` and ``score``."""

    def __init__(self, ensemble: VotingEnsemble, metadata: Mapping[str, object]) -> None:
        self._ensemble = ensemble
        self.metadata = metadata
        self.meaning = ensemble.encoding.meaning
        inputs = tuple(TensorSpec(name, "INT64", (-1,)) for name in ensemble.inputs)
        outputs = (TensorSpec("label", "INT64", (-1,)), TensorSpec("score", "FP64", (-1,)))
        self.methods: Mapping[str, Signature] = {"predict": Signature(inputs, outputs)}

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Combine the members' votes, given in the members' order, into label and score.

        Raises:
            InvalidInput: their number or lengths differ, or a value is not a valid vote.
        """
        return self._ensemble.decide(inputs)

    def close(self) -> None:
        """Do nothing; there is nothing to release."""


def load(path: Path, context: LoadContext) -> VotingPredictor:
    """Open a pickled or JSON configuration; option ``votes``: ``anomaly`` (default) or ``sklearn``.

    Raises:
        LoadError: the file cannot be read, or its configuration is not valid; lists every problem.
    """
    encoding = _encoding(path, context.options)
    raw = _read(path, context.trust)
    if not isinstance(raw, Mapping):
        raise LoadError(
            f"'{path}' has a {type(raw).__name__}; expected a dict with the keys {quoted(KEYS)}"
        )
    config = json_config(raw)
    if problems := problems_with_config(config):
        raise LoadError(f"'{path}' is not a valid ensemble configuration: {'; '.join(problems)}")
    ensemble = VotingEnsemble.from_config(config, encoding)
    best = config.get("best_method")
    if ensemble.rule == "weighted" and not names_a_combination(best):
        logger.warning(
            "%s: best_method is %r, neither a combination nor a member; using weighted voting",
            f"{path}",
            best,
        )
    metadata = config | {
        "members": list(ensemble.members),
        "weights": list(ensemble.weights),
        "threshold": ensemble.threshold,
        "rule": ensemble.rule,
    }
    return VotingPredictor(ensemble, metadata)


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write a configuration's dict as JSON.

    Raises:
        StoreError: the configuration is not valid; lists every problem.
        OSError: the file cannot be written.
    """
    what = f"component '{stem}'"
    if not isinstance(model, Mapping):
        raise StoreError(f"{what} is a {type(model).__name__}; expected an ensemble's dict")
    config = json_config(model)
    if problems := problems_with_config(config):
        raise StoreError(f"{what} is not a valid ensemble configuration: {'; '.join(problems)}")
    path = directory / f"{stem}.json"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path, {}


def _encoding(path: Path, options: Mapping[str, object]) -> voting.Encoding:
    check_options(options, ("votes",), f"'{path}'")
    votes = options.get("votes", "anomaly")
    if not isinstance(votes, str) or votes not in voting.ENCODINGS:
        known = quoted(voting.ENCODINGS)
        raise LoadError(f"'{path}': options.votes is {votes!r}; expected one of {known}")
    return voting.ENCODINGS[votes]


def _read(path: Path, trust: CodeTrust) -> object:
    """Decode JSON, which begins with a bracket, or else open a pickle."""
    with reading(path), open_regular(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return pickles.load(path, trust)
    if len(data) > _MOST_BYTES:
        raise LoadError(f"'{path}' has more than the {_MOST_BYTES} bytes of a configuration")
    try:
        return cast(object, json.loads(data))
    except (ValueError, RecursionError) as error:
        raise LoadError(f"'{path}' is not valid JSON: {error}") from error
