"""What somebody with another way into a folder may plant there, and what ids tell."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from functions.billing import closing
from functions.billing.invoice import Period
from functions.billing.rates import FILE, RateCards
from functions.problems import NotFound, Problem
from functions.storage import open_store
from functions.tenant import BUDGET, Key
from tests.attacks.town import ACME, GLOBEX, Town
from tests.billing.house import NOW
from tests.swap.house import SWAP, House, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS_MAX = 3.0


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        try:  # a socket's address is short
            made.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def planted(path: Path, secret: Path) -> dict[str, Callable[[], object]]:
    """Return what may be put at `path` beside a file; `secret` is another tenant's."""
    return {
        "fifo": lambda: os.mkfifo(path),
        "socket": lambda: socket_at(path),
        "directory": path.mkdir,
        "link": lambda: path.symlink_to(secret),
        "link-to-a-folder": lambda: path.symlink_to(secret.parent),
        "link-to-a-device": lambda: path.symlink_to("/dev/zero"),
        "link-to-itself": lambda: path.symlink_to(path.name),
        "link-to-a-process": lambda: path.symlink_to("/proc/self/environ"),
        "link-that-dangles": lambda: path.symlink_to("nowhere"),
    }


PLANTED = (
    "fifo",
    "socket",
    "directory",
    "link",
    "link-to-a-folder",
    "link-to-a-device",
    "link-to-itself",
    "link-to-a-process",
    "link-that-dangles",
)


@pytest.mark.parametrize("attack", PLANTED)
@pytest.mark.parametrize("field", ["source", "target", "record"])
def test_attack_no_file_in_a_file_store(
    tmp_path: Path, field: str, attack: str
) -> None:
    """It is no object: 404 by the real door, at once, and nothing of it is read."""
    secret = tmp_path / "globex" / "uploads" / "secret.png"
    secret.parent.mkdir(parents=True)
    secret.write_bytes(picture(3))
    house = House(url=f"file://{tmp_path}/{{tenant}}", opener=open_store)
    for name in "ab":
        house.put(f"{name}.png", picture())
    key = {"record": "consents/x.json"}.get(field, "uploads/x.png")
    path = tmp_path / "acme" / key
    path.parent.mkdir(exist_ok=True)
    assert tuple(planted(path, secret)) == PLANTED
    planted(path, secret)[attack]()
    more = {"consent": {"basis": "consent", "record": key}}
    began = time.monotonic()
    answer = house.post({**SWAP, **(more if field == "record" else {field: key})})
    assert answer.status_code in {403, 404}, answer.text
    assert time.monotonic() - began < SECONDS_MAX
    assert house.engine.calls == []
    assert secret.read_bytes() == picture(3)


def test_attack_hard_link_in_a_file_store(tmp_path: Path) -> None:
    """Writing and deleting a second name of another's file leaves the file as it is.

    Only who can already write a file can give it one (`fs.protected_hardlinks`).
    """
    other = tmp_path / "globex" / "uploads"
    other.mkdir(parents=True)
    (other / "secret.png").write_bytes(b"theirs")
    store = open_store(f"file://{tmp_path}/acme")
    store.put(ACME.upload("uploads/a.png"), b"mine")
    planting = tmp_path / "acme" / "uploads" / "b.png"
    for act in (
        lambda key: store.put(key, b"mine"),
        store.delete,
        lambda key: store.put_if_match(key, b"mine", store.head(key).generation),
        lambda key: store.delete_if_match(key, store.head(key).generation),
    ):
        planting.unlink(missing_ok=True)
        planting.hardlink_to(other / "secret.png")
        act(ACME.upload("uploads/b.png"))
        assert (other / "secret.png").read_bytes() == b"theirs"


def test_attack_links_in_a_listing(tmp_path: Path) -> None:
    """What is no file is in no listing, and no listing leads out of the folder."""
    outside = tmp_path / "globex"
    outside.mkdir()
    (outside / "secret").write_bytes(b"theirs")
    store = open_store(f"file://{tmp_path}/acme")
    store.put(ACME.upload("uploads/a.png"), b"mine")
    uploads = tmp_path / "acme" / "uploads"
    (uploads / "folder").symlink_to(outside)
    (uploads / "file").symlink_to(outside / "secret")
    (uploads / "up").symlink_to("..")
    os.mkfifo(uploads / "pipe")
    found = [each.key for each in store.list(Key("")).objects]
    assert found == ["uploads/a.png"]


@pytest.mark.parametrize("name", ["upload.png", "job.json"])
def test_attack_file_changed_while_it_is_read(tmp_path: Path, name: str) -> None:
    """A file of any size is read up to its limit, whatever it grows to meanwhile."""
    store = open_store(f"file://{tmp_path}/acme")
    key = ACME.upload(f"uploads/{name}")
    store.put(key, b"small")
    with (tmp_path / "acme" / key).open("r+b") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(Problem, match="over"):
        store.get(key, bytes_max=1024)


# --- ids that two tenants use ------------------------------------------------


def test_attack_same_event_id_in_audit(fresh: Town) -> None:
    """An id that another tenant has used is answered as one that nobody has."""
    first = fresh.audit.post(fresh.audit.event("same", tenant="globex"), "globex")
    told = fresh.audit.post(fresh.audit.event("same"))
    assert told.status_code == first.status_code == 200
    assert told.get_json()["index"] == first.get_json()["index"] == 0
    assert len(fresh.audit.entries("acme")) == len(fresh.audit.entries("globex")) == 1


