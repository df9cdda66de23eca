"""What was tried against the life of a job, each by the name of the attack."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions.events import SWAP_COMPLETED, SWAP_ERASED, USAGE_RECORDED
from functions.problems import Unavailable
from functions.swap import ledger
from functions.swap.dispatch import requested
from functions.swap.sweeper import sweep
from functions.swap.tidying import tidy
from functions.tenant import OUTBOX, Key
from tests.swap.house import ACME, GOOD, SWAP, House, multipart, picture
from tests.swap.test_life import begun, delete, ended, fresh

if TYPE_CHECKING:
    from werkzeug.test import TestResponse


def keys(house: House, prefix: str = "") -> list[str]:
    return [info.key for info in house.store.list(Key(prefix)).objects]


def post(house: House, **headers: str) -> TestResponse:
    """Send two images along."""
    names = {name.replace("_", "-"): text for name, text in headers.items()}
    return house.door.post(
        "/v1/swaps",
        data=multipart(GOOD, source=picture(1), target=picture(1)),
        headers={"Authorization": "Bearer acme", **names},
    )


def test_erasing_before_the_bill_is_out_loses_no_bill(house: House) -> None:
    """503 until the ending is told; then usage, completed and erased have all gone."""
    house.sink.down = True
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    assert delete(house, job) == 503
    house.sink.down = False
    assert delete(house, job) == 204
    assert set(house.sink.types()) == {SWAP_COMPLETED, USAGE_RECORDED, SWAP_ERASED}


def test_erasing_while_the_worker_runs_leaves_no_output(house: House) -> None:
    """Cancelled and erased in the middle: what it still writes is taken away."""
    entered, go = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        go.wait(10)

    house.engine.fault = wait
    job = begun(house)
    event = requested(job, house.books)
    working = threading.Thread(target=house.send, args=(event,))
    working.start()
    entered.wait(10)
    headers = {"Authorization": "Bearer acme"}
    house.door.post(f"/v1/swaps/{job}/cancel", headers=headers)
    assert delete(house, job) == 204
    go.set()
    working.join()
    sweep(house.books)
    assert [key for key in keys(house) if job in key] == [ACME.record(job)]


def test_a_cancelled_job_keeps_no_output(house: House) -> None:
    """Nor one that lost its race for the record."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    record = ended(house, job)
    loser = ACME.output(job, 9, "png")
    house.store.put(loser, b"a loser's")
    tidy(record, tenant=ACME, store=house.store)
    assert loser not in keys(house)
    assert record.output is not None
    assert record.output.key in keys(house)


def test_twelve_erasures_at_once_are_one(house: House) -> None:
    """One tombstone, one event: no conflict for the log to keep for ever."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    racers = [threading.Thread(target=delete, args=(house, job)) for _ in range(12)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    erased = [each for each in house.sink.taken if each.type == SWAP_ERASED]
    assert len({msgspec.json.encode([e.id, e.time, dict(e.data)]) for e in erased}) == 1


def test_a_door_that_dies_while_it_accepts_leaves_no_image_for_ever(
    house: House,
) -> None:
    """The mark is there before the first image, and the sweeper goes by it."""
    job = "0123456789"
    house.store.put(ACME.outbox(job), b"")
    house.store.put(ACME.received(job, "source-0"), picture(1))
    store: Any = house.store
    data, info = store._objects[ACME.outbox(job)]
    store._objects[ACME.outbox(job)] = (
        data,
        type(info)(info.key, info.size, info.generation, time.time() - 7200),
    )
    sweep(house.books)
    assert not [key for key in keys(house) if job in key]


def test_a_store_that_is_away_for_a_while_fails_no_job(house: House) -> None:
    """Ten times unavailable is no ending; then it is done, as the first attempt."""

    def away() -> None:
        raise Unavailable

    house.engine.fault = away
    job = begun(house)
    event = requested(job, house.books)
    assert {house.send(event).status_code for _ in range(10)} == {503}
    house.engine.fault = lambda: None
    assert house.send(event).status_code == 204
    record = ended(house, job)
    assert (record.outcome, record.attempt) == ("completed", 1)


@pytest.mark.parametrize(
    "record",
    [
        b'{"state":"given\xff"}',
        b'{"state":"given","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"state":"withdrawn","state":"given"}',
        b'{"state": 1}',
        b"[]",
        b"",
    ],
    ids=["bytes", "depth", "twice", "number", "list", "empty"],
)
def test_a_consent_record_of_bad_bytes_is_no_consent(
    house: House,
    record: bytes,
) -> None:
    """403 by name, over HTTP and in the record of an upload."""
    house.store.put(ACME.consent("consents/1.json"), record)
    consent = {"basis": "consent", "record": "consents/1.json"}
    assert house.post(SWAP | {"consent": consent}).status_code == 403
    assert house.upload("j1", SWAP | {"consent": consent}).status_code == 204
    problem = ended(house, "j1").problem
    assert problem is not None
    assert problem["type"] == "urn:guise:problem:consent-missing"


def test_the_log_holds_no_name_of_a_consent_record(house: House) -> None:
    """Its key may be a person's name: only a commitment under the salt goes out."""
    name = "consents/maria-mueller-1987.json"
    house.store.put(ACME.consent(name), b'{"state": "given"}')
    house.post(SWAP | {"consent": {"basis": "consent", "record": name}})
    said = msgspec.json.encode(house.auditor.seen[0].data)
    assert b"maria" not in said
    assert b'"state":"given"' in said


