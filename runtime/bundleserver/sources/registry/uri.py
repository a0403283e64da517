"""``models:/…``: which model of a registry is meant, and which of its versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

FORMS = (
    "models:/NAME@ALIAS, models:/NAME/VERSION, models:/NAME/latest, models:/NAME/STAGE, "
    "models:/NAME"
)
"""Every form that a URI may have, for messages."""

STAGES = ("Production", "Staging", "Archived")
"""The stages that registries had before aliases."""

_SCHEME = "models:/"
# MLflow refuses '/' and ':' in names of models; '@' begins an alias.
_NAME = re.compile(r"[^/:@\x00-\x1f]+")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class ModelUri:
    """A model of a registry, and which versions of it are asked for.

    At most one of ``alias``, ``version`` and ``stage`` is there, and none of them where
    ``is_latest``; where all are absent a version policy decides.
    """

    name: str
    alias: str | None = None
    version: str | None = None
    stage: str | None = None
    is_latest: bool = False

    @classmethod
    def parse(cls, text: str) -> ModelUri:
        """Read a URI.

        Raises:
            ValueError: it has none of the forms; names them all.
        """
        refusal = f"'{text}' is no URI of a registered model; expected one of {FORMS}"
        if not text.startswith(_SCHEME) or text.startswith(_SCHEME + "/"):
            raise ValueError(refusal)
        name, slash, chosen = text.removeprefix(_SCHEME).partition("/")
        name, at, alias = name.partition("@")
        name = unquote(name)
        if not _NAME.fullmatch(name) or name.strip(". ") == "" or (at and slash):
            raise ValueError(refusal)
        if at:
            return cls._by_alias(name, alias)
        return cls._by_choice(name, chosen, refusal) if slash else cls(name)

    @classmethod
    def _by_alias(cls, name: str, alias: str) -> ModelUri:
        if problem := alias_problem(alias):
            raise ValueError(problem)
        return cls(name, alias=alias)

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
        if self.alias:
            return f"{_SCHEME}{self.name}@{self.alias}"
        chosen = "latest" if self.is_latest else self.version or self.stage
        return f"{_SCHEME}{self.name}" + (f"/{chosen}" if chosen else "")

    @property
    def label(self) -> str | None:
        """The alias or stage that the URI names, which is the default's label."""
        return self.alias or self.stage


def alias_problem(alias: str) -> str | None:
    """Say why a text is no alias that could be followed; None when it is one."""
    if not _ALIAS.fullmatch(alias) or re.fullmatch(r"v[0-9].*", alias):
        return (
            f"'{alias}' is no alias; expected a letter, then letters, digits, '.', '_', '-', 64 "
            "characters at most, and not the look of a version"
        )
    if alias in ("default", "latest"):
        return f"'{alias}' is reserved; no alias to follow is called so"
    return None
