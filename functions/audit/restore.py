"""A restore: the backup's rows, the next epoch, and every erasure since.

To a reader a log that comes back from a backup looks exactly like a rollback.  So
no log goes on where its backup ended.  Each tenant's next epoch is opened, whose
first entry holds the last checkpoint that anybody knows (`continued`); the second
store often knows a later one than the backup.  What lies between the two is lost,
and said to be.

What was erased after the backup was made is in it.  Every signed statement of an
erasure in the second store, or in a file, is replayed before a row is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from functions import events
from functions.audit import copies
from functions.audit.appending import add_entries
from functions.audit.backup import batches, verify_logs
from functions.audit.bundle import SIGNING_KEY
from functions.audit.continued import Earlier, continued
from functions.audit.copies import Statement
from functions.audit.log import now_ms
from functions.audit.merkle import Frontier, VerificationError
from functions.audit.notes import EPOCH_MAX, in_epoch, open_kept, parse_origin
from functions.audit.store import note_of
from functions.audit.tables import (
    checkpoints,
    erasures,
    heads,
    images,
    metadata,
    record_keys,
    sidecars,
)
from functions.audit.tiles import Checkpoint, open_note, origin, sign_checkpoint
from functions.problems import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection

    from functions.audit.backup import Held, KeysOf
    from functions.audit.store import Store
    from functions.audit.tiles import NoteVerifier
    from functions.keys import KeyProvider, Signer
    from functions.storage.base import Store as Objects

_PRIVATE: Final = (record_keys, sidecars, images)
_STATEMENT: Final = re.compile(
    r"guise erasure statement v1\n([^\n]+)\njob ([^\n]+)\nat ([^\n]+)\nentry [0-9]+\n"
)


@dataclass(frozen=True, slots=True)
class Restored:
    """One tenant's log after a restore.

    `earlier` are its epochs before the one that was opened; of each, the backup
    lacks the entries from `held` to the size of its last known checkpoint.
    """

    tenant: str
    epoch: int
    earlier: tuple[Earlier, ...]

    @property
    def lost(self) -> int:
        """How many entries that somebody may have a receipt of are gone."""
        return sum(size_of(each) - each.held for each in self.earlier)


@dataclass(slots=True)
class Report:
    """What a restore did; `unsigned` is what was passed over: nobody signed it."""

    logs: list[Restored] = field(default_factory=list)
    erased: list[Statement] = field(default_factory=list)
    unsigned: list[str] = field(default_factory=list)


def size_of(earlier: Earlier) -> int:
    """Return how many entries an epoch's last known checkpoint covers."""
    return int(earlier.checkpoint.split("\n")[1])


def restore(
    backup: Store,
    target: Store,
    keys: KeyProvider,
    keys_of: KeysOf,
    *,
    witness: Objects | None = None,
    statements: Iterable[str] = (),
) -> Report:
    """Fill the empty `target` from `backup`: all of it or nothing.

    Raises `Conflict` where there is a row in it, and `VerificationError` where the
    backup is not what its checkpoints sign, or the second store has another history.
    Nothing is written to the second store: a rehearsal leaves no trace there.
    """
    report = Report()
    with backup.keeping(snapshot=True) as db:
        held = list(verify_logs(db, keys_of))
        report.logs = list(_plan(db, held, keys_of, witness, report))
        report.erased = list(_erased(keys_of, witness, statements, report))
        with target.keeping() as into:
            _require_empty(into)
            _copy(db, into, {(each.tenant, each.job) for each in report.erased})
            _state(into, report.erased)
            signer = keys.signer(SIGNING_KEY)
            for each in report.logs:
                _open_epoch(into, each, signer)
    return report


def _plan(
    db: Connection,
    held: Sequence[Held],
    keys_of: KeysOf,
    witness: Objects | None,
    report: Report,
) -> Iterator[Restored]:
    """Yield each tenant's next epoch, and what is known of those before."""
    logs: dict[str, dict[int, Held | None]] = {}
    if witness is not None:
        for tenant in copies.tenants(witness):
            logs[tenant] = dict.fromkeys(copies.epochs(witness, tenant))
    for each in held:
        logs.setdefault(each.tenant, {})[each.epoch] = each
    for tenant, of in sorted(logs.items()):
        earlier = []
        for epoch, there in sorted(of.items()):
            if there is not None and witness is not None:
                _agree(db, there, witness)
            known = _copied(witness, tenant, epoch, there, keys_of(tenant), report)
            if note := known or (there.note if there else ""):
                earlier.append(Earlier(epoch, there.size if there else 0, note))
        if earlier and earlier[-1].epoch == EPOCH_MAX:
            raise VerificationError(f"{tenant}: no epoch comes after {EPOCH_MAX}")
        if earlier:
            yield Restored(tenant, earlier[-1].epoch + 1, tuple(earlier))


