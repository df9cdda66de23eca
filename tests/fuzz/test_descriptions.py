"""Each door's `/openapi.json` is valid, and is the door."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from functions import problems
from functions.audit.app import Erasure, Search
from functions.audit.searching import Found
from functions.billing.invoice import Invoice
from functions.billing.ledger import GROUPINGS
from functions.problems import TYPE_PREFIX, Problem
from tests.attacks.town import Town, open_town

if TYPE_CHECKING:
    from collections.abc import Iterator

DOORS = ("swap", "audit", "billing")
ROOT = "/v1/tenants/{tenant}"
STRUCTS = {"audit": (Found, Search, Erasure), "billing": (Invoice,)}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with open_town(tmp_path_factory.mktemp("town")) as made:
        yield made


def described(town: Town, which: str) -> Any:
    answer = town.clients[which].get("/openapi.json")
    assert answer.mimetype == "application/json"
    return answer.get_json()


@pytest.mark.parametrize("which", DOORS)
def test_a_description_is_valid(town: Town, which: str) -> None:
    """By the OpenAPI 3.1 schema, every reference followed."""
    OpenAPIV31SpecValidator(described(town, which)).validate()


@pytest.mark.parametrize("which", DOORS)
def test_a_description_has_every_route_and_no_other(town: Town, which: str) -> None:
    """Path by path and method by method, both ways; and each has its own name."""
    rules = town.clients[which].application.url_map.iter_rules()
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    paths = described(town, which)["paths"]
    operations = {
        (path, name): paths[path][name]
        for path in paths
        for name in paths[path]
        if name != "parameters"
    }
    assert set(operations) == served
    names = [each["operationId"] for each in operations.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("which", DOORS)
def test_every_type_in_a_description_is_a_problem(town: Town, which: str) -> None:
    """With the status that the problem has, or 400 where a broker asks."""
    document = described(town, which)
    known = {_slug(each): each.status for each in _problems(Problem)}
    for path, name, status, answer in _answers(document):
        types = _types(answer)
        assert (int(status) >= 400) == bool(types), (path, name, status)
        for each in types:
            assert status in {str(known[each]), "400"}, (path, name, status, each)


def test_every_problem_that_a_caller_may_see_is_described(town: Town) -> None:
    """Each class that is refused somewhere is in one description at least."""
    said = {
        each
        for which in DOORS
        for *_, answer in _answers(described(town, which))
        for each in _types(answer)
    }
    inside = {problems.Problem, problems.Refused, problems.Failed, problems.Changed}
    shown = {_slug(each) for each in _problems(Problem) - inside}
    assert shown <= said | {_slug(problems.NoReceipt)}  # audit's to the worker alone


@pytest.mark.parametrize("which", STRUCTS)
def test_what_is_typed_is_described_as_it_is_typed(town: Town, which: str) -> None:
    """A field that is added to one is added to the other."""
    _, parts = msgspec.json.schema_components(
        STRUCTS[which], ref_template="#/components/schemas/{name}"
    )
    schemas = described(town, which)["components"]["schemas"]
    for name, part in parts.items():
        assert set(schemas[name]["properties"]) == set(part["properties"])
        assert schemas[name]["required"] == part["required"]


def test_usage_is_grouped_as_described(town: Town) -> None:
    """The groupings of the ledger are those that may be asked for."""
    document = described(town, "billing")
    asked = document["paths"][f"{ROOT}/usage"]["get"]["parameters"]
    [by] = [each for each in asked if each["name"] == "by"]
    assert set(by["schema"]["enum"]) == GROUPINGS


def _problems(kind: type[Problem]) -> set[type[Problem]]:
    """Return the classes that `functions.problems` has, `kind` among them."""
    below = {each for one in kind.__subclasses__() for each in _problems(one)}
    return {each for each in {kind, *below} if each.__module__ == problems.__name__}


def _slug(kind: type[Problem]) -> str:
    return TYPE_PREFIX + kind().slug


def _answers(document: Any) -> Iterator[tuple[str, str, str, Any]]:
    """Yield path, method, status and answer, references followed."""
    for path, item in document["paths"].items():
        for name, operation in item.items():
            if name == "parameters":
                continue
            for status, answer in operation["responses"].items():
                found = answer
                if "$ref" in answer:
                    step = answer["$ref"].rsplit("/", 1)[1]
                    found = document["components"]["responses"][step]
                yield path, name, status, found


def _types(answer: Any) -> list[str]:
    content = answer.get("content", {}).get("application/problem+json")
    if content is None:
        return []
    parts = content["schema"]["allOf"]
    return [each for part in parts for each in _enum(part)]


def _enum(part: Any) -> list[str]:
    found = part.get("properties", {}).get("type", {}).get("enum", [])
    assert isinstance(found, list)
    return found
