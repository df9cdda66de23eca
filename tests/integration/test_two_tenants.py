"""Two tenants on one machine, one of them encrypted: neither reaches the other."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.envelopes import open_envelopes
from functions.keys import FileKeys, events_key
from functions.problems import Problem
from functions.sink import post_event
from functions.storage.encrypted import EncryptedStore
from functions.tenant import OUTBOX, Key
from tests.integration.stack import COLLINS, GUISE, HOPPER, until, up
from tests.integration.town import Citizen, body, create, guise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.stack import Stack

pytestmark = pytest.mark.xdist_group("stack")

NOBODYS = {"POST /v1/swaps", "GET /v1/swaps"}
"""What names nobody: whose it is says the token alone."""
BROKERS = ("/events", "/ticks")
"""Doors of the broker, to which no token opens."""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a stack that knows nobody but `demo` yet."""
    with up(tmp_path_factory.mktemp("town") / "home", idle=20) as running:
        yield running


@pytest.fixture(scope="module")
def acme(town: Stack) -> Citizen:
    """Return a tenant with a job by HTTP and one by upload."""
    return with_jobs(create(town, "acme"))


@pytest.fixture(scope="module")
def vault(town: Stack) -> Citizen:
    """Return another one, whose objects are encrypted."""
    return with_jobs(create(town, "vault", "--data", "1"))


def with_jobs(citizen: Citizen) -> Citizen:
    assert citizen.swap().status_code == 201
    record = citizen.upload(f"upload-of-{citizen.tenant.id}")
    assert record["outcome"] == "completed"
    until(lambda: len(used(citizen)) == 2)
    return citizen


def used(citizen: Citizen) -> list[dict[str, Any]]:
    path = f"/v1/tenants/{citizen.tenant.id}/usage?from=2020-01-01T00:00:00Z&by=job"
    answer = citizen.ask("GET", "billing", path)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["groups"]
    return found


def pairs(acme: Citizen, vault: Citizen) -> list[tuple[Citizen, Citizen]]:
    return [(acme, vault), (vault, acme)]


def walk(owner: Citizen) -> list[tuple[str, str, str]]:
    """Return function, method and path of everything that the owner has."""
    return [
        (service, method, path)
        for service, method, path in owner.routes
        if f"{method} {path}" not in NOBODYS
    ]


def test_every_route_is_walked(acme: Citizen) -> None:
    """The owner finds something behind each: or the walk would prove nothing."""
    walked = walk(acme)
    assert len(walked) >= 18
    for service, method, path in walked:
        if method == "GET" and not path.endswith("erasures/{job}"):
            answer = acme.ask("GET", service, acme.filled(path))
            assert answer.status_code == 200, (path, answer.text)


def test_another_tenants_token_finds_nothing(acme: Citizen, vault: Citizen) -> None:
    """404 for every object, result, record, proof, tile, usage row and invoice."""
    for owner, stranger in pairs(acme, vault):
        for service, method, path in walk(owner):
            answer = stranger.ask(
                method, service, owner.filled(path), **body(path, owner.jobs[0])
            )
            expected = {400, 403} if path.endswith(BROKERS) else {404}
            assert answer.status_code in expected, (method, path, answer.text)
    for citizen in (acme, vault):
        assert citizen.record(citizen.jobs[0])["outcome"] == "completed"


def test_what_is_not_yours_is_as_if_it_did_not_exist(
    acme: Citizen, vault: Citizen
) -> None:
    """The answer is the same, word for word, but for the path that was asked for."""
    strangers = vault.ask("GET", "door", f"/v1/swaps/{acme.jobs[0]}")
    nobodys = vault.ask("GET", "door", "/v1/swaps/there-is-no-such-job")
    assert strangers.status_code == nobodys.status_code == 404
    there = strangers.text.replace(acme.jobs[0], "there-is-no-such-job")
    assert there == nobodys.text


def everything(citizen: Citizen) -> bytes:
    """Return all that the tenant's token can have: lists, records, results, pages."""
    asked = [(s, citizen.filled(path)) for s, m, path in citizen.routes if m == "GET"]
    asked += [(service, "/metrics") for service in ("audit", "billing")]
    found = [citizen.ask("GET", service, path).content for service, path in asked]
    return b"\n".join(found) + json.dumps(used(citizen)).encode()


