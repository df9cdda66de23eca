"""Checking a bundle: no network, no database, no trust in whoever made it.

What is trusted is the log's public key and nothing else.  From it the proof goes
down: the checkpoint is signed; the tiles lead to its root; each entry's hash is in
its tile; each entry says what an entry may say.  Keys in the bundle are ignored.
The first thing that does not hold ends it, with the narrowest range of entries that
it can be about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from functions.audit.archive import FILES_MAX, KEYS, MANIFEST, README, Archive
from functions.audit.continued import parse_continued
from functions.audit.facts import Facts, read_leaf
from functions.audit.logcheck import Broken, Context, Fault, LogCheck, Period, about
from functions.audit.manifest import Manifest
from functions.audit.merkle import VerificationError, leaf_hash, verify_inclusion
from functions.audit.notes import in_epoch, open_kept
from functions.audit.tiles import (
    TILE_WIDTH,
    NoteVerifier,
    ProofFile,
    origin,
    parse_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from functions.audit.continued import Earlier
    from functions.audit.logcheck import Checked
    from functions.audit.manifest import Logged
    from functions.audit.tiles import Checkpoint
    from functions.keys import Verifiers

    Progress = Callable[[int, int], None]
    """Told how many entries of how many are checked."""

    Saw = Callable[[int, int, bytes], None]
    """Shown an entry: epoch, index, leaf."""


@dataclass(slots=True)
class Report:
    """What came of checking a bundle; it is verified where there is no `fault`."""

    tenant: str = ""
    job: str = ""
    logs: list[Checked] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    fault: Fault | None = None

    @property
    def verified(self) -> bool:
        """Whether everything in the bundle holds."""
        return self.fault is None


def _untold(_done: int, _all: int) -> None:
    """Tell nobody."""


def _unseen(_epoch: int, _index: int, _leaf: bytes) -> None:
    """Show it to nobody."""


def verify_bundle(
    path: Path,
    verifiers: Sequence[NoteVerifier],
    *,
    tenant_keys: Verifiers | None = None,
    progress: Progress = _untold,
    saw: Saw = _unseen,
) -> Report:
    """Return what holds of the bundle at `path`; raises `OSError` and nothing else.

    `verifiers` are the log's keys, got from elsewhere.  With `tenant_keys` every
    event's own signature is checked, too.  `saw` is shown each entry once it is
    proven; what it makes of them counts only if the whole bundle is verified.
    """
    report = Report()
    try:
        with Archive(path) as archive:
            _Check(archive, verifiers, tenant_keys, progress, saw, report).run()
    except Broken as broken:
        report.fault = broken.fault
    except VerificationError as error:
        report.fault = Fault(str(error))
    return report


def verify_proof(
    text: str, verifiers: Iterable[NoteVerifier], leaf: bytes = b""
) -> tuple[Checkpoint, int, dict[str, Any]]:
    """Return the checkpoint, index and event that a `tlog-proof` proves.

    `leaf` is needed where the file holds none.  Raises `VerificationError`.
    """
    proof = ProofFile.parse(text)
    leaf = leaf or proof.extra
    if not leaf:
        raise VerificationError("the proof holds no entry, and none was given (--leaf)")
    kept = open_kept(proof.checkpoint, verifiers)
    found = kept.checkpoint
    hashed = leaf_hash(leaf)
    verify_inclusion(hashed, proof.index, found.size, proof.path, found.root)
    event = read_leaf(leaf)
    Facts(kept.tenant).check_one(event)
    return found, proof.index, event


class _Check:
    """One bundle while it is checked."""

    def __init__(
        self,
        archive: Archive,
        verifiers: Sequence[NoteVerifier],
        tenant_keys: Verifiers | None,
        progress: Progress,
        saw: Saw,
        report: Report,
    ) -> None:
        manifest = Manifest.parse(archive.read(MANIFEST))
        facts = Facts(manifest.tenant, tenant_keys)
        period = Period.of(manifest)
        self._context = Context(archive, manifest, period, facts, self._tell, saw)
        self._verifiers = verifiers
        self._progress = progress
        self._report = report
        self._logs: dict[int, LogCheck] = {}
        covered = [each.covered for each in manifest.logs]
        self._all = sum(each.stop - each.start for each in covered)
        self._done = 0

    def run(self) -> None:
        """Check everything, filling the report; raises `VerificationError`."""
        context, report = self._context, self._report
        report.tenant, report.job = context.manifest.tenant, context.manifest.job or ""
        sizes = self._check_outline()
        self._check_keys()
        for logged in context.manifest.logs:
            seen = context.facts.begin(logged)
            keys = in_epoch(self._verifiers, context.manifest.tenant, logged.epoch)
            log = LogCheck(context, logged, keys)
            self._logs[logged.epoch] = log
            report.logs.append(log.checked)
            if logged.epoch > 1:
                self._check_link(logged)
            log.check(sizes[logged.epoch])
            log.checked.types = dict(seen.types)
        self._check_twice()
        if context.facts.unchecked:
            report.warnings.append(
                f"{context.facts.unchecked} endings name a start that is not in this "
                "bundle: outside its range, pruned, or lost in a restore"
            )

    def _tell(self, entries: int) -> None:
        self._done += entries
        self._progress(self._done, self._all)

    # --- the manifest against the files --------------------------------------

    def _check_outline(self) -> dict[int, list[int]]:
        """Hold the list of files to the manifest: nothing missing, nothing more.

        Returns, by epoch, the sizes of the earlier checkpoints.
        """
        manifest, archive = self._context.manifest, self._context.archive
        epochs = [each.epoch for each in manifest.logs]
        if not epochs or epochs != sorted(set(epochs)):
            raise VerificationError("the manifest does not list the logs in order")
        expected, sizes = {MANIFEST, README, KEYS}, {}
        for logged in manifest.logs:
            _check_numbers(logged, manifest)
            expected.update(logged.names())
            sizes[logged.epoch] = _sizes(logged, archive)
            expected.update(logged.note_name(each) for each in sizes[logged.epoch])
        there = set(archive.names())
        for name in sorted(there - expected):
            raise VerificationError(f"{name} is in the bundle, and nothing says why")
        for name in sorted(expected - there):
            raise VerificationError(f"{name} is not in the bundle")
        return sizes

    def _check_keys(self) -> None:
        """Compare the keys in the bundle with those that are trusted."""
        trusted = {each.public for each in self._verifiers}
        for line in self._context.archive.text(KEYS).split():
            found = NoteVerifier.parse(line)
            if found.public not in trusted:
                self._report.warnings.append(
                    "keys.txt, which is not trusted, names a key that was not given: "
                    f"{found.id.hex()}"
                )

    # --- what no single log shows --------------------------------------------

    def _check_link(self, logged: Logged) -> None:
        """Hold the earlier logs to what a log's first entry says of them.

        That entry itself is proven when the log is checked.
        """
        tenant = self._context.manifest.tenant
        if logged.minimum and 0 not in logged.single:
            self._report.warnings.append(
                f"what epoch {logged.epoch} goes on from is pruned: that the earlier "
                "ones are its own is not shown here"
            )
            return
        said = parse_continued(self._leaf(logged, 0), tenant, logged.epoch)
        told = {each.epoch for each in said}
        for epoch in self._logs:
            if epoch < logged.epoch and epoch not in told:
                raise VerificationError(
                    f"epoch {logged.epoch} does not say what became of epoch {epoch}"
                )
        for each in said:
            end = open_kept(each.checkpoint, self._verifiers)
            if (end.tenant, end.epoch) != (tenant, each.epoch) or each.held > end.size:
                raise VerificationError(
                    f"what epoch {logged.epoch} calls the end of epoch {each.epoch} "
                    "is not that"
                )
            self._check_end(each, end.size, end.checkpoint.root)

    def _check_end(self, said: Earlier, size: int, root: bytes) -> None:
        """Check one earlier log against its last known checkpoint."""
        if said.held < size:
            self._context.facts.lose(said.epoch, size)
            text = (
                f"epoch {said.epoch} had {size} entries and {said.held} are left: a "
                f"restore lost entries {said.held} to {size - 1}"
            )
            if text not in self._report.warnings:
                self._report.warnings.append(text)
        if not said.held:
            return
        log = self._logs.get(said.epoch)
        if log is None:
            raise VerificationError(f"epoch {said.epoch} is not in the bundle")
        found = log.checkpoint
        if found.size != said.held or (found.size == size and found.root != root):
            raise VerificationError(f"epoch {said.epoch} is not what a restore found")

    def _check_twice(self) -> None:
        """Find an entry that is there a second time."""
        for one, other in self._context.facts.twice():
            first, second = (read_leaf(self._found(*each)) for each in (one, other))
            if all(first[name] == second[name] for name in ("source", "id")):
                where = f"entry {one[1]} of epoch {one[0]}"
                raise about(*other, second, f"is {where} a second time")

    def _found(self, epoch: int, index: int) -> bytes:
        logs = self._context.manifest.logs
        return self._leaf(next(each for each in logs if each.epoch == epoch), index)

    def _leaf(self, logged: Logged, index: int) -> bytes:
        """Return an entry, wherever it lies in the bundle."""
        archive = self._context.archive
        if index in logged.single:
            return ProofFile.parse(archive.text(logged.proof_name(index))).extra
        number, offset = divmod(index, TILE_WIDTH)
        leaves = parse_bundle(archive.read(logged.entries_name(number)))
        if offset >= len(leaves):
            raise VerificationError(f"entry {index} is missing")
        return leaves[offset]


def _sizes(logged: Logged, archive: Archive) -> list[int]:
    """Return the sizes of the earlier checkpoints of a log in the bundle."""
    start = f"{logged.folder}checkpoints/"
    found = [
        name.removeprefix(start) for name in archive.names() if name.startswith(start)
    ]
    sizes = sorted(int(each) for each in found)
    low = logged.covered.start
    if any(not low < size <= min(logged.covered.stop, logged.size) for size in sizes):
        raise VerificationError("a checkpoint is of entries that are left out")
    if len(sizes) != logged.checkpoints:
        raise VerificationError(
            f"{len(sizes)} earlier checkpoints, where {logged.checkpoints} are listed"
        )
    return sizes


def _check_numbers(logged: Logged, manifest: Manifest) -> None:
    """Refuse a manifest that contradicts itself, before anything is made of it."""
    size, wanted, covered = logged.size, logged.wanted, logged.covered
    last = logged is manifest.logs[-1]
    right = (
        logged.epoch > 0
        and logged.origin == origin(manifest.tenant, logged.epoch)
        and logged.folder == ("" if last else f"epochs/{logged.epoch}/")
        and 0 < size < 1 << 62
        and 0 <= wanted.start <= wanted.stop <= size
        and covered == wanted.rounded(size)
        and not (wanted and manifest.job)
        and (covered.stop - covered.start) // TILE_WIDTH <= FILES_MAX
        and 0 <= logged.minimum <= size
        and (logged.minimum % TILE_WIDTH == 0 or logged.minimum == size)
        and logged.left_out == (covered.start, size - covered.stop)
        and all(0 <= each < size for each in logged.single)
        and sorted(set(logged.single)) == list(logged.single)
    )
    if not right:
        raise VerificationError(
            f"the manifest contradicts itself about epoch {logged.epoch}"
        )
