"""Events that somebody made up, bent or sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.keys import BILLING, FileKeys, MemoryKeys, events_key
from functions.roster import EveryTenant
from functions.settings import Settings
from functions.swap import worker
from functions.swap.dispatch import requested
from tests.attacks.town import ACME, GLOBEX, Town
from tests.swap.house import SWAP, finalized

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.events import Event

STRANGER = MemoryKeys()

BENT: dict[str, Callable[[Town, Event], Event]] = {
    "signature-left-out": lambda _, e: replace(e, sig="", sigkid=""),
    "signature-of-zeros": lambda _, e: replace(e, sig="A" * 86 + "=="),
    "signature-no-base64": lambda _, e: replace(e, sig="!!"),
    "signature-by-a-stranger": lambda _, e: events.sign(
        e, STRANGER.signer(events_key("acme"))
    ),
    "stranger-under-our-key-id": lambda _, e: replace(
        events.sign(e, STRANGER.signer("x")), sigkid=e.sigkid
    ),
    "signature-by-another-tenant": lambda t, e: events.sign(
        e, t.keys.signer(events_key("globex"))
    ),
    "another-tenants-key-id": lambda t, e: replace(
        e, sigkid=t.keys.signer(events_key("globex")).kid
    ),
    "tenant-exchanged": lambda _, e: replace(e, tenant="globex"),
    "tenant-left-out": lambda _, e: replace(e, tenant=""),
    "tenant-in-upper-case": lambda _, e: replace(e, tenant="ACME"),
    "tenant-a-path": lambda _, e: replace(e, tenant="../globex"),
    "source-exchanged": lambda _, e: replace(e, source=events.swap_source("globex")),
    "source-of-billing": lambda _, e: replace(e, source=events.billing_source("acme")),
    "source-a-path": lambda _, e: replace(e, source="/tenants/acme/../globex/swap"),
    "subject-exchanged": lambda _, e: replace(e, subject="globex"),
    "id-exchanged": lambda _, e: replace(e, id="another"),
    "type-exchanged": lambda _, e: replace(e, type=events.SWAP_FAILED),
    "time-exchanged": lambda _, e: replace(e, time="2020-01-01T00:00:00.000Z"),
    "data-exchanged": lambda _, e: replace(e, data={**e.data, "job": "another"}),
    "data-added": lambda _, e: replace(e, data={**e.data, "extra": 1}),
    "data-left-out": lambda _, e: replace(e, data={}),
}


@pytest.mark.parametrize("attack", BENT)
@pytest.mark.parametrize("which", ["audit", "billing"])
def test_attack_forged_event(town: Town, which: str, attack: str) -> None:
    """Refused by audit and by billing, and in neither's books afterwards."""
    if which == "audit":
        bent = BENT[attack](town, town.audit.event("e"))
        answer = town.audit.post(bent)
        assert town.audit.entries() == []
    else:
        bent = BENT[attack](town, town.billing.event("u"))
        answer = town.billing.post(bent)
        assert town.billed()["events"] == 0
    assert answer.status_code in {400, 403}


@pytest.mark.parametrize("attack", [*BENT, "job-of-another-tenant"])
def test_attack_forged_call_of_the_worker(fresh: Town, attack: str) -> None:
    """The door's call runs a job for who signed it, and for nobody else."""
    fresh.swap.put("a.png", b"x")
    event = requested("j-1", fresh.swap.books)
    bent = BENT[attack](fresh, event) if attack in BENT else event
    headers, body = events.encode(bent)
    tenant = "globex" if attack == "job-of-another-tenant" else "acme"
    url = f"/v1/tenants/{tenant}/jobs/j-1"
    answer = fresh.swap.worker.post(url, headers=headers, data=body)
    assert answer.status_code in {400, 403}
    assert fresh.swap.engine.calls == []
    assert fresh.swap.auditor.seen == []


