"""How the files of a directory go together: the most probable chain, and what is doubtful in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

from bundleserver.bundle.inferring.model_files import TRANSFORMING, ModelFile, listed

_USUAL_ORDER = (
    "preprocessor", "imputer", "vectorizer", "encoder", "scaler", "selector", "reducer",
)  # fmt: skip
_MOST_TRANSFORMERS = 6


@dataclass(frozen=True)
class Chain:
    """Transformers in their order, a model, and perhaps what turns its predictions back.

    ``doubts`` say what is not certain; a chain with one is never served without a manifest.
    """

    transformers: tuple[ModelFile, ...]
    model: ModelFile
    back: ModelFile | None = None
    doubts: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """Its files in the order of their steps."""
        return (*self.transformers, self.model, *((self.back,) if self.back else ()))


def probable_chain(model: ModelFile, others: Sequence[ModelFile]) -> Chain | None:
    """Return the most probable chain of a model and transformers; None if no widths chain."""
    of_target = [file for file in others if file.is_of_target]
    of_features = [file for file in others if not file.is_of_target]
    doubts = [f"'{file.name}' transforms the target and not the features" for file in of_target]
    doubts += _strange_names(model, others)
    doubts += _repeated_roles(of_features)
    back = of_target[0] if of_target else None
    if back is None and _repeated_roles(of_features):
        back = _unnamed_among_named(of_features)
    if back is not None:
        doubts += [f"'{file.name}' is left out" for file in of_target[1:]]
        of_features = [file for file in of_features if file is not back]
    orders = [*_orders(of_features, model)]
    if not orders and back is None:
        back = next((file for file in of_features if file.facts.takes == 1), None)
        of_features = [file for file in of_features if file is not back]
        orders = [*_orders(of_features, model)] if back else []
    if not orders:
        return None
    if back is not None and not back.is_of_target:
        doubts.append(f"'{back.name}' probably transforms the target and not the features")
    if len(orders) > 1 and not _is_in_contract(orders[0]):
        doubts.append(f"the order of {listed([file.name for file in orders[0]])} is not certain")
    return _with_way_back(Chain(orders[0], model, back, tuple(dict.fromkeys(doubts))))


def problem_with_widths(model: ModelFile, others: Sequence[ModelFile]) -> str:
    """Say which widths do not chain."""
    features = [file for file in others if not file.is_of_target]
    order = sorted(features, key=_usual_place)
    for file, after in pairwise((*order, model)):
        if not _fits(file, after):
            return (
                f"'{file.name}' returns {file.facts.gives} columns, and '{after.name}' takes "
                f"{after.facts.takes}"
            )
    return f"the columns of {listed([file.name for file in (*order, model)])} do not chain"


def _strange_names(model: ModelFile, others: Sequence[ModelFile]) -> Iterator[str]:
    for file in others:
        if file.stem and model.stem and file.stem != model.stem and not file.is_of_target:
            yield f"'{file.name}' is not named after '{model.name}'"


def _repeated_roles(files: Sequence[ModelFile]) -> list[str]:
    counts = Counter(file.role for file in files)
    twice = {role: count for role, count in counts.items() if count > 1}
    return [
        f"{listed([file.name for file in files if file.role == role])} are {count} {role}s"
        for role, count in twice.items()
    ]


def _unnamed_among_named(files: Sequence[ModelFile]) -> ModelFile | None:
    """Find the one scaler that is not named for the features, beside another that is."""
    for role, count in Counter(file.role for file in files).items():
        others = [file for file in files if file.role == role and not file.says_features]
        if count == 2 and len(others) == 1:
            return others[0]
    return None


def _orders(files: Sequence[ModelFile], model: ModelFile) -> Iterator[tuple[ModelFile, ...]]:
    """Yield the orders whose widths chain, the usual one first."""
    usual = sorted(files, key=_usual_place)
    orders = permutations(usual) if len(files) <= _MOST_TRANSFORMERS else iter((tuple(usual),))
    for order in orders:
        if all(_fits(file, after) for file, after in pairwise((*order, model))):
            yield order


def _fits(file: ModelFile, after: ModelFile) -> bool:
    widths = (file.facts.gives, after.facts.takes)
    return None in widths or widths[0] == widths[1]


def _usual_place(file: ModelFile) -> tuple[int, str]:
    known = file.role in _USUAL_ORDER
    return (_USUAL_ORDER.index(file.role) if known else len(_USUAL_ORDER), file.name)


def _is_in_contract(order: Sequence[ModelFile]) -> bool:
    return all(file.role in TRANSFORMING for file in order)


def _with_way_back(chain: Chain) -> Chain:
    """Leave out what cannot turn predictions back into tensors."""
    back = chain.back
    if back is None or (back.role != "target sets" and chain.model.role != "autoencoder"):
        return chain
    why = f"'{back.name}' is left out: what it turns predictions into is not a tensor"
    return Chain(chain.transformers, chain.model, None, (*chain.doubts, why))