def test_nothing_of_the_one_is_in_what_the_other_can_see(
    acme: Citizen, vault: Citizen
) -> None:
    """Neither its name, nor its jobs, nor a result's digest, nor a leaf of its log."""
    for owner, stranger in pairs(acme, vault):
        seen = everything(stranger)
        assert stranger.jobs[0].encode() in seen
        log = owner.ask("GET", "audit", f"/v1/tenants/{owner.tenant.id}/log/entries")
        leaves = [entry["leaf"] for entry in log.json()["entries"]]
        marks = [owner.tenant.id, *owner.jobs, *(each["id"] for each in leaves)]
        marks += [owner.record(job)["output"]["sha256"] for job in owner.jobs]
        for mark in marks:
            assert mark.encode() not in seen, mark


def test_the_encrypted_store_shows_nothing(acme: Citizen, vault: Citizen) -> None:
    """No JPEG, no name, no JSON: and what is in it is read by its owner."""
    folder = vault.stack.home / "tenants" / vault.tenant.id
    files = [each for each in folder.rglob("*") if each.is_file()]
    names = " ".join(str(each.relative_to(folder)) for each in files)
    assert len([each for each in files if each.stat().st_size]) > 8
    # Short words are in noise by chance.
    for word in ("requests", "uploads", "results", "job.json", ".json", *vault.jobs):
        assert word not in names
    pictures = [HOPPER.read_bytes(), COLLINS.read_bytes(), vault.result(vault.jobs[0])]
    chunks = [each[start : start + 32] for each in pictures for start in (0, 2_000)]
    for each in files:
        data = each.read_bytes()
        assert data[:3] != b"\xff\xd8\xff"
        assert not [
            1 for chunk in [*chunks, b"operation", b"\0\x10JFIF\0"] if chunk in data
        ]
    plain = acme.stack.home / "tenants" / acme.tenant.id
    assert b"operation" in (plain / acme.tenant.record(acme.jobs[0])).read_bytes()


def test_an_event_of_the_one_moves_nothing_of_the_other(
    acme: Citizen, vault: Citizen
) -> None:
    """Signed with its own key it speaks for itself alone: 403, and no entry."""
    keys = FileKeys(acme.stack.home / "keys")
    for owner, stranger in pairs(acme, vault):
        for service, kind in (
            ("audit", events.SWAP_STARTED),
            ("billing", events.USAGE_RECORDED),
        ):
            event = events.Event(
                id="forged",
                source=events.swap_source(owner.tenant.id),
                type=kind,
                subject=owner.tenant.id,
                time=events.now(),
                tenant=owner.tenant.id,
                data={"job": owner.jobs[0]},
            )
            signed = events.sign(event, keys.signer(events_key(stranger.tenant.id)))
            there = f"{owner.stack.urls[service]}/v1/tenants/{owner.tenant.id}/events"
            assert post_event(there, signed, timeout=30).status == 403


def test_an_event_starts_a_job_in_its_own_store_alone(
    acme: Citizen, vault: Citizen
) -> None:
    """`requested` of one tenant for the other's job: nothing is run again."""
    before = acme.record(acme.jobs[0])
    event = events.Event(
        id="hint",
        source=events.swap_source("vault"),
        type=events.SWAP_REQUESTED,
        subject=acme.jobs[0],
        time=events.now(),
        tenant="vault",
        data={"job": acme.jobs[0]},
    )
    keys = FileKeys(acme.stack.home / "keys")
    signed = events.sign(event, keys.signer(events_key("vault")))
    status = post_event(f"{acme.stack.urls['worker']}/events", signed, timeout=30)
    assert status.status in {204, 400, 403}
    assert acme.record(acme.jobs[0]) == before
    assert vault.record(acme.jobs[0]) == {}


def test_a_tenant_who_comes_while_the_stack_runs(town: Stack) -> None:
    """`guise tenant create`, then a swap, at once and by event: no restart."""
    late = create(town, "late")
    assert late.swap(Prefer="respond-async").status_code == 202
    until(lambda: late.record(late.jobs[0]), 20)
    assert late.record(late.jobs[0])["outcome"] == "completed"
    assert late.swap().status_code == 201


