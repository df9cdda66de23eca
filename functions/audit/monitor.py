"""The log against what it said before: checkpoints that were kept, and the log now.

A log that is only ever appended to has one history, and every checkpoint it signed
is on it.  Whoever kept one can hold the log to it:

* *fork*: the log signed two histories.  Two notes of one size with two roots prove
  it; of two sizes, so do the notes and the path from the newer one to the root that
  the older one should have had.  Nobody needs the log for that, nor us.
* *rollback*: the log is shorter than it was, or gone.  Its notes only show that it
  was longer once: whoever kept them must be believed that they came first.
* *restore*: a new epoch which does not account for what was kept of the one before.
* *signature*, *origin*: the note is not signed by the log's key; it is another log's.
* *unproven*: the log shows hashes that do not lead to the checkpoint it signed.

Pure but for the `LogSource` that it reads.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

from functions.audit.continued import parse_continued
from functions.audit.merkle import (
    HASH_BYTES,
    Frontier,
    VerificationError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from functions.audit.notes import open_kept, parse_origin
from functions.audit.tiles import TILE_HEIGHT, TILE_WIDTH, parse_bundle
from functions.problems import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from functions.audit.continued import Earlier
    from functions.audit.notes import Kept
    from functions.audit.source import LogSource
    from functions.audit.tiles import NoteVerifier

    Logs = Callable[[int | None], LogSource]
    """From an epoch, or None for the current one, to that log."""

Kind = Literal["fork", "rollback", "restore", "signature", "origin", "unproven"]

EVIDENCE: Final = "guise.audit.evidence.v1"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that an honest log does not do, and the notes that show it.

    `proof` is, for a fork between two sizes, the root that the newer note's log has
    at the older one's size, and the consistency path between the two.
    """

    kind: Kind
    text: str
    notes: tuple[str, ...] = ()
    proof: Mapping[str, Any] | None = None

    def evidence(self, tenant: str) -> dict[str, Any]:
        """Return the document that shows it to others; see `verify_evidence`."""
        return {
            "format": EVIDENCE,
            "tenant": tenant,
            "kind": self.kind,
            "text": self.text,
            "notes": list(self.notes),
            "proof": self.proof,
        }


@dataclass(frozen=True, slots=True)
class Loss:
    """Entries of an earlier epoch, `start` to before `stop`, that a restore lacks."""

    epoch: int
    start: int
    stop: int


@dataclass(slots=True)
class Verdict:
    """What came of it: the log's checkpoint now, and whatever is wrong."""

    tenant: str
    now: Kept | None = None
    checked: int = 0
    losses: list[Loss] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def watch(
    logs: Logs,
    tenant: str,
    kept: Iterable[Kept],
    verifiers: Sequence[NoteVerifier],
) -> Verdict:
    """Hold a tenant's log to every checkpoint in `kept`, which are that tenant's.

    Raises `Unavailable` where the log cannot be read: that says nothing of it.
    """
    verdict = Verdict(tenant)
    of_epoch: defaultdict[int, list[Kept]] = defaultdict(list)
    for each in sorted(kept, key=lambda each: (each.epoch, each.size)):
        of_epoch[each.epoch].append(each)
    for checkpoints in of_epoch.values():
        verdict.faults += _two_faced(checkpoints)
    try:
        verdict.now = _current(logs(None), tenant, verifiers, verdict)
    except NotFound as error:
        _gone(of_epoch, verdict, error)
    if verdict.now is not None:
        tree = _Tree(logs(None), verdict.now)
        _hold(tree, logs, of_epoch, verifiers, verdict)
    return verdict


def _current(
    log: LogSource,
    tenant: str,
    verifiers: Sequence[NoteVerifier],
    verdict: Verdict,
) -> Kept | None:
    """Return the log's checkpoint, None with a fault where it is not one of its own."""
    note = log.checkpoint()
    try:
        owner, _ = parse_origin(note.partition("\n")[0])
    except VerificationError as error:
        verdict.faults.append(Fault("origin", str(error), (note,)))
        return None
    if owner != tenant:
        text = f"asked for the log of {tenant}, shown that of {owner}"
        verdict.faults.append(Fault("origin", text, (note,)))
        return None
    try:
        return open_kept(note, verifiers, "the log now")
    except VerificationError as error:
        verdict.faults.append(Fault("signature", str(error), (note,)))
        return None


