"""Each Trigger's filter, tried on the events that the functions really emit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.audit import app as audit
from functions.keys import MemoryKeys
from functions.local.manifests import parse
from functions.tenant import Tenant
from knative import wiring
from tests.audit.house import TokensByName
from tests.swap.house import SWAP, House, finalized, picture
from tests.swap.notices import binary
from tools import manifests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from knative.kustomize import Manifest

PREFIX = "ce-"
UPLOAD = "an upload"
POOL = manifests.system("trial")


def headers_of(event: events.Event) -> dict[str, str]:
    """Return the attributes of an event as a broker has them, from its headers."""
    headers, _ = events.encode(event)
    return {
        name.lower().removeprefix(PREFIX): text
        for name, text in headers.items()
        if name.lower().startswith(PREFIX)
    }


def give(house: House) -> None:
    """Upload what a job is made of; an erasure takes it away."""
    for name in "ab":
        house.put(f"{name}.png", picture(1))


def emitted() -> dict[str, list[events.Event]]:
    """Run jobs to each of their ends, and return what went to the broker, by type."""
    house = House()
    give(house)
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    bearer = {"Authorization": "Bearer acme"}
    assert house.door.delete(f"/v1/swaps/{job}", headers=bearer).status_code == 204
    give(house)
    begun = house.post(SWAP, Prefer="respond-async").json["job"]  # type: ignore[index]
    house.door.post(f"/v1/swaps/{begun}/cancel", headers=bearer)
    house.upload("refused", b"{}")
    found: dict[str, list[events.Event]] = {}
    for event in house.sink.taken:
        found.setdefault(event.type, []).append(event)
    found[UPLOAD] = [finalized("requests/j.json")]
    return found


EMITTED = emitted()
WORKER, AUDIT, BILLING = "worker", "audit", "billing"
WANTED = {
    UPLOAD: {WORKER, AUDIT},
    events.SWAP_REQUESTED: {WORKER, AUDIT},
    events.SWAP_COMPLETED: {AUDIT},
    events.SWAP_FAILED: {AUDIT},
    events.SWAP_REFUSED: {AUDIT},
    events.SWAP_ERASED: {AUDIT},
    events.USAGE_RECORDED: {BILLING},
}


@dataclass(frozen=True)
class Way:
    """A set of Triggers, and whose door at audit and billing events come to."""

    objects: tuple[Manifest, ...]
    wakes: str
    tenant: str = "acme"

    def __call__(self, attributes: Mapping[str, str]) -> list[tuple[str, str]]:
        triggers = parse(each for each in self.objects if each["kind"] == "Trigger")
        return sorted(
            (each.subscriber.name, each.subscriber.uri)
            for each in triggers.triggers
            if each.passes(attributes)
        )

    def uri(self, name: str, kind: str) -> str:
        """Return where at a service an event of a kind should come."""
        if name == WORKER:
            return "/events"
        is_wake_up = kind in {UPLOAD, events.SWAP_REQUESTED}
        return f"/v1/tenants/{self.wakes if is_wake_up else self.tenant}/events"


def member(of: str) -> list[Manifest]:
    """Return what a tenant of the pool has."""
    text = manifests.tenant("pooled", manifests.cluster())
    return _renamed(text, of)


def _renamed(objects: list[Manifest], of: str) -> list[Manifest]:
    import json

    found: list[Manifest] = json.loads(json.dumps(objects).replace("acme", of))
    return found


OWN = Way(tuple(manifests.tenant("own", manifests.cluster())), wakes="acme")
POOLED = Way((*POOL, *member("acme"), *member("bolt")), wakes="pool")
WAYS = {"a namespace": OWN, "the pool": POOLED}


def test_every_kind_of_event_was_emitted() -> None:
    """What is tried below is what comes, and all that comes."""
    assert set(EMITTED) == set(WANTED)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", WANTED)
def test_an_emitted_event_goes_where_it_should(way: Way, kind: str) -> None:
    """Once to each who needs it, and to its own tenant's door."""
    for event in EMITTED[kind]:
        expected = sorted((name, way.uri(name, kind)) for name in WANTED[kind])
        assert way(headers_of(event)) == expected


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_a_job_leaves_wakes_nobody(way: Way) -> None:
    """Results, inputs and records lie in the same bucket."""
    for name in ("results/j/job.json", "uploads/a.png", "jobs/j/claim.json"):
        assert way(headers_of(finalized(name))) == []


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_daily_question_goes_to_billing(way: Way) -> None:
    """Each PingSource's event passes its own Trigger."""
    pings = [each for each in way.objects if each["kind"] == "PingSource"]
    assert pings
    for each in pings:
        home, name = each["metadata"]["namespace"], each["metadata"]["name"]
        source = f"/apis/v1/namespaces/{home}/pingsources/{name}"
        tenant = name.removesuffix("-storage") if home == "guise-system" else "acme"
        found = way({"type": events.PING, "source": source})
        assert found == [(BILLING, f"/v1/tenants/{tenant}/ticks")]


def test_each_notice_of_a_shared_bucket_comes_once() -> None:
    """By its own prefix, or by the pool's Triggers where no attribute names it."""
    shared = manifests.cluster(store="s3://shared/eu/{tenant}?region=eu-central-1")
    own = manifests.tenant("pooled", shared)
    way = Way((*POOL, *own, *_renamed(own, "bolt")), wakes="acme")
    for kind in sorted(events.S3_OBJECTS):
        found = way({"type": kind, "subject": "eu/acme/requests/j.json"})
        assert [name for name, _ in found] == [AUDIT, WORKER]
        assert way({"type": kind, "subject": "eu/acme/results/j/job.json"}) == []
    for kind in sorted(events.NOTICES):
        assert [name for name, _ in way({"type": kind})] == [AUDIT, WORKER]


def test_the_linter_knows_the_same_notices_of_uploads() -> None:
    """It imports nothing of the functions, and says again what they take."""
    uploads = events.S3_OBJECTS | {events.OBJECT_FINALIZED}
    assert (uploads, events.NOTICES) == (wiring.UPLOADS, wiring.NOTICES)


@pytest.mark.parametrize("kind", sorted(events.WAKE_UPS))
def test_audit_takes_a_wake_up_at_anybody_s_door(kind: str) -> None:
    """The pool's Triggers name no tenant: the type is all that is looked at."""
    app = audit.create_app(
        log=object(),  # type: ignore[arg-type]  # nothing is written
        keys=MemoryKeys(),
        authenticator=TokensByName(),
    )
    answer = app.test_client().post(
        "/v1/tenants/pool/events", headers=binary(kind), data=b"whatever"
    )
    assert (answer.status_code, answer.data) == (204, b"")


def test_the_pool_s_name_could_be_a_tenant_s() -> None:
    """It names nobody in particular, and a tenant of that name loses nothing."""
    assert Tenant("pool").id == "pool"
