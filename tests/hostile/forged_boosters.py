"""Forge boosters of XGBoost, in their numbers and in their bytes, and ask them in a child.

``python -m tests.hostile.forged_boosters SEED COUNT`` prints how many passed the checks, and each
that killed the process that asked it. What does not pass never reaches XGBoost.
"""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xgboost

from bundleserver.frameworks.boosting.soundness import NotSound
from bundleserver.frameworks.xgboost.checked.model import check_model, read_document
from bundleserver.frameworks.xgboost.checked.pickled import check_buffer
from bundleserver.frameworks.xgboost.installed import installed_version
from tests.frameworks.xgboost.trained import BOOSTERS, categories

_NAMES = (
    "softprob", "dart", "linear classes", "forest", "vectors", "labels", "quantiles", "stopped",
    "pruned", "codes", "ranker", "aft",
)  # fmt: skip
_INTEGERS = (
    0, 1, -1, 2, 3, 5, 15, 16, 100, 127, 128, 255, 256, 65_535, 65_536, 1 << 24, (1 << 31) - 1,
    1 << 31, (1 << 32) - 1, 1 << 32, -(1 << 31), 1 << 62, (1 << 63) - 1,
)  # fmt: skip
_TEXTS = (
    "0", "1", "2", "3", "4", "-1", "15", "1000", "2147483647", "4294967295", "", "nan", "1e3",
    "[5E-1,5E-1,5E-1]", "multi:softprob", "binary:logistic", "gblinear", "dart",
)  # fmt: skip
_FLOATS = (float("nan"), float("inf"), -1e38, 0.0)
_MEMORY = 6 << 30
_END = 0xFFFF_FFFF


class Forged(NamedTuple):
    """What passed the checks: a file's content, or that of a pickled booster."""

    name: str
    content: bytes
    is_pickled: bool


def forged(seed: int, count: int) -> Iterator[Forged]:
    """Forge until so many passed the checks."""
    rnd = random.Random(seed)  # noqa: S311  # the same each time
    boosters = {name: BOOSTERS[name]() for name in _NAMES} | {"categories": categories()}
    left = count
    while left:
        name = rnd.choice([*boosters])
        is_pickled = rnd.random() < 0.3
        content = _forge(rnd, boosters[name], is_pickled=is_pickled)
        try:
            if is_pickled:
                check_buffer(content, installed_version())
            else:
                check_model(read_document(content), installed_version())
        except NotSound:
            continue
        left -= 1
        yield Forged(name, content, is_pickled)


def _forge(rnd: random.Random, booster: Any, *, is_pickled: bool) -> bytes:
    text, binary = (bytes(booster.save_raw(kind)) for kind in ("json", "ubj"))
    if is_pickled:
        binary = bytes(booster.__getstate__()["handle"])
    if rnd.random() < 0.4:
        return _with_other_bytes(rnd, text if rnd.random() < 0.3 and not is_pickled else binary)
    document = _plain(read_document(binary))
    _change(rnd, document)
    as_text = rnd.random() < 0.4 and not is_pickled
    return json.dumps(document).encode() if as_text else _binary(document)


def _with_other_bytes(rnd: random.Random, content: bytes) -> bytes:
    made = bytearray(content)
    for _ in range(rnd.choice((1, 1, 2, 4))):
        at = rnd.randrange(len(made))
        kind = rnd.randrange(4)
        if kind == 0:
            made[at] = rnd.randrange(256)
        elif kind == 1:
            made[at] ^= 1 << rnd.randrange(8)
        elif kind == 2:
            del made[at : at + rnd.randrange(1, 9)]
        else:
            made[at:at] = made[rnd.randrange(len(made)) :][: rnd.randrange(1, 9)]
    return bytes(made)


def _change(rnd: random.Random, document: Any) -> None:
    for _ in range(rnd.choice((1, 1, 2, 3))):
        by_key: dict[tuple[str, ...], list[Any]] = {}
        for place in _places(document):
            keys = tuple(part for part in place if isinstance(part, str))
            by_key.setdefault(keys[-2:], []).append(place)
        *way, last = rnd.choice(by_key[rnd.choice([*by_key])])
        inside = document
        for part in way:
            inside = inside[part]
        if rnd.random() < 0.05:
            del inside[last]
        else:
            inside[last] = _other(rnd, inside[last])