def _two_faced(kept: Sequence[Kept]) -> list[Fault]:
    """Return the forks that kept checkpoints show among themselves."""
    return [
        _fork(one, other)
        for one, other in pairwise(kept)
        if one.size == other.size and one.checkpoint.root != other.checkpoint.root
    ]


def _gone(
    of_epoch: Mapping[int, Sequence[Kept]], verdict: Verdict, error: NotFound
) -> None:
    if of_epoch:
        last = of_epoch[max(of_epoch)][-1]
        text = f"the log is gone ({error.detail}); it was {last}"
        verdict.faults.append(Fault("rollback", text, (last.note,)))


def _hold(
    tree: _Tree,
    logs: Logs,
    of_epoch: Mapping[int, Sequence[Kept]],
    verifiers: Sequence[NoteVerifier],
    verdict: Verdict,
) -> None:
    now = tree.now
    earlier: Mapping[int, Earlier] | None = None
    for epoch, kept in sorted(of_epoch.items()):
        if epoch > now.epoch:
            text = f"the log is back at {now}; it was {kept[-1]}"
            found = Fault("rollback", text, (kept[-1].note, now.note))
            verdict.faults.append(found)
        elif epoch == now.epoch:
            _compare_all(kept, tree, verdict)
        else:
            try:
                if earlier is None:
                    earlier = _earlier(tree)
                _compare_over(logs, kept, earlier.get(epoch), verifiers, verdict)
            except (VerificationError, NotFound) as error:
                text = f"{now} does not go on from {kept[-1]}: {_said(error)}"
                found = Fault("restore", text, (kept[-1].note, now.note))
                verdict.faults.append(found)


def _compare_all(kept: Sequence[Kept], tree: _Tree, verdict: Verdict) -> None:
    for each in kept:
        verdict.checked += 1
        if (fault := _compare(each, tree)) is not None:
            verdict.faults.append(fault)


def _compare(kept: Kept, tree: _Tree) -> Fault | None:
    """Return what is wrong between a kept checkpoint and a log of the same epoch."""
    now = tree.now
    if kept.size > now.size:
        text = f"the log is shorter than it was: {now}, after {kept}"
        return Fault("rollback", text, (kept.note, now.note))
    if kept.size == now.size:
        return None if _same(kept, now) else _fork(kept, now)
    try:
        root, path = tree.root(kept.size), tree.path(kept.size)
        verify_consistency(kept.size, now.size, path, root, now.checkpoint.root)
    except (VerificationError, NotFound) as error:
        text = f"{now} does not prove that it grew out of {kept}: {_said(error)}"
        return Fault("unproven", text, (kept.note, now.note))
    if root == kept.checkpoint.root:
        return None
    proof = {"root": root.hex(), "path": [each.hex() for each in path]}
    return _fork(kept, now, proof)


def _compare_over(
    logs: Logs,
    kept: Sequence[Kept],
    said: Earlier | None,
    verifiers: Sequence[NoteVerifier],
    verdict: Verdict,
) -> None:
    """Hold an earlier epoch, and what a later one says of its end, to what was kept.

    Raises `VerificationError` where the later one says nothing that holds.
    """
    tenant, epoch = kept[-1].tenant, kept[-1].epoch
    if said is None:
        raise VerificationError(f"epoch {epoch} is not accounted for")
    last = open_kept(said.checkpoint, verifiers, "the last known")
    if (last.tenant, last.epoch) != (tenant, epoch) or said.held > last.size:
        raise VerificationError(f"what it calls the end of epoch {epoch} is another's")
    if said.held < last.size:
        verdict.losses.append(Loss(epoch, said.held, last.size))
    tree = None
    if said.held:
        tree = _Tree(logs(epoch), _end(logs(epoch), said, verifiers))
    # Where nothing was lost, what is held must be what the last known one signed.
    whole = [last] if last.size == said.held else []
    for each in (*whole, *kept):
        verdict.checked += 1
        if (fault := _compare_end(each, last, tree)) is not None:
            verdict.faults.append(fault)


def _compare_end(kept: Kept, last: Kept, tree: _Tree | None) -> Fault | None:
    """Return what is wrong between a kept checkpoint and an epoch that has ended.

    Of what lies beyond the entries still held, only its end can be compared.
    """
    if kept.size > last.size:
        text = f"a restore goes on from {last}, which is before {kept}"
        return Fault("restore", text, (kept.note, last.note))
    if kept.size == last.size and not _same(kept, last):
        return _fork(kept, last)
    if tree is None or kept.size > tree.now.size:
        return None
    return _compare(kept, tree)


