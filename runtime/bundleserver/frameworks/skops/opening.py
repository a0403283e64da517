"""Files of skops: its types by its own list and ours, what it makes by the gate's rules.

skops compares the names of types. What those objects are made of, and the numbers that compiled
code would follow, it does not check; so each object gets its state as it would from a pickle.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.version import Version
from skops.io import _audit, _general, _numpy, _sklearn, _utils
from skops.io._protocol import PROTOCOL

from bundleserver.documents.forms import quoted
from bundleserver.errors import BundleServerError, LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.interface import named_line, passes_through
from bundleserver.frameworks.pickles.gate import NotListed, Refused, session_of
from bundleserver.frameworks.pickles.gate.building import build
from bundleserver.frameworks.pickles.gate.listing import BUILD, CALL, NEW, built_in
from bundleserver.frameworks.pickles.gate.refusal import Uncheckable
from bundleserver.frameworks.pickles.gate.session import Reference, Session
from bundleserver.frameworks.pickles.gate.values.calls import CALL_CHECKS
from bundleserver.frameworks.pickles.gate.values.random_states import check_random_state
from bundleserver.frameworks.skops.contents import Entries, entries_in, schema_in
from bundleserver.frameworks.skops.outline import sklearn_versions
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

Schema = Mapping[str, object]

_OLDEST_SKOPS = Version("0.13")
"""Older ones run what their check has not seen (CVE-2025-54412, CVE-2025-54413)."""
_SKOPS_NODE = re.compile(
    r"(Dict|DefaultDict|List|Set|Tuple|Bytes|Bytearray|Slice|Function|Type|ConstructorFromReduce"
    r"|Object|Json|Cached|NdArray|MaskedArray|RandomState|RandomGenerator|DType|SparseMatrix|Tree"
    r"|Loss|_DictWithDeprecatedKeys)Node"
)
"""What skops may make; left out are methods, partial functions and operators, which call."""

_STATE = frozenset({NEW, BUILD})
NOTEBOOK = ("__main__.", "__mp_main__.")
"""How the names of what a notebook defines begin."""


def open_skops(path: Path, trust: CodeTrust) -> object:
    """Open a skops file by skops' own list, ours and the operator's, never by that of the model.

    Where every pickle is trusted, all its types are.

    Raises:
        LoadError: it is damaged, has other types, or objects that break a rule of the gate.
    """
    if Version(version("skops")) < _OLDEST_SKOPS:
        raise LoadError(
            f"'{path}' is a skops file, and skops {version('skops')} does not check all that it "
            f"runs; install skops {_OLDEST_SKOPS} or later"
        )
    # The filter stays, as for pickles; one line for the file is logged in place of it.
    warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
    with entries_in(path) as entries:
        schema = schema_in(entries)
        is_any = trust.pickles is PicklePolicy.ANY
        _check_protocol(path, schema, is_exact=not is_any)
        try:
            made = _made_by_skops(schema, entries) if is_any else _made(schema, entries, trust)
        except BundleServerError:
            raise
        except NotListed as error:
            raise LoadError(
                f"'{path}' has a '{error.name}', which gets no state; add it to the file of "
                "--pickle_allow if you trust it"
            ) from error
        except Refused as error:
            raise LoadError(_why_refused(path, error, trust)) from error
        except ModuleNotFoundError as error:
            raise LoadError(f"'{path}' {pickles.missing_module(error.name or '', path)}") from error
        except BaseException as error:  # skops, and the file's own classes, may raise anything
            if passes_through(error):
                raise
            raise LoadError(f"'{path}' cannot be opened by skops: {named_line(error)}") from error
    pickles.warn_of_skew(path, sklearn_versions(schema))
    return made


def _why_refused(path: Path, error: Refused, trust: CodeTrust) -> str:
    how = "; if you trust who wrote it, serve with --pickle_policy=any"
    how = how if isinstance(error, Uncheckable) else ""
    policy = trust.pickles.value
    return f"'{path}' is refused by --pickle_policy={policy}, as a pickle would be: {error}{how}"


def untrusted_in(path: Path) -> tuple[str, ...]:
    """Return the names in a file that neither skops nor the built-in list trusts.

    Raises:
        LoadError: it cannot be read.
    """
    with entries_in(path) as entries:
        tree = _tree_of(schema_in(entries), entries, None)
        listed = _listed(session_of(CodeTrust()), [*_nodes_of(tree)])
        return tuple(sorted(_untrusted(tree) - listed))


def _check_protocol(path: Path, schema: Schema, *, is_exact: bool) -> None:
    """Refuse what a newer skops wrote and, where it matters what is made, what an older one did.

    An older protocol is read by the rules of older versions.
    """
    protocol = schema.get("protocol")
    is_known = type(protocol) is int and 0 <= protocol <= PROTOCOL
    if is_known and (protocol == PROTOCOL or not is_exact):
        return
    writer = str(schema.get("_skops_version", "of an unknown version"))[:40]
    raise LoadError(
        f"'{path}' was written by another skops ({writer}, protocol {str(protocol)[:20]}); skops "
        f"{version('skops')}, which is installed, has protocol {PROTOCOL}: save the model again "
        "with this one"
    )


def _made_by_skops(schema: Schema, entries: Entries) -> object:
    """Make what a file describes, whatever it is."""
    tree = _tree_of(schema, entries, None)
    unknown = _untrusted(tree)
    if notebook := sorted(name for name in unknown if name.startswith(NOTEBOOK)):
        raise LoadError(
            f"'{entries.path}' uses {quoted(notebook)}, defined in the notebook or script that "
            "wrote the file, which cannot be imported here; move it to a module that is installed "
            "in the server's image, and save it again"
        )
    if unknown:
        tree = _tree_of(schema, entries, sorted(unknown))
    made: object = tree.construct()
    return made


def _made(schema: Schema, entries: Entries, trust: CodeTrust) -> object:
    """Make what a file describes, each object by the rules for pickles.

    Raises:
        LoadError: it has other types than the lists have.
    """
    path = entries.path
    odd = sorted({one for one in _loaders_in(schema) if not _SKOPS_NODE.fullmatch(one)})
    if odd:
        raise LoadError(
            f"'{path}' has {quoted(odd, most=6)}, which calls functions when it is opened or used; "
            "save the model without methods and partial functions"
        )
    tree = _tree_of(schema, entries, sorted(trust.allowed))
    nodes = [*_nodes_of(tree)]
    session = session_of(trust)
    unknown = _untrusted(tree) - trust.allowed - _listed(session, nodes)
    if unknown:
        raise LoadError(
            f"'{path}' uses {quoted(sorted(unknown), most=20)}, which neither skops nor the "
            "built-in list trusts; add those that you trust to the file of --pickle_allow (what "
            "the model lists as trusted does not count)"
        )
    for node in nodes:
        node._construct = functools.partial(_made_from, session, node, node._construct)
    made: object = tree.construct()
    session.audit()
    return made


def _tree_of(schema: Schema, entries: Entries, trusted: list[str] | None) -> Any:
    context = _utils.LoadContext(src=entries, protocol=schema["protocol"])
    return _audit.get_tree(schema, context, trusted=trusted)


def _untrusted(tree: Any) -> frozenset[str]:
    """Return the names in a tree that are not trusted.

    Each node answers once: skops asks one that is shared again for everyone who has it, and again
    for everyone who has those.
    """
    for node in _nodes_of(tree):
        node.get_unsafe_set = functools.cache(node.get_unsafe_set)
    return frozenset(tree.get_unsafe_set())


def _listed(session: Session, nodes: list[Any]) -> frozenset[str]:
    """Return the names that the built-in list has in the ways in which the nodes use them."""
    uses: dict[str, bool] = {}
    reduced = (node for node in nodes if isinstance(node, _sklearn.ReduceNode))
    makers = {id(node.children["constructor"]) for node in reduced}
    for node in nodes:
        if id(node) not in makers:
            name = f"{node.module_name}.{node.class_name}"
            uses[name] = uses.get(name, True) and _is_listed_use(session, node, name)
    return frozenset(name for name, is_listed in uses.items() if is_listed)


def _is_listed_use(session: Session, node: Any, name: str) -> bool:
    ways = built_in().get(name, frozenset())
    if isinstance(node, _general.ObjectNode):
        return NEW in ways
    if isinstance(node, _sklearn.TreeNode):
        return CALL in ways
    if isinstance(node, (_general.FunctionNode, _general.TypeNode)) and ways:
        return not isinstance(session.find(node.module_name, node.class_name), Reference)
    return False


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


def _made_from(session: Session, node: Any, construct: Callable[[], object]) -> object:
    """Make the object of one node."""
    if isinstance(node, _general.ObjectNode):
        kind = _utils.gettype(node.module_name, node.class_name)
        return _with_state(session, kind.__new__(kind), node.children["attrs"])
    if isinstance(node, _sklearn.ReduceNode):
        maker, args = node.children["constructor"], node.children["args"].construct()
        if type(args) is not tuple:
            raise Refused("the arguments of an object are no tuple")
        if check := CALL_CHECKS.get(f"{maker.module_name}.{maker.class_name}"):
            check(session, args)
        kind = _utils.gettype(maker.module_name, maker.class_name)
        return _with_state(session, kind(*args), node.children["attrs"])
    if isinstance(node, _numpy.RandomStateNode):
        check_random_state(node.children["content"].construct())
    elif isinstance(node, _numpy.RandomGeneratorNode):
        check_random_state(node.children["bit_generator_state"].construct())
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
