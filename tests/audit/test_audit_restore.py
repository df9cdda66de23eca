"""A restore: rehearsed from each database to each; what it must refuse."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from functions import events
from functions.audit import copies
from functions.audit.backup import verify_logs
from functions.audit.bundle import verify_entries
from functions.audit.continued import CONTINUED, parse_continued
from functions.audit.merkle import VerificationError
from functions.audit.monitor import Loss, watch
from functions.audit.notes import EPOCH_MAX, in_epoch, open_kept
from functions.audit.restore import open_statement, size_of
from functions.audit.source import KeptLog
from functions.audit.store import Store
from functions.audit.tables import (
    entries,
    erasures,
    images,
    record_keys,
    sidecars,
)
from functions.audit.tiles import Checkpoint, origin, sign_checkpoint
from functions.keys import MemoryKeys
from functions.problems import Conflict, Unavailable
from functions.storage.memory import MemoryStore
from functions.tenant import Key
from tests.audit.vault import LARGE, Case, restored, rows
from tests.postgres import OPERATOR

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import Database


@pytest.fixture
def sqlite(tmp_path: Path) -> Case:
    """Return an empty SQLite database."""
    return Case(f"sqlite:///{tmp_path}/audit.db", MemoryKeys())


@pytest.fixture
def elsewhere(tmp_path: Path) -> str:
    """Return where there is no database yet."""
    return f"sqlite:///{tmp_path}/elsewhere.db"


@pytest.fixture(
    params=["sqlite to sqlite", "sqlite to postgresql", "postgresql to sqlite"]
)
def places(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[Case, str, Case, str]:
    """Return a log and where it is restored, each with the operator's URL of it."""

    def place(kind: str, name: str) -> tuple[Case, str]:
        if kind == "sqlite":
            url = f"sqlite:///{tmp_path}/{name}.db"
            return Case(url, keys), url
        database: Database = request.getfixturevalue("audit_database")
        return Case(database.url(), keys), database.url(OPERATOR)

    keys = MemoryKeys()
    here, there = request.param.split(" to ")
    return (*place(here, "here"), *place(there, "there"))


def test_a_rehearsal_of_the_loss_of_a_database(
    places: tuple[Case, str, Case, str],
    tmp_path: Path,
) -> None:
    """Backed up, grown, erased from, lost, restored: nothing is told that is not so."""
    lost, operator, found, target = places
    names = [f"e{each}" for each in range(LARGE)]
    first = lost.append(*names)
    lost.append("other", tenant="other")
    lost.private("job-kept", "job-erased")
    file = lost.backup(tmp_path / "audit.backup", operator)
    later = lost.append("late-1", "late-2")
    witness = MemoryStore()
    for receipt in later:
        key = copies.checkpoint_key(receipt.checkpoint)
        witness.put_if_absent(key, receipt.checkpoint.encode())
    gone = lost.statement("job-erased")
    witness.put_if_absent(copies.statement_key("acme", "job-erased"), gone.encode())

    report = restored(lost, file, target, witness)
    acme, other = report.logs
    assert (acme.tenant, acme.epoch, acme.lost) == ("acme", 2, 2)
    assert (other.tenant, other.epoch, other.lost) == ("other", 2, 0)
    assert [each.job for each in report.erased] == ["job-erased"]
    assert report.unsigned == []
    for table in (record_keys, sidecars, images):
        assert [each.job for each in rows(target, table)] == ["job-kept"]
    assert [each.statement for each in rows(target, erasures)] == [gone]
    with closing(Store.open(target)) as store, store.keeping() as db:
        held = list(verify_logs(db, lost.keys_of))
    assert [(each.tenant, each.epoch, each.size) for each in held] == [
        ("acme", 1, LARGE),
        ("acme", 2, 1),
        ("other", 1, 1),
        ("other", 2, 1),
    ]
    # Once for ever, over all epochs: what the backup has is known, the rest is new.
    assert found.append(names[0], names[-1]) == [first[0], first[-1]]
    [again] = found.append("late-1")
    assert (again.index, again.checkpoint.split("\n")[0]) == (1, "guise.audit/acme/2")
    kept = [
        open_kept(receipt.checkpoint, lost.keys_of("acme"))
        for receipt in (first[5], first[-1], later[-1])
    ]
    with closing(Store.open(found.url)) as store:
        verdict = watch(
            lambda epoch: KeptLog(store, "acme", epoch),
            "acme",
            kept,
            lost.keys_of("acme"),
        )
    assert verdict.faults == []
    assert verdict.losses == [Loss(1, LARGE, LARGE + 2)]
    assert verdict.now is not None
    assert (verdict.now.epoch, verdict.now.size) == (2, 2)