def _end(log: LogSource, said: Earlier, verifiers: Sequence[NoteVerifier]) -> Kept:
    """Return the checkpoint of an earlier epoch's log as far as it is held."""
    end = open_kept(log.checkpoint(), verifiers, f"epoch {said.epoch} now")
    if (end.epoch, end.size) != (said.epoch, said.held):
        raise VerificationError(f"{end} is not the {said.held} entries that it held")
    return end


def _earlier(tree: _Tree) -> dict[int, Earlier]:
    """Return what the first entry of a log says of the epochs before its own.

    Raises `VerificationError` where the entry is not under the log's root.
    """
    now = tree.now
    found = parse_continued(tree.first(), now.tenant, now.epoch)
    return {each.epoch: each for each in found}


def _same(one: Kept, other: Kept) -> bool:
    return one.checkpoint.root == other.checkpoint.root


def _fork(one: Kept, other: Kept, proof: Mapping[str, Any] | None = None) -> Fault:
    text = f"two histories of one log: {one}, and {other}"
    return Fault("fork", text, (one.note, other.note), proof)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


class _Tree:
    """The roots of a log's perfect subtrees, from its tiles; each is read once."""

    def __init__(self, log: LogSource, now: Kept) -> None:
        self._log = log
        self._tiles: dict[tuple[int, int], bytes] = {}
        self.now = now

    def __call__(self, height: int, index: int) -> bytes:
        level, above = divmod(height, TILE_HEIGHT)
        span = 1 << above
        number, offset = divmod(index * span, TILE_WIDTH)
        tile = self._tile(level, number)[offset * HASH_BYTES :]
        row = [tile[i * HASH_BYTES : (i + 1) * HASH_BYTES] for i in range(span)]
        while len(row) > 1:
            row = [node_hash(*pair) for pair in zip(row[::2], row[1::2], strict=True)]
        return row[0]

    def _tile(self, level: int, number: int) -> bytes:
        if (level, number) not in self._tiles:
            there = (self.now.size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH
            width = min(there, TILE_WIDTH)
            tile = self._log.tile(level, number, width)
            if len(tile) != width * HASH_BYTES:
                raise VerificationError(f"tile {level}/{number} is cut short")
            self._tiles[level, number] = tile
        return self._tiles[level, number]

    def root(self, size: int) -> bytes:
        """Return the root that this log had at an earlier size."""
        hashes, start = [], 0
        for height in reversed(range(size.bit_length())):
            if size >> height & 1:
                hashes.append(self(height, start >> height))
                start += 1 << height
        return Frontier(size, tuple(hashes)).root()

    def path(self, size: int) -> list[bytes]:
        """Return the consistency proof from an earlier size to now."""
        return consistency_proof(size, self.now.size, self)

    def first(self) -> bytes:
        """Return entry 0, proven to be in the log."""
        width = min(self.now.size, TILE_WIDTH)
        leaf = parse_bundle(self._log.entries(0, width))[0]
        path = inclusion_proof(0, self.now.size, self)
        root = self.now.checkpoint.root
        verify_inclusion(leaf_hash(leaf), 0, self.now.size, path, root)
        return leaf


def verify_evidence(
    document: Mapping[str, Any],
    verifiers: Sequence[NoteVerifier],
) -> str:
    """Return what a document proves to anyone who has the log's key: a fork.

    Raises `VerificationError` for any that proves none, whatever it says.
    """
    try:
        one, other = (open_kept(each, verifiers) for each in document["notes"])
        older, newer = sorted((one, other), key=lambda each: each.size)
        proof = document["proof"] or {"root": newer.checkpoint.root.hex(), "path": []}
        root = bytes.fromhex(proof["root"])
        path = [bytes.fromhex(each) for each in proof["path"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationError("no evidence of a fork") from error
    if (one.tenant, one.epoch) != (other.tenant, other.epoch):
        raise VerificationError("the two notes are of two logs")
    verify_consistency(older.size, newer.size, path, root, newer.checkpoint.root)
    if root == older.checkpoint.root:
        raise VerificationError("the two notes are of one history")
    return f"two histories of one log: {older}, and {newer}"
