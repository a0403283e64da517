"""How inputs and outputs are nested, which torch reads as the names of classes and modules."""

from __future__ import annotations

import json
import re

from bundleserver.frameworks.torch.checked.problems import NotAllowed, shown

_SEQUENCES = ("builtins.tuple", "builtins.list")
_MAPPINGS = ("builtins.dict", "collections.OrderedDict")
_NAME = re.compile(r"[A-Za-z_]\w{0,199}")
_KEY = re.compile(r"[\w ./:@#()\[\]+-]{0,200}")
_PROTOCOL = 1
_DEEPEST = 20


def checked_tree(text: str, where: str, *, is_input: bool) -> str:
    """Return a nesting of tuples, lists and dicts with names as keys, written anew.

    Raises:
        NotAllowed: it has anything else.
    """
    try:
        document = json.loads(text)
        protocol, tree = document
    except (ValueError, TypeError, RecursionError) as error:
        raise NotAllowed(where, f"is {shown(text)}; expected a tree of inputs") from error
    if protocol != _PROTOCOL:
        raise NotAllowed(where, f"is of the protocol {shown(protocol)}; expected {_PROTOCOL}")
    return json.dumps([_PROTOCOL, _checked(tree, where, _NAME if is_input else _KEY, 0)])


def _checked(tree: object, where: str, names: re.Pattern[str], depth: int) -> dict[str, object]:
    if not isinstance(tree, dict) or depth > _DEEPEST:
        raise NotAllowed(where, f"has {shown(tree)}; expected a tree of inputs")
    kind, context, children = (tree.get(key) for key in ("type", "context", "children_spec"))
    if not isinstance(children, list):
        raise NotAllowed(where, f"has {shown(tree)}; expected a tree of inputs")
    below = [_checked(child, where, names, depth + 1) for child in children]
    if kind is None and context is None and not below:
        return {"type": None, "context": None, "children_spec": []}
    if kind in _SEQUENCES and context == "null":
        return {"type": kind, "context": "null", "children_spec": below}
    if kind in _MAPPINGS and isinstance(context, str):
        keys = _keys(context, where)
        if len(keys) == len(below) == len(set(keys)) and all(map(names.fullmatch, keys)):
            return {"type": kind, "context": json.dumps(keys), "children_spec": below}
    raise NotAllowed(
        where, f"has {shown(kind)} with {shown(context)}; expected tuples, lists and dicts"
    )


def _keys(context: str, where: str) -> list[str]:
    try:
        keys = json.loads(context)
    except (ValueError, RecursionError):
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise NotAllowed(where, f"has the keys {shown(context)}; expected strings")
    return keys
