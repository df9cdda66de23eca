"""The bytes of what is kept for ever, or hashed: RFC 8785 JSON of a struct.

A field that has its default is left out, so a field that is added later changes
neither the bytes of older invoices nor the digests of older rate cards.  (msgspec's
own `omit_defaults` compares most values by identity: equal structs may differ.)
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from msgspec import NODEFAULT, structs

from functions import events


def canonical(value: msgspec.Struct) -> bytes:
    """Return the bytes of `value`, or raise `InvalidRequest` where it has none."""
    return events.canonical(sparse(value))


def sparse(value: object) -> Any:  # noqa: ANN401  # any JSON
    """Return `value` as plain JSON values, without the fields that are as by default.

    A moment is RFC 3339 text in UTC, in milliseconds.
    """
    if isinstance(value, msgspec.Struct):
        shown = {}
        for name, encoded, default in _fields(type(value)):
            held = getattr(value, name)
            if default is NODEFAULT or held != default:
                shown[encoded] = sparse(held)
        return shown
    if isinstance(value, dict):
        return {name: sparse(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [sparse(each) for each in value]
    return events.rfc3339(value) if isinstance(value, datetime) else value


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Return (name, name in JSON, default or NODEFAULT) of each field."""
    return tuple(
        (each.name, each.encode_name, _default(each)) for each in structs.fields(kind)
    )


def _default(field: structs.FieldInfo) -> Any:  # noqa: ANN401  # any field's
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return field.default
