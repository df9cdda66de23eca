"""Trigger filters as Knative evaluates them: on attributes, never on data.

`exact`, `prefix`, `suffix`, `all`, `any` and `not` of the CloudEvents
Subscriptions API.  `cesql` is refused, so that no manifest means one thing here
and another on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

Attributes = Mapping[str, str]
Filter = Callable[[Attributes], bool]
"""Whether an event with these attributes passes."""


class FilterError(Exception):
    """A filter that is not well formed, or not known here."""


def parse(document: object) -> Filter:
    """Return the filter that one entry of a Trigger's `filters` describes.

    Raises `FilterError`; an entry holds exactly one dialect, as the cluster's
    webhook demands.
    """
    if not isinstance(document, dict) or len(document) != 1:
        raise FilterError(f"a filter has exactly one dialect: {document!r}")
    ((dialect, body),) = document.items()
    if dialect not in _DIALECTS:
        raise FilterError(f"no such filter here: {dialect!r}")
    return _DIALECTS[dialect](body)


def parse_all(documents: object) -> Filter:
    """Return the filter that passes what every entry passes; none passes all."""
    if not isinstance(documents, list):
        raise FilterError(f"filters is a list: {documents!r}")
    every = [parse(document) for document in documents]
    return lambda attributes: all(each(attributes) for each in every)


def _comparing(holds: Callable[[str, str], bool]) -> Callable[[object], Filter]:
    """Return the dialect that holds each named attribute against a text."""

    def dialect(body: object) -> Filter:
        wanted = _texts(body)
        return lambda attributes: all(
            name in attributes and holds(attributes[name], text)
            for name, text in wanted.items()
        )

    return dialect


def _texts(body: object) -> dict[str, str]:
    if not isinstance(body, dict) or not body:
        raise FilterError(f"name at least one attribute: {body!r}")
    for name, text in body.items():
        if not (isinstance(name, str) and isinstance(text, str) and name and text):
            raise FilterError(f"attribute and value are text, not empty: {body!r}")
    return body


def _nested(body: object) -> list[Filter]:
    if not isinstance(body, list) or not body:
        raise FilterError(f"name at least one filter: {body!r}")
    return [parse(document) for document in body]


def _all(body: object) -> Filter:
    every = _nested(body)
    return lambda attributes: all(each(attributes) for each in every)


def _any(body: object) -> Filter:
    every = _nested(body)
    return lambda attributes: any(each(attributes) for each in every)


def _not(body: object) -> Filter:
    inner = parse(body)
    return lambda attributes: not inner(attributes)


_DIALECTS: Final[Mapping[str, Callable[[object], Filter]]] = {
    "exact": _comparing(str.__eq__),
    "prefix": _comparing(str.startswith),
    "suffix": _comparing(str.endswith),
    "all": _all,
    "any": _any,
    "not": _not,
}