def test_the_consent_on_record_is_the_one_that_stood(house: House) -> None:
    """A record exchanged between acceptance and work is the one committed to."""
    key = ACME.consent("consents/1.json")
    consent = {"basis": "consent", "record": key}
    seen = []
    for second in (b'{"state": "given"}', b'{"state": "given", "by": "b"}'):
        house.store.put(key, b'{"state": "given"}')
        job = house.post(SWAP | {"consent": consent}, Prefer="respond-async")
        house.store.put(key, second)
        house.send(house.sink.taken[-1])
        assert job.status_code == 202
        seen.append(house.auditor.seen[-1].data["admission"]["consent"]["record"])
    assert seen[0] != seen[1]


def test_an_erased_record_keeps_no_words_of_the_problem(house: House) -> None:
    """Its detail may name an upload; its type is enough."""
    house.put("b.png", picture(0))
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    assert delete(house, job) == 204
    assert set(ended(house, job).problem or {}) == {"type"}


def test_waiting_jobs_are_not_asked_for_again_and_again() -> None:
    """The sweeper asks once a claim's time, however often it sweeps."""
    house = fresh(claim_seconds=1)
    begun(house)
    time.sleep(1.1)
    assert [sweep(house.books).asked for _ in range(5)] == [1, 0, 0, 0, 0]


def test_a_claim_from_a_clock_far_ahead_does_not_hold(house: House) -> None:
    """A holder whose clock was a year ahead, and who died, keeps nobody out."""
    job = begun(house)
    ledger.claim(
        ACME,
        job,
        store=house.store,
        limits=house.limits,
        start=lambda n: requested(job, house.books, str(n)),
    )
    claim = msgspec.json.decode(house.store.get(ACME.claim(job)).data)
    claim["until"] = time.time() + 365 * 86_400
    house.store.put(ACME.claim(job), msgspec.json.encode(claim))
    house.send(requested(job, house.books))
    assert ended(house, job).attempt == 2


def test_a_request_file_without_end_is_not_read(house: House) -> None:
    """Over its limit it is refused by its size."""
    house.upload("big", b" " * 70_000 + b"{}")
    problem = ended(house, "big").problem
    assert problem is not None
    assert problem["type"] == "urn:guise:problem:too-large"


def test_an_upload_cannot_sit_on_a_callers_idempotency_key(house: House) -> None:
    """Ids that the door derives from a key are the door's alone."""
    house.upload("k" + "0" * 32, SWAP)
    assert ledger.record(ACME, "k" + "0" * 32, house.store) is None
    assert "invalid-request" in house.sink.taken[0].data["reason"]


def test_many_pictures_are_bounded_in_all() -> None:
    """Each is within its limit, and all together are not."""
    house = fresh(job_pixels_max=100)
    assert house.post(SWAP).status_code == 413


def test_pairs_are_bounded(house: House) -> None:
    """As many as faces may be."""
    pairs = [{"face": "largest", "source": "uploads/a.png"}] * 65
    ask = {key: SWAP[key] for key in ("operation", "target", "consent")}
    assert house.post(ask | {"faces": pairs}).status_code == 400


def test_an_accepted_request_without_its_inputs_ends_as_refused(house: House) -> None:
    """Forged in the tenant's own store: an ending, and no endless sweep."""
    job = begun(house)
    accepted = msgspec.json.decode(house.store.get(ACME.pinned(job)).data)
    house.store.put(ACME.pinned(job), msgspec.json.encode(accepted | {"inputs": {}}))
    house.send(requested(job, house.books))
    assert ended(house, job).outcome == "refused"
    assert not house.store.list(OUTBOX).objects


def test_a_repeat_of_an_accepted_call_stores_nothing_twice(house: House) -> None:
    """The same key, the same images: the same job and its record."""
    first, second = (post(house, Idempotency_Key="k") for _ in range(2))
    assert first.json == second.json
