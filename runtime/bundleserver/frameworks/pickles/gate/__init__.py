"""The gate of ``--pickle_policy=listed``: a pickle makes only what lists name.

It follows the stream as Python's own unpickler does, and does the work of each instruction only
after it was checked: what is imported, called and made, and which state and items that gets. What a
pickle may do says the operator, never the pickle or its bundle.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import BinaryIO, cast

from bundleserver.frameworks.pickles.gate.forms import FORM_VALUES, FORMS, STAND_INS
from bundleserver.frameworks.pickles.gate.listing import built_in
from bundleserver.frameworks.pickles.gate.refusal import NotListed, Refused
from bundleserver.frameworks.pickles.gate.rules import AUDITS
from bundleserver.frameworks.pickles.gate.session import Session
from bundleserver.frameworks.pickles.gate.unpickler import GateUnpickler
from bundleserver.frameworks.pickles.gate.values.table_arrays import HELD
from bundleserver.frameworks.trust import CodeTrust

__all__ = ["NotListed", "Refused", "open_stream", "session_of"]


def session_of(trust: CodeTrust, listed: Mapping[str, frozenset[str]] | None = None) -> Session:
    """Return a load by all rules, for what makes objects without a pickle, too.

    Args:
        trust: the operator's own names.
        listed: names with their ways in place of the built-in list, for whoever writes it.
    """
    names = built_in() if listed is None else listed
    return Session(trust, FORMS, STAND_INS, names, AUDITS, HELD, FORM_VALUES)


def open_stream(
    stream: BinaryIO,
    trust: CodeTrust,
    persistent: Callable[[object], object] | None = None,
    listed: Mapping[str, frozenset[str]] | None = None,
) -> object:
    """Open the next pickle of a stream, as far as the lists allow; only ``trust.allowed`` is asked.

    Args:
        stream: unpacked; afterwards it is where the pickle ended if it is buffered.
        trust: the operator's own names.
        persistent: returns what is outside of the pickle; without it that is refused.
        listed: names with their ways in place of the built-in list, for whoever writes it.

    Raises:
        Refused: it does what is not allowed; nothing of that was done.
        Exception: it is damaged, or a listed class does not accept its state.
    """
    session = session_of(trust, listed)
    if not isinstance(stream, (io.BufferedReader, io.BytesIO)):
        stream = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream)))
    opened = GateUnpickler(stream, session, persistent).load()
    session.audit()
    return opened
