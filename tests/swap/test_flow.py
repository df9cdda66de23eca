"""The whole swap function over its own doors."""

from __future__ import annotations

import msgspec

from functions import events
from functions.events import SWAP_COMPLETED, SWAP_REFUSED, SWAP_STARTED, USAGE_RECORDED
from functions.keys import events_key
from functions.swap.dispatch import requested
from tests.swap.house import ACME, SWAP, House, finalized, picture


def test_a_swap_is_recorded_done_committed_and_billed(house: House) -> None:
    """One request: one receipt first, then one record, one ending and one bill."""
    answer = house.post(SWAP)
    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    assert answer.json["outcome"] == "completed"
    assert answer.json["receipt"]["index"] == 0
    assert [event.type for event in house.auditor.seen] == [SWAP_STARTED]
    assert house.sink.types() == [SWAP_COMPLETED, USAGE_RECORDED]


def test_the_result_is_what_the_engine_made(house: House) -> None:
    """The bytes at the result's address are the output the record names."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    result = house.get(f"/v1/swaps/{job}/result")
    assert result.mimetype == "image/png"
    record = house.get(f"/v1/swaps/{job}").json
    assert record is not None
    assert record["output"]["size"] == len(result.data)


def test_every_event_carries_its_tenants_signature(house: House) -> None:
    """What leaves verifies under the tenant's key."""
    house.post(SWAP)
    for event in [*house.auditor.seen, *house.sink.taken]:
        events.verify(event, house.keys.verifiers(events_key("acme")))


def test_no_receipt_no_swap(house: House) -> None:
    """With audit down nothing is computed, and the job is kept for later."""
    house.auditor.down = True
    answer = house.post(SWAP)
    assert answer.status_code == 202
    assert house.engine.calls == []
    assert house.sink.types() == [events.SWAP_REQUESTED]  # to be tried again


def test_a_job_kept_while_audit_was_down_says_the_same_start_once(house: House) -> None:
    """The retry is the first attempt still, with the very same `started`."""
    house.auditor.down = True
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    house.auditor.down = False
    assert house.send(requested(job, house.books)).status_code == 204
    record = house.get(f"/v1/swaps/{job}").json
    assert record is not None
    assert record["outcome"] == "completed"
    assert record["attempt"] == 1


def test_an_upload_event_does_the_same(house: House) -> None:
    """A request dropped into the bucket ends as a call does."""
    assert house.upload("j1", SWAP).status_code == 204
    record = house.get("/v1/swaps/j1").json
    assert record is not None
    assert record["outcome"] == "completed"
    assert house.sink.types() == [SWAP_COMPLETED, USAGE_RECORDED]


def test_an_upload_to_a_shared_bucket_is_its_prefixs_tenants() -> None:
    """The event names the object as it lies in the bucket, its tenant before it."""
    house = House(url="memory://shared/eu/{tenant}")
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    house.store.put(ACME.request("j1"), msgspec.json.encode(SWAP))
    for name in ("us/acme/requests/j1.json", "eu/acme/other", "requests/j1.json"):
        assert house.send(finalized(name, bucket="shared")).status_code == 204
    assert house.sink.types() == []
    event = finalized("eu/acme/requests/j1.json", bucket="shared")
    assert house.send(event).status_code == 204
    assert house.sink.types() == [SWAP_COMPLETED, USAGE_RECORDED]


def test_a_redelivered_upload_is_done_once(house: House) -> None:
    """At-least-once delivery: one swap, and the same events again."""
    house.upload("j1", SWAP)
    house.upload("j1", SWAP)
    assert house.engine.calls.count("swap") == 1
    assert len({(event.source, event.id) for event in house.sink.taken}) == 2


def test_a_request_under_a_used_job_id_is_refused_and_on_record(house: House) -> None:
    """The event door answers 204; the first job stands."""
    house.upload("j1", SWAP)
    other = SWAP | {"faces": "all"}
    assert house.upload("j1", other).status_code == 204
    assert house.sink.types()[2:] == [SWAP_REFUSED]
    assert house.sink.taken[-1].data["reason"].endswith("idempotency-conflict")


def test_the_same_idempotency_key_gives_the_same_job(house: House) -> None:
    """A repeated call finds the first one's record."""
    first = house.post(SWAP, Idempotency_Key="k1").json
    second = house.post(SWAP, Idempotency_Key="k1").json
    assert first == second
    assert house.engine.calls.count("swap") == 1


def test_the_same_idempotency_key_with_other_inputs_is_409(house: House) -> None:
    """The same key cannot mean two things."""
    house.post(SWAP, Idempotency_Key="k1")
    house.put("b.png", picture(3))
    answer = house.post(SWAP, Idempotency_Key="k1")
    assert answer.status_code == 409
    assert answer.json is not None
    assert answer.json["type"] == "urn:guise:problem:idempotency-conflict"


def test_respond_async_is_answered_before_the_work(house: House) -> None:
    """202 with a Location, and an event that holds a job id and nothing else."""
    answer = house.post(SWAP, Prefer="respond-async")
    assert answer.status_code == 202
    assert answer.json is not None
    job = answer.json["job"]
    assert answer.headers["Location"] == f"/v1/swaps/{job}"
    [event] = house.sink.taken
    assert dict(event.data) == {"job": job}
    assert house.calls == 0
    assert house.send(event).status_code == 204
    assert house.get(f"/v1/swaps/{job}").json["outcome"] == "completed"  # type: ignore[index]


def test_no_face_is_an_ending_with_its_reason(house: House) -> None:
    """422 for who waits; audited; not billed."""
    house.put("b.png", picture(0))
    answer = house.post(SWAP)
    assert answer.status_code == 422
    assert house.sink.types() == [SWAP_REFUSED, USAGE_RECORDED]
    assert house.sink.taken[1].data["billable"] is False


def test_the_outbox_is_empty_once_all_is_told(house: House) -> None:
    """Nothing is left for the sweeper."""
    house.post(SWAP)
    assert not house.store.list(ACME.outbox("x")[:-1]).objects  # type: ignore[arg-type]
