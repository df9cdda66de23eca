"""A report of a period as one page: read the log, verify it, and only then write.

The entries that are counted are the entries that are hashed: each is read once.
The page is made when the root over all of them is the one that the log's key
signed, and not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions import __version__, events
from functions.audit.archive import MANIFEST, Archive
from functions.audit.checking import verify_bundle
from functions.audit.manifest import Manifest
from functions.audit.merkle import HASH_BYTES, VerificationError, leaf_hash, tree_root
from functions.audit.notes import in_epoch, open_kept
from functions.audit.periods import Scale, label, moment, tick
from functions.audit.report import (
    ACTORS_MAX,
    CANCELLED,
    COMPLETED,
    ERASED,
    EXPIRED,
    FAILED,
    REFUSED,
)
from functions.audit.tiles import TILE_WIDTH, open_checkpoint, open_note, parse_bundle
from functions.pages import counted, render
from functions.pages.chart import Row, chart
from functions.problems import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from functions.audit.report import Report
    from functions.audit.source import LogSource
    from functions.audit.tally import Tally
    from functions.audit.tiles import Checkpoint, NoteVerifier

    Progress = Callable[[int, int], None]
    """Told how many entries of how many were read."""

ACTORS_SHOWN: Final = 20
TEMPLATE: Final = Path(__file__).with_name("report.html.j2")

_NAMES: Final = {
    "swap": "Swapped",
    "anonymize": "Anonymised",
    "detect": "Faces detected",
    "other": "Other work",
    REFUSED: "Refused",
    FAILED: "Failed",
    CANCELLED: "Cancelled",
    ERASED: "Erased",
    EXPIRED: "Expired",
    "conflict": "Contradictions",
}
_ALWAYS: Final = ("swap", "anonymize", REFUSED, FAILED, ERASED)
"""Lanes that are drawn even where they are empty: that is worth knowing, too."""
_OUTCOMES: Final = (COMPLETED, REFUSED, FAILED, CANCELLED)


@dataclass(frozen=True, slots=True)
class Proof:
    """A log as it was verified: its signed note, what that says, and who signed.

    `read` counts the entries that were read, `hidden` those of which only the hash
    was there, `left_out` those that were not there at all.
    """

    note: str
    checkpoint: Checkpoint
    signed_by: tuple[str, ...]
    read: int
    hidden: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class About:
    """What a page says of itself; `made_ms` is milliseconds since the epoch.

    `export` is the command that writes the period's entries to a file, `entries`
    the path that they are read from over HTTP.
    """

    tenant: str
    source: str
    export: str
    entries: str
    made_ms: int


def survey(
    source: LogSource,
    verifiers: Sequence[NoteVerifier],
    tally: Tally,
    *,
    epoch: int = 1,
    progress: Progress = lambda _read, _all: None,
) -> Proof:
    """Show every entry of one log to `tally`, and return how they were verified.

    `progress` is told how many entries of how many were read.  Raises
    `VerificationError` where the entries are not those of the signed checkpoint:
    then what `tally` has counted means nothing.
    """
    note = source.checkpoint()
    checkpoint = open_checkpoint(note, verifiers)

    def see(index: int, leaf: bytes) -> None:
        tally.add(index, leaf, epoch)

    reading = _Reading(source, checkpoint.size, see, progress)
    if tree_root(reading.hashes()) != checkpoint.root:
        raise VerificationError("the entries are not those of the checkpoint")
    read = checkpoint.size - reading.hidden
    signers = _signers(note, verifiers)
    return Proof(note, checkpoint, signers, read, hidden=reading.hidden)


def survey_bundle(
    path: Path,
    verifiers: Sequence[NoteVerifier],
    tally: Tally,
    *,
    progress: Progress = lambda _read, _all: None,
) -> list[Proof]:
    """Show every entry in a bundle to `tally`; return how each log was verified.

    Everything is checked that `guise audit verify` checks.  Raises
    `VerificationError`.
    """

    def see(epoch: int, index: int, leaf: bytes) -> None:
        tally.add(index, leaf, epoch)

    checked = verify_bundle(path, verifiers, progress=progress, saw=see)
    if checked.fault is not None:
        raise VerificationError(checked.fault.text)
    notes = _notes(path)
    opened = [open_kept(note, verifiers).checkpoint for note in notes]
    said = [(log.origin, log.size, log.root) for log in checked.logs]
    if [(each.origin, each.size, each.root.hex()) for each in opened] != said:
        raise VerificationError("the bundle changed while it was read")
    return [
        Proof(
            note,
            checkpoint,
            _signers(note, in_epoch(verifiers, checked.tenant, log.epoch)),
            read=log.entries,
            hidden=log.hashes,
            left_out=log.size - log.entries - log.hashes,
        )
        for note, checkpoint, log in zip(notes, opened, checked.logs, strict=True)
    ]


def _notes(path: Path) -> list[str]:
    """Return the newest signed checkpoint of each log in a bundle."""
    with Archive(path) as archive:
        manifest = Manifest.parse(archive.read(MANIFEST))
        return [archive.text(f"{each.folder}checkpoint") for each in manifest.logs]


def _signers(note: str, verifiers: Sequence[NoteVerifier]) -> tuple[str, ...]:
    return tuple(each.line for each in verifiers if _signed(note, each))


def _signed(note: str, verifier: NoteVerifier) -> bool:
    try:
        open_note(note, [verifier])
    except VerificationError:
        return False
    return True


class _Reading:
    """One pass over a log, which needs no more memory than one bundle."""

    def __init__(
        self,
        source: LogSource,
        size: int,
        see: Callable[[int, bytes], None],
        progress: Progress,
    ) -> None:
        self._source = source
        self._size = size
        self._see = see
        self._progress = progress
        self.hidden = 0

    def hashes(self) -> Iterator[bytes]:
        """Yield every leaf hash in order, each entry shown to the tally."""
        for start in range(0, self._size, TILE_WIDTH):
            width = min(TILE_WIDTH, self._size - start)
            entries = self._entries(start, width)
            if entries is None:
                yield from self._pruned(start, width)
            else:
                for index, entry in enumerate(entries, start):
                    self._see(index, entry)
                    yield leaf_hash(entry)
            self._progress(start + width, self._size)

    def _entries(self, start: int, width: int) -> list[bytes] | None:
        try:
            data = self._source.entries(start // TILE_WIDTH, width)
        except NotFound as error:
            # What is pruned is pruned from the beginning: a hole is no pruning.
            if self.hidden == start:
                return None
            raise VerificationError(f"entry {start} is missing") from error
        entries = parse_bundle(data)
        if len(entries) != width:
            raise VerificationError(f"entries are missing at {start}")
        return entries

    def _pruned(self, start: int, width: int) -> Iterator[bytes]:
        """Yield the hashes of entries whose content is gone."""
        data = self._source.tile(0, start // TILE_WIDTH, width)
        if len(data) != width * HASH_BYTES:
            raise VerificationError(f"hashes are missing at {start}")
        for at in range(0, len(data), HASH_BYTES):
            yield data[at : at + HASH_BYTES]
        self.hidden += width


def page(report: Report, proofs: Sequence[Proof], about: About) -> str:
    """Return the report as HTML that needs nothing but itself."""
    lanes = [name for name in _NAMES if name in _ALWAYS or any(report.lanes[name])]
    steps = [label(each, report.scale) for each in report.starts]
    return render(
        TEMPLATE,
        {
            "report": report,
            "proofs": proofs,
            "read": sum(each.read for each in proofs),
            "hidden": sum(each.hidden for each in proofs),
            "left_out": sum(each.left_out for each in proofs),
            "tenant": about.tenant,
            "source": about.source,
            "export": about.export,
            "entries_path": about.entries,
            "made_ms": about.made_ms,
            "version": __version__,
            "began": _utc(report.period.start_ms),
            "ended": _utc(report.period.stop_ms),
            "figures": _figures(report),
            "chart": _chart(report, lanes, steps),
            "chart_name": _in_words(report, lanes),
            "chart_caption": _caption(report),
            "outcomes": _OUTCOMES,
            "operations": _operations(report),
            "outcome_totals": [report.outcomes.named[each] for each in _OUTCOMES],
            "actors_words": _actors(report),
            "actors_shown": ACTORS_SHOWN,
            "lane_names": [_NAMES[name] for name in lanes],
            "lane_totals": [sum(report.lanes[name]) for name in lanes],
            "steps": _steps(report, lanes, steps),
        },
        {"rfc3339": lambda at_ms: events.rfc3339(moment(at_ms)), "utc": _utc},
    )


def _utc(at_ms: int) -> str:
    """Return a moment as people write it, in UTC, to the second."""
    return moment(at_ms).strftime("%Y-%m-%d %H:%M:%S").removesuffix(" 00:00:00")


def _figures(report: Report) -> list[tuple[str, int, bool]]:
    """Return name and number of each key figure, and whether it needs a look."""
    count = report.outcomes.named
    return [
        ("entries", report.entries, False),
        ("jobs begun", report.begun, False),
        ("completed", count[COMPLETED], False),
        ("refused", count[REFUSED], False),
        ("failed", count[FAILED], False),
        ("cancelled", count[CANCELLED], False),
        ("erasures", report.erasures_total, False),
        ("expired", report.expired_total, False),
        ("contradictions", report.conflicts_total, report.conflicts_total > 0),
    ]


def _chart(report: Report, lanes: Sequence[str], steps: Sequence[str]) -> Any:  # noqa: ANN401  # for the template
    rows = [
        Row(
            name=_NAMES[name],
            kind=name,
            values=report.lanes[name],
            shown=[counted(each) for each in report.lanes[name]],
            total=counted(sum(report.lanes[name])),
        )
        for name in lanes
    ]
    return chart(rows, steps, [tick(each, report.scale) for each in report.starts])


def _in_words(report: Report, lanes: Sequence[str]) -> str:
    """Return what somebody who does not see the chart is told in its place."""
    totals = [f"{_NAMES[name]} {counted(sum(report.lanes[name]))}" for name in lanes]
    return (
        f"Timeline by {report.scale.value}: {', '.join(totals)}."
        " The numbers are in the table at the end."
    )


def _caption(report: Report) -> str:
    weeks = ", from its Monday on" if report.scale is Scale.WEEK else ""
    return (
        f"One bar per {report.scale.value}{weeks} (UTC), at the time that the ending"
        " states. Each row has a scale of its own, and at its right the total."
    )


def _operations(report: Report) -> list[tuple[str, list[int]]]:
    found = report.operations
    names = sorted({operation for operation, _ in found})
    return [(name, [found[name, each] for each in _OUTCOMES]) for name in names]


def _actors(report: Report) -> str:
    number = len(report.actors.named)
    if report.actors.full:
        return f"more than {counted(ACTORS_MAX)} actors"
    words = "1 actor" if number == 1 else f"{counted(number)} actors"
    shown = f", the {ACTORS_SHOWN} busiest" if number > ACTORS_SHOWN else ""
    return words + shown


def _steps(
    report: Report,
    lanes: Sequence[str],
    steps: Sequence[str],
) -> list[tuple[str, list[int]]]:
    columns = zip(*(report.lanes[name] for name in lanes), strict=True)
    rows = zip(steps, map(list, columns), strict=True)
    return [(step, numbers) for step, numbers in rows if any(numbers)]
