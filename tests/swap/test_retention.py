"""Retention: what is too old goes, is audited, and nothing else is touched."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from functions.events import SWAP_COMPLETED, SWAP_ERASED, SWAP_FAILED, USAGE_RECORDED
from functions.problems import Conflict, Gone, Unavailable, UnknownTenant
from functions.roster import Retention
from functions.settings import Limits, Settings
from functions.swap import ledger, records, retention
from functions.swap.dispatch import requested
from functions.swap.sweeper import books_of, sweep
from functions.tenant import JOBS, RETENTION, SWEPT, Key
from tests.swap.aging import AgingStore
from tests.swap.house import ACME, GOOD, SWAP, House, multipart, picture

if TYPE_CHECKING:
    from pathlib import Path

    from functions.events import Event
    from functions.storage import Object, Page

EVERYTHING = Key("")
DAY_SECONDS = 86_400


def aged(**limits: int) -> tuple[House, AgingStore]:
    """Return a house, and its store, whose objects can be made older."""
    store = AgingStore()
    house = House(Limits(**limits), opener=lambda _: store)
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return house, store


def days(store: AgingStore, number: float) -> None:
    store.age(EVERYTHING, number * DAY_SECONDS)


def keys(store: AgingStore) -> list[str]:
    return [each.key for each in store.list(EVERYTHING).objects if each.key != SWEPT]


def sent(house: House, *, later: bool = False) -> str:
    """Post a job with its pictures, and return its id."""
    files = {"source": picture(1), "target": picture(1)}
    headers = {"Authorization": "Bearer acme"}
    if later:
        headers["Prefer"] = "respond-async"
    data = multipart(GOOD, **files)
    answer = house.door.post("/v1/swaps", data=data, headers=headers)
    return str(answer.json["job"])  # type: ignore[index]


def test_what_is_older_than_its_days_goes_and_the_record_stays() -> None:
    """How it ended stays known; the output, the request and the pictures are gone."""
    house, store = aged()
    job = sent(house)
    days(store, 29)
    assert retention.apply(house.books) == retention.Retired()
    days(store, 2)
    done = retention.apply(house.books)
    assert (done.jobs, done.uploads, done.more) == (1, 2, False)
    assert keys(store) == [ACME.record(job)]
    record = ledger.record(ACME, job, store)
    assert record is not None
    assert (record.outcome, record.output, record.faces) == ("completed", None, [])
    assert record.expired


def test_the_end_is_audited_with_its_reason() -> None:
    """As an erasure, whose reason is retention."""
    house, store = aged()
    job = sent(house)
    days(store, 31)
    retention.apply(house.books)
    expired, uploads = house.sink.taken[-2:]
    assert (expired.type, uploads.type) == (SWAP_ERASED, SWAP_ERASED)
    assert (expired.data["job"], expired.data["reason"]) == (job, "retention")
    assert uploads.data == {"reason": "retention", "uploads": 2}


def test_a_second_look_finds_nothing() -> None:
    """And says nothing more."""
    house, store = aged()
    sent(house)
    days(store, 31)
    retention.apply(house.books)
    taken = len(house.sink.taken)
    days(store, 100)
    assert retention.apply(house.books) == retention.Retired()
    assert len(house.sink.taken) == taken


def test_an_expired_result_is_410_and_its_job_still_shown() -> None:
    """Gone, and not never there; and a used id starts nothing new."""
    house, store = aged()
    assert house.upload("j1", SWAP).status_code == 204
    days(store, 31)
    retention.apply(house.books)
    shown = house.get("/v1/swaps/j1")
    assert shown.json is not None
    assert (shown.status_code, shown.json["outcome"]) == (200, "completed")
    assert shown.json["expired"]
    assert house.get("/v1/swaps/j1/result").status_code == 410
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    before = len(house.engine.calls)
    assert house.upload("j1", SWAP).status_code == 204
    assert len(house.engine.calls) == before
    assert house.sink.taken[-1].data["reason"] == "urn:guise:problem:gone"


def test_the_tenants_own_policy_counts() -> None:
    """Longer or shorter, and for uploads and results apart."""
    house, store = aged()
    job = sent(house)
    store.put(RETENTION, b'{"uploads_days":2,"results_days":90}')
    days(store, 31)
    done = retention.apply(house.books)
    assert (done.jobs, done.uploads) == (0, 4)
    days(store, 60)
    assert retention.apply(house.books).jobs == 1
    assert ACME.output(job, 1, "png") not in keys(store)


@pytest.mark.parametrize(
    "policy",
    [
        b"",
        b"{",
        b"[]",
        b'{"uploads_days":0}',
        b'{"uploads_days":3651}',
        b'{"uploads_days":"1"}',
        b'{"uploads_days":1.5}',
        b'{"uploads_days":true}',
        b'{"upload_days":1}',
        b'{"results_days":1,"results_days":3000}',
        b" " * 70_000 + b"{}",
    ],
    ids=lambda policy: repr(policy[:40]),
)
def test_under_a_policy_that_cannot_be_read_nothing_is_deleted(policy: bytes) -> None:
    """Deleting is the one thing that cannot be made good."""
    house, store = aged()
    sent(house)
    store.put(RETENTION, policy)
    before = keys(store)
    days(store, 4000)
    with pytest.raises(retention.Unreadable):
        retention.apply(house.books)
    assert keys(store) == before


def test_the_operators_days_count_where_the_tenant_says_nothing() -> None:
    """`GUISE_RETENTION_DAYS`."""
    house, store = aged(retention_days=3)
    sent(house)
    days(store, 4)
    assert retention.apply(house.books).jobs == 1


def test_an_upload_that_an_unfinished_job_pins_is_kept() -> None:
    """However old: the job was accepted with it."""
    house, store = aged()
    days(store, 100)
    house.put("c.png", picture(1))
    store.age(ACME.upload("uploads/c.png"), 100 * DAY_SECONDS)
    job = house.post(SWAP, Prefer="respond-async").json["job"]  # type: ignore[index]
    assert retention.apply(house.books).uploads == 1
    house.send(requested(str(job), house.books))
    record = ledger.record(ACME, str(job), store)
    assert record is not None
    assert record.outcome == "completed"


def test_an_upload_that_a_job_pins_while_one_looks_is_kept() -> None:
    """What was pinned when the look began is not all that is pinned at its end."""

    class Busy(AgingStore):
        """A job comes whenever one looks for jobs."""

        house: House | None = None

        def list(self, prefix: Key, *, cursor: str = "", limit: int = 1000) -> Page:
            if self.house is not None and prefix == JOBS:
                self.house.post(SWAP, Prefer="respond-async")
            return super().list(prefix, cursor=cursor, limit=limit)

    store = Busy()
    house = House(opener=lambda _: store)
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    days(store, 100)
    store.house = house
    assert retention.apply(house.books).uploads == 0
    assert {"uploads/a.png", "uploads/b.png"} <= {*keys(store)}


def test_a_job_that_nobody_could_end_in_all_that_time_is_failed() -> None:
    """It does not keep its uploads for ever; audited, and not billed."""
    house, store = aged()
    job = sent(house, later=True)
    house.sink.taken.clear()
    days(store, 31)
    assert retention.apply(house.books).given_up == 1
    assert house.sink.types()[0] == SWAP_FAILED
    assert house.sink.taken[0].data["outcome"] == "failed"
    assert USAGE_RECORDED not in house.sink.types()
    assert ACME.pinned(job) in keys(store)  # its own days begin with its end
    days(store, 31)
    assert retention.apply(house.books).jobs == 1


def test_a_job_that_is_not_told_yet_is_kept() -> None:
    """Its events are in its record: first they go out."""
    house, store = aged()
    house.sink.down = True
    job = sent(house)
    days(store, 31)
    with pytest.raises(Unavailable):
        retention.apply(house.books)  # nor does an upload go that audit is not told of
    assert ACME.output(job, 1, "png") in keys(store)
    assert ACME.received(job, "source-0") in keys(store)
    house.sink.down = False
    sweep(house.books)
    assert retention.apply(house.books).jobs == 1
    types = house.sink.types()
    assert types[:3] == [SWAP_COMPLETED, USAGE_RECORDED, SWAP_ERASED]


def test_what_died_in_the_middle_is_finished_by_the_sweeper() -> None:
    """The tombstone comes first, with its mark; the deleting may be repeated."""
    house, store = aged()
    job = sent(house)
    days(store, 31)

    class Died(AgingStore):
        """Cannot delete."""

        def delete(self, key: Key) -> None:
            raise Unavailable(internal=key)

    dying = Died()
    dying.__dict__.update(store.__dict__)
    house_of_dying = House(opener=lambda _: dying, keys=house.keys, sink=house.sink)
    assert retention.apply(house_of_dying.books).jobs == 0
    assert ACME.output(job, 1, "png") in keys(store)
    assert sweep(house.books).told == 1
    assert ACME.output(job, 1, "png") not in keys(store)
    told = [each.data for each in house.sink.taken if each.type == SWAP_ERASED]
    assert [data["job"] for data in told if "job" in data] == [job]


def test_one_object_that_cannot_be_deleted_keeps_no_other() -> None:
    """It is found again by the next look."""
    house, store = aged()
    house.put("c.png", picture(1))
    days(store, 31)
    stuck = ACME.upload("uploads/b.png")

    class Stuck(AgingStore):
        def delete_if_match(self, key: Key, generation: int) -> None:
            if key == stuck:
                raise Unavailable(internal=key)
            super().delete_if_match(key, generation)

    sticky = Stuck()
    sticky.__dict__.update(store.__dict__)
    racing = House(opener=lambda _: sticky, keys=house.keys, sink=house.sink)
    assert retention.apply(racing.books).uploads == 2
    assert keys(store) == [stuck]
    assert retention.apply(house.books).uploads == 1


def test_a_look_that_finds_a_broken_job_goes_on() -> None:
    """It is the sweeper's to note."""
    house, store = aged()
    bad, good = sent(house), sent(house)
    store.put(ACME.record(bad), b"{")
    days(store, 31)
    assert retention.apply(house.books).jobs == 1
    record = ledger.record(ACME, good, store)
    assert record is not None
    assert record.expired


