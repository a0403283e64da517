"""What code a file may bring to life: the operator decides, a bundle never can."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class PicklePolicy(str, Enum):
    """Which pickles are opened, those of joblib, cloudpickle, torch and MLflow included."""

    ANY = "any"
    """Every pickle; opening one runs whatever code it names."""

    LISTED = "listed"
    """Those that name nothing but what the built-in list, or the operator's own, allows."""

    DENY = "deny"
    """None: only formats without code."""


@dataclass(frozen=True)
class CodeTrust:
    """What a component's file may do while it is opened; the default is anything.

    Attributes:
        pickles: which pickles are opened.
        allowed: the operator's own names, as ``package.module.name``, beside the built-in list.
        bundle_code: whether code that ships with a bundle or a registry model may run.
    """

    pickles: PicklePolicy = PicklePolicy.ANY
    allowed: frozenset[str] = frozenset()
    bundle_code: bool = True
