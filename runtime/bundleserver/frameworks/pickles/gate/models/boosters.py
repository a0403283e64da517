"""Boosters: their bytes are compared before the library reads them, as those of a file are."""

from __future__ import annotations

from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of


def check_handle(state: object) -> None:
    """Check that trees come as text or bytes: what is freed in the end is the address they get.

    Raises:
        Refused: they are something else.
    """
    if type(state) is not dict:
        raise Refused(f"the state of a booster is a {kind_of(state)}; expected a dict")
    for name in ("handle", "_handle"):
        if type(state.get(name)) not in (str, bytes, bytearray, type(None)):
            raise Refused(f"'{name}' of a booster is a {kind_of(state[name])}; expected its trees")


def check_xgboost(state: object) -> None:
    """Check a booster of XGBoost.

    Raises:
        Refused: its trees would lead the library out of its arrays.
    """
    # Their package declares a framework, which needs this one's.
    from bundleserver.frameworks.boosting.soundness import NotSound
    from bundleserver.frameworks.xgboost.checked.pickled import check_buffer
    from bundleserver.frameworks.xgboost.installed import installed_version

    check_handle(state)
    handle = state.get("handle")  # type: ignore[attr-defined]  # a dict, just asked
    if handle is None:
        return
    try:
        check_buffer(handle.encode() if type(handle) is str else bytes(handle), installed_version())
    except NotSound as error:
        raise Refused(f"a booster cannot be opened: {error}") from error