def test_suspended_and_resumed(town: Stack) -> None:
    """Nothing new begins, on record; what there is can be read; then all goes on."""
    bold = create(town, "bold")
    done = bold.swap().json()["job"]
    guise("tenant", "suspend", "bold", "--home", town.home)
    refused = bold.swap()
    assert refused.status_code == 403
    assert refused.json()["type"] == "urn:guise:problem:tenant-suspended"
    record = bold.upload("while-suspended")
    assert record["outcome"] == "refused"
    assert bold.ask("GET", "door", f"/v1/swaps/{done}").status_code == 200
    assert bold.result(done).startswith(b"\xff\xd8\xff")

    def story() -> list[str]:
        path = "/v1/tenants/bold/log/entries"
        entries = bold.ask("GET", "audit", path).json()["entries"]
        return [entry["leaf"]["type"] for entry in entries]

    until(lambda: events.SWAP_REFUSED in story())
    guise("tenant", "resume", "bold", "--home", town.home)
    assert bold.swap().status_code == 201


def test_a_broken_spec_shuts_out_its_tenant_alone(town: Stack, acme: Citizen) -> None:
    """Others swap on; when it is mended, so does this one."""
    frail = create(town, "frail")
    assert frail.swap().status_code == 201
    spec = town.home / "tenants" / "frail.yaml"
    text = spec.read_bytes()
    spec.write_bytes(b"tier: [")
    assert frail.ask("GET", "door", "/v1/swaps").status_code == 503
    assert acme.swap().status_code == 201
    spec.write_bytes(text)
    assert frail.swap().status_code == 201


def test_a_deleted_tenants_token_opens_nothing(town: Stack) -> None:
    """Its objects are gone; its log is the operator's, and says so last."""
    gone = create(town, "gone")
    job = gone.swap().json()["job"]
    store = gone.store
    until(lambda: len(used(gone)) == 1)
    guise("tenant", "suspend", "gone", "--home", town.home)
    guise("tenant", "delete", "gone", "--yes", "--home", town.home)
    assert gone.ask("GET", "door", f"/v1/swaps/{job}").status_code in {401, 404}
    assert gone.swap().status_code in {401, 404}
    assert store.list(Key("results/")).objects == ()


def test_after_a_shred_nothing_opens_and_others_work_on(
    town: Stack, acme: Citizen, tmp_path: Path
) -> None:
    """While the stack runs: no object decrypts, the log still verifies, acme swaps."""
    doomed = create(town, "doomed", "--data", "1")
    job = doomed.swap().json()["job"]
    until(lambda: len(used(doomed)) == 1)
    shutil.copytree(town.home / "tenants" / "doomed", tmp_path / "stolen")

    def stolen() -> bytes:
        """Read a copy of the disk, with what keys there are."""
        rings = open_envelopes(str(town.home / "keys" / "envelopes"))
        store = EncryptedStore(tmp_path / "stolen", doomed.tenant, rings)
        return store.get(doomed.tenant.record(job)).data

    assert job.encode() in stolen()
    home = ("--home", town.home)
    guise("tenant", "suspend", "doomed", *home)
    store = doomed.store
    until(lambda: not store.list(OUTBOX).objects)
    guise("tenant", "shred", "doomed", "--yes", *home)
    with pytest.raises(Problem):
        stolen()
    assert not [*(town.home / "keys" / "envelopes" / "doomed").rglob("*.key")]
    assert doomed.ask("GET", "door", f"/v1/swaps/{job}").status_code in {401, 404}
    bundle, keys = tmp_path / "doomed.zip", tmp_path / "keys"
    guise("audit", "export", "--tenant", "doomed", "-o", bundle, *home)
    printed = subprocess.run(
        [GUISE, "audit", "keys", "--tenant", "doomed", *home],
        capture_output=True,
        check=True,
        timeout=60,
    )
    keys.write_bytes(printed.stdout)
    found = guise("audit", "verify", bundle, "--key", keys)
    assert found["verified"], found
    assert acme.swap().status_code == 201
