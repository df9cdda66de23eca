"""Strict validation: Kubernetes' own schemas, and the CRDs of Knative where they are.

An unknown field is a fault.  Kubernetes' schemas come with `kubernetes-validate`; the
CRDs lie beside a checkout, in `../shared/crds`, or nobody asks them.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CRDS: Final = Path(__file__).parents[2] / "shared" / "crds"
VERSIONS: Final = ("1.31", kubernetes_validate.latest_version())
"""The oldest Kubernetes that Knative's releases of 2026 run on, and the newest."""
_WHOLE: Final = {"apiVersion", "kind", "metadata"}


def faults(each: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the API server would refuse of an object, or drop."""
    return _faults(json.dumps(each))


@cache
def _faults(text: str) -> tuple[str, ...]:
    """Return the faults of an object, once of the many sets that have it."""
    return tuple(_found(json.loads(text)))


def _found(each: Mapping[str, Any]) -> Iterator[str]:
    if "knative.dev" in each["apiVersion"]:
        if CRDS.is_dir():
            yield from _of_crd(each)
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(dict(each), version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"Kubernetes {version}: {error}"


def _of_crd(each: Mapping[str, Any]) -> Iterator[str]:
    schema = _schema(each["apiVersion"], each["kind"])
    if schema is None:
        yield f"no CRD has {each['apiVersion']} {each['kind']}"
        return
    for error in jsonschema.Draft202012Validator(schema).iter_errors(each):
        yield f"{error.json_path}: {error.message}"


@cache
def _schema(api_version: str, kind: str) -> dict[str, Any] | None:
    group, _, version = api_version.partition("/")
    for spec in _crds():
        if (spec["group"], spec["names"]["kind"]) != (group, kind):
            continue
        for each in spec["versions"]:
            if each["name"] == version:
                found: dict[str, Any] = _closed(each["schema"]["openAPIV3Schema"])
                found["properties"] |= {name: {} for name in _WHOLE}
                return found
    return None


@cache
def _crds() -> list[dict[str, Any]]:
    texts = (path.read_text(encoding="utf-8") for path in sorted(CRDS.glob("*.yaml")))
    documents = chain.from_iterable(map(yaml.safe_load_all, texts))
    return [each["spec"] for each in documents if each]


def _closed(schema: Any) -> Any:  # noqa: ANN401  # JSON
    """Return a structural schema as a JSON schema that lets no unknown field pass."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {name: _closed(each) for name, each in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not is_open:
        found.setdefault("additionalProperties", False)
    return found
