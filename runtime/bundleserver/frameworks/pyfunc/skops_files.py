"""Files of skops: its types by its own list and the operator's, what it makes by the gate's rules.

skops compares the names of types. What those objects are made of, and the numbers that compiled
code would follow, it does not check; so each object gets its state as it would from a pickle.
"""

from __future__ import annotations

import functools
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import skops.io
from packaging.version import Version
from skops.io import _audit, _general, _numpy, _sklearn, _utils
from skops.io._protocol import PROTOCOL

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks.interface import named_line
from bundleserver.frameworks.pickles.gate import NotListed, Refused, session_of
from bundleserver.frameworks.pickles.gate.building import build
from bundleserver.frameworks.pickles.gate.listing import BUILD, NEW
from bundleserver.frameworks.pickles.gate.session import Session
from bundleserver.frameworks.pickles.gate.values.calls import CALL_CHECKS
from bundleserver.frameworks.pickles.gate.values.random_states import check_random_state
from bundleserver.frameworks.trust import CodeTrust

_MOST_SCHEMA_BYTES = 256 << 20
_OLDEST_SKOPS = Version("0.13")
"""Older ones run what their check has not seen (CVE-2025-54412, CVE-2025-54413)."""
_SKOPS_NODE = re.compile(
    r"(Dict|DefaultDict|List|Set|Tuple|Bytes|Bytearray|Slice|Function|Type|ConstructorFromReduce"
    r"|Object|Json|Cached|NdArray|MaskedArray|RandomState|RandomGenerator|DType|SparseMatrix|Tree"
    r"|Loss|_DictWithDeprecatedKeys)Node"
)
"""What skops may make; left out are methods, partial functions and operators, which call."""

_STATE = frozenset({NEW, BUILD})


def open_skops(path: Path, data: bytes, trust: CodeTrust) -> object:
    """Open a skops file by skops' own list and the operator's, never by that of the model.

    Raises:
        LoadError: it has other types, or objects that break a rule of the gate.
    """
    if Version(version("skops")) < _OLDEST_SKOPS:
        raise LoadError(
            f"'{path}' is a skops file, and skops {version('skops')} does not check all that it "
            f"runs; install skops {_OLDEST_SKOPS} or later"
        )
    try:
        _check_nodes(path, data)
        unknown = set(skops.io.get_untrusted_types(data=data)) - trust.allowed
        if not unknown:
            return _made_by_rules(data, trust)
    except LoadError:
        raise
    except NotListed as error:
        raise LoadError(
            f"'{path}' has a '{error.name}', which gets no state; add it to the file of "
            "--pickle_allow if you trust it"
        ) from error
    except Refused as error:
        raise LoadError(
            f"'{path}' is refused, as a pickle would be under --pickle_policy=listed: {error}"
        ) from error
    except Exception as error:  # skops may raise anything for a damaged file
        raise LoadError(f"'{path}' cannot be opened by skops: {named_line(error)}") from error
    raise LoadError(
        f"'{path}' uses {quoted(sorted(unknown), most=20)}, which skops does not trust by itself; "
        "add those that you trust to the file of --pickle_allow (what the model lists as trusted "
        "does not count)"
    )


def _check_nodes(path: Path, data: bytes) -> None:
    """Refuse what skops would make by rules of its older versions, or by calling something."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        entry = archive.getinfo("schema.json")
        if len(names) != len(set(names)) or entry.file_size > _MOST_SCHEMA_BYTES:
            raise LoadError(f"'{path}' has entries twice, or a schema that is too large")
        schema = json.loads(archive.read(entry))
    if not isinstance(schema, dict) or schema.get("protocol") != PROTOCOL:
        raise LoadError(f"'{path}' was written by another skops; save it again with this one")
    odd = sorted({one for one in _loaders_in(schema) if not _SKOPS_NODE.fullmatch(one)})
    if odd:
        raise LoadError(
            f"'{path}' has {quoted(odd, most=6)}, which calls functions when it is opened or used; "
            "save the model without methods and partial functions"
        )


def _loaders_in(schema: object) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "__loader__" in value:
                yield str(value["__loader__"])[:100]
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _made_by_rules(data: bytes, trust: CodeTrust) -> object:
    """Make what a file describes, each object by the rules for pickles."""
    trusted = sorted(trust.allowed)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema, context = _utils.read_schema(archive)
        tree = _audit.get_tree(schema, context, trusted=trusted)
        _audit.audit_tree(tree, trusted=trusted)
        session = session_of(trust)
        for node in _nodes_of(tree):
            node._construct = functools.partial(_made, session, node, node._construct)
        made: object = tree.construct()
    session.audit()
    return made


def _nodes_of(tree: Any) -> Iterator[Any]:
    """Yield each node once, wherever its parent keeps it."""
    waiting, seen = [tree], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
        elif isinstance(value, _audit.Node) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(vars(value).values())
            yield value


def _made(session: Session, node: Any, construct: Callable[[], object]) -> object:
    """Make the object of one node."""
    if isinstance(node, _general.ObjectNode):
        kind = _utils.gettype(node.module_name, node.class_name)
        return _with_state(session, kind.__new__(kind), node.attrs)
    if isinstance(node, _sklearn.ReduceNode):
        maker, args = node.constructor, node.args.construct()
        if type(args) is not tuple:
            raise Refused("the arguments of an object are no tuple")
        if check := CALL_CHECKS.get(f"{maker.module_name}.{maker.class_name}"):
            check(session, args)
        kind = _utils.gettype(maker.module_name, maker.class_name)
        return _with_state(session, kind(*args), node.attrs)
    if isinstance(node, _numpy.RandomStateNode):
        check_random_state(node.content.construct())
    elif isinstance(node, _numpy.RandomGeneratorNode):
        check_random_state(node.bit_generator_state.construct())
    made = construct()
    session.watch(made)
    return made


def _with_state(session: Session, made: object, attributes: Any) -> object:
    session.hold(made, _STATE)
    session.watch(made)
    state = None if attributes is None else attributes.construct()
    # As skops: an empty state is none.
    if state is not None and (state or isinstance(state, dict)):
        build(session, made, state)
    session.complete(made)
    return made
