"""`guise jobs`, over the store of a home, as a person and as a script would use it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs
from typer.testing import CliRunner

from functions.cli import main
from functions.cli.jobs.work import Nobody, Place
from functions.events import USAGE_RECORDED
from functions.local.home import Home
from functions.problems import Conflict, Gone, NotFound, Unavailable
from functions.settings import Limits
from functions.storage import open_store
from functions.swap import intake, ledger, outbox, records, retention
from functions.swap.dispatch import requested
from functions.tenant import Tenant
from tests.swap.aging import AgingStore
from tests.swap.house import ACME, SWAP, House, picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home that was prepared for acme, and in which nothing runs."""
    Home(tmp_path / "home").prepare([ACME])
    return tmp_path / "home"


def house_in(home: Path) -> House:
    """Return a swap function whose store is the home's."""
    made = House(
        Limits(claim_seconds=1),
        opener=lambda _: open_store((home / "tenants" / "acme").as_uri()),
    )
    made.put("a.png", picture(1))
    made.put("b.png", picture(1))
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run a command in this process, and return what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["jobs", *map(str, arguments)])
    assert (ended.value.code or 0) == code
    said = capsys.readouterr()
    return said.out if code == 0 else said.err


def lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def at(home: Path) -> Sequence[object]:
    return "--home", home, "--tenant", "acme"


def explode() -> None:
    raise RuntimeError


def failed(house: House) -> str:
    """Return a job that has used up its attempts."""
    house.engine.fault = explode
    job = str(house.post(SWAP, Prefer="respond-async").json["job"])  # type: ignore[index]
    for _ in range(3):
        house.send(requested(job, house.books))
    house.engine.fault = lambda: None
    return job


