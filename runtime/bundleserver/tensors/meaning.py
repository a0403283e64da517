"""What options make of values, beyond names, datatypes and shapes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """How a call's first output is to be read, and the values of its inputs if ``of_inputs``.

    Two that differ in ``text`` (``votes 'sklearn'``) mean something else by the same value.
    """

    text: str
    of_inputs: bool = False
