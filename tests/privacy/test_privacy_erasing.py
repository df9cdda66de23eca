"""`DELETE /v1/swaps/<job>`: what goes, what stays for another job, and who is told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import pytest

from functions.events import SWAP_ERASED, USAGE_RECORDED
from functions.problems import Unavailable
from functions.storage.memory import MemoryStore
from functions.swap import ledger, records
from functions.swap.dispatch import requested
from functions.swap.sweeper import sweep
from functions.tenant import Key
from tests.swap.house import ACME, GOOD, SWAP, House, multipart, picture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.storage import Store

ASYNC: Final = "respond-async"
A, B, C = (ACME.upload(f"uploads/{name}.png") for name in "abc")


class Killed(BaseException):
    """A kill -9: nothing of ours catches it."""


class Mortal:
    """A store whose caller is killed at a call, before it or after; never at 0."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.dies_at = 0
        self.after = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)

        def call(*arguments: Any, **more: Any) -> Any:
            if self.dies_at == 1 and not self.after:
                raise Killed
            answer = found(*arguments, **more)
            if self.dies_at == 1:
                raise Killed
            self.dies_at -= bool(self.dies_at)
            return answer

        return call


@pytest.fixture
def house() -> House:
    """One swap function with three pictures, in a store that may end a caller."""
    return fresh()


def fresh() -> House:
    mortal = Mortal()
    made = House(opener=lambda _: cast("Store", mortal))
    for name in "abc":
        made.put(f"{name}.png", picture(1))
    return made


def mortal(house: House) -> Mortal:
    return cast("Mortal", house.store)


def run(house: House, request: dict[str, Any] = SWAP, **headers: str) -> str:
    answer = house.post(request, **headers)
    assert answer.status_code in {201, 202}, answer.text
    return str(answer.get_json()["job"])


def erase(house: House, job: str, tenant: str = "acme") -> int:
    headers = {"Authorization": f"Bearer {tenant}"}
    return house.door.delete(f"/v1/swaps/{job}", headers=headers).status_code


def keys(house: House) -> set[str]:
    return {info.key for info in house.store.list(Key("")).objects}


def erasures(house: House) -> list[str]:
    told = [event for event in house.sink.taken if event.type == SWAP_ERASED]
    return [str(event.data["job"]) for event in told]


# --- what goes ---------------------------------------------------------------


def test_the_inputs_go_with_the_job(house: House) -> None:
    """Whoever named them; what no job was given stays."""
    job = run(house)
    assert erase(house, job) == 204
    assert keys(house) == {ACME.record(job), C}
    assert erasures(house) == [job]


def test_every_kind_of_input_goes(house: House) -> None:
    """A reference and a second source are pictures of somebody, too."""
    for name in ("ref", "second"):
        house.put(f"{name}.png", picture(1))
    faces = {"reference": "uploads/ref.png"}
    source = ["uploads/a.png", "uploads/second.png"]
    job = run(house, SWAP | {"source": source, "faces": faces})
    assert erase(house, job) == 204
    assert keys(house) == {ACME.record(job), C}


def test_what_came_along_with_the_call_goes(house: House) -> None:
    """And the request that was uploaded."""
    files = multipart(GOOD, source=picture(1), target=picture(1))
    headers = {"Authorization": "Bearer acme"}
    answer = house.door.post("/v1/swaps", data=files, headers=headers)
    house.upload("mine", SWAP)
    for job in (str(answer.get_json()["job"]), "mine"):
        assert erase(house, job) == 204
        assert not [key for key in keys(house) - {ACME.record(job)} if job in key]


def test_the_record_keeps_nothing_of_any_picture(house: House) -> None:
    """How it ended, when, what it cost, and where it stands in the log."""
    job = run(house)
    erase(house, job)
    kept = msgspec.json.decode(house.store.get(ACME.record(job)).data)
    of_it = {"job", "operation", "outcome", "attempt", "ended", "swap_ms"}
    about_it = {"receipt", "usage", "vetted", "events"}
    assert kept.keys() == of_it | about_it
    [event] = kept["events"]
    assert event["data"].keys() >= {"job", "attempt", "operation", "outcome"}
    text = msgspec.json.encode(kept).decode()
    for word in ("uploads/", "sha256", "commitments", "urn:c2pa", "salt", "ann"):
        assert word not in text


