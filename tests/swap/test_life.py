"""The life of a job: attempts, claims, the commit, the sweeper, cancel and erase."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from functions import events
from functions.events import (
    SWAP_COMPLETED,
    SWAP_ERASED,
    SWAP_FAILED,
    SWAP_REFUSED,
    SWAP_REQUESTED,
    USAGE_RECORDED,
)
from functions.problems import NoSuchFace
from functions.settings import Limits
from functions.swap import intake, ledger, outbox, records
from functions.swap.dispatch import requested
from functions.swap.sweeper import sweep
from functions.tenant import OUTBOX, Key
from tests.swap.house import ACME, GOOD, SWAP, House, multipart, picture

if TYPE_CHECKING:
    from werkzeug.test import TestResponse

    from functions.swap.ledger import Record


def fresh(**limits: int) -> House:
    house = House(Limits(**limits))
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return house


def begun(house: House) -> str:
    """Return a job that is accepted and that nobody has started."""
    answer = house.post(SWAP, Prefer="respond-async")
    house.sink.taken.clear()
    return str(answer.json["job"])  # type: ignore[index]


def ended(house: House, job: str) -> Record:
    record = ledger.record(ACME, job, house.store)
    assert record is not None
    return record


def marks(house: House) -> list[str]:
    return [info.key for info in house.store.list(OUTBOX).objects]


def explode() -> None:
    raise RuntimeError("the secret path /models/x")


def test_a_fault_of_ours_is_tried_three_times_and_then_failed(house: House) -> None:
    """Two times 503, then the ending `failed`: not billed, and no cause in it."""
    house.engine.fault = explode
    job = begun(house)
    event = requested(job, house.books)
    assert [house.send(event).status_code for _ in range(3)] == [503, 503, 204]
    record = ended(house, job)
    assert (record.outcome, record.attempt) == ("failed", 3)
    assert b"secret" not in msgspec.json.encode(record)
    assert house.sink.types() == [SWAP_FAILED, USAGE_RECORDED]
    assert house.sink.taken[1].data["billable"] is False


def test_each_attempt_has_a_receipt_of_its_own(house: House) -> None:
    """Three attempts, three `started` with three ids."""
    house.engine.fault = explode
    event = requested(begun(house), house.books)
    for _ in range(3):
        house.send(event)
    assert [each.data["attempt"] for each in house.auditor.seen] == [1, 2, 3]
    assert len({each.id for each in house.auditor.seen}) == 3


def test_a_holder_that_died_costs_an_attempt() -> None:
    """A claim that ran out is taken over as the next attempt."""
    house = fresh(claim_seconds=1)
    job = begun(house)
    die_holding(house, job)
    assert house.send(requested(job, house.books)).status_code == 204  # busy
    assert ledger.record(ACME, job, house.store) is None
    time.sleep(1.1)
    house.send(requested(job, house.books))
    assert ended(house, job).attempt == 2


def die_holding(house: House, job: str) -> None:
    ledger.claim(
        ACME,
        job,
        store=house.store,
        limits=house.limits,
        start=lambda n: requested(job, house.books, str(n)),
    )


def test_a_job_whose_holders_all_died_is_failed() -> None:
    """A job that kills its worker is not tried for ever."""
    house = fresh(claim_seconds=1, attempts_max=1)
    job = begun(house)
    die_holding(house, job)
    time.sleep(1.1)
    house.send(requested(job, house.books))
    assert ended(house, job).outcome == "failed"


def test_while_it_works_the_claim_is_kept_alive() -> None:
    """Work longer than the lease is not taken over."""
    house = fresh(claim_seconds=1)
    house.engine.fault = lambda: time.sleep(1.5)
    job = begun(house)
    first = threading.Thread(target=house.send, args=(requested(job, house.books),))
    first.start()
    time.sleep(1.3)
    assert ledger.held(ACME, job, house.store, house.limits)
    house.send(requested(job, house.books))  # busy: answered, and no second swap
    first.join()
    assert house.engine.calls.count("swap") == 1
    assert ended(house, job).attempt == 1


def test_a_stalled_holder_that_comes_back_overwrites_nothing() -> None:
    """Its commit loses, and the winner's record stays as it was."""
    house = fresh()
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    winner = ended(house, job)
    late = msgspec.structs.replace(winner, outcome="failed", attempt=9)
    assert ledger.commit(late, tenant=ACME, store=house.store) == winner
    assert ended(house, job) == winner


