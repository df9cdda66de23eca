"""Kubernetes' structural schemas, as far as the CRDs use them.

The API server prunes or refuses what a schema does not name, so a field that is
unknown here is a mistake there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path(__file__).parents[3] / "shared" / "crds"
_TYPES: Final[dict[str, Any]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "number": (int, float),
}
_EVERY_OBJECT: Final = {"apiVersion", "kind", "metadata"}


def schema(api_version: str, kind: str) -> dict[str, Any]:
    """Return the schema of a kind; raise `LookupError` when there is none."""
    group, _, version = api_version.partition("/")
    for path in FOLDER.glob("*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        if (spec["group"], spec["names"]["kind"]) != (group, kind):
            continue
        for each in spec["versions"]:
            if each["name"] == version:
                found: dict[str, Any] = each["schema"]["openAPIV3Schema"]
                return found
    raise LookupError(f"{api_version} {kind}")


def faults(value: Any, rule: dict[str, Any], where: str = "") -> Iterator[str]:
    """Yield everything about `value` that the schema `rule` refuses."""
    if rule.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str):
            yield f"{where}: neither a number nor text"
        return
    kind = rule.get("type")
    wrong = kind and not isinstance(value, _TYPES[kind])
    if wrong or (kind in ("integer", "number") and isinstance(value, bool)):
        yield f"{where}: {value!r} is no {kind}"
    elif isinstance(value, dict):
        yield from _of_object(value, rule, where)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from faults(each, rule.get("items", {}), f"{where}[{number}]")
    elif "enum" in rule and value not in rule["enum"]:
        yield f"{where}: {value!r} is none of {rule['enum']}"


def _of_object(
    value: dict[str, Any], rule: dict[str, Any], where: str
) -> Iterator[str]:
    known = rule.get("properties", {})
    more = rule.get("additionalProperties")
    open_ended = rule.get("x-kubernetes-preserve-unknown-fields") or more is True
    for missing in set(rule.get("required", [])) - set(value):
        yield f"{where}: {missing} is missing"
    for name, each in value.items():
        if not where and name in _EVERY_OBJECT:
            continue  # the API server's own
        if name in known:
            yield from faults(each, known[name], f"{where}.{name}")
        elif isinstance(more, dict):
            yield from faults(each, more, f"{where}.{name}")
        elif not open_ended:
            yield f"{where}.{name}: no such field"