def test_another_picture_by_that_name_stays(house: House) -> None:
    """It was put there since, and is not what was erased."""
    job = run(house)
    house.put("a.png", picture(1, size=9))
    house.put("b.png", picture(1, size=8, unfit=1))
    assert erase(house, job) == 204
    assert keys(house) >= {A, B}


def test_the_same_picture_uploaded_anew_goes(house: House) -> None:
    """The person on it is the same."""
    job = run(house)
    house.put("a.png", picture(1))
    assert erase(house, job) == 204
    assert A not in keys(house)


def test_an_input_that_is_gone_already_is_no_obstacle(house: House) -> None:
    """The tenant may delete its uploads at any time."""
    job = run(house)
    house.store.delete(A)
    assert erase(house, job) == 204
    assert keys(house) == {ACME.record(job), C}


def test_without_the_list_of_its_inputs_the_rest_goes(house: House) -> None:
    """A request that cannot be read names nothing, and stands in nobody's way."""
    job = run(house)
    house.store.put(ACME.pinned(job), b"{")
    assert erase(house, job) == 204
    assert keys(house) == {ACME.record(job), A, B, C}


# --- what stays --------------------------------------------------------------


def test_an_input_of_an_open_job_stays_until_that_is_erased(house: House) -> None:
    """The other still has it to work on; then it goes with that one."""
    first = run(house)
    second = run(house, SWAP | {"target": "uploads/c.png"}, Prefer=ASYNC)
    assert erase(house, first) == 204
    assert keys(house) >= {A, C}
    assert B not in keys(house)
    house.send(requested(second, house.books))
    assert records.show(second, house.books)["outcome"] == "completed"
    assert erase(house, second) == 204
    assert keys(house) == {ACME.record(first), ACME.record(second)}


def test_an_input_of_a_job_that_has_ended_goes(house: House) -> None:
    """Its result is its own; it needs the input no more."""
    first, second = run(house), run(house)
    assert erase(house, first) == 204
    assert keys(house).isdisjoint({A, B})
    assert house.get(f"/v1/swaps/{second}/result").status_code == 200
    assert erase(house, second) == 204


def test_a_failed_job_that_runs_again_has_its_pictures(house: House) -> None:
    """They lie in the folder of the one that is erased."""

    def fault() -> None:
        raise RuntimeError

    house.engine.fault = fault
    files = multipart(GOOD, source=picture(1), target=picture(1))
    headers = {"Authorization": "Bearer acme"}
    answer = house.door.post("/v1/swaps", data=files, headers=headers)
    job = str(answer.get_json()["job"])
    for _ in range(3):
        house.send(requested(job, house.books))
    again = records.retry(job, house.books).job
    assert erase(house, job) == 204
    assert keys(house) >= {ACME.received(job, f"{name}-0") for name in NAMES}
    house.engine.fault = lambda: None
    house.send(requested(again, house.books))
    assert records.show(again, house.books)["outcome"] == "completed"
    assert erase(house, again) == 204
    assert keys(house) == {ACME.record(job), ACME.record(again), A, B, C}


NAMES: Final = ("source", "target")


def test_an_open_job_of_another_tenant_keeps_nothing(house: House) -> None:
    """Each has a store of its own, and what is another's counts for nothing."""
    apart = House()
    for tenant in ("acme", "globex"):
        store = apart.stores.of(type(ACME)(tenant))
        for key in (A, B):
            store.put(key, picture(1))
    job = run(apart)
    assert apart.post(SWAP, tenant="globex", Prefer=ASYNC).status_code == 202
    assert erase(apart, job) == 204
    assert keys(apart) == {ACME.record(job)}
    theirs = apart.stores.of(type(ACME)("globex")).list(Key("uploads/")).objects
    assert len(theirs) == 2


def test_a_job_that_has_not_ended_keeps_everything(house: House) -> None:
    """409, and not a byte is touched; cancelled, it can be erased."""
    job = run(house, Prefer=ASYNC)
    before = keys(house)
    assert erase(house, job) == 409
    assert keys(house) == before
    headers = {"Authorization": "Bearer acme"}
    house.door.post(f"/v1/swaps/{job}/cancel", headers=headers)
    assert erase(house, job) == 204
    assert keys(house) == {ACME.record(job), C}


