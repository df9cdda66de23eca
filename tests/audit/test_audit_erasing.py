"""Erasure: for ever, whatever dies meanwhile, and with a signed statement."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.erasing import erase as erase_in
from functions.audit.leaf import ERASED, ERASURES
from functions.audit.log import Log
from functions.audit.merkle import VerificationError
from functions.audit.recording import record
from functions.audit.store import Store
from functions.audit.tiles import open_note
from functions.problems import NotFound, Unavailable
from functions.tenant import Tenant
from tests.audit.house import BOTH
from tests.audit.jobs import (
    CROWD,
    PHOTO,
    RESULT,
    Job,
    erase,
    found,
    private_rows,
    rows_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine

    from tests.audit.house import House

DATABASES = BOTH


def erasures(house: House, job: str) -> list[dict[str, Any]]:
    """Return the entries which say that a job is erased."""
    documents = [msgspec.json.decode(leaf) for leaf in house.entries()]
    return [
        each
        for each in documents
        if each["type"] in ERASURES and each["data"]["job"] == job
    ]


def stated(house: House, job: str) -> str:
    answer = house.get(f"erasures/{job}")
    return answer.text if answer.status_code == 200 else ""


def test_an_erasure_is_answered_with_a_signed_statement(house: House) -> None:
    """It names the log, the job, the moment and the entry that says so."""
    Job(house, "j-1").run()
    answer = erase(house, "j-1")
    assert (answer.status_code, answer.content_type) == (
        200,
        "text/plain; charset=utf-8",
    )
    text = open_note(answer.text, log_verifiers("acme", house.keys))
    title, origin, job, at, entry, end = text.split("\n")
    assert (title, origin) == ("guise erasure statement v1", "guise.audit/acme")
    assert (job, entry, end) == ("job j-1", "entry 2", "")
    assert abs(events.milliseconds(at[3:]) - events.milliseconds(events.now())) < 60_000
    with pytest.raises(VerificationError):
        open_note(answer.text.replace("j-1", "j-2"), log_verifiers("acme", house.keys))


def test_nothing_private_is_left_of_it(house: House) -> None:
    """Neither key nor sidecar nor index row; of other jobs everything."""
    for name in ("j-1", "j-2"):
        Job(house, name).run()
    others = rows_of(house, "j-2")
    erase(house, "j-1")
    assert private_rows(house) == others
    for image, role in ((PHOTO, "source"), (CROWD, "target"), (RESULT, "result")):
        assert found(house, image) == [("j-2", role)]


def test_the_roots_stay_valid(house: House) -> None:
    """Every entry is what it was; receipts from before still hold."""
    Job(house, "j-1").run()
    before, note = house.entries(), house.get("checkpoint").text
    erase(house, "j-1")
    after = house.entries()
    assert after[:2] == before
    known = log_verifiers("acme", house.keys)
    verify_entries(after[:2], note, known)
    verify_entries(after, house.get("checkpoint").text, known)


def test_the_log_says_who_asked(house: House) -> None:
    """Audit's own entry names the caller; it says nothing of any picture."""
    Job(house, "j-1").run()
    erase(house, "j-1")
    (entry,) = erasures(house, "j-1")
    assert (entry["type"], entry["source"]) == (ERASED, "/tenants/acme/audit")
    assert entry["data"] == {"job": "j-1", "actor": "someone"}


def test_asked_again_the_same_statement_is_answered(house: House) -> None:
    """Word for word, also when asked for it alone; nothing more is recorded."""
    Job(house, "j-1").run()
    assert stated(house, "j-1") == ""
    first = erase(house, "j-1").text
    assert [erase(house, "j-1").text for _ in range(2)] == [first, first]
    assert stated(house, "j-1") == first
    assert len(house.entries()) == 3


def test_many_who_ask_at_once_get_one_statement(house: House) -> None:
    """One entry, one statement, no contradiction on record."""
    Job(house, "j-1").run()
    with ThreadPoolExecutor(8) as pool:
        texts = set(
            pool.map(
                lambda n: erase_in(house.log, house.keys, "acme", "j-1", actor=str(n)),
                range(8),
            )
        )
    assert len(texts) == 1
    assert len(house.entries()) == 3