def test_attack_same_event_id_in_billing(fresh: Town) -> None:
    """Usage under an id of another tenant's counts; neither is a repetition."""
    for tenant in ("globex", "acme"):
        event = fresh.billing.event("same", tenant=tenant, job="job-1")
        assert fresh.billing.post(event, tenant).status_code == 204
        again = fresh.billing.post(event, tenant)
        assert (again.status_code, again.data) == (204, b"")
    assert fresh.billed()["events"] == 1
    other = fresh.ask("billing", "/v1/tenants/globex/usage", fresh.token("globex"))
    assert other.get_json()["total"]["events"] == 1


def test_attack_same_job_id(fresh: Town) -> None:
    """Jobs of one id by two tenants end, show and are erased each by themselves."""
    for tenant in (ACME, GLOBEX):
        store = fresh.swap.stores.of(tenant)
        for name in "ab":
            store.put(tenant.upload(f"uploads/{name}.png"), picture())
        store.put(tenant.request("same"), json.dumps(SWAP).encode())
        notice = {"bucket": tenant.id, "name": "requests/same.json"}
        headers = {"ce-id": f"{tenant.id}-1", "ce-specversion": "1.0"}
        headers |= {"ce-type": "google.cloud.storage.object.v1.finalized"}
        headers |= {"ce-source": f"//storage.googleapis.com/{tenant.id}"}
        told = fresh.swap.worker.post("/events", headers=headers, json=notice)
        assert told.status_code == 204
    erased = fresh.ask("swap", "/v1/swaps/same", fresh.token(), "DELETE")
    assert erased.status_code == 204
    assert fresh.ask("swap", "/v1/swaps/same", fresh.token()).status_code == 410
    kept = fresh.ask("swap", "/v1/swaps/same", fresh.token("globex"))
    assert kept.get_json()["outcome"] == "completed"


def test_attack_upload_notice_replayed(fresh: Town) -> None:
    """However often a bucket tells of a request, it runs once, for its own tenant."""
    fresh.work()
    store = fresh.swap.stores.of(ACME)
    store.put(ACME.request("j-9"), json.dumps(SWAP).encode())
    headers = {"ce-id": "1", "ce-specversion": "1.0", "ce-source": "//s"}
    headers |= {"ce-type": "google.cloud.storage.object.v1.finalized"}
    notice = {"bucket": "acme", "name": "requests/j-9.json"}
    before = fresh.swap.engine.calls.count("swap")
    for number in range(5):
        headers["ce-id"] = str(number)
        fresh.swap.worker.post("/events", headers=headers, json=notice)
    assert fresh.swap.engine.calls.count("swap") == before + 1


def test_attack_invoice_numbers_that_count_tenants(fresh: Town) -> None:
    """A tenant's numbers begin at 1, whoever was billed before it."""
    month = Period.parse("2026-10")
    time_of = {"time": "2026-10-21T11:00:00.000Z"}
    for tenant in ("globex", "acme"):
        event = fresh.billing.event("u", tenant=tenant, attributes=time_of)
        fresh.billing.post(event, tenant)
    ledger, cards = fresh.billing.ledger, RateCards.load(FILE)
    for tenant in ("globex", "acme"):
        closing.close(ledger, tenant, month, NOW)
        made = closing.issued(ledger, cards, tenant, month, NOW)
        assert made is not None
        assert made.number == f"{tenant}-000001"
        assert made.events.count == 1


FORGED: dict[str, Any] = {
    "no-event": {"event": {}},
    "text": "everything is fine",
    "no-json": None,
    "unsigned": {
        "event": {
            "id": "1",
            "source": "/tenants/acme/billing",
            "type": "dev.guise.budget.changed.v1",
            "specversion": "1.0",
            "tenant": "acme",
            "data": {"period": "2026-11", "hard": False, "exhausted": False},
        }
    },
}


@pytest.mark.parametrize("attack", FORGED)
def test_attack_budget_that_the_tenant_writes(attack: str) -> None:
    """What is not billing's word lifts no budget: nothing runs until it is gone."""
    house = House()
    for name in "ab":
        house.put(f"{name}.png", picture())
    content = b"{" if FORGED[attack] is None else json.dumps(FORGED[attack]).encode()
    house.store.put(BUDGET, content)
    assert house.post(SWAP).status_code == 503
    assert house.engine.calls == []
    house.store.delete(BUDGET)
    assert house.post(SWAP).status_code == 201


def test_attack_result_that_is_swapped_in_the_store(tmp_path: Path) -> None:
    """A record whose output was moved away is 404, not another object's bytes."""
    house = House(url=f"file://{tmp_path}/{{tenant}}", opener=open_store)
    for name in "ab":
        house.put(f"{name}.png", picture())
    job = house.post(SWAP).get_json()["job"]
    output = tmp_path / "acme" / "results" / job / "1.png"
    output.unlink()
    output.symlink_to(tmp_path / "acme" / "uploads" / "a.png")
    answer = house.get(f"/v1/swaps/{job}/result")
    assert answer.status_code == 404
    with pytest.raises(NotFound):
        house.store.get(Key(f"results/{job}/1.png"))