def test_a_restored_log_is_checked_offline_like_any_other(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """The new epoch begins with the last known checkpoint, and verifies alone."""
    [receipt] = sqlite.append("e0")
    restored(sqlite, sqlite.backup(tmp_path / "b"), elsewhere)
    after = Case(elsewhere, sqlite.keys)
    [grown] = after.append("e1")
    house = after.house()
    leaves = house.entries()
    house.log.close()
    known = in_epoch(after.keys_of("acme"), "acme", 2)
    assert verify_entries(leaves, grown.checkpoint, known).size == 2
    [earlier] = parse_continued(leaves[0], "acme", 2)
    assert (earlier.epoch, earlier.held, size_of(earlier)) == (1, 1, 1)
    assert earlier.checkpoint == receipt.checkpoint
    assert [each.type for each in rows(elsewhere, entries)] == [
        events.SWAP_STARTED,
        CONTINUED,
        events.SWAP_STARTED,
    ]


def test_a_restore_of_a_restore_accounts_for_every_epoch(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """Whoever kept a checkpoint of the first epoch is still answered in the third."""
    [first] = sqlite.append("e0")
    restored(sqlite, sqlite.backup(tmp_path / "one"), elsewhere)
    second = Case(elsewhere, sqlite.keys)
    second.append("e1")
    third = f"sqlite:///{tmp_path}/third.db"
    report = restored(second, second.backup(tmp_path / "two"), third)
    assert [each.epoch for each in report.logs[0].earlier] == [1, 2]
    kept = [open_kept(first.checkpoint, sqlite.keys_of("acme"))]
    with closing(Store.open(third)) as store:
        verdict = watch(
            lambda epoch: KeptLog(store, "acme", epoch),
            "acme",
            kept,
            sqlite.keys_of("acme"),
        )
    assert verdict.faults == []
    assert verdict.now is not None
    assert verdict.now.epoch == 3


def test_a_log_that_only_the_second_store_knows_is_accounted_for(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """A tenant who came after the backup has receipts, too."""
    sqlite.append("e0")
    file = sqlite.backup(tmp_path / "b")
    [late] = sqlite.append("late", tenant="late")
    witness = MemoryStore()
    key = copies.checkpoint_key(late.checkpoint)
    witness.put_if_absent(key, late.checkpoint.encode())
    witness.put(Key("checkpoints/NOBODY/1/x"), b"")
    witness.put(Key("checkpoints/empty/1/x"), b"")
    report = restored(sqlite, file, elsewhere, witness)
    [log] = [each for each in report.logs if each.tenant == "late"]
    assert (log.epoch, log.lost, log.earlier[0].held) == (2, 1, 0)
    assert "empty" not in {each.tenant for each in report.logs}


def test_attack_an_epoch_after_which_none_can_come(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """Tables count epochs in two bytes: said in words, and nothing is restored."""
    sqlite.append("e0")
    file = sqlite.backup(tmp_path / "b")
    last = Checkpoint(origin("acme", EPOCH_MAX), 1, bytes(32))
    note = sign_checkpoint(last, sqlite.keys.signer("audit"))
    witness = MemoryStore()
    witness.put_if_absent(copies.checkpoint_key(note), note.encode())
    with pytest.raises(VerificationError, match="no epoch comes after 32767"):
        restored(sqlite, file, elsewhere, witness)
    beyond = sign_checkpoint(
        replace(last, origin=origin("acme", EPOCH_MAX + 1)),
        sqlite.keys.signer("audit"),
    )
    with pytest.raises(VerificationError, match="no log of ours"):
        copies.checkpoint_key(beyond)


def test_a_restore_goes_into_an_empty_database_alone(
    sqlite: Case, tmp_path: Path
) -> None:
    """And the log that is there stays as it was."""
    sqlite.append("e0")
    file = sqlite.backup(tmp_path / "b")
    before = rows(sqlite.url, entries)
    with pytest.raises(Conflict):
        restored(sqlite, file, sqlite.url)
    assert rows(sqlite.url, entries) == before


def test_a_restore_that_fails_leaves_an_empty_database(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """All of it or nothing, so that it can be tried again."""
    sqlite.append("e0")
    file = sqlite.backup(tmp_path / "b")
    Store.open(elsewhere).close()
    with closing(sqlite3.connect(tmp_path / "elsewhere.db")) as db, db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON head"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END",
        )
    with pytest.raises(Unavailable):
        restored(sqlite, file, elsewhere)
    assert rows(elsewhere, entries) == []
    with closing(sqlite3.connect(tmp_path / "elsewhere.db")) as db, db:
        db.execute("DROP TRIGGER full")
    assert restored(sqlite, file, elsewhere).logs


TAMPERED = {
    "an entry dropped": "UPDATE entry SET leaf = NULL WHERE idx = 3",
    "another key": "UPDATE entry SET key = zeroblob(32) WHERE idx = 3",
    "another job": "UPDATE entry SET job = 'other' WHERE idx = 3",
    "another time": "UPDATE entry SET at_ms = 1 WHERE idx = 3",
    "text for bytes": "UPDATE entry SET leaf = 'x' WHERE idx = 3",
    "no leaf": "UPDATE entry SET leaf = x'00', leaf_hash = "
    "x'96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7'"
    " WHERE idx = 3",
    "another attempt": "UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT),"
    " '\"attempt\":1', '\"attempt\":2') AS BLOB) WHERE idx = 3",
    "a flipped entry": "UPDATE entry SET leaf = CAST(leaf || 'x' AS BLOB)"
    " WHERE idx = 3",
    "an entry with its hash": "UPDATE entry SET leaf_hash = zeroblob(32) WHERE idx = 3",
    "a deleted entry": "DELETE FROM entry WHERE idx = 3",
    "a truncated log": "DELETE FROM entry WHERE idx >= 500",
    "a log cut off": "DELETE FROM checkpoint WHERE size > 500",
    "a wrong node": "UPDATE node SET hash = zeroblob(32) WHERE idx = 1",
    "a missing node": "DELETE FROM node WHERE idx = 1",
    "a node too many": "INSERT INTO node VALUES ('acme', 1, 2, 0, zeroblob(32))",
    "a head elsewhere": "UPDATE head SET size = 500",
    "a head of an earlier epoch": "UPDATE head SET epoch = 0",
    "no head": "DELETE FROM head",
    "no checkpoint": "DELETE FROM checkpoint",
    "an older checkpoint": "UPDATE checkpoint SET note = "
    "(SELECT note FROM checkpoint WHERE size = 7) WHERE size = 8",
    "another's note": "UPDATE checkpoint SET note = "
    "replace(note, 'audit/acme', 'audit/other') WHERE size = 600",
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path]:
    """Return a large log and its backup; for looking at only."""
    folder = tmp_path_factory.mktemp("large")
    case = Case(f"sqlite:///{folder}/audit.db", MemoryKeys())
    case.append(*(f"e{each}" for each in range(LARGE)))
    return case, case.backup(folder / "b")


@pytest.mark.parametrize("what", ["nothing", *TAMPERED])
def test_attack_a_tampered_backup(
    what: str, large: tuple[Case, Path], tmp_path: Path, elsewhere: str
) -> None:
    """Nothing is restored from a file that is not what its checkpoints sign."""
    case, backup = large
    file = tmp_path / "b"
    shutil.copyfile(backup, file)
    if what == "nothing":  # else the others could not fail
        assert restored(case, file, elsewhere).logs
        return
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(TAMPERED[what])
    with pytest.raises(VerificationError):
        restored(case, file, elsewhere)
    assert rows(elsewhere, entries) == []


def test_attack_a_checkpoint_of_another_tenant(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """One key signs for all tenants, and each note for one of them."""
    [receipt] = sqlite.append("e0")
    file = sqlite.backup(tmp_path / "b")
    true = open_kept(receipt.checkpoint, sqlite.keys_of("acme")).checkpoint
    forged = replace(true, origin=origin("other"))
    note = sign_checkpoint(forged, sqlite.keys.signer("audit"))
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE checkpoint SET note = ?", (note,))
    with pytest.raises(VerificationError):
        restored(sqlite, file, elsewhere)


def test_attack_a_backup_signed_by_another_key(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """A history that is whole and yet not ours is not taken in."""
    forger = Case(sqlite.url, MemoryKeys())
    forger.append("e0")
    file = forger.backup(tmp_path / "b")
    with pytest.raises(VerificationError, match="not signed"):
        restored(sqlite, file, elsewhere)


def test_attack_a_backup_of_another_history(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """Whoever has the log's key cannot rewrite what the second store has seen."""
    true = Case(f"sqlite:///{tmp_path}/true.db", sqlite.keys)
    witness = MemoryStore()
    for receipt in true.append("e0", "e1"):
        key = copies.checkpoint_key(receipt.checkpoint)
        witness.put_if_absent(key, receipt.checkpoint.encode())
    sqlite.append("e0", "forged", "e2")
    with pytest.raises(VerificationError, match="two histories"):
        restored(sqlite, sqlite.backup(tmp_path / "b"), elsewhere, witness)


def test_attack_copies_that_nobody_signed(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """What somebody planted in the second store neither stops nor steers a restore."""
    [_, true] = sqlite.append("e0", "e1")
    file = sqlite.backup(tmp_path / "b")
    [late] = sqlite.append("late")
    forged = late.checkpoint.replace("\n3\n", "\n999\n")
    witness = MemoryStore()
    witness.put(Key(f"checkpoints/acme/1/{999:020d}"), forged.encode())
    witness.put(Key(f"checkpoints/acme/1/{998:020d}"), true.checkpoint.encode())
    witness.put(copies.checkpoint_key(late.checkpoint), late.checkpoint.encode())
    witness.put(copies.statement_key("acme", "job"), b"erase it")
    report = restored(sqlite, file, elsewhere, witness)
    assert [each.lost for each in report.logs] == [1]
    assert report.unsigned == [forged, true.checkpoint, "erase it"]
    assert report.erased == []


def test_erasures_come_from_a_file_too(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """Where there is no second store, the statements that were handed out do."""
    sqlite.append("e0")
    sqlite.private("job-a", "job-b", "job-c")
    with closing(Store.open(sqlite.url)) as store, store.keeping() as db:
        old = {"tenant": "acme", "job": "job-a", "at_ms": 1, "statement": "old"}
        db.execute(sa.insert(erasures), old)
    file = sqlite.backup(tmp_path / "b")
    given = [sqlite.statement("job-a"), sqlite.statement("job-b", epoch=2)]
    report = restored(sqlite, file, elsewhere, statements=given)
    assert [each.job for each in report.erased] == ["job-a", "job-b"]
    assert [each.job for each in rows(elsewhere, sidecars)] == ["job-c"]
    assert [(each.job, each.statement) for each in rows(elsewhere, erasures)] == [
        ("job-a", "old"),
        ("job-b", given[1]),
    ]


@pytest.mark.parametrize("change", ["job job", "erasure statement v1", "at 2026"])
def test_attack_a_forged_statement(change: str, sqlite: Case) -> None:
    """A word that is not the signed one makes it nobody's."""
    true = sqlite.statement("job")
    assert open_statement(true, sqlite.keys_of).job == "job"
    with pytest.raises(VerificationError):
        open_statement(true.replace(change, change.upper()), sqlite.keys_of)
    with pytest.raises(VerificationError):
        open_statement(true.replace(change, change + "7"), sqlite.keys_of)


def test_a_rehearsal_writes_nothing_to_the_second_store(
    sqlite: Case, tmp_path: Path, elsewhere: str
) -> None:
    """Or the next real restore, and every monitor, would find an epoch too many."""
    sqlite.append("e0")
    witness = MemoryStore()
    restored(sqlite, sqlite.backup(tmp_path / "b"), elsewhere, witness)
    assert witness.list(Key("")).objects == ()
