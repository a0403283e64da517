"""KServe's own schemas, read as an API server with strict field validation reads them.

They are not part of this project: they lie beside it, in ``../shared/reference/kserve-crds``.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from tests.kubernetes.documents import PROJECT

DIRECTORY = PROJECT.parent / "shared" / "reference" / "kserve-crds"
GROUP = "serving.kserve.io/"

# PyYAML's C loader reads the two megabytes of the largest schema in a second, its own one in ten.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ALWAYS = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}


def schema_problems(document: dict[str, Any]) -> list[str]:
    """Return what KServe's schema has against an object of KServe's."""
    validator = _validator(document["kind"], document["apiVersion"])
    return [
        f"{document['kind']}: {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in validator.iter_errors(document)
    ]


@functools.cache
def _validator(kind: str, api_version: str) -> Draft202012Validator:
    file = DIRECTORY / f"serving.kserve.io_{_plural(kind)}.yaml"
    crd = yaml.load(file.read_text("utf-8"), Loader=_LOADER)  # noqa: S506  # a safe loader
    (version,) = (
        version
        for version in crd["spec"]["versions"]
        if f"{crd['spec']['group']}/{version['name']}" == api_version
    )
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"] |= _ALWAYS
    return Draft202012Validator(closed(schema))


def _plural(kind: str) -> str:
    return f"{kind.lower()}s"


def closed(schema: Any) -> Any:
    """Return a schema in which every object that lists its fields has no others."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    lists_fields = isinstance(schema.get("properties"), dict) and "type" in schema
    if lists_fields and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result


def are_there(directory: Path = DIRECTORY) -> bool:
    """Ask whether KServe's schemas are on this machine."""
    return directory.is_dir()
