"""What the operator does to a tenant is in the tenant's own log, and says what."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.leaf import RECEIPTED
from functions.events import OPERATOR, TENANT_CHANGED, Event
from functions.keys import events_key
from functions.problems import NoReceipt
from functions.roster import Isolation, Quotas, Spec, changed, plain, put_on_record
from tests.office import Office, open_office

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIGNED = ("id", "source", "type", "subject", "time", "tenant", "data", "sig", "sigkid")
ACME = Spec(id="acme", name="Acme Ltd.")


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with open_office(tmp_path) as made:
        yield made


def tell(office: Office, event: Event) -> None:
    """Have audit record a change."""
    put_on_record(event, keys=office.keys, auditor=office.auditor, timeout=10)


def test_a_change_is_answered_with_a_receipt_for_what_the_log_then_holds(
    office: Office,
) -> None:
    """Signed by the tenant's key, in a log that verifies."""
    assert TENANT_CHANGED in RECEIPTED
    event = changed("created", ACME, actor="ada")
    receipt = put_on_record(event, keys=office.keys, auditor=office.auditor, timeout=10)
    (leaf,) = office.audit.entries()
    entry = json.loads(leaf)
    assert entry["data"] == {
        "change": "created",
        "actor": "ada",
        "level": 0,
        "spec": hashlib.sha256(events.canonical(plain(ACME))).hexdigest(),
        "fields": [],
    }
    verify_entries([leaf], receipt.checkpoint, log_verifiers("acme", office.keys))
    signed = Event(**{name: entry[name] for name in SIGNED})
    events.verify(signed, office.keys.verifiers(events_key("acme")))


def test_a_change_says_which_fields_and_keeps_the_name_out_of_the_log() -> None:
    """Old and new value of each; a name may be a person's, and a log is for good."""
    after = Spec(
        id="acme",
        name="Ada Lovelace",
        isolation=Isolation(data=1),
        quotas=Quotas(concurrency=4),
    )
    event = changed("changed", after, actor="ada", before=ACME)
    assert event.data["fields"] == [
        {"field": "isolation.data", "from": 0, "to": 1},
        {"field": "name"},
        {"field": "quotas.concurrency", "from": None, "to": 4},
    ]
    assert b"Lovelace" not in events.canonical(event.data)


def test_the_same_again_is_an_entry_of_its_own(office: Office) -> None:
    """Who suspends twice did it twice; nothing contradicts anything."""
    spec = Spec(id="acme", state="suspended")
    first, second = (changed("suspended", spec, actor="ada") for _ in range(2))
    tell(office, first)
    tell(office, second)
    tell(office, second)
    assert len(office.audit.entries()) == len({first.id, second.id})


def test_attack_a_change_of_another_tenant_s_source_is_refused(office: Office) -> None:
    """Nor does the operator's own log take it, nor another key's signature count."""
    event = changed("deleted", ACME, actor="mallory")
    for forged in (
        replace(event, source=events.tenant_source("beta")),
        replace(event, source=events.swap_source("acme")),
        replace(event, tenant=OPERATOR, source=events.tenant_source(OPERATOR)),
    ):
        with pytest.raises(NoReceipt):
            tell(office, forged)
    other = events.sign(event, office.keys.signer(events_key("beta")))
    with pytest.raises(NoReceipt):
        office.auditor.receipt(other, timeout=10)
    assert office.audit.entries() == []