def test_a_tenants_own_event_erases(house: House) -> None:
    """`DELETE` at the door ends here: recorded, erased, and then 204."""
    job = Job(house, "j-1").run()
    assert job.send(job.erased()).status_code == 204
    assert private_rows(house) == []
    assert "\nentry 2\n" in stated(house, "j-1")
    assert job.send(job.erased()).status_code == 204
    assert "\nentry 2\n" in erase(house, "j-1").text
    assert len(house.entries()) == 3


def test_an_event_after_an_erasure_by_hand_is_recorded(house: House) -> None:
    """Both entries stand; the statement is the first one's."""
    job = Job(house, "j-1").run()
    text = erase(house, "j-1").text
    assert job.send(job.erased()).status_code == 204
    assert len(erasures(house, "j-1")) == 2
    assert stated(house, "j-1") == text


def test_uploads_that_retention_deleted_are_no_job(house: House) -> None:
    """Such an event says a number; there is nothing to erase."""
    Job(house, "j-1").run()
    event = house.event(
        type=events.SWAP_ERASED, data={"reason": "retention", "uploads": 3}
    )
    assert house.post(event).status_code == 204
    assert len(rows_of(house, "j-1")) == 6


def test_what_retention_took_from_the_store_is_kept_here(house: House) -> None:
    """Nobody asked: key, sidecars and index stay, and there is no statement."""
    job = Job(house, "j-1").run()
    before = private_rows(house)
    assert [job.send(job.expired()).status_code for _ in range(2)] == [204, 204]
    assert len(house.entries()) == 3
    assert private_rows(house) == before
    assert stated(house, "j-1") == ""


@pytest.mark.parametrize("by_event", [False, True], ids=["asked", "told"])
def test_what_expired_can_still_be_erased(house: House, *, by_event: bool) -> None:
    """The entry of the erasure is one of its own, not the one of the expiry."""
    job = Job(house, "j-1").run()
    job.send(job.expired())
    if by_event:
        assert job.send(job.erased()).status_code == 204
    else:
        assert erase(house, "j-1").status_code == 200
    assert private_rows(house) == []
    assert "\nentry 3\n" in stated(house, "j-1")
    assert job.send(job.expired()).status_code == 204
    assert len(house.entries()) == 4


@pytest.mark.parametrize("outcome", [{}, {"outcome": ["expired"]}, {"outcome": "x"}])
def test_a_word_that_nobody_knows_is_an_erasure(
    house: House, outcome: dict[str, Any]
) -> None:
    """Events of earlier versions gave none: in doubt somebody has asked."""
    job = Job(house, "j-1").run()
    said = {"job": "j-1"} | outcome
    job.send(house.event("e", type=events.SWAP_ERASED, subject="j-1", data=said))
    assert private_rows(house) == []


def test_an_erasure_with_other_content_erases_nothing(house: House) -> None:
    """The id of another event: a contradiction on record, and no more."""
    job = Job(house, "j-1").run()
    lie = house.event(
        "j-1-completed", type=events.SWAP_ERASED, subject="j-1", data={"job": "j-1"}
    )
    assert job.send(lie).status_code == 204
    assert len(rows_of(house, "j-1")) == 6
    assert stated(house, "j-1") == ""


def test_a_job_that_the_log_does_not_know(house: House) -> None:
    """404, and nothing is recorded; what cannot be a job is 400."""
    Job(house, "j-1").run()
    assert erase(house, "j-2").status_code == 404
    assert house.get("erasures/j-2").status_code == 404
    assert erase(house, "../up").status_code == 400
    assert len(house.entries()) == 2
    with pytest.raises(NotFound):
        erase_in(house.log, house.keys, "globex", "j-1", actor="")