def test_jobs_are_listed_with_how_they_stand(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Waiting, working, ended, and what nobody takes."""
    house = house_in(home)
    done = house.post(SWAP).json["job"]  # type: ignore[index]
    waiting = house.post(SWAP, Prefer="respond-async").json["job"]  # type: ignore[index]
    house.sink.refuses = USAGE_RECORDED
    dead = house.post(SWAP).json["job"]  # type: ignore[index]
    found = {
        each["job"]: each for each in lines(run(capsys, "list", *at(home), "--json"))
    }
    assert found[done]["state"] == "completed"
    assert found[waiting] == {"job": waiting, "state": "waiting", "untold": True}
    assert found[dead]["undelivered"] == 1
    table = run(capsys, "list", *at(home))
    assert "1 undelivered" in table
    assert done in table


def test_a_list_can_be_of_the_open_or_the_dead_alone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What somebody has to see to."""
    house = house_in(home)
    house.post(SWAP)
    waiting = house.post(SWAP, Prefer="respond-async").json["job"]  # type: ignore[index]
    house.sink.refuses = USAGE_RECORDED
    dead = house.post(SWAP).json["job"]  # type: ignore[index]
    chosen = {
        flag: [
            each["job"]
            for each in lines(run(capsys, "list", *at(home), flag, "--json"))
        ]
        for flag in ("--open", "--dead")
    }
    assert chosen == {"--open": [waiting], "--dead": [dead]}


def test_a_broken_record_is_shown_as_that(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And hides no other job."""
    house = house_in(home)
    good, bad = (house.post(SWAP).json["job"] for _ in range(2))  # type: ignore[index]
    house.store.put(ACME.record(bad), b"{")
    found = {
        each["job"]: each["state"]
        for each in lines(run(capsys, "list", *at(home), "--json"))
    }
    assert found == {good: "completed", bad: "broken"}


def test_a_job_is_shown_with_its_dead_letters(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And why nobody takes them."""
    house = house_in(home)
    house.sink.refuses = USAGE_RECORDED
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    shown = json.loads(run(capsys, "show", job, *at(home), "--json"))
    assert shown["undelivered"] == [
        {"type": USAGE_RECORDED, "reason": "refused with status 400"}
    ]
    assert shown["told"] is True
    assert "refused with status 400" in run(capsys, "show", job, *at(home))


def test_a_job_is_cancelled_where_nothing_runs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has ended; who is to be told of it is told when a stack runs."""
    house = house_in(home)
    job = house.post(SWAP, Prefer="respond-async").json["job"]  # type: ignore[index]
    assert run(capsys, "cancel", job, *at(home)).strip() == f"{job}: cancelled"
    record = ledger.record(ACME, job, house.store)
    assert record is not None
    assert record.outcome == "cancelled"
    assert not outbox.told(ACME, job, house.store)


@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
def test_a_job_that_is_none_is_a_readable_error(
    home: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """One line, with the problem's type."""
    said = run(capsys, command, "never", *at(home), code=1)
    assert said == "error: no such job (urn:guise:problem:not-found)\n"
    said = run(capsys, command, "No Job", *at(home), code=1)
    assert "urn:guise:problem:invalid-request" in said


def test_a_tenant_that_is_none_is_a_readable_error(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no folder is made for it."""
    said = run(capsys, "list", "--home", home, "--tenant", "globex", code=1)
    assert "has no tenant globex" in said
    assert not (home / "tenants" / "globex").exists()


@pytest.mark.parametrize("command", [["sweep"], ["retry", "J"]])
def test_what_needs_a_stack_says_so(
    home: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """In place of a connection that is refused."""
    house = house_in(home)
    job = house.post(SWAP, Prefer="respond-async").json["job"]  # type: ignore[index]
    words = [job if word == "J" else word for word in command]
    said = run(capsys, *words, *at(home), code=1)
    assert "start it with `guise up`" in said


def test_open_and_dead_are_not_asked_of_a_door(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its API does not tell them apart."""
    said = run(capsys, "list", "--url", "http://127.0.0.1:1", "--open", code=1)
    assert "leave --url out" in said


def test_a_store_elsewhere_is_named_by_its_url(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `guise up --store` does, with or without a place for the tenant."""
    house = house_in(home)
    job = house.post(SWAP).json["job"]  # type: ignore[index]
    for url in ("{tenant}", "acme"):
        store = f"file://{home}/tenants/{url}"
        found = lines(run(capsys, "list", *at(home), "--store", store, "--json"))
        assert [each["job"] for each in found] == [job]


def test_the_help_names_every_command() -> None:
    """What there is to do."""
    from functions.cli.jobs.commands import jobs

    said = CliRunner().invoke(jobs, ["--help"]).output
    for name in ("list", "show", "retry", "cancel", "sweep"):
        assert name in said


def test_where_nothing_runs_nothing_is_delivered(tmp_path: Path) -> None:
    """What is to be sent waits for a stack."""
    house = House()
    with pytest.raises(Unavailable, match="guise up"):
        Nobody(tmp_path).deliver(requested("j", house.books), timeout=1)


def test_the_books_are_the_homes_own(home: Path) -> None:
    """Its limits are those the sweeper of `guise up` has."""
    books = Place(home, "acme").books()
    assert (books.tenant, books.limits) == (Tenant("acme"), Limits())
    assert isinstance(books.sink, Nobody)


# --- what a retry does ------------------------------------------------------


def test_a_failed_job_runs_again_as_another_that_names_it() -> None:
    """Its ending stays; the new one has a start and an ending of its own."""
    house = House()
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    job = failed(house)
    house.sink.taken.clear()
    done = records.retry(job, house.books)
    assert (done.job, done.done, done.retries) == (f"{job}-r1", "accepted", job)
    house.send(house.sink.taken[-1])
    first, second = (ledger.record(ACME, each, house.store) for each in (job, done.job))
    assert first is not None
    assert second is not None
    assert (first.outcome, second.outcome) == ("failed", "completed")
    started = [each for each in house.auditor.seen if each.data["job"] == done.job]
    assert [each.data["retries"] for each in started] == [job]
    salts = {intake.load(ACME, each, house.store).salt for each in (job, done.job)}
    assert len(salts) == 2


def test_a_second_retry_finds_the_first() -> None:
    """A double click is one job; once that has ended, it is the one to retry."""
    house = House()
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    job = failed(house)
    first, second = (records.retry(job, house.books) for _ in range(2))
    assert first == second
    house.send(house.sink.taken[-1])
    with pytest.raises(Conflict, match="completed"):
        records.retry(job, house.books)


def test_a_retry_swaps_the_bytes_that_were_pinned_or_none() -> None:
    """An input that was changed since is refused."""
    house = House()
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    job = failed(house)
    house.put("b.png", picture(2))
    records.retry(job, house.books)
    house.send(house.sink.taken[-1])
    record = ledger.record(ACME, f"{job}-r1", house.store)
    assert record is not None
    assert record.problem is not None
    assert record.problem["type"] == "urn:guise:problem:conflict"


def test_a_retry_keeps_the_pictures_of_the_job_it_runs_again() -> None:
    """Retention leaves them until it has ended."""
    store = AgingStore()
    house = House(opener=lambda _: store)
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    job = failed(house)
    store.put(ACME.received(job, "x"), picture())
    accepted = intake.load(ACME, job, store)
    pins = {str(ACME.received(job, "x")): next(iter(accepted.inputs.values()))}
    intake.renew(structs.replace(accepted, inputs=pins), f"{job}-r1", ACME, store)
    store.age(ACME.record(job), 40 * 86_400)
    store.age(ACME.pinned(job), 40 * 86_400)
    assert retention.apply(house.books).jobs == 0


def test_another_job_under_the_derived_id_is_no_retry() -> None:
    """An id is one job's."""
    house = House()
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    job = failed(house)
    other = house.post(SWAP, Prefer="respond-async").json["job"]  # type: ignore[index]
    data = house.store.get(ACME.pinned(other)).data
    house.store.put(ACME.pinned(f"{job}-r1"), data)
    with pytest.raises(Conflict, match="another request"):
        records.retry(job, house.books)


@pytest.mark.parametrize(
    ("job", "following"),
    [
        ("j", "j-r1"),
        ("j-r1", "j-r2"),
        ("j-r9", "j-r10"),
        ("j-r0", "j-r0-r1"),
        ("a" * 61, "a" * 61 + "-r1"),
    ],
)
def test_the_id_of_a_retry_is_derived(job: str, following: str) -> None:
    """The same each time, and a job's id in form."""
    assert records.next_id(job) == following
    assert ACME.record(following)


def test_the_id_of_a_retry_is_never_too_long() -> None:
    """And different jobs have different ones."""
    long = ["a" * 64, "a" * 63 + "b"]
    ids = {records.next_id(job) for job in long}
    assert len(ids) == 2
    assert all(ACME.record(each) for each in ids)


def test_a_job_that_has_not_ended_is_asked_for_again() -> None:
    """Unless somebody works on it."""
    house = House()
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    job = str(house.post(SWAP, Prefer="respond-async").json["job"])  # type: ignore[index]
    assert records.retry(job, house.books).done == "asked"
    assert house.sink.taken[-1].data == {"job": job}
    ledger.claim(
        ACME,
        job,
        store=house.store,
        limits=house.limits,
        start=lambda n: requested(job, house.books, str(n)),
    )
    with pytest.raises(Conflict, match="works on the job"):
        records.retry(job, house.books)


def test_dead_letters_are_sent_again_by_a_retry() -> None:
    """Or it says that they are refused still."""
    house = House()
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    house.sink.refuses = USAGE_RECORDED
    job = str(house.post(SWAP).json["job"])  # type: ignore[index]
    with pytest.raises(Conflict, match="refused still"):
        records.retry(job, house.books)
    house.sink.refuses = ""
    assert records.retry(job, house.books).done == "told"
    assert house.sink.types()[-1] == USAGE_RECORDED


def test_an_ending_nobody_was_told_of_is_told_by_a_retry() -> None:
    """Or it says that this cannot be now."""
    house = House()
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    house.sink.down = True
    job = str(house.post(SWAP).json["job"])  # type: ignore[index]
    with pytest.raises(Unavailable, match="cannot be delivered"):
        records.retry(job, house.books)
    house.sink.down = False
    assert records.retry(job, house.books).done == "told"


def test_only_a_failed_job_runs_again() -> None:
    """A refusal would be one again; what completed is there; what was erased is not."""
    house = House()
    house.put("a.png", picture(1))
    house.put("b.png", picture(1))
    job = str(house.post(SWAP).json["job"])  # type: ignore[index]
    with pytest.raises(Conflict, match="was completed"):
        records.retry(job, house.books)
    records.erase(job, house.books)
    with pytest.raises(Gone):
        records.retry(job, house.books)
    with pytest.raises(NotFound):
        records.retry("never", house.books)