def _other(rnd: random.Random, value: Any) -> Any:
    if isinstance(value, list) and value:
        made = copy.copy(value)
        rnd.choice((made.pop, lambda: made.append(value[0]), made.clear, made.reverse))()
        return made
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return rnd.choice((None, 1, {}, []))
    if isinstance(value, int):
        return rnd.choice((*_INTEGERS, value + 1, value - 1))
    return rnd.choice(_TEXTS if isinstance(value, str) else _FLOATS)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inside in items:
        yield (*at, key)
        if isinstance(inside, dict | list):
            yield from _places(inside, (*at, key))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_plain(inside) for inside in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


_TYPED = {
    **dict.fromkeys(("base_weights", "split_conditions", "loss_changes"), "d"),
    **dict.fromkeys(("sum_hessian", "leaf_weights"), "d"),
    **dict.fromkeys(("left_children", "right_children", "parents", "split_indices"), "l"),
    **dict.fromkeys(("categories", "categories_nodes", "offsets", "sorted_idx"), "l"),
    **dict.fromkeys(("feature_segments",), "l"),
    **dict.fromkeys(("categories_segments", "categories_sizes"), "L"),
    **dict.fromkeys(("default_left", "split_type"), "U"),
}
_DTYPES = {"d": ">f4", "l": ">i4", "L": ">i8", "U": ">u1"}


def _binary(value: Any, key: str = "") -> bytes:
    """Write UBJSON as XGBoost does, as far as values allow."""
    if isinstance(value, dict):
        members = (_text(name) + _binary(inside, name) for name, inside in value.items())
        return b"{" + b"".join(members) + b"}"
    if isinstance(value, list):
        kind = _TYPED.get(key, "")
        try:
            made = np.array(value, _DTYPES[kind]).tobytes()
            return b"[$" + kind.encode() + b"#L" + struct.pack(">q", len(value)) + made
        except (KeyError, OverflowError, TypeError, ValueError):
            inside = b"".join(map(_binary, value))
            return b"[#L" + struct.pack(">q", len(value)) + inside
    if isinstance(value, str):
        return b"S" + _text(value)
    if isinstance(value, bool) or value is None:
        return {True: b"T", False: b"F", None: b"Z"}[value]
    if isinstance(value, float):
        return b"d" + struct.pack(">f", value)
    return b"L" + struct.pack(">q", min(max(value, -(1 << 63)), (1 << 63) - 1))


def _text(value: str) -> bytes:
    return b"L" + struct.pack(">q", len(value.encode())) + value.encode()


def ask(one: Forged) -> None:
    """Open a forged booster with XGBoost, and ask for everything that is served."""
    booster = xgboost.Booster.__new__(xgboost.Booster)
    if one.is_pickled:
        booster.__setstate__({"handle": bytearray(one.content)})
    else:
        booster = xgboost.Booster(model_file=bytearray(one.content))
    if booster.num_features() > 10_000:
        return
    rows = np.random.default_rng(0).normal(size=(70, booster.num_features())) * 3
    rows[::7] = np.nan
    rows = np.vstack([rows, np.abs(rows).round()])
    for trees in ((0, 0), (0, 1), (0, 1 << 30)):
        for kind in ("value", "margin"):
            try:
                booster.inplace_predict(rows, predict_type=kind, iteration_range=trees)
            except (ValueError, TypeError, xgboost.core.XGBoostError):
                continue
    booster.predict(xgboost.DMatrix(rows), validate_features=False)


def killed(all_forged: list[Forged]) -> Iterator[tuple[Forged, int]]:
    """Ask each in a child; yield those that killed one, with the signal."""
    begun = 0
    while begun < len(all_forged):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _ask_from(begun, all_forged, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            last = struct.unpack(">I", told.read()[-4:])[0]
        _, status = os.waitpid(child, 0)
        if last == _END:
            return
        yield all_forged[last], os.WTERMSIG(status)
        begun = last + 1


def _ask_from(begun: int, all_forged: list[Forged], writing: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(begun, len(all_forged)):
        os.write(writing, struct.pack(">I", number))
        try:
            ask(all_forged[number])
        except Exception:  # noqa: BLE001, S112  # an error is an answer
            continue
    os.write(writing, struct.pack(">I", _END))
    os._exit(0)


if __name__ == "__main__":
    xgboost.set_config(verbosity=0)
    passed = [*forged(int(sys.argv[1]), int(sys.argv[2]))]
    print(len(passed), "passed")  # noqa: T201
    for one, number in killed(passed):
        print("killed by", number, one.name, one.is_pickled, one.content.hex())  # noqa: T201
