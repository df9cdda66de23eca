"""Bad input at the door: a named problem, nothing computed, nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest

from functions.events import SWAP_REFUSED
from functions.problems import InvalidRequest
from functions.settings import Limits
from functions.swap.refusals import Refusals
from functions.tenant import Key
from tests.swap.house import (
    ACME,
    GOOD,
    SWAP,
    House,
    finalized,
    multipart,
    picture,
)

Change = dict[str, Any]


@pytest.mark.parametrize(
    ("change", "status", "slug"),
    [
        ({"operation": "dance"}, 400, "invalid-request"),
        ({"surprise": 1}, 400, "invalid-request"),
        ({"options": {"quality": 0}}, 400, "invalid-request"),
        ({"options": {"quality": "92"}}, 400, "invalid-request"),
        ({"options": {"blur": 3}}, 400, "invalid-request"),
        ({"faces": "some"}, 400, "invalid-request"),
        ({"faces": {"index": -1}}, 400, "invalid-request"),
        ({"faces": {}}, 400, "invalid-request"),
        ({"faces": {"index": 0, "reference": "uploads/a.png"}}, 400, "invalid-request"),
        (
            {"faces": [{"face": "all", "source": "uploads/a.png"}]},
            400,
            "invalid-request",
        ),
        ({"source": []}, 400, "invalid-request"),
        (
            {"source": [f"uploads/{n}.png" for n in range(9)]},
            400,
            "invalid-request",
        ),
        ({"operation": "detect"}, 400, "invalid-request"),
        ({"source": "uploads/../b.png"}, 400, "invalid-request"),
        ({"source": "/uploads/a.png"}, 400, "invalid-request"),
        ({"source": "uploads/%2e%2e/a.png"}, 400, "invalid-request"),
        ({"source": "uploads/a\0.png"}, 400, "invalid-request"),
        ({"source": "tenants/other/uploads/a.png"}, 400, "invalid-request"),
        ({"source": "results/j/1.png"}, 400, "invalid-request"),
        ({"source": "uploads/none.png"}, 404, "not-found"),
        ({"consent": None}, 403, "consent-missing"),
        ({"consent": {"basis": "because"}}, 400, "invalid-request"),
        ({"consent": {"basis": "consent"}}, 403, "consent-missing"),
        (
            {"consent": {"basis": "consent", "record": "consents/none.json"}},
            403,
            "consent-missing",
        ),
        (
            {"consent": {"basis": "consent", "record": "uploads/a.png"}},
            400,
            "invalid-request",
        ),
    ],
)
def test_a_bad_request_is_named_and_on_record(
    house: House,
    change: Change,
    status: int,
    slug: str,
) -> None:
    """A stable type, an audited refusal, no worker woken, and no object written."""
    before = {info.key for info in house.store.list(Key("")).objects}
    answer = house.post(SWAP | change)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.json is not None
    assert answer.json["type"] == f"urn:guise:problem:{slug}"
    assert house.sink.types() == [SWAP_REFUSED]
    assert house.calls == 0
    assert {info.key for info in house.store.list(Key("")).objects} == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 60_000, b"null"])
def test_what_is_no_json_object_is_400(house: House, body: bytes) -> None:
    """Whatever the bytes, a problem and never a fault of ours."""
    answer = house.door.post(
        "/v1/swaps",
        data=body,
        headers={"Authorization": "Bearer acme", "Content-Type": "application/json"},
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "media", ["application/x-www-form-urlencoded", "text/plain", ""]
)
def test_what_is_sent_as_something_else_is_told_what_to_send(
    house: House,
    media: str,
) -> None:
    """Good JSON under a form's media type, as curl -d sends it, is not "not JSON"."""
    answer = house.door.post(
        "/v1/swaps",
        data=GOOD,
        headers={"Authorization": "Bearer acme", "Content-Type": media},
    )
    assert answer.status_code == 400
    assert "application/json" in answer.text


def test_an_unknown_key_is_refused_by_its_name(house: House) -> None:
    """The caller learns which key it was."""
    answer = house.post(SWAP | {"surprize": 1})
    assert answer.json is not None
    assert "surprize" in answer.json["detail"]


