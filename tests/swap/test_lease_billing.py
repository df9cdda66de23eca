"""What a lease puts on the bill, through a whole swap function."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from functions import events
from functions.problems import Changed
from functions.storage.memory import MemoryStore
from functions.swap import ledger, outbox
from functions.swap.sweeper import sweep
from tests.swap.house import ACME, SWAP, House, PaperEngine, picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.events import Event
    from functions.tenant import Key

JOB = "j1"


def made(engine: PaperEngine, kind: str = "cuda", **settings: Any) -> House:
    """Return a house on a GPU of paper, with a source and a target."""
    house = House(engine=engine, device_kind=kind, **settings)
    house.put("a.png", picture(1))
    house.put("b.png", picture(2))
    return house


def usages(house: House) -> list[Event]:
    return [e for e in house.sink.taken if e.type == events.USAGE_RECORDED]


def test_a_swap_is_billed_lease_wall_time_on_a_gpu() -> None:
    """GPU-seconds are those of the lease, to the millisecond, with its device."""
    house = made(PaperEngine(fault=lambda: time.sleep(0.02)))
    house.upload(JOB, SWAP)
    [usage] = usages(house)
    assert usage.data["gpu_seconds"] == f"{usage.data['lease_ms'] / 1000:.3f}"
    assert usage.data["lease_ms"] >= 20
    assert usage.data["device"]["share"] == "1"
    before = events.milliseconds(usage.time) - usage.data["lease_ms"]
    assert abs(events.milliseconds(usage.data["leased_at"]) - before) < 5_000


def test_a_part_of_a_gpu_is_billed_as_that_part() -> None:
    """GUISE_DEVICE_SHARE=1/7: a seventh of the lease, and the event says so."""
    house = made(PaperEngine(fault=lambda: time.sleep(0.05)), device_share="1/7")
    house.upload(JOB, SWAP)
    [usage] = usages(house)
    assert usage.data["device"]["share"] == "1/7"
    billed = Decimal(usage.data["gpu_seconds"])
    assert 0 < billed <= Decimal(usage.data["lease_ms"] + 1) / 7000


def cancels(house: House, *, pause_seconds: float = 0.0) -> Callable[[], None]:
    """Return work in whose middle the job is cancelled, and which then goes on."""

    def work() -> None:
        time.sleep(0.03)
        headers = {"Authorization": "Bearer acme"}
        house.door.post(f"/v1/swaps/{JOB}/cancel", headers=headers)
        time.sleep(pause_seconds)

    return work


def test_a_cancelled_swap_is_billed_up_to_the_cancel() -> None:
    """What the device did before is billed, what it did after is not."""
    house = made(PaperEngine())
    house.engine.fault = cancels(house, pause_seconds=0.2)
    house.upload(JOB, SWAP)
    [usage] = usages(house)
    assert usage.data["outcome"] == "cancelled"
    assert usage.data["billable"] is True
    assert usage.data["requests"] == 0
    assert 0.02 <= float(usage.data["gpu_seconds"]) <= 0.2
    ended = ledger.record(ACME, JOB, house.store)
    assert ended is not None
    assert ended.outcome == "cancelled"
    assert ended.usage == usage.data
    assert outbox.told(ACME, JOB, house.store)


def test_what_a_cancelled_swap_used_is_told_once_the_sink_is_back() -> None:
    """The sweeper sends the usage that was written down and could not go."""
    house = made(PaperEngine())
    work = cancels(house)

    def fault() -> None:
        work()
        house.sink.down = True

    house.engine.fault = fault
    house.upload(JOB, SWAP)
    assert usages(house) == []
    house.sink.down = False
    sweep(house.books)
    [usage] = usages(house)
    assert usage.data["outcome"] == "cancelled"


def test_a_swap_cancelled_before_the_device_costs_nothing() -> None:
    """No lease, no usage."""
    house = made(PaperEngine())
    house.worker_down = True
    house.post(SWAP, Prefer="respond-async", Idempotency_Key="k")
    [job] = [each.key.split("/")[1] for each in house.store.list("outbox/").objects]  # type: ignore[arg-type]  # a prefix
    headers = {"Authorization": "Bearer acme"}
    house.door.post(f"/v1/swaps/{job}/cancel", headers=headers)
    assert usages(house) == []


def test_what_was_cancelled_and_would_have_been_refused_costs_nothing() -> None:
    """A refusal is not billed, whoever ended the job first."""
    house = made(PaperEngine(spoils=True))
    house.engine.fault = cancels(house)
    house.upload(JOB, SWAP)
    assert usages(house) == []


def test_what_was_cancelled_and_erased_meanwhile_costs_nothing() -> None:
    """The record of an erased job is not written to again."""
    house = made(PaperEngine())
    work = cancels(house)

    def fault() -> None:
        work()
        headers = {"Authorization": "Bearer acme"}
        house.door.delete(f"/v1/swaps/{JOB}", headers=headers)

    house.engine.fault = fault
    house.upload(JOB, SWAP)
    assert usages(house) == []
    ended = ledger.record(ACME, JOB, house.store)
    assert ended is not None
    assert ended.outcome == "erased"


class Contested(MemoryStore):
    """A store in which somebody else rewrites every record a moment before."""

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        if key == ACME.record(JOB) and generation:
            raise Changed
        return super().put_if_match(key, data, generation)


def test_a_cancelled_record_that_changes_meanwhile_is_left_alone() -> None:
    """Whoever changed it, erased it or billed it: it is not billed twice."""
    store = Contested()
    house = made(PaperEngine(), opener=lambda _: store)
    house.engine.fault = cancels(house)
    assert house.upload(JOB, SWAP).status_code == 204
    assert usages(house) == []


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_fault_of_ours_is_on_record_and_not_billable(kind: str) -> None:
    """A failed swap says what it took, and that nobody pays for it."""

    def fault() -> None:
        raise ZeroDivisionError

    house = made(PaperEngine(fault=fault), kind)
    for _ in range(3):
        house.upload(JOB, SWAP)
    [usage] = usages(house)
    assert usage.data["outcome"] == "failed"
    assert usage.data["billable"] is False
