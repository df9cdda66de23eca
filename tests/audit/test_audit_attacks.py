"""Attacks on the log, each named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from functions import events
from functions.audit.app import create_app
from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.leaf import CONFLICT
from functions.audit.merkle import VerificationError, leaf_hash
from functions.audit.tiles import Checkpoint, origin, sign_checkpoint
from functions.keys import FileKeys, MemoryKeys
from tests.audit.house import BOTH, TokensByName

if TYPE_CHECKING:
    from pathlib import Path

    from tests.audit.house import House


DATABASES = BOTH


def test_attack_a_forged_signature(house: House) -> None:
    """Whatever is not signed by the tenant's own key leaves no trace in its log."""
    event = house.event()
    stranger = house.keys.signer("events/stranger")
    last = "A" if event.sig[-3] != "A" else "Q"
    forgeries = [
        replace(event, sig="", sigkid=""),
        replace(event, sig="not base64"),
        replace(event, sig=event.sig[:-3] + last + "=="),
        replace(event, data={"job": "another"}),
        replace(event, id="another"),
        replace(event, time="2026-11-21T12:00:01.000Z"),
        replace(event, type=events.SWAP_COMPLETED),
        events.sign(event, stranger),
        replace(events.sign(event, stranger), sigkid=event.sigkid),
    ]
    for forged in forgeries:
        assert house.post(forged).status_code == 403
    assert house.entries() == []


def test_attack_another_tenants_path(house: House) -> None:
    """An event is taken at its own tenant's door alone."""
    ours, theirs = house.event(), house.event(tenant="other")
    assert house.post(ours, tenant="other").status_code == 403
    assert house.post(theirs).status_code == 403
    assert house.post(house.event(source="/tenants/other/swap")).status_code == 403
    assert house.post(house.event(source="/tenants/acme/audit")).status_code == 403
    assert house.post(ours, tenant="..").status_code in (403, 404)
    assert house.post(ours, tenant="ACME").status_code == 403
    assert house.entries() == house.entries("other") == []


def test_attack_an_unknown_tenant(house: House, tmp_path: Path) -> None:
    """A tenant without keys is a stranger, and gets no log by knocking."""
    keys = FileKeys(tmp_path / "keys")
    app = create_app(log=house.log, keys=keys, authenticator=TokensByName())
    headers, body = events.encode(house.event())
    answer = app.test_client().post(
        "/v1/tenants/acme/events",
        headers=headers,
        data=body,
    )
    assert answer.status_code == 403
    assert house.entries() == []


def test_attack_a_replayed_id_with_other_content(house: House) -> None:
    """The first stands; the attempt is on record once, with what was offered."""
    first = house.post(house.event())
    lie = house.event(data={"job": "job-e1", "attempt": 1, "actor": "somebody else"})
    answers = [house.post(lie) for _ in range(3)]
    assert [each.status_code for each in answers] == [400, 400, 400]
    assert house.post(house.event()).data == first.data
    counted = house.client.get("/metrics").text
    assert 'guise_audit_events_total{conflict="true"} 3.0' in counted
    leaves = [msgspec.json.decode(leaf) for leaf in house.entries()]
    assert [leaf["type"] for leaf in leaves] == [events.SWAP_STARTED, CONFLICT]
    offered = events.canonical(
        {name: getattr(lie, name) for name in leaves[0]},
    )
    assert leaves[1]["data"] == {
        "source": lie.source,
        "id": lie.id,
        "type": lie.type,
        "job": "job-e1",
        "index": 0,
        "leaf_hash": leaf_hash(offered).hex(),
    }


def test_attack_a_replayed_ending_with_other_content(house: House) -> None:
    """On the broker's way the answer is done: refused, and on record."""
    house.post(house.event(type=events.SWAP_COMPLETED))
    for outcome in ("one lie", "one lie", "another lie"):
        lie = house.event(type=events.SWAP_FAILED, data={"job": "j", "why": outcome})
        answer = house.post(lie)
        assert (answer.status_code, answer.data) == (204, b"")
    assert len(house.entries()) == 3


@pytest.fixture
def kept(house: House) -> tuple[list[bytes], str]:
    """Return the leaves of a log and the checkpoint that a tenant kept of it."""
    for each in range(7):
        note = house.log.append(house.event(f"e{each}")).receipt.checkpoint
    return house.entries(), note


def test_an_honest_log_verifies(house: House, kept: tuple[list[bytes], str]) -> None:
    """The attacks below fail for what they change, and not for anything else."""
    leaves, note = kept
    verify_entries(leaves, note, log_verifiers("acme", house.keys))


@pytest.mark.parametrize("index", range(7))
def test_attack_a_flipped_entry(
    house: House,
    kept: tuple[list[bytes], str],
    index: int,
) -> None:
    """One character in one entry is found."""
    leaves, note = kept
    leaves[index] = leaves[index].replace(b"started", b"Started")
    with pytest.raises(VerificationError, match="not those of the checkpoint"):
        verify_entries(leaves, note, log_verifiers("acme", house.keys))


def test_attack_reordered_entries(house: House, kept: tuple[list[bytes], str]) -> None:
    """The order is part of what is signed."""
    leaves, note = kept
    leaves[2], leaves[3] = leaves[3], leaves[2]
    with pytest.raises(VerificationError, match="not those of the checkpoint"):
        verify_entries(leaves, note, log_verifiers("acme", house.keys))


def test_attack_a_deleted_or_inserted_entry(
    house: House,
    kept: tuple[list[bytes], str],
) -> None:
    """A log with one entry less or more is another log."""
    leaves, note = kept
    for changed in (leaves[:-1], leaves[1:], [*leaves, leaves[0]], []):
        with pytest.raises(VerificationError, match="where the checkpoint has 7"):
            verify_entries(changed, note, log_verifiers("acme", house.keys))


def test_attack_a_checkpoint_signed_with_another_key(
    house: House,
    kept: tuple[list[bytes], str],
) -> None:
    """Whoever rewrites the log needs audit's key for the checkpoint as well."""
    leaves, _ = kept
    forged = Checkpoint(origin("acme"), 1, leaf_hash(leaves[0]))
    note = sign_checkpoint(forged, MemoryKeys().signer("audit"))
    with pytest.raises(VerificationError, match="not signed"):
        verify_entries(leaves[:1], note, log_verifiers("acme", house.keys))


def test_attack_an_operator_who_edits_the_database(
    house: House,
    kept: tuple[list[bytes], str],
) -> None:
    """What was changed below us does not match the checkpoint the tenant kept."""
    _, note = kept
    leaf = kept[0][3].replace(b"e3", b"e8").hex()
    value = f"X'{leaf}'" if house.url.startswith("sqlite") else f"'\\x{leaf}'"
    house.tamper(f"UPDATE entry SET leaf = {value} WHERE idx = 3")  # noqa: S608
    with pytest.raises(VerificationError):
        verify_entries(house.entries(), note, log_verifiers("acme", house.keys))


def test_attack_a_frontier_that_was_cut_stops_the_log(
    house: House,
    kept: tuple[list[bytes], str],
) -> None:
    """A damaged head is not built upon: nothing is acknowledged any more."""
    house.tamper("UPDATE head SET frontier = substr(frontier, 1, 32)")
    assert house.post(house.event("next")).status_code == 503
    assert len(house.entries()) == len(kept[0])