def test_a_request_over_its_limit_is_413(house: House) -> None:
    """64 KiB, whatever is in it."""
    assert house.post(SWAP | {"x": "y" * 70_000}).status_code == 413


@pytest.mark.parametrize("state", ["withdrawn", "requested", "expired"])
def test_a_consent_that_is_not_given_is_refused(house: House, state: str) -> None:
    """The record's state decides."""
    key = ACME.consent("consents/1.json")
    house.store.put(key, b'{"state": "%s"}' % state.encode())
    consent = {"basis": "consent", "record": "consents/1.json"}
    answer = house.post(SWAP | {"consent": consent})
    assert answer.status_code == 403
    assert answer.json is not None
    assert state in answer.json["detail"]


def test_a_consent_withdrawn_between_acceptance_and_work_stops_it(
    house: House,
) -> None:
    """Admission is asked again when the work begins."""
    key = ACME.consent("consents/1.json")
    house.store.put(key, b'{"state": "given"}')
    consent = {"basis": "consent", "record": "consents/1.json"}
    house.post(SWAP | {"consent": consent}, Prefer="respond-async")
    house.store.put(key, b'{"state": "withdrawn"}')
    house.send(house.sink.taken[0])
    assert house.engine.calls == []
    assert house.auditor.seen == []
    assert house.sink.types()[1:] == [SWAP_REFUSED]


@pytest.mark.parametrize("header", ["", "Bearer", "Basic acme", "Bearer "])
def test_no_token_no_answer(house: House, header: str) -> None:
    """401, and nothing is recorded of a stranger."""
    answer = house.door.post("/v1/swaps", headers={"Authorization": header})
    assert answer.status_code == 401
    assert house.sink.taken == []


def test_a_token_that_may_only_look_starts_nothing(house: House) -> None:
    """403 without the scope."""
    assert house.post(SWAP, tenant="acme read").status_code == 403


def test_another_tenants_job_does_not_exist(house: House) -> None:
    """404, as for a job that never was."""
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    for path in (f"/v1/swaps/{job}", f"/v1/swaps/{job}/result"):
        assert house.get(path, tenant="evil").status_code == 404
    assert house.get("/v1/swaps", tenant="evil").json == {"jobs": [], "cursor": ""}


@pytest.mark.parametrize("job", ["..", "%2e%2e", "a%00", "A", "-a", "a" * 65])
def test_a_path_that_is_no_job_id_finds_nothing(house: House, job: str) -> None:
    """400 or 404, never a key built from it."""
    assert house.get(f"/v1/swaps/{job}").status_code in {400, 404}


@pytest.mark.parametrize(
    "request_",
    [b"{", b"", {"operation": "swap"}, SWAP | {"consent": None}, SWAP | {"x": 1}],
)
def test_a_bad_upload_ends_as_refused_and_says_why(
    house: House,
    request_: Any,
) -> None:
    """204 to the broker, the reason in the record, the refusal audited."""
    assert house.upload("j1", request_).status_code == 204
    record = house.get("/v1/swaps/j1").json
    assert record is not None
    assert record["outcome"] == "refused"
    assert record["problem"]["type"].startswith("urn:guise:problem:")
    assert house.sink.types() == [SWAP_REFUSED]
    assert house.engine.calls == []


@pytest.mark.parametrize(
    "name",
    [
        "requests/My Job.json",
        "requests/../x.json",
        "requests/x.txt",
        "requests/a/b.json",
    ],
)
def test_an_upload_that_names_no_job_is_refused_and_on_record(
    house: House,
    name: str,
) -> None:
    """204, one audited refusal, no endless retry."""
    assert house.send(finalized(name)).status_code == 204
    assert house.sink.types() == [SWAP_REFUSED]


@pytest.mark.parametrize("name", ["results/j/job.json", "uploads/a.png", "outbox/j"])
def test_an_object_outside_requests_starts_nothing(house: House, name: str) -> None:
    """A result written into the store wakes nothing into work."""
    assert house.send(finalized(name)).status_code == 204
    assert house.sink.taken == []


