"""An erasure that was cut off after its entry is finished by the next start."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from functions.audit import finishing, private
from functions.audit.app import create_app
from functions.audit.log import Log
from functions.keys import FileKeys
from functions.problems import Unavailable
from functions.settings import Settings
from tests.audit.house import BOTH, House, TokensByName
from tests.audit.jobs import PHOTO, Job, found, private_rows, rows_of
from tests.integration.stack import until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

DATABASES = BOTH


def cut_off(house: House, name: str, tenant: str = "acme") -> Job:
    """Run a job, and leave its erasure where a kill after the entry does."""
    job = Job(house, name, tenant).run()
    house.log.append(job.erased())
    return job


def test_what_was_cut_off_is_finished(house: House) -> None:
    """Its private rows go and the statement comes, though nobody asks again."""
    cut_off(house, "j-1")
    Job(house, "j-2").run()
    others = rows_of(house, "j-2")
    assert found(house, PHOTO) == [("j-1", "source"), ("j-2", "source")]
    assert finishing.finish(house.log, house.keys) == 1
    assert private_rows(house) == others
    assert house.get("erasures/j-1").status_code == 200
    assert found(house, PHOTO) == [("j-2", "source")]


def test_it_adds_nothing_to_the_log(house: House) -> None:
    """The entry is there already, and the statement names it."""
    cut_off(house, "j-1")
    entries = house.entries()
    finishing.finish(house.log, house.keys)
    assert house.entries() == entries
    assert "\nentry 2\n" in house.get("erasures/j-1").text


def test_what_is_erased_is_not_erased_again(house: House) -> None:
    """The second look finds nothing."""
    cut_off(house, "j-1")
    assert finishing.finish(house.log, house.keys) == 1
    assert finishing.finish(house.log, house.keys) == 0


def test_every_tenants_log_is_looked_at(house: House) -> None:
    """Each by its own rows, also where two have a job of one name."""
    for tenant in ("acme", "globex"):
        cut_off(house, "j-1", tenant)
    Job(house, "j-1", "initech").run()
    assert finishing.finish(house.log, house.keys) == 2
    assert private_rows(house) == private_rows(house, "globex") == []
    assert private_rows(house, "initech")


def test_what_merely_expired_is_kept(house: House) -> None:
    """Nobody asked for its erasure: it is evidence."""
    job = Job(house, "j-1").run()
    job.send(job.expired())
    before = private_rows(house)
    assert finishing.finish(house.log, house.keys) == 0
    assert private_rows(house) == before


def test_what_expired_and_then_was_cut_off_is_finished(house: House) -> None:
    """The one says nothing of the other."""
    job = Job(house, "j-1").run()
    job.send(job.expired())
    house.log.append(job.erased())
    assert finishing.finish(house.log, house.keys) == 1
    assert private_rows(house) == []


def test_it_looks_only_so_far_back(house: House) -> None:
    """Whoever died did so just before the start."""
    cut_off(house, "j-1")
    cut_off(house, "j-2")
    with house.log.store.searching("acme") as db:
        assert private.begun(db, "acme", 6) == ["j-1", "j-2"]
        assert private.begun(db, "acme", 3) == ["j-2"]
        assert private.begun(db, "acme", 0) == []


def test_one_that_fails_keeps_no_other_back(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, without a word of whose picture it is, and found again."""
    cut_off(house, "j-1")
    cut_off(house, "j-1", "globex")

    class Gone:
        """Keys of which the one that signs statements is gone for the first call."""

        calls = 0

        def __getattr__(self, name: str) -> object:
            if name == "signer":
                Gone.calls += 1
                if Gone.calls == 1:
                    raise Unavailable(internal="no signer")
            return getattr(house.keys, name)

    assert finishing.finish(house.log, Gone()) == 1  # type: ignore[arg-type]  # as its protocol
    assert "an erasure of acme is not finished" in caplog.messages
    assert private_rows(house, "globex") == []
    assert finishing.finish(house.log, house.keys) == 1


def test_a_function_that_starts_finishes_it(tmp_path: Path) -> None:
    """Wired from its environment alone, a moment after the start."""
    keys = FileKeys(tmp_path / "keys")
    keys.create("audit")
    keys.create("events/acme")
    url = f"sqlite:///{tmp_path}/audit.db"
    with closing(Log.at(url, keys)) as log:
        app = create_app(log=log, keys=keys, authenticator=TokensByName())
        before = House(log, keys, app.test_client(), url)  # type: ignore[arg-type]  # keys enough
        cut_off(before, "j-1")
        assert private_rows(before)
        create_app(
            Settings(database=url, profile="development"),
            keys=keys,
            authenticator=TokensByName(),
        )
        until(lambda: not private_rows(before))
        assert before.get("erasures/j-1").status_code == 200


def test_without_a_database_it_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the function serves, as well as it can."""
    keys = FileKeys(tmp_path / "keys")
    with closing(Log.at(f"sqlite:///{tmp_path}/no/such/folder.db", keys)) as log:
        finishing.begin(log, keys, after=0)
        deadline = time.monotonic() + 30
        said = "looking for erasures that were cut off"
        while said not in caplog.messages and time.monotonic() < deadline:
            time.sleep(0.02)
        assert said in caplog.messages