def test_the_same_job_from_many_sides_at_once_is_done_once(house: House) -> None:
    """Twenty deliveries race; one claims."""
    event = requested(begun(house), house.books)
    racers = [threading.Thread(target=house.send, args=(event,)) for _ in range(20)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert house.engine.calls.count("swap") == 1
    assert {each.type for each in house.sink.taken} == {SWAP_COMPLETED, USAGE_RECORDED}


def test_a_full_queue_says_try_again() -> None:
    """503 when as many jobs wait as may."""
    house = fresh(queue_jobs_max=1)
    gate = threading.Event()

    def wait() -> None:
        gate.wait(10)

    house.engine.fault = wait
    one, two = begun(house), begun(house)
    first = threading.Thread(target=house.send, args=(requested(one, house.books),))
    first.start()
    while "detect" not in house.engine.calls:
        time.sleep(0.01)
    assert house.send(requested(two, house.books)).status_code == 503
    gate.set()
    first.join()


def test_an_input_changed_after_acceptance_is_refused(house: House) -> None:
    """What runs is what was accepted, byte for byte, or nothing."""
    job = begun(house)
    house.put("b.png", picture(3))
    house.send(requested(job, house.books))
    record = ended(house, job)
    assert record.problem is not None
    assert record.problem["type"] == "urn:guise:problem:conflict"


def test_an_input_deleted_after_acceptance_is_refused(house: House) -> None:
    """410 in the record, and no fault of ours."""
    job = begun(house)
    house.store.delete(ACME.upload("uploads/b.png"))
    house.send(requested(job, house.books))
    record = ended(house, job)
    assert record.problem is not None
    assert record.problem["type"] == "urn:guise:problem:gone"


def test_an_image_over_its_limit_is_refused_at_the_door() -> None:
    """413 before it is read."""
    house = fresh(image_bytes_max=50)
    assert house.post(SWAP).status_code == 413


def test_a_picture_of_too_many_faces_is_refused() -> None:
    """The limit is named."""
    house = fresh(faces_max=1)
    answer = house.post(SWAP)
    assert answer.status_code == 400
    assert "over 1 faces" in answer.text


def test_waiting_for_the_models_is_told_and_not_billed(house: House) -> None:
    """What a job waits for loading stands beside its lease, in milliseconds."""
    usage = house.post(SWAP).json["usage"]  # type: ignore[index]
    assert 0 <= usage["load_ms"] < 60_000


# --- the sweeper ------------------------------------------------------------


def test_events_the_sink_missed_are_delivered_by_the_sweeper(house: House) -> None:
    """The result is there at once; the mark stays until the events are out."""
    house.sink.down = True
    assert house.post(SWAP).status_code == 201
    assert len(marks(house)) == 1
    house.sink.down = False
    assert sweep(house.books).settled == 1
    assert house.sink.types() == [SWAP_COMPLETED, USAGE_RECORDED]
    assert marks(house) == []


def test_what_is_swept_twice_says_the_same_thing() -> None:
    """The stored events go out word for word."""
    house = fresh(delivery_ms_max=1)
    house.sink.down = True
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    stored = ended(house, job).events
    house.sink.down = False
    sweep(house.books)
    assert [each.id for each in house.sink.taken] == [each["id"] for each in stored]


def test_a_job_nobody_started_is_asked_for_again() -> None:
    """A lost request event is made good, once it is older than a claim."""
    house = fresh(claim_seconds=1)
    job = begun(house)
    assert sweep(house.books).settled == 0
    time.sleep(1.1)
    assert sweep(house.books).settled == 1
    assert house.sink.types() == [SWAP_REQUESTED]
    assert house.sink.taken[0].data == {"job": job}


def test_a_job_somebody_works_on_is_left_alone() -> None:
    """A claim that is alive is not swept."""
    house = fresh(claim_seconds=2)
    job = begun(house)
    time.sleep(2.1)
    die_holding(house, job)
    assert sweep(house.books).settled == 0


def test_one_broken_job_does_not_stop_the_sweep(house: House) -> None:
    """The next one is swept all the same."""
    house.sink.down = True
    house.post(SWAP)
    house.store.put(ACME.outbox("0broken"), b"")
    house.store.put(ACME.record("0broken"), b"{")
    house.sink.down = False
    assert sweep(house.books).told == 1


# --- cancel and erase -------------------------------------------------------


def delete(house: House, job: str) -> int:
    headers = {"Authorization": "Bearer acme"}
    return house.door.delete(f"/v1/swaps/{job}", headers=headers).status_code


def cancel(house: House, job: str) -> str:
    headers = {"Authorization": "Bearer acme"}
    answer = house.door.post(f"/v1/swaps/{job}/cancel", headers=headers)
    return str(answer.json["outcome"])  # type: ignore[index]


def test_a_cancelled_job_never_runs(house: House) -> None:
    """Its request event finds it ended."""
    job = begun(house)
    assert cancel(house, job) == "cancelled"
    house.send(requested(job, house.books))
    assert house.engine.calls == []
    assert set(house.sink.types()) == {SWAP_FAILED}


def test_a_job_that_has_ended_is_not_cancelled(house: House) -> None:
    """Its record is the answer."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    assert cancel(house, job) == "completed"


def test_an_erased_job_is_gone_and_its_erasure_audited(house: House) -> None:
    """410 from then on; nothing of it is left but the record that says so."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    assert delete(house, job) == 204
    assert house.get(f"/v1/swaps/{job}").status_code == 410
    assert house.get(f"/v1/swaps/{job}/result").status_code == 410
    left = [info.key for info in house.store.list(Key("")).objects if job in info.key]
    assert left == [ACME.record(job)]
    assert house.sink.types()[-1] == SWAP_ERASED


def test_an_erased_job_does_not_come_back_to_life(house: House) -> None:
    """The same key again is 410, and nothing is stored of what came with it."""
    files = {"source": picture(1), "target": picture(1)}

    def send() -> TestResponse:
        return house.door.post(
            "/v1/swaps",
            data=multipart(GOOD, **files),
            headers={"Authorization": "Bearer acme", "Idempotency-Key": "k"},
        )

    job = send().json["job"]  # type: ignore[index]
    assert delete(house, job) == 204
    assert send().status_code == 410
    left = [info.key for info in house.store.list(Key("")).objects if job in info.key]
    assert left == [ACME.record(job)]


def test_a_repeated_call_costs_an_accepted_job_nothing(house: House) -> None:
    """Refused or not, it leaves the images of the first call where they are."""
    house.put("ref.png", picture(1))
    request = (
        '{"operation":"swap","faces":{"reference":"uploads/ref.png"},'
        '"consent":{"basis":"public-domain"}}'
    )

    def send() -> TestResponse:
        return house.door.post(
            "/v1/swaps",
            data=multipart(request, source=picture(1), target=picture(1)),
            headers={
                "Authorization": "Bearer acme",
                "Idempotency-Key": "k",
                "Prefer": "respond-async",
            },
        )

    job = send().json["job"]  # type: ignore[index]
    house.store.delete(ACME.upload("uploads/ref.png"))
    assert send().status_code == 202
    assert len(house.store.list(Key(f"uploads/{job}/")).objects) == 2


def test_erasing_twice_is_erasing_once(house: House) -> None:
    """204 again, and the same event."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    delete(house, job)
    assert delete(house, job) == 204
    erased = [each.id for each in house.sink.taken if each.type == SWAP_ERASED]
    assert len(set(erased)) == 1


def test_a_crash_during_erasure_is_finished_by_the_sweeper(house: House) -> None:
    """The tombstone comes first, the deleting may be repeated."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    request = house.store.get(ACME.pinned(job)).data
    house.sink.down = True
    delete(house, job)
    house.store.put(ACME.pinned(job), request)
    house.sink.down = False
    assert sweep(house.books).settled == 1
    assert not house.store.list(Key(f"jobs/{job}/")).objects


def test_a_job_that_has_not_ended_is_not_erased(house: House) -> None:
    """409: cancel it first."""
    assert delete(house, begun(house)) == 409


def test_without_its_salt_a_commitment_tells_nothing(house: House) -> None:
    """After erasure no object of the tenant holds the salt any more."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    accepted = intake.load(ACME, job, house.store)
    target = ACME.upload("uploads/b.png")
    logged = house.auditor.seen[0].data["commitments"]["target"]
    assert accepted.commitment(target) == logged
    delete(house, job)
    left = [info.key for info in house.store.list(Key("")).objects]
    salt = accepted.salt.encode()
    assert not any(salt in house.store.get(key).data for key in left)
    assert not any(salt in msgspec.json.encode(each.data) for each in house.sink.taken)


# --- listing and results ----------------------------------------------------


def test_jobs_are_listed_in_pages(house: House) -> None:
    """Every job once, oldest first."""
    jobs = [begun(house) for _ in range(records.PAGE_JOBS + 5)]
    first = house.get("/v1/swaps").json
    assert first is not None
    second = house.get(f"/v1/swaps?cursor={first['cursor']}").json
    assert second is not None
    assert [each["job"] for each in first["jobs"] + second["jobs"]] == sorted(jobs)
    assert second["cursor"] == ""


def test_a_result_that_is_not_there_yet_is_404(house: House) -> None:
    """Accepted is not ended."""
    job = begun(house)
    assert house.get(f"/v1/swaps/{job}").json["outcome"] == "accepted"  # type: ignore[index]
    assert house.get(f"/v1/swaps/{job}/result").status_code == 404


def test_a_refused_job_has_no_result(house: House) -> None:
    """404, and the reason is in its record."""
    house.put("b.png", picture(0))
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    assert house.get(f"/v1/swaps/{job}/result").status_code == 404
    assert house.sink.types()[0] == SWAP_REFUSED


def test_who_accepts_images_first_gets_the_bytes(house: House) -> None:
    """The image at once, its job in a header."""
    answer = house.post(SWAP, Accept="image/*")
    assert answer.mimetype == "image/png"
    assert answer.data.startswith(b"\x89PNG")
    assert answer.headers["Guise-Job"]


def test_detect_says_where_the_faces_are(house: House) -> None:
    """Boxes, landmarks, scores and the indices that the others use; no consent."""
    answer = house.post({"operation": "detect", "target": "uploads/b.png"})
    assert answer.json is not None
    assert [face["index"] for face in answer.json["faces"]] == [0, 1]
    result = house.get(f"/v1/swaps/{answer.json['job']}/result")
    assert result.json["faces"] == answer.json["faces"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("faces", "done"),
    [
        ("all", [0, 1]),
        ("largest", [0]),
        ({"index": 1}, [1]),
        ({"reference": "uploads/a.png"}, [0]),
        ([{"face": {"index": 1}, "source": "uploads/a.png"}], [1]),
        (
            [
                {"face": "all", "source": "uploads/a.png"},
                {"face": {"index": 1}, "source": "uploads/b.png"},
            ],
            [0, 1],
        ),
    ],
)
def test_faces_are_chosen_as_asked(
    house: House, faces: object, done: list[int]
) -> None:
    """All, the largest, by index, by likeness, or pair by pair."""
    ask = dict(SWAP, faces=faces)
    if isinstance(faces, list):
        del ask["source"]
    answer = house.post(ask)
    assert answer.json is not None
    assert [face["index"] for face in answer.json["faces"]] == done


@pytest.mark.parametrize("faces", [{"index": 7}, {"reference": "uploads/far.png"}])
def test_a_face_that_is_not_there_is_422(house: House, faces: object) -> None:
    """By index or by likeness."""
    house.put("far.png", picture(0))
    answer = house.post(dict(SWAP, faces=faces))
    assert answer.status_code == NoSuchFace.status


def test_anonymize_covers_every_face_and_asks_for_no_consent(house: House) -> None:
    """All of them unless said otherwise."""
    answer = house.post({"operation": "anonymize", "target": "uploads/b.png"})
    assert answer.status_code == 201
    assert len(answer.json["faces"]) == 2  # type: ignore[index]


def test_an_unsigned_request_event_starts_nothing(house: House) -> None:
    """403 to the broker: to the dead letters."""
    job = begun(house)
    event = requested(job, house.books)
    assert house.send(replace(event, sig="", sigkid="")).status_code == 403
    assert house.send(replace(event, tenant="evil")).status_code == 403
    assert house.engine.calls == []


def test_an_event_of_another_kind_is_malformed_here(house: House) -> None:
    """400: to the dead letters at once."""
    event = replace(requested("j1", house.books), type="com.example.other")
    assert house.send(event).status_code == 400


def test_a_job_that_was_never_accepted_is_no_endless_retry(house: House) -> None:
    """204: there is nothing that trying again could find."""
    assert house.send(requested("never", house.books)).status_code == 204


def test_the_worker_answers_the_door_about_the_events_job_alone(house: House) -> None:
    """A signed event for one job opens no other."""
    one, two = begun(house), begun(house)
    headers, body = events.encode(requested(one, house.books))
    url = f"/v1/tenants/acme/jobs/{two}"
    assert house.worker.post(url, headers=headers, data=body).status_code == 403


def test_an_unreachable_worker_costs_no_accepted_job(house: House) -> None:
    """202: it is kept, and asked for again by way of the broker, or by the sweeper."""
    house.worker_down = True
    answer = house.post(SWAP)
    assert answer.status_code == 202
    assert house.sink.types() == [events.SWAP_REQUESTED]
    assert len(marks(house)) == 1


def test_no_two_marks_of_a_job_are_alike(house: House) -> None:
    """On S3 the same bytes are the same generation, and a new mark would be deleted."""
    found = set()
    for _ in range(3):
        outbox.mark(ACME, "j", house.store)
        found.add(house.store.get(ACME.outbox("j")).data)
    assert len(found) == 3
