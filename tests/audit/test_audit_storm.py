"""Everything at once on one database: acknowledged stays, erased is gone."""

from __future__ import annotations

import base64
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import msgspec
import pytest
import sqlalchemy as sa

from functions import events
from functions.audit.app import create_app
from functions.audit.backup import open_backup, verify_logs, write_backup
from functions.audit.bundle import SIGNING_KEY, log_verifiers
from functions.audit.erasing import erase
from functions.audit.log import Log
from functions.audit.monitor import watch
from functions.audit.notes import open_kept
from functions.audit.pruning import prune, set_retention
from functions.audit.source import KeptLog
from functions.audit.store import Store
from functions.audit.tables import entries
from functions.keys import FileKeys, events_key
from functions.problems import NotFound, Unavailable
from tests.audit.house import BOTH, House, TokensByName
from tests.audit.jobs import Job, rows_of
from tests.postgres import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.audit.tiles import NoteVerifier

DATABASES = BOTH
SECONDS = 3.0
NOW_MS = events.milliseconds("2028-01-01T00:00:00.000Z")


class Storm:
    """Two functions on one database, and all that an operator does meanwhile."""

    def __init__(self, url: str, operator: str, folder: Path) -> None:
        self.folder = folder
        self.keys = FileKeys(folder)
        for name in (SIGNING_KEY, events_key("acme")):
            (folder / name).parent.mkdir(exist_ok=True)
            self.keys.create(name)
        (folder / "audit.secret").write_bytes(base64.b64encode(b"s" * 32))
        self.houses = [self._house(url) for _ in range(2)]
        self.operator = Store.open(operator)
        set_retention(self.operator, "acme", 180)
        self.notes: list[str] = []
        self.jobs: list[str] = []
        self.erased: list[str] = []
        self.faults: list[BaseException] = []
        self.told = threading.Lock()
        self._end = time.monotonic() + SECONDS

    def _house(self, url: str) -> House:
        keys = FileKeys(self.folder)
        log = Log.at(url, keys)
        app = create_app(log=log, keys=keys, authenticator=TokensByName())
        return House(log, keys, app.test_client(), url)  # type: ignore[arg-type]

    def close(self) -> None:
        for house in self.houses:
            house.log.close()
        self.operator.close()

    def rage(self) -> None:
        """Do all of it at once until the time is over."""
        work: list[Callable[[int], None]] = [
            lambda n: self._run(0, f"a-{n}"),
            lambda n: self._run(1, f"b-{n}"),
            lambda n: self._run(n % 2, f"c-{n}"),
            self._erase,
            self._rotate,
            self._back_up,
            self._prune,
            self._watch,
        ]
        threads = [threading.Thread(target=self._repeat, args=(each,)) for each in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _repeat(self, work: Callable[[int], None]) -> None:
        number = 0
        try:
            while time.monotonic() < self._end:
                with suppress(Unavailable):  # to be asked for again, and no word more
                    work(number)
                number += 1
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is a fault
            self.faults.append(error)

    def _run(self, which: int, name: str) -> None:
        house = self.houses[which]
        job = Job(house, name)
        answer = job.send(job.started())
        if answer.status_code == 200:
            self.notes.append(answer.json["checkpoint"])  # type: ignore[index]
            self.jobs.append(name)
            job.send(job.completed())

    def _erase(self, number: int) -> None:
        time.sleep(0.05)
        if len(self.erased) < len(self.jobs):
            job, house = self.jobs[len(self.erased)], self.houses[number % 2]
            with suppress(NotFound):  # pruned: what was private went with it
                erase(house.log, house.keys, "acme", job, actor="ann")
            self.erased.append(job)

    def _rotate(self, _number: int) -> None:
        with self.told:  # whoever watches is given the new key before it is used
            self.keys.rotate(SIGNING_KEY)
        time.sleep(0.2)

    def _back_up(self, number: int) -> None:
        path = self.folder / f"{number}.backup"
        write_backup(self.operator, path, self._known)
        with closing(open_backup(path, self.folder)) as backup, backup.keeping() as db:
            assert all(held.size for held in verify_logs(db, self._known))

    def _prune(self, _number: int) -> None:
        prune(self.operator, "acme", NOW_MS)
        time.sleep(0.1)

    def _watch(self, _number: int) -> None:
        store = self.houses[0].log.store
        with self.told:
            known = self._known("acme")
            kept = [open_kept(note, known) for note in self.notes[-50:]]
            found = watch(lambda at: KeptLog(store, "acme", at), "acme", kept, known)
        assert found.faults == []

    def _known(self, tenant: str) -> list[NoteVerifier]:
        return log_verifiers(tenant, FileKeys(self.folder))


@pytest.fixture
def operator(url: str, request: pytest.FixtureRequest) -> str:
    """Return how an operator reaches the same database."""
    if url.startswith("sqlite"):
        return url
    return str(request.getfixturevalue("audit_database").url(OPERATOR))


def test_attack_a_storm(url: str, operator: str, tmp_path: Path) -> None:
    """Two functions, erasures, rotations, backups, prunings and a monitor at once."""
    with closing(Storm(url, operator, tmp_path)) as storm:
        storm.rage()
        assert storm.faults == []
        assert storm.notes
        assert storm.erased
        house = storm.houses[0]
        for job in storm.erased:
            assert rows_of(house, job) == []
        storm._watch(0)  # once more, when all is quiet
        with house.log.store.reading("acme") as db:
            query = sa.select(entries.c.leaf).where(entries.c.tenant == "acme")
            leaves = list(db.execute(query.order_by(entries.c.idx)).scalars())
        ids = [msgspec.json.decode(leaf)["id"] for leaf in leaves if leaf]
        assert len(ids) == len(set(ids))
        if None not in leaves:  # nothing was pruned: every ack is there
            assert {f"{job}-started-1" for job in storm.jobs} <= set(ids)