def test_a_job_from_before_there_were_sidecars_is_erased(house: House) -> None:
    """There is nothing to delete, and a statement all the same."""
    job = Job(house, "j-1")
    job.send(job.started(extensions={"traceparent": "x"}))
    assert erase(house, "j-1").status_code == 200
    assert len(erasures(house, "j-1")) == 1


def test_a_statement_outlives_the_entries_it_speaks_of(house: House) -> None:
    """Their time is over; asked again it is still the same."""
    Job(house, "j-1").run()
    text = erase(house, "j-1").text
    house.tamper("UPDATE entry SET leaf = NULL, type = '', job = '', source = ''")
    assert erase(house, "j-1").text == text


@pytest.mark.parametrize(
    ("tenant", "token", "status"),
    [
        ("acme", "acme", 403),
        ("acme", "globex erase", 404),
        ("acme", "", 401),
        ("nobody", "nobody", 403),
    ],
)
def test_who_may_not_erase(house: House, tenant: str, token: str, status: int) -> None:
    """To read is not to erase, and nobody erases another tenant's."""
    Job(house, "j-1").run()
    before = private_rows(house)
    assert erase(house, "j-1", tenant=tenant, token=token).status_code == status
    assert private_rows(house) == before


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"job": 7}', b'{"j": "j-1"}'])
def test_a_malformed_request_to_erase(house: House, body: bytes) -> None:
    """400."""
    answer = house.client.post(
        "/v1/tenants/acme/log/erasures",
        data=body,
        headers={"Authorization": "Bearer acme erase"},
    )
    assert answer.status_code == 400


# --- whatever dies meanwhile -------------------------------------------------


class Died(Exception):
    """The process is gone."""


class Dying(Store):
    """A store whose process dies at a moment: before, in or after a transaction."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.moments = 0
        self.last = 0

    def _moment(self) -> None:
        self.moments += 1
        if self.moments == self.last:
            raise Died

    @contextmanager
    def _until(self, work: AbstractContextManager[Connection]) -> Iterator[Connection]:
        self._moment()
        with work as db:
            yield db
            self._moment()
        self._moment()

    def committing(self) -> AbstractContextManager[Connection]:
        return self._until(super().committing())

    def reading(self, tenant: str) -> AbstractContextManager[Connection]:
        return self._until(super().reading(tenant))

    @contextmanager
    def erasing(self, tenant: str) -> Iterator[Connection]:
        with self._until(super().erasing(tenant)) as db:
            yield db


def died(house: House, job: Job, moment: int, *, by_event: bool) -> bool:
    """Erase a job in a process that dies at a moment; return whether it did."""
    store = Dying.open(house.url)
    assert isinstance(store, Dying)
    with closing(Log(lambda: store, house.keys)) as log:
        _ = log.store
        store.last = moment
        try:
            if by_event:
                record(job.erased(), Tenant("acme"), log, house.keys)
            else:
                erase_in(log, house.keys, "acme", job.name, actor="ann")
        except (Died, Unavailable):
            return True
        finally:
            store.last = 0
    return False


@pytest.mark.parametrize("by_event", [False, True], ids=["asked", "told"])
def test_a_crash_at_any_moment_is_mended_by_asking_again(
    house: House, *, by_event: bool
) -> None:
    """Never a statement while something is left, and one erasure on record."""
    moment, alive = 0, False
    while not alive:
        moment += 1
        job = Job(house, f"j-{moment}").run()
        alive = not died(house, job, moment, by_event=by_event)
        if stated(house, job.name):
            assert rows_of(house, job.name) == []
        else:
            assert len(rows_of(house, job.name)) == 6
        if by_event:
            assert job.send(job.erased()).status_code == 204
        else:
            assert erase(house, job.name).status_code == 200
        assert rows_of(house, job.name) == []
        assert len(erasures(house, job.name)) == 1
        assert stated(house, job.name)
    assert moment == 10  # three moments in each of three transactions, and none
    note = house.get("checkpoint").text
    verify_entries(house.entries(), note, log_verifiers("acme", house.keys))
