"""The code that ships with a bundle: what was verified is copied, and the copy is what is imported.

A bundle's modules are imported under their own names, isolated from those of every other version
(``frameworks/isolated_code``). They come from a private directory that has the listed files and
nothing else, so that what somebody puts beside them is never imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bundleserver.bundle.own_code.copying import copy_files
from bundleserver.bundle.own_code.finding import files_of
from bundleserver.bundle.own_code.names import refuse_taken
from bundleserver.bundle.steps import Plan, PlannedStep
from bundleserver.errors import BundleError, LoadError
from bundleserver.frameworks.isolated_code import IsolatedCode
from bundleserver.frameworks.own_code import OwnCode
from bundleserver.frameworks.trust import CodeTrust
from bundleserver.manifest import CODE, Manifest
from bundleserver.tensors import NamedTensor

__all__ = ["files_of", "open_code", "with_code"]


def open_code(
    directory: Path, manifest: Manifest, trust: CodeTrust, opened: ExitStack
) -> CodeTrust:
    """Make a bundle's own modules ready to be imported; nothing of them runs yet.

    Args:
        directory: the bundle's, verified.
        manifest: its manifest.
        trust: what the operator lets its files do.
        opened: removes the private copy when the bundle is closed.

    Returns:
        The trust in the bundle's files, with its own code, if it has any.

    Raises:
        BundleError: it has code, and the operator lets none of bundles run; or it cannot be used.
        IntegrityError: a file is not the one that was verified.
    """
    files = files_of(directory, manifest)
    if not files:
        return replace(trust, own=None)
    if not trust.bundle_code:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        raise BundleError(
            f"'{directory}' has code of its own ('{files[0].path}'{more}), and --bundle_code=deny "
            "lets no code of a bundle run; install its modules in the server's image and save it "
            "without code=…, or serve it with --bundle_code=allow"
        )
    try:
        # Removed with the bundle, or else with the process.
        made = TemporaryDirectory(prefix="bundleserver-code-", ignore_cleanup_errors=True)
    except OSError as error:
        raise LoadError(
            f"the code of '{directory}' cannot be copied before it is imported: "
            f"{error.strerror or error}; make room in the temporary directory, or set TMPDIR"
        ) from error
    private = Path(opened.enter_context(made)).resolve()
    copy_files(directory, files, private)
    modules = IsolatedCode(private / CODE)
    refuse_taken(directory, modules.names)
    return replace(trust, own=OwnCode(modules, private, directory))


def with_code(plan: Plan, trust: CodeTrust) -> Plan:
    """Let a plan's components find the bundle's own modules also when they are called."""
    if trust.own is None:
        return plan
    return replace(plan, steps=tuple(_with_modules(step, trust.own.modules) for step in plan.steps))


def _with_modules(step: PlannedStep, modules: IsolatedCode) -> PlannedStep:
    if step.method is None:
        return step
    call = step.call
    return replace(
        step,
        call=lambda inputs, parameters: modules.call(
            lambda given: call(given, parameters), inputs, _copied
        ),
    )


def _copied(inputs: Sequence[NamedTensor]) -> Sequence[NamedTensor]:
    """Copy what a step takes, since its code may change the arrays."""
    return [tensor._replace(values=tensor.values.copy()) for tensor in inputs]