def test_erasing_during_a_run_takes_all_of_it(house: House) -> None:
    """Cancelled and erased while it swaps: what it still writes goes, too."""
    entered, go = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        go.wait(10)

    house.engine.fault = wait
    job = run(house, Prefer=ASYNC)
    event = requested(job, house.books)
    working = threading.Thread(target=house.send, args=(event,))
    working.start()
    entered.wait(10)
    assert erase(house, job) == 409
    headers = {"Authorization": "Bearer acme"}
    house.door.post(f"/v1/swaps/{job}/cancel", headers=headers)
    assert erase(house, job) == 204
    go.set()
    working.join()
    sweep(house.books)
    assert keys(house) == {ACME.record(job), C}


def test_erasing_twice_is_told_once(house: House) -> None:
    """204 again, by the same event; what is there by then of that name stays."""
    job = run(house)
    assert erase(house, job) == 204
    house.put("a.png", picture(1))
    assert erase(house, job) == 204
    assert keys(house) == {ACME.record(job), A, C}
    told = {event.id for event in house.sink.taken if event.type == SWAP_ERASED}
    assert len(told) == 1


# --- killed in the middle ----------------------------------------------------


def deaths() -> Iterator[tuple[int, bool]]:
    """Yield each call at which the door may be killed, before it and after."""
    for at in range(1, 40):
        yield at, False
        yield at, True


def test_killed_at_any_call_of_the_store_it_is_finished() -> None:
    """By the sweeper once the erasure stands; until then nothing has been taken."""
    finished = cut_off = 0
    for at, after in deaths():
        house = fresh()
        job = run(house)
        open_job = run(house, SWAP | {"source": "uploads/c.png"}, Prefer=ASYNC)
        mortal(house).dies_at, mortal(house).after = at, after
        try:
            status = erase(house, job)
        except Killed:
            cut_off += 1
        else:
            assert status == 204
            finished += 1
        mortal(house).dies_at = 0
        ending = ledger.record(ACME, job, house.store)
        assert ending is not None
        if ending.outcome != "erased":
            assert keys(house) >= {A, B, ACME.pinned(job)}
            assert erase(house, job) == 204
        sweep(house.books)
        assert [key for key in keys(house) if job in key] == [ACME.record(job)]
        assert A not in keys(house)
        assert keys(house) >= {B, C}  # the open job's
        assert job in erasures(house)
        house.send(requested(open_job, house.books))
        assert records.show(open_job, house.books)["outcome"] == "completed"
        if finished > 1:
            break
    assert cut_off > 20
    assert finished > 1


def test_an_audit_that_is_away_is_told_later(house: House) -> None:
    """The bytes go at once; the mark stands until the erasure is on record."""
    job = run(house)
    house.sink.down = True
    assert erase(house, job) == 204
    assert keys(house) == {ACME.record(job), ACME.outbox(job), C}
    assert erasures(house) == []
    house.sink.down = False
    assert sweep(house.books).told == 1
    assert erasures(house) == [job]


def test_no_bill_is_lost_with_the_job(house: House) -> None:
    """What is not told yet is told first; until it is, nothing is erased."""
    house.sink.down = True
    job = run(house)
    before = keys(house)
    assert erase(house, job) == 503
    assert keys(house) == before
    house.sink.down = False
    assert erase(house, job) == 204
    assert USAGE_RECORDED in house.sink.types()


def test_a_store_that_fails_leaves_the_rest_to_the_sweeper(house: House) -> None:
    """It is no job of the caller's to come again."""
    job = run(house)

    class Away(Mortal):
        def delete_if_match(self, key: Key, generation: int) -> None:
            if key == A and self.dies_at:
                raise Unavailable
            self.store.delete_if_match(key, generation)

    away = Away()
    away.store, away.dies_at = mortal(house).store, 1000
    books = msgspec_replaced(house, away)
    with pytest.raises(Unavailable):
        records.erase(job, books)
    assert A in keys(house)
    sweep(house.books)
    assert keys(house) == {ACME.record(job), C}


def msgspec_replaced(house: House, store: Any) -> Any:
    from dataclasses import replace

    return replace(house.books, store=cast("Store", store))