@pytest.mark.parametrize(
    "name", ["", "A", "../globex", "a b", "events/globex", "a" * 99]
)
def test_attack_request_of_a_tenant_that_is_none(
    fresh: Town, tmp_path: Path, name: str
) -> None:
    """Refused for good: no key is looked for under such a name, no 5xx, no retry."""
    swap = fresh.swap
    client = worker.create_app(
        Settings(),
        stores=swap.stores,
        keys=FileKeys(tmp_path),
        roster=EveryTenant(None),
        auditor=swap.auditor,
        sink=swap.sink,
        load=lambda: pytest.fail("nothing is loaded for it"),
    ).test_client()
    headers, body = events.encode(replace(requested("j-1", swap.books), tenant=name))
    for path in ("/events", "/v1/tenants/acme/jobs/j-1"):
        answer = client.post(path, headers=headers, data=body)
        assert answer.status_code in {400, 403}


def test_attack_event_at_another_tenants_door(fresh: Town) -> None:
    """Good for acme, and posted to globex: no entry, no row, in either's books."""
    assert fresh.audit.post(fresh.audit.event(), tenant="globex").status_code == 403
    assert fresh.billing.post(fresh.billing.event(), tenant="globex").status_code == 403
    assert fresh.audit.entries("acme") == fresh.audit.entries("globex") == []
    assert fresh.billed()["events"] == 0


def test_attack_does_this_tenant_exist(town: Town) -> None:
    """A made-up signature is answered alike for a tenant and for none."""
    told = set()
    for tenant in ("acme", "nowhere"):
        event = replace(
            town.audit.event(tenant=tenant), sigkid="0" * 16, sig="A" * 86 + "=="
        )
        answer = town.audit.post(event, tenant=tenant)
        told.add((answer.status_code, answer.data))
    assert len(told) == 1


def test_attack_replayed_events(fresh: Town) -> None:
    """However often they come, there is one entry, one row and one bill."""
    entry, usage = fresh.audit.event(), fresh.billing.event()
    for _ in range(20):
        fresh.audit.post(entry)
        fresh.billing.post(usage)
    assert len(fresh.audit.entries()) == 1
    assert fresh.billed()["events"] == 1


def test_attack_replay_with_other_content(fresh: Town) -> None:
    """A taken id, signed by its tenant, changes nothing of what is on the books."""
    fresh.billing.post(fresh.billing.event("u", gpu_seconds="9.000", lease_ms=9000))
    before = fresh.billed()
    fresh.billing.post(fresh.billing.event("u", gpu_seconds="0.001", lease_ms=1))
    after = fresh.billed()
    assert {**after, "events": 1} == {**before, "events": 1}


def test_attack_usage_signed_by_billings_own_key(fresh: Town) -> None:
    """Billing's key speaks for what is stored, never for what a tenant swapped."""
    usage = fresh.billing.event("u")
    forged = events.sign(usage, fresh.keys.signer(BILLING))
    assert fresh.billing.post(forged).status_code == 403
    assert fresh.billed()["events"] == 0


@pytest.mark.parametrize(
    "bucket",
    ["globex", "ACME", "acme.", "acme/", "../acme", "", "{tenant}", "acme\u0430"],
)
def test_attack_upload_notice_of_another_bucket(fresh: Town, bucket: str) -> None:
    """A forged notice starts, at most, what the bucket's own tenant has asked for."""
    import msgspec

    fresh.work()
    before = list(fresh.swap.engine.calls)
    store = fresh.swap.stores.of(ACME)
    store.put(ACME.request("j-9"), msgspec.json.encode(SWAP))
    answer = fresh.swap.send(finalized("requests/j-9.json", bucket=bucket or "-"))
    assert answer.status_code in {204, 400}
    assert fresh.swap.engine.calls == before


def test_attack_upload_notice_that_claims_a_tenant(fresh: Town) -> None:
    """The bucket decides, not an extension that anybody can write."""
    import msgspec

    fresh.swap.stores.of(GLOBEX).put(GLOBEX.request("j-9"), msgspec.json.encode(SWAP))
    notice = replace(finalized("requests/j-9.json", bucket="acme"), tenant="globex")
    fresh.swap.send(notice)
    assert fresh.swap.engine.calls == []
    told: list[Any] = fresh.swap.sink.taken
    assert [each for each in told if each.tenant == "globex"] == []