def test_a_job_somebody_works_on_is_not_given_up() -> None:
    """However long ago it was accepted."""
    house, store = aged()
    job = sent(house, later=True)
    ledger.claim(
        ACME,
        job,
        store=store,
        limits=house.limits,
        start=lambda n: requested(job, house.books, str(n)),
    )
    days(store, 31)
    assert retention.apply(house.books).given_up == 0


def test_two_looks_at_once_tell_of_one_end() -> None:
    """The tombstone is written over exactly the record that was seen."""
    house, store = aged()
    job = sent(house)
    found, generation = ledger.record_at(ACME, job, store)
    assert found is not None
    for _ in range(2):
        retention.expire(found, generation, house.books)
        time.sleep(0.002)  # an event of another time is another event
    told = [each for each in house.sink.taken if each.type == SWAP_ERASED]
    assert told
    assert all(each == told[0] for each in told)


def test_an_expired_job_can_still_be_erased() -> None:
    """Which is another event, and no contradiction of the first."""
    house, store = aged()
    job = sent(house)
    days(store, 31)
    retention.apply(house.books)
    records.erase(job, house.books)
    told = [
        each
        for each in house.sink.taken
        if each.type == SWAP_ERASED and each.data.get("job")
    ]
    assert len({each.id for each in told}) == 2
    with pytest.raises(Gone):
        records.show(job, house.books)


