"""The published description is the API that is served."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.swap.house import House


def served(house: House) -> set[tuple[str, str]]:
    rules = house.door.application.url_map.iter_rules()
    return {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def described(house: House) -> Any:
    return house.door.get("/openapi.json").json


def test_every_route_is_described_and_no_other(house: House) -> None:
    """Path by path and method by method."""
    paths = described(house)["paths"]
    methods = {
        (path, name) for path in paths for name in paths[path] if name != "parameters"
    }
    assert methods == served(house)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (text for name, text in part.items() if name == "$ref")
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def test_every_reference_leads_somewhere(house: House) -> None:
    """A client generator can follow it."""
    document = described(house)
    for reference in references(document):
        part = document
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]


def test_the_described_request_has_the_fields_of_the_parsed_one(house: House) -> None:
    """A field that is added to one is added to the other."""
    import msgspec

    from functions.swap.job import Consent, Options, Request

    schemas = described(house)["components"]["schemas"]
    properties = schemas["Request"]["properties"]
    for kind, shown in (
        (Request, properties),
        (Options, properties["options"]["properties"]),
        (Consent, properties["consent"]["properties"]),
    ):
        assert {field.name for field in msgspec.structs.fields(kind)} == set(shown)


def test_the_described_face_is_named_as_the_parsed_one(house: House) -> None:
    """One way for each field, and each by itself."""
    import msgspec

    from functions.swap.job import One

    ways = described(house)["components"]["schemas"]["One"]["oneOf"]
    names = [way["required"] for way in ways]
    assert names == [[field.name] for field in msgspec.structs.fields(One)]
    for way in ways:
        others = {name for [name] in names} - {*way["required"]}
        nothing = {name for name, said in way["properties"].items() if _is_null(said)}
        assert {*way["properties"]} - nothing == {*way["required"]}
        assert nothing == others


def _is_null(said: Any) -> bool:
    return bool(said == {"type": "null"})
