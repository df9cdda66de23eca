"""What opens a job's commitments: it goes to audit alone, and dies with the job."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import msgspec
import pytest

from functions.commitments import (
    SEALED,
    SIDECAR,
    Sidecar,
    commitment,
    committed,
    open_result,
)
from functions.events import SWAP_COMPLETED, SWAP_STARTED
from functions.swap import intake, ledger
from functions.swap.dispatch import requested
from functions.tenant import Key
from tests.swap.house import ACME, SWAP, House, picture

if TYPE_CHECKING:
    from functions.events import Event


@pytest.fixture
def house() -> House:
    """Return a house with some pictures, each of which is different."""
    made = House()
    for number, name in enumerate("abcd", 1):
        made.put(f"{name}.png", picture(2, size=8 + number))
    return made


def digest(house: House, name: str) -> str:
    data = house.store.get(ACME.upload(f"uploads/{name}.png")).data
    return hashlib.sha256(data).hexdigest()


def sidecar_of(event: Event) -> Sidecar:
    return Sidecar.parse(event.extensions[SIDECAR])


def test_the_sidecar_opens_every_commitment_of_started(house: House) -> None:
    """Nothing that a job uses is missing: sources of pairs and references, too."""
    pairs = [
        {"face": {"reference": "uploads/c.png"}, "source": "uploads/a.png"},
        {"face": {"index": 1}, "source": "uploads/d.png"},
    ]
    request = {name: value for name, value in SWAP.items() if name != "source"}
    assert house.post(request | {"faces": pairs}).status_code == 201
    started = house.auditor.seen[0]
    sidecar = sidecar_of(started)
    assert {(each.role, each.sha256) for each in sidecar.images} == {
        ("source", digest(house, "a")),
        ("source", digest(house, "d")),
        ("target", digest(house, "b")),
        ("reference", digest(house, "c")),
    }
    opened = {
        (each.role, commitment(sidecar.salt, each.sha256)) for each in sidecar.images
    }
    assert opened == committed(started.data)


def test_faces_to_keep_are_committed_to(house: House) -> None:
    """`anonymize` with a reference uses two images, and says so."""
    keep = [{"reference": "uploads/c.png"}]
    request = {"operation": "anonymize", "target": "uploads/b.png", "keep": keep}
    assert house.post(request).status_code == 201
    started = house.auditor.seen[0]
    assert set(started.data["commitments"]) == {"sources", "target", "references"}
    roles = {(each.role, each.sha256) for each in sidecar_of(started).images}
    assert ("reference", digest(house, "c")) in roles


def test_a_job_without_references_says_nothing_of_them(house: House) -> None:
    """Such a `started` is what it was before there were sidecars."""
    house.post(SWAP)
    assert set(house.auditor.seen[0].data["commitments"]) == {"sources", "target"}


def test_a_started_that_is_sent_again_has_its_sidecar(house: House) -> None:
    """Audit was away: the same event goes to it word for word, by the claim."""
    house.auditor.down = True
    job = house.post(SWAP, Prefer="respond-async").json["job"]  # type: ignore[index]
    event = requested(job, house.books)
    assert house.send(event).status_code == 503
    claim = msgspec.json.decode(house.store.get(ACME.claim(job)).data)
    kept = claim["started"][SIDECAR]
    house.auditor.down = False
    assert house.send(event).status_code == 204
    assert house.auditor.seen[0].extensions[SIDECAR] == kept


def test_a_sidecar_goes_to_nobody_but_audit(house: House) -> None:
    """No subscriber gets `started`, and no event that goes out holds a salt."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    salt = intake.load(ACME, job, house.store).salt
    assert SWAP_STARTED not in house.sink.types()
    for event in house.sink.taken:
        assert SIDECAR not in event.extensions
        assert salt not in repr(event)


def test_the_result_is_sealed_for_whoever_has_the_salt(house: House) -> None:
    """The ending's extension opens to the digest that the ending commits to."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    salt = sidecar_of(house.auditor.seen[0]).salt
    ending = next(e for e in house.sink.taken if e.type == SWAP_COMPLETED)
    opened = open_result(salt, job, ending.extensions[SEALED])
    record = ledger.record(ACME, job, house.store)
    assert record is not None
    assert record.output is not None
    assert opened == record.output.sha256
    assert committed(ending.data) == {("result", commitment(salt, opened))}


def test_an_ending_without_a_result_seals_nothing(house: House) -> None:
    """There is nothing to seal."""
    house.put("b.png", picture(0))
    house.post(SWAP)
    assert all(SEALED not in event.extensions for event in house.sink.taken)


def test_the_sidecar_dies_with_the_job(house: House) -> None:
    """After DELETE no object of the tenant holds it, in any form."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    text = house.auditor.seen[0].extensions[SIDECAR]
    salt = sidecar_of(house.auditor.seen[0]).salt
    forms = [text.encode(), salt.encode(), bytes.fromhex(salt)]
    forms.append(base64.b64encode(bytes.fromhex(salt)))

    def holders() -> set[str]:
        keys = [info.key for info in house.store.list(Key("")).objects]
        stored = [(key, house.store.get(key).data) for key in keys]
        return {key for key, data in stored if any(form in data for form in forms)}

    assert holders() == {ACME.claim(job), ACME.pinned(job)}
    answer = house.door.delete(
        f"/v1/swaps/{job}", headers={"Authorization": "Bearer acme"}
    )
    assert answer.status_code == 204
    assert holders() == set()