def test_an_erasure_that_meets_an_expiry_is_not_lost() -> None:
    """It is told to come again, and then it is an erasure."""
    house, store = aged()
    job = sent(house)
    found, generation = ledger.record_at(ACME, job, store)
    assert found is not None
    seen_before = found

    class Late(AgingStore):
        """Shows the record as it was before the expiry, once."""

        stale = 1

        def get(self, key: Key, *, bytes_max: int | None = None) -> Object:
            if key == ACME.record(job) and self.stale:
                self.stale = 0
                seen = super().get(key, bytes_max=bytes_max)
                retention.expire(seen_before, generation, house.books)
                return seen
            return super().get(key, bytes_max=bytes_max)

    late = Late()
    late.__dict__.update(store.__dict__)
    racing = House(opener=lambda _: late, keys=house.keys, sink=house.sink)
    with pytest.raises(Unavailable):
        records.erase(job, racing.books)
    records.erase(job, racing.books)
    record = ledger.record(ACME, job, store)
    assert record is not None
    assert record.outcome == "erased"


def test_a_clock_a_year_ahead_deletes_nothing() -> None:
    """Ages are the store's clock against the store's clock."""
    store = AgingStore(ahead_seconds=-365 * DAY_SECONDS)
    house = House(opener=lambda _: store)
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    house.post(SWAP)
    before = keys(store)
    assert retention.apply(house.books) == retention.Retired()
    assert keys(store) == before


def test_an_upload_made_anew_meanwhile_is_kept() -> None:
    """What goes is exactly what was too old."""
    house, store = aged()
    days(store, 31)

    class Uploading(type(house.sink)):  # type: ignore[misc]  # of the house's own
        def deliver(self, event: Event, *, timeout: float) -> None:
            house.put("a.png", picture(3))

    racing = House(opener=lambda _: store, sink=Uploading(), keys=house.keys)
    assert retention.apply(racing.books).uploads == 1
    assert keys(store) == ["uploads/a.png"]


