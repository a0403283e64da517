"""Forge the numbers in a LightGBM text, one at a time, and ask the library in a child."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import re
import resource
import signal
from collections.abc import Callable, Iterator

import numpy as np

from bundleserver.frameworks.lightgbm_text.model import read_model
from bundleserver.frameworks.lightgbm_text.numbers import Malformed

NUMBERS = (
    *("-1", "0", "1", "2", "7", "-9", "2147483647", "-2147483648", "4294967295", "1e9", "1e400"),
    *("nan", "-inf", "infa", "", "-", ".", "e5", "1e", "1.2.3", "0x1", "1-2", "+5", "1e-320"),
)
"""Other values: numbers of places that are not there, and what no parser should take."""

_SECONDS = 5
_MEMORY = 6 << 30


def with_sizes(text: str) -> bytes:
    """Return a text whose ``tree_sizes`` are those of its trees, so that only a value is odd."""
    start, end = text.index("\n\nTree=") + 2, text.index("end of trees")
    sizes = [
        len(part.encode()) for part in re.split(r"(?=^Tree=)", text[start:end], flags=re.M)[1:]
    ]
    head = re.sub(r"(?m)^tree_sizes=.*$", f"tree_sizes={' '.join(map(str, sizes))}", text[:start])
    return (head + text[start:]).encode()


def forged(text: str, seed: int, count: int) -> Iterator[bytes]:
    """Yield so many texts with one value, line or byte that is another."""
    draw = random.Random(seed)  # noqa: S311  # no secret
    end = text.index("end of trees")
    lines = text[:end].split("\n")
    for _ in range(count):
        kind = draw.randrange(8)
        if kind == 0:
            data = bytearray(text.encode())
            for _ in range(draw.randint(1, 4)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            yield bytes(data)
            continue
        if kind == 1:
            yield text.encode()[: draw.randrange(len(text))]
            continue
        new = [*lines]
        at = draw.choice([i for i, line in enumerate(new) if "=" in line])
        key, _, value = new[at].partition("=")
        if kind == 2:
            changed = draw.choice([[], [new[at], new[at]], [key], [f"{key}="]])
            new[at : at + 1] = changed
        else:
            words = value.split(" ")
            place = draw.randrange(len(words))
            action = draw.randrange(5)
            if action < 3:
                words[place] = draw.choice(NUMBERS)
            elif action == 3:
                del words[place]
            else:
                words.insert(place, draw.choice(NUMBERS))
            new[at] = f"{key}={' '.join(words)}"
        yield with_sizes("\n".join(new) + text[end:]) if "\n\nTree=" in "\n".join(new) else b""


def ask_library(data: bytes) -> None:
    """Open a text as the framework does, and predict for all kinds of rows."""
    from lightgbm import Booster

    try:
        model = read_model(data)
    except Malformed:
        return
    booster = Booster(model_str=model.text)
    for rows in (np.zeros, np.ones):
        booster.predict(rows((3, len(model.names))))
    for value in (np.nan, np.inf, -np.inf, 1e308, -1e308, 5.0, 31.0, 4e9, -3.0):
        booster.predict(np.full((1, len(model.names)), value), raw_score=True)


def deaths(cases: list[bytes], ask: Callable[[bytes], None] = ask_library) -> Iterator[bytes]:
    """Yield what kills a process that opens it."""
    at = 0
    while at < len(cases):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            _work(cases[at:], writing, ask)
        os.close(writing)
        with os.fdopen(reading, "rb") as done:
            at += len(done.read())
        _, status = os.waitpid(child, 0)
        if at < len(cases):
            # What takes long on a machine that is busy is no death.
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM):
                yield cases[at]
            at += 1


def _work(cases: list[bytes], writing: int, ask: Callable[[bytes], None]) -> None:
    """In the child: ask each; what was done is a byte each."""
    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for data in cases:
            signal.alarm(_SECONDS)
            with contextlib.suppress(Exception):  # anything but a signal is well
                ask(data)
            os.write(writing, b".")
    finally:
        os._exit(0)
