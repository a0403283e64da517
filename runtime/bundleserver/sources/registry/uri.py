"""``models:/…`` URIs: a model in a registry, and a choice of its versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

FORMS = (
    "models:/NAME@ALIAS, models:/NAME/VERSION, models:/NAME/latest, models:/NAME/STAGE, "
    "models:/NAME"
)
"""Every supported form of a URI, for messages."""

STAGES = ("Production", "Staging", "Archived")
"""The stages that registries had before aliases."""

_SCHEME = "models:/"
# MLflow allows neither '/' nor ':' in model names.
_NAME = re.compile(r"[^/:\x00-\x1f]+")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class ModelUri:
    """A model in a registry, and a choice of its versions.

    At most one of ``alias``, ``version``, ``stage`` and ``is_latest`` is set; without any of them
    the version policy decides.
    """

    name: str
    alias: str | None = None
    version: str | None = None
    stage: str | None = None
    is_latest: bool = False

    @classmethod
    def parse(cls, text: str) -> ModelUri:
        """Parse a URI; the name as it is, or percent-encoded, which ``%`` and ``@`` may need.

        Raises:
            ValueError: it has none of the supported forms; lists them.
        """
        refusal = f"'{text}' is not a valid URI of a registered model; expected one of {FORMS}"
        if not text.startswith(_SCHEME) or text.startswith(_SCHEME + "/"):
            raise ValueError(refusal)
        name, slash, chosen = text.removeprefix(_SCHEME).partition("/")
        name, at, alias = name.partition("@")
        name = _decoded(name)
        if not _NAME.fullmatch(name) or name.strip(". ") == "" or (at and slash):
            raise ValueError(refusal)
        if at and (problem := alias_problem(alias)):
            raise ValueError(problem)
        return cls._by_choice(name, chosen, refusal) if slash else cls(name, alias or None)

    @classmethod
    def _by_choice(cls, name: str, chosen: str, refusal: str) -> ModelUri:
        if chosen.lower() == "latest":
            return cls(name, is_latest=True)
        if _VERSION.fullmatch(chosen):
            return cls(name, version=str(int(chosen)))
        stages = {stage.lower(): stage for stage in STAGES}
        if chosen.lower() in stages:
            return cls(name, stage=stages[chosen.lower()])
        raise ValueError(refusal)

    def __str__(self) -> str:
        is_plain = "@" not in self.name and _decoded(self.name) == self.name
        name = self.name if is_plain else quote(self.name, safe="")
        if self.alias:
            return f"{_SCHEME}{name}@{self.alias}"
        chosen = "latest" if self.is_latest else self.version or self.stage
        return f"{_SCHEME}{name}" + (f"/{chosen}" if chosen else "")

    @property
    def label(self) -> str | None:
        """The alias or stage in the URI, which is the label of the default version."""
        return self.alias or self.stage


def _decoded(name: str) -> str:
    """Decode what an encoder writes; ``%41`` is none of it, and so part of a registered name."""

    def decode(match: re.Match[str]) -> str:
        text = unquote(match[0])
        return text if quote(text, safe="") == match[0].upper() else match[0]

    return re.sub(r"(?:%[0-9A-Fa-f]{2})+", decode, name)


def alias_problem(alias: str) -> str | None:
    """Return why a string is not a valid alias, or None."""
    if not _ALIAS.fullmatch(alias) or re.fullmatch(r"v[0-9].*", alias):
        return (
            f"'{alias}' is not a valid alias; expected a letter, then letters, digits, '.', '_', "
            "'-', at most 64 characters, and not the form of a version"
        )
    if alias in ("default", "latest"):
        return f"'{alias}' is reserved; use another alias"
    return None
