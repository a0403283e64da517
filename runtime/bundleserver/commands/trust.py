"""The operator's trust, as the flags say it."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.bundle.trust.keys import check_keys
from bundleserver.commands.flags import read_settings
from bundleserver.commands.flags.table import FLAGS
from bundleserver.commands.flags.values import parse_bool
from bundleserver.errors import ConfigError
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy, read_names
from bundleserver.settings import Settings

LOG = logging.getLogger(__name__)

_MEANINGS = {
    PicklePolicy.ANY: "every pickle is opened, and opening one runs the code that it names",
    PicklePolicy.LISTED: "a pickle is opened if it names nothing but what the lists allow",
    PicklePolicy.DENY: "no pickle is opened",
}

_OF_COMMANDS = (
    "profile",
    "pickle_policy",
    "pickle_allow",
    "bundle_code",
    "require_manifest",
    "trusted_keys",
    "signatures",
)
"""The flags of ``serve`` that say which versions it opens."""


def with_trust(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags of ``serve`` for trust; it gets what they say as ``trust``.

    So an operator can ask what the server would say.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.name != "trust"]
    last = own.pop() if own[-1].name == "as_json" else None
    parameters = [*own, *map(_option, _OF_COMMANDS), *([last] if last is not None else [])]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        said = {name: given.pop(name) for name in _OF_COMMANDS}
        arguments = [
            f"{FLAGS[name].spelling}={str(value).lower() if value is True else value}"
            for name, value in said.items()
            if value is not None and value is not False
        ]
        try:
            trust = trust_of(read_settings(arguments, {}))
        except ConfigError as error:
            if error.what != "serve":
                raise
            raise ConfigError(command.__name__, error.problems) from error
        command(**given, trust=trust)

    # typer reads the annotations and the signature of what it is given.
    del run.__wrapped__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # as above
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def runs_code(trust: CodeTrust) -> bool:
    """Ask whether opening a version may run code that it brings along, or that it names."""
    return trust.pickles is PicklePolicy.ANY or trust.bundle_code


def _option(name: str) -> inspect.Parameter:
    flag = FLAGS[name]
    is_switch = flag.parse is parse_bool
    option = typer.Option(
        flag.spelling, help=f"As of serve: {flag.text}.", metavar=None if is_switch else "VALUE"
    )
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    if is_switch:
        return inspect.Parameter(name, kind, default=False, annotation=Annotated[bool, option])
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[str | None, option])


def trust_of(settings: Settings) -> Trust:
    """Return the trust in versions that settings ask for.

    Raises:
        ConfigError: the file of --pickle_allow cannot be read, or has what is no name; or there is
            no trusted key.
        FrameworkError: signatures are to be checked, and the library for it is missing.
    """
    if settings.trusted_keys is not None and settings.signatures is not SignaturePolicy.OFF:
        for odd in check_keys(settings.trusted_keys).odd:
            LOG.warning("--trusted_keys '%s': ignored %s", settings.trusted_keys, odd)
    otherwise = SignaturePolicy.OFF if settings.trusted_keys is None else SignaturePolicy.ENFORCE
    return Trust(
        code=CodeTrust(
            settings.pickle_policy,
            frozenset() if settings.pickle_allow is None else read_names(settings.pickle_allow),
            bundle_code=settings.bundle_code == "allow",
        ),
        require_manifest=settings.require_manifest,
        signatures=settings.signatures or otherwise,
        trusted_keys=settings.trusted_keys,
    )


def log_trust(trust: Trust) -> None:
    """Say which policy holds for pickles."""
    code = trust.code
    own = f"; {len(code.allowed)} names of --pickle_allow" if code.allowed else ""
    LOG.info("pickle policy '%s': %s%s", code.pickles.value, _MEANINGS[code.pickles], own)
