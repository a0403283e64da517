"""Exported programs of somebody whom the operator does not trust: checked, then built by us.

``torch.export.load`` runs what a file says: it unpickles some entries, evaluates the expressions of
shapes, resolves operators by attribute anywhere below ``torch``, loads compiled libraries, and
writes names into the source of the program that it compiles. Here torch's reader sees nothing of
the file. Each entry is read once; what JSON says is compared with torch's own schema and with lists
of ours, and everything that is not needed to compute is dropped; weights are plain bytes. Only what
passed is handed to torch's deserializer, as objects, so that nothing is left to unpickle.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from bundleserver.errors import LoadError
from bundleserver.frameworks.archives import open_archive
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.torch.checked.archive import Archive
from bundleserver.frameworks.torch.checked.calls import check_targets, with_checks
from bundleserver.frameworks.torch.checked.problems import NotAllowed
from bundleserver.frameworks.torch.checked.program import read_program
from bundleserver.frameworks.torch.checked.weights import read_constants, read_weights
from bundleserver.frameworks.torch.files import Kind, unreadable

__all__ = ["open_checked", "with_checks"]


def open_checked(path: Path, allowed: Collection[str] = ()) -> ExportedProgram:
    """Open a ``torch.export`` archive of which nothing runs but listed operators.

    Args:
        path: the archive.
        allowed: the operator's own names; those of operators count, as ``torch.ops.a.b.default``.

    Raises:
        LoadError: it has something else, or this torch cannot read it; says which and what to do.
    """
    try:
        with open_regular(path) as file, open_archive(file) as zipped:
            archive = Archive(zipped)
            program = read_program(archive, allowed)
            weights, constants = read_weights(archive), read_constants(archive)
    except NotAllowed as error:
        raise LoadError(f"'{path}' is not opened under this --pickle_policy: {error}") from error
    except (LoadError, MemoryError):
        raise
    except Exception as error:  # what unpacks or converts a damaged archive may raise anything
        raise unreadable(path, Kind.EXPORTED, error) from error
    try:
        built = _built(program, weights, constants)
        check_targets(built)
        return built
    except NotAllowed as error:
        raise LoadError(f"'{path}' is not opened under this --pickle_policy: {error}") from error
    except Exception as error:  # torch's own deserializer may raise anything
        raise unreadable(path, Kind.EXPORTED, error) from error


def _built(
    document: Any, weights: dict[str, torch.Tensor], constants: dict[str, torch.Tensor]
) -> ExportedProgram:
    from torch._export.serde.serialize import ExportedProgramDeserializer

    # Dicts, where bytes would be unpickled.
    program = ExportedProgramDeserializer().deserialize(document, weights, constants, None)
    spec = program.call_spec.in_spec
    if spec is not None:
        from torch.utils._pytree import tree_unflatten

        # With none, torch checks no shapes; it asks these for their structure only.
        leaves = [torch.empty(0)] * spec.num_leaves
        program.example_inputs = tree_unflatten(leaves, spec)
    return program