def test_an_output_that_no_record_counts_goes_too() -> None:
    """Somebody died between storing it and finding that the job was erased."""
    house, store = aged()
    job = sent(house)
    records.erase(job, house.books)
    store.put(ACME.output(job, 2, "png"), picture())
    days(store, 31)
    retention.apply(house.books)
    assert keys(store) == [ACME.record(job)]


def test_requests_that_were_never_accepted_go_too() -> None:
    """A refused upload is an upload."""
    house, store = aged()
    house.upload("j1", b"{")
    days(store, 31)
    retention.apply(house.books)
    assert keys(store) == [ACME.record("j1")]


def test_what_is_not_ours_is_left_alone() -> None:
    """A tenant may keep other things in its bucket; consents and policies stay."""
    house, store = aged(retention_days=1)
    theirs = ["consents/1.json", "notes.txt", "policy/gate.json", "requests/A b.txt"]
    theirs += ["jobs/X Y/request.json", "results/X Y/1.png"]
    for key in theirs:
        store.put(Key(key), b"{}")
    days(store, 31)
    retention.apply(house.books)
    assert keys(store) == sorted(theirs)


def test_a_look_goes_only_so_far_and_the_next_goes_on() -> None:
    """A store of years is brought down bit by bit."""
    house, store = aged(sweep_jobs_max=2)
    for _ in range(5):
        sent(house)
    days(store, 31)
    looks = [retention.apply(house.books) for _ in range(9)]
    assert sum(look.jobs for look in looks) == 5
    assert [look.more for look in looks][:2] == [True, True]
    assert max(look.jobs + look.uploads for look in looks) <= 4
    assert not any(key.startswith(("uploads/", "jobs/")) for key in keys(store))


def test_an_unfinished_job_is_neither_expired_nor_erased() -> None:
    """409 from the tenant's side, and nothing from ours."""
    house, store = aged()
    job = sent(house, later=True)
    days(store, 29)
    assert retention.apply(house.books) == retention.Retired()
    with pytest.raises(Conflict):
        records.erase(job, house.books)


def test_an_old_record_without_the_new_field_is_read() -> None:
    """Every version of a stored thing stays readable."""
    old = (
        b'{"job":"j","operation":"swap","outcome":"completed","attempt":1,"ended":"x"}'
    )
    record = msgspec.json.decode(old, type=ledger.Record)
    assert record.expired == ""
    assert b"expired" not in msgspec.json.encode(record)


# --- the operator's word -----------------------------------------------------


@pytest.mark.parametrize(
    ("said", "cap", "kept"),
    [
        (None, None, 30),
        (90, None, 90),
        (None, 7, 7),
        (90, 7, 7),
        (3, 7, 3),
        (None, 90, 90),
    ],
)
def test_a_tenants_policy_says_less_than_its_spec_and_never_more(
    said: int | None, cap: int | None, kept: int
) -> None:
    """Where the spec names no days the installation's stand, and the tenant's own."""
    house, store = aged()
    for name in ("uploads_days", "results_days"):
        policy = {name: said} if said else {}
        store.put(RETENTION, msgspec.json.encode(policy))
        found = retention.policy(store, house.limits, Retention(**{name: cap}))
        by_name = dict(zip(("uploads_days", "results_days"), found, strict=True))
        assert by_name.pop(name) == kept
        assert list(by_name.values()) == [30]


def test_what_the_spec_caps_goes_when_it_says() -> None:
    """A tenant that would keep everything for ten years keeps it for a week."""
    house, store = aged()
    store.put(RETENTION, b'{"uploads_days": 3650, "results_days": 3650}')
    job = sent(house)
    days(store, 8)
    capped = replace(house.books, retention=Retention(uploads_days=7, results_days=7))
    done = retention.apply(capped)
    assert (done.jobs, done.uploads) == (1, 2)
    assert ledger.record(ACME, job, store).expired  # type: ignore[union-attr]  # there


def test_the_sweeper_of_a_cluster_knows_the_cap(tmp_path: Path) -> None:
    """From the spec of its tenant; a tenant that is no more is not swept."""
    (tmp_path / "acme.yaml").write_text("id: acme\nretention: {uploads_days: 7}\n")
    settings = Settings(
        tenant=ACME,
        tenants=tmp_path,
        store="memory://{tenant}",
        keys=tmp_path,
        sink_url="http://127.0.0.1:9",
    )
    assert books_of(settings).retention == Retention(uploads_days=7)
    (tmp_path / "acme.yaml").unlink()
    with pytest.raises(UnknownTenant):
        books_of(settings)
