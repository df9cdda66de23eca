"""Events nobody thought of, at every door that takes any: none falls over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions import events
from functions.keys import MemoryKeys, events_key
from functions.problems import InvalidRequest
from tests.attacks.town import Town, open_town
from tests.billing.house import usage_data

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

EXAMPLES: Final = 120
BENT_MAX: Final = 3
STRANGER: Final = MemoryKeys()
STEADY = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TYPES = sorted(
    {
        value
        for name, value in vars(events).items()
        if name.isupper() and isinstance(value, str) and "." in value
    }
    | events.S3_OBJECTS
    | events.NOTICES
)
DOORS = {
    "audit": "/v1/tenants/acme/events",
    "billing": "/v1/tenants/acme/events",
    "tick": "/v1/tenants/acme/ticks",
    "worker": "/events",
    "call": "/v1/tenants/acme/jobs/j-1",
}
ANSWERS = {
    "audit": {200, 204, 400, 403},
    "billing": {200, 204, 400, 403},
    "tick": {200, 204, 400, 403},
    "worker": {204, 400, 403},
    "call": {200, 400, 403, 404, 409, 410},
}

names = st.sampled_from(["acme", "globex", "operator", "", "../acme", "ACME", "a" * 40])
word = st.text(max_size=20)
numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from(["0.136", "1e9"])
value = st.recursive(
    st.none() | st.booleans() | numbers | word,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(word, inner, max_size=3)
    ),
    max_leaves=8,
)
GOOD: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "audit": (events.SWAP_STARTED, {"job": "j-1", "attempt": 1, "sources": []}),
    "billing": (events.USAGE_RECORDED, usage_data()),
    "tick": (events.PING, {"message": "storage"}),
    "worker": (
        events.OBJECT_FINALIZED,
        {"bucket": "acme", "name": "requests/j-1.json", "generation": "1"},
    ),
    "call": (events.SWAP_REQUESTED, {"job": "j-1"}),
}
"""What each door is for: the type, and the data."""
MEMBERS = sorted({name for _, data in GOOD.values() for name in data})
bent_data = st.dictionaries(
    st.sampled_from([*MEMBERS, "Records", "message", "s3", "outcome", "started"])
    | word,
    value,
    max_size=2,
)
bent = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["e-1", "e-2"]) | word,
        "source": st.sampled_from([events.billing_source("acme"), "/x"]) | word,
        "type": st.sampled_from(TYPES) | word,
        "specversion": st.sampled_from(["0.3", "1.1"]) | value,
        "tenant": names,
        "subject": names | word,
        "time": st.sampled_from(
            [
                "2026-11-21T11:00:00Z",
                "1000-01-01T00:00:00+23:59",
                "9999-12-31T23:59:59Z",
            ]
        )
        | word,
        "datacontenttype": st.sampled_from(["application/json", "text/xml"]),
        "data": value,
        "more": word | value,
    },
).filter(lambda changed: len(changed) <= BENT_MAX)
Document = Mapping[str, Any]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with open_town(tmp_path_factory.mktemp("town")) as made:
        yield made


def client_of(town: Town, door: str) -> Any:
    found = {"audit": town.audit.client, "billing": town.billing.client}
    found["tick"] = town.billing.client
    return found.get(door, town.swap.worker)


def signed(document: Document, town: Town, signer: str) -> Document:
    """Return an event under a signature, if it is one that can be signed."""
    keys = STRANGER if signer == "stranger" else town.keys
    if signer == "nobody":
        return document
    try:
        event = events.from_dict(document)
        name = "billing" if signer == "billing" else events_key(signer)
        return events.as_dict(events.sign(event, keys.signer(name)))
    except (InvalidRequest, TypeError, ValueError, AttributeError):
        return document


def send(town: Town, door: str, mode: str, document: Document) -> TestResponse:
    """Post an event in one of the three modes."""
    client, path = client_of(town, door), DOORS[door]
    if mode == "batch":
        body = msgspec.json.encode([document])
        answer = client.post(path, data=body, content_type=events.BATCH)
    elif mode == "structured":
        body = msgspec.json.encode(document)
        answer = client.post(
            path, data=body, content_type="application/cloudevents+json"
        )
    else:
        head = {
            f"ce-{name}": _plain(text)
            for name, text in document.items()
            if name not in {"data", "datacontenttype"} and isinstance(text, str)
        }
        body = msgspec.json.encode(document.get("data"))
        answer = client.post(
            path, data=body, headers=head, content_type="application/json"
        )
    found: TestResponse = answer
    return found


def _plain(text: str) -> str:
    """Return what a client can write into a header, percent-encoded."""
    from urllib.parse import quote

    return quote(text, safe="/:.-", errors="surrogatepass")


def made(door: str, number: int, changed: Document, inside: Document) -> Document:
    """Return a door's good event, some of it changed."""
    kind, data = GOOD[door]
    return {
        "id": f"e-{number}",
        "source": events.swap_source("acme"),
        "type": kind,
        "specversion": "1.0",
        "subject": "acme",
        "time": "2026-11-21T11:00:00.000Z",
        "tenant": "acme",
        "data": {**data, **inside},
        **changed,
    }


@pytest.mark.parametrize("door", DOORS)
@given(
    mode=st.sampled_from(["binary", "structured", "structured", "batch"]),
    signer=st.sampled_from(["acme", "acme", "acme", "globex", "stranger", "nobody"]),
    number=st.integers(0, 50),
    changed=bent,
    inside=bent_data,
)
@STEADY
def test_fuzz_event_door(  # what an event is made of
    town: Town,
    door: str,
    mode: str,
    signer: str,
    number: int,
    changed: dict[str, Any],
    inside: dict[str, Any],
) -> None:
    """It is done, malformed, or not theirs to say: nothing else, whatever it is."""
    document = made(door, number, changed, inside)
    before = books(town)
    answer = send(town, door, mode, signed(document, town, signer))
    assert answer.status_code in ANSWERS[door], answer.text
    if answer.status_code >= 400:
        assert answer.mimetype == "application/problem+json"
        assert answer.get_json()["type"].startswith("urn:guise:problem:")
    if signer != "acme":
        assert books(town) == before  # nobody else writes into acme's books
    assert town.audit.entries("globex") == []


def books(town: Town) -> tuple[int, int]:
    """Return how much is in acme's books."""
    return len(town.audit.entries()), town.billed()["events"]


@pytest.mark.parametrize("door", DOORS)
def test_fuzz_begins_with_what_is_taken(town: Town, door: str) -> None:
    """Unchanged each door's event is done: else all would end at the signature."""
    document = signed(made(door, 99, {}, {}), town, "acme")
    answer = send(town, door, "structured", document)
    assert answer.status_code in {200, 204, 404}, answer.text
    if door in {"audit", "billing"}:
        assert max(books(town)) > 0