def test_an_upload_that_is_gone_is_no_job(house: House) -> None:
    """Nothing to retry for ever, nor to put on record: a notice proves nothing."""
    assert house.send(finalized("requests/gone.json")).status_code == 204
    assert house.sink.types() == []


def test_an_upload_to_a_bucket_of_nobody_is_dropped(house: House) -> None:
    """No tenant, no data, no retry."""
    event = finalized("requests/j1.json", bucket="No Such Bucket")
    assert house.send(event).status_code == 204
    assert house.sink.taken == []


def test_a_repeated_refusal_says_the_same_thing(house: House) -> None:
    """The same upload refused twice is one fact."""
    for _ in range(2):
        house.send(finalized("requests/My Job.json", generation="5"))
    assert len({event.id for event in house.sink.taken}) == 1


def test_refusals_past_the_rate_are_counted_and_told_later(house: House) -> None:
    """60 a minute are sent; the next minute's first says how many were not."""
    now = [0.0]
    refusals = Refusals(Limits(refusals_per_minute_max=2), clock=lambda: now[0])
    sent = [
        refusals.event(InvalidRequest(), house.books, "door", str(number))
        for number in range(5)
    ]
    assert [event is not None for event in sent] == [True, True, False, False, False]
    now[0] = 61
    event = refusals.event(InvalidRequest(), house.books, "door", "later")
    assert event is not None
    assert event.data["unsent"] == 3


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (multipart(GOOD, source=picture(1), target=picture(1)), 201),
        (multipart(GOOD, target=picture(1)), 400),
        (multipart(GOOD, source=picture(1)), 400),
        (multipart(None, source=picture(1), target=picture(1)), 400),
        (multipart("[]", source=picture(1), target=picture(1)), 400),
        (multipart("{", source=picture(1), target=picture(1)), 400),
        (
            multipart(
                '{"operation":"swap","target":"uploads/b.png",'
                '"consent":{"basis":"public-domain"}}',
                source=picture(1),
                target=picture(1),
            ),
            400,
        ),
        (multipart(GOOD, source=b"", target=picture(1)), 415),
        (multipart(GOOD, source=b"no image", target=picture(1)), 415),
        (multipart(GOOD, source=picture(1)[:-20], target=picture(1)), 415),
        (multipart(GOOD, source=picture(0), target=picture(1)), 422),
    ],
)
def test_images_may_come_with_the_request(
    house: House,
    form: dict[str, Any],
    status: int,
) -> None:
    """Multipart works as JSON does, and is refused as plainly."""
    answer = house.door.post(
        "/v1/swaps",
        data=form,
        headers={"Authorization": "Bearer acme"},
    )
    assert answer.status_code == status, answer.text


def test_a_refused_multipart_request_leaves_no_image_behind(house: House) -> None:
    """What came along is gone when the job is not accepted."""
    request = (
        '{"operation":"swap","faces":{"reference":"uploads/none.png"},'
        '"consent":{"basis":"public-domain"}}'
    )
    before = {info.key for info in house.store.list(Key("uploads/")).objects}
    answer = house.door.post(
        "/v1/swaps",
        data=multipart(request, source=picture(1), target=picture(1)),
        headers={"Authorization": "Bearer acme"},
    )
    assert answer.status_code == 404
    assert {info.key for info in house.store.list(Key("uploads/")).objects} == before


def test_images_of_a_refused_job_are_not_kept(house: House) -> None:
    """Its record says why; what came with the call is gone, also after a repeat."""

    def send() -> int:
        return house.door.post(
            "/v1/swaps",
            data=multipart(GOOD, source=b"no image", target=picture(1)),
            headers={"Authorization": "Bearer acme", "Idempotency-Key": "k"},
        ).status_code

    before = {info.key for info in house.store.list(Key("uploads/")).objects}
    assert send() == 415
    assert send() == 415
    assert {info.key for info in house.store.list(Key("uploads/")).objects} == before