def _copied(
    witness: Objects | None,
    tenant: str,
    epoch: int,
    held: Held | None,
    verifiers: Sequence[NoteVerifier],
    report: Report,
) -> str:
    """Return the newest copied note that is beyond what is held; "" if none.

    What nobody signed is passed over and told: nobody may delete it there, either.
    """
    if witness is None:
        return ""
    newest = copies.newest(witness, tenant, epoch)
    while newest > (held.size if held else 0):
        note = copies.read_copy(witness, tenant, epoch, newest)
        try:
            known = open_kept(note, verifiers)
            if (known.tenant, known.epoch, known.size) == (tenant, epoch, newest):
                return note
        except VerificationError:
            pass
        report.unsigned.append(note)
        newest = copies.newest(witness, tenant, epoch, below=newest)
    return ""


def _agree(db: Connection, held: Held, witness: Objects) -> None:
    """Hold the backup to the newest copy of what it has itself."""
    tenant, epoch = held.tenant, held.epoch
    size = copies.newest(witness, tenant, epoch, below=held.size + 1)
    if size < 1:
        return
    note = copies.read_copy(witness, tenant, epoch, size)
    if note_of(db, tenant, size, epoch) != note:
        raise VerificationError(
            f"{tenant}: the backup and the second store have two histories of epoch"
            f" {epoch}: they differ at {size}"
        )


def _erased(
    keys_of: KeysOf,
    witness: Objects | None,
    given: Iterable[str],
    report: Report,
) -> Iterator[Statement]:
    """Yield every signed statement there is, of each job the first that was found."""
    found: dict[tuple[str, str], Statement] = {}
    texts = [*given]
    if witness is not None:
        for tenant in copies.erasing_tenants(witness):
            texts += (text for _, text in copies.statements(witness, tenant))
    for text in texts:
        try:
            each = open_statement(text, keys_of)
        except VerificationError:
            report.unsigned.append(text)
        else:
            found.setdefault((each.tenant, each.job), each)
    yield from found.values()


def open_statement(text: str, keys_of: KeysOf) -> Statement:
    """Return what a signed statement of an erasure says, or raise `VerificationError`.

    It is a note of the log's key, and names its log in the second line.
    """
    match = _STATEMENT.match(text)
    if match is None:
        raise VerificationError("no statement of an erasure")
    tenant, epoch = parse_origin(match[1])
    open_note(text, in_epoch(keys_of(tenant), tenant, epoch))
    return Statement(tenant, match[2], events.milliseconds(match[3]), text)


def _require_empty(db: Connection) -> None:
    for table in metadata.sorted_tables:
        if db.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
            raise Conflict("a restore goes into an empty database, and into no other")


def _copy(db: Connection, into: Connection, erased: set[tuple[str, str]]) -> None:
    """Copy every row, but for the heads, and what was private of erased jobs."""
    for table in metadata.sorted_tables:
        if table is heads:
            continue
        private = any(table is each for each in _PRIVATE)
        for rows in batches(db, sa.select(table)):
            kept = [
                row
                for row in rows
                if not private or (row["tenant"], row["job"]) not in erased
            ]
            if kept:
                into.execute(sa.insert(table), kept)


def _state(into: Connection, erased: Sequence[Statement]) -> None:
    """Write the statements that the backup has not yet."""
    known = {
        (row.tenant, row.job)
        for row in into.execute(sa.select(erasures.c.tenant, erasures.c.job))
    }
    rows: list[dict[str, Any]] = [
        {
            "tenant": each.tenant,
            "job": each.job,
            "at_ms": each.at_ms,
            "statement": each.text,
        }
        for each in erased
        if (each.tenant, each.job) not in known
    ]
    if rows:
        into.execute(sa.insert(erasures), rows)


def _open_epoch(into: Connection, log: Restored, signer: Signer) -> None:
    """Write a log's first entry, its head and its checkpoint."""
    leaf = continued(log.tenant, log.epoch, log.earlier)
    frontier, _ = Frontier().append(leaf.hash)
    checkpoint = Checkpoint(origin(log.tenant, log.epoch), 1, frontier.root())
    of = {"tenant": log.tenant, "epoch": log.epoch, "size": 1}
    add_entries(into, [(log.epoch, 0, leaf)])
    into.execute(sa.insert(heads), of | {"frontier": bytes(frontier)})
    note = sign_checkpoint(checkpoint, signer)
    signed = {"note": note, "signed_ms": now_ms()}
    into.execute(sa.insert(checkpoints), of | signed)
