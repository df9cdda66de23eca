"""Counting a period while a log is read.  Pure: no file, no clock, no page.

A `Tally` is shown every entry of a log in order, and remembers what a reader wants
to know of those whose stated time lies in the period.  Its memory does not grow
with the log.  A job's beginning and its ending are two entries: what is known of it
at its beginning is kept until it ends.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from functions import events
from functions.audit.continued import CONTINUED
from functions.audit.leaf import CONFLICT, says_erased
from functions.audit.leaf import ERASED as ERASED_BY_AUDIT
from functions.audit.periods import scale_of, starts_of
from functions.audit.report import (
    CANCELLED,
    COMPLETED,
    ERASED,
    EXPIRED,
    FAILED,
    KINDS_MAX,
    LANES,
    OTHERS,
    REFUSED,
    Acceptance,
    Begun,
    Contradiction,
    Erasure,
    Job,
    Report,
    Restore,
)
from functions.problems import InvalidRequest
from functions.structs import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from functions.audit.periods import Period

T = TypeVar("T")
_Place = tuple[int, int]
"""Where an entry stands: the epoch of its log, and its index there."""

JOBS_MAX: Final = 200
LISTED_MAX: Final = 200
OPEN_MAX: Final = 20_000
TEXT_MAX: Final = 200

NOT_STATED: Final = "not stated"
NO_JOB: Final = "no job"

_SIZE: Final = re.compile(r"[0-9]{1,19}")
_PROBLEM: Final = "urn:guise:problem:"
_OPERATIONS: Final = LANES[:3]
_ENDINGS: Final = {
    events.SWAP_COMPLETED: COMPLETED,
    events.SWAP_REFUSED: REFUSED,
    events.SWAP_FAILED: FAILED,
}


class Tally:
    """Counts a period while a log is read; `jobs_max` bounds the list of jobs."""

    def __init__(self, period: Period, *, jobs_max: int = JOBS_MAX) -> None:
        scale = scale_of(period)
        starts = starts_of(period, scale)
        lanes = {name: [0] * len(starts) for name in LANES}
        self._report = Report(period, scale, starts, lanes)
        self._jobs_max = jobs_max
        self._open: OrderedDict[str, Begun] = OrderedDict()
        self._ended: OrderedDict[_Place, Job] = OrderedDict()
        self._listed: dict[str, _Place] = {}
        self._known: dict[str, Callable[[_Entry], None]] = {
            events.SWAP_STARTED: self._begin,
            events.SWAP_ERASED: self._erase,
            ERASED_BY_AUDIT: self._erase,
            events.MODELS_ACCEPTED: self._accept,
            CONFLICT: self._contradict,
            CONTINUED: self._continue,
            **dict.fromkeys(_ENDINGS, self._end),
        }

    def add(self, index: int, leaf: bytes, epoch: int = 1) -> None:
        """Count the entry at `index` of an epoch's log; all in their order."""
        report = self._report
        try:
            entry = _read(epoch, index, leaf, report.period)
        except (ValueError, InvalidRequest, RecursionError):
            report.unreadable += 1
            return
        if entry.inside:
            report.entries += 1
            report.types.add(entry.type)
            first, _ = report.spans.get(epoch, (index, index))
            report.spans[epoch] = (first, index)
        count = self._known.get(entry.type)
        if count is not None:
            count(entry)

    def report(self) -> Report:
        """Return what was counted so far."""
        report = self._report
        report.jobs = list(self._ended.values())
        unended = [each for each in self._open.values() if each.at_ms in report.period]
        report.unended = unended[-LISTED_MAX:]
        report.unended_total = len(unended)
        return report

    def _begin(self, entry: _Entry) -> None:
        """Count a job at its first attempt, wherever in the log its next ones are."""
        known = entry.job in self._open
        if not known:
            self._open[entry.job] = _begun(entry)
            if len(self._open) > OPEN_MAX:
                self._open.popitem(last=False)
                self._report.forgotten += 1
        if not entry.inside:
            return
        if known:
            self._report.retries += 1
            return
        began = self._open[entry.job]
        self._report.begun += 1
        self._report.actors.add(began.actor)
        self._report.bases.add(began.basis)
        self._report.packs.add(began.pack)

    def _end(self, entry: _Entry) -> None:
        began = self._open.pop(entry.job, None)
        if not entry.inside:
            return
        job = _ended(entry, began)
        report = self._report
        if job.outcome != COMPLETED:
            report.reasons.add(f"{job.outcome}: {job.reason or NOT_STATED}")
        report.unsent += _whole(entry.data.get("unsent"))
        report.outcomes.add(job.outcome)
        self._operate(job.operation, job.outcome)
        lane = job.operation if job.operation in _OPERATIONS else "other"
        self._mark(lane if job.outcome == COMPLETED else job.outcome, entry)
        if entry.job:
            self._list(job)

    def _operate(self, operation: str, outcome: str) -> None:
        found = self._report.operations
        full = len(found) >= KINDS_MAX and (operation, outcome) not in found
        found[OTHERS if full else operation, outcome] += 1

    def _list(self, job: Job) -> None:
        self._report.jobs_total += 1
        place = (job.epoch, job.index)
        self._ended[place] = job
        self._listed[job.job] = place
        if len(self._ended) > self._jobs_max:
            place, oldest = self._ended.popitem(last=False)
            if self._listed.get(oldest.job) == place:
                del self._listed[oldest.job]

    def _erase(self, entry: _Entry) -> None:
        """Count what somebody had erased, and apart from it what retention took."""
        erased = bool(entry.job) and says_erased(entry.type, entry.data)
        place = self._listed.get(entry.job)
        if place is not None:
            job = self._ended[place]
            self._ended[place] = replace(
                job, erased=job.erased or erased, expired=job.expired or not erased
            )
        if not entry.inside:
            return
        why = _text(entry.data.get("outcome")) or _text(entry.data.get("reason"))
        uploads = _whole(entry.data.get("uploads"))
        self._mark(ERASED if erased else EXPIRED, entry)
        self._report.erasures_total += erased
        self._report.expired_total += not erased
        found = Erasure(*entry.place, entry.at_ms, entry.job, why, uploads)
        _keep(self._report.erasures, found)

    def _contradict(self, entry: _Entry) -> None:
        if not entry.inside:
            return
        self._mark("conflict", entry)
        self._report.conflicts_total += 1
        found = Contradiction(
            *(*entry.place, entry.at_ms, entry.job),
            type=_text(entry.data.get("type")),
            first=_whole(entry.data.get("index")),
            leaf_hash=_text(entry.data.get("leaf_hash")),
        )
        _keep(self._report.conflicts, found)

    def _accept(self, entry: _Entry) -> None:
        if not entry.inside:
            return
        data = entry.data
        pack = f"{_text(data.get('pack'))} {_text(data.get('version'))}"
        self._report.acceptances_total += 1
        found = Acceptance(
            *(*entry.place, entry.at_ms, _text(data.get("kind")), pack),
            *(_text(data.get("reason")), _text(data.get("actor"))),
        )
        _keep(self._report.acceptances, found)

    def _continue(self, entry: _Entry) -> None:
        """Note that a log goes on from an earlier one, as its first entry says."""
        earlier = entry.data.get("earlier")
        if entry.index or not isinstance(earlier, list) or not earlier:
            return
        before = _mapping(earlier[-1])
        found = Restore(
            *(*entry.place, entry.at_ms),
            earlier=_whole(before.get("epoch")),
            held=_whole(before.get("held")),
            size=_size(before.get("checkpoint")),
        )
        _keep(self._report.restores, found)

    def _mark(self, lane: str, entry: _Entry) -> None:
        step = bisect_right(self._report.starts, entry.at_ms) - 1
        self._report.lanes[lane][step] += 1


@dataclass(frozen=True, slots=True)
class _Entry:
    place: _Place
    type: str
    at_ms: int
    inside: bool
    job: str
    data: Mapping[str, Any]

    @property
    def index(self) -> int:
        return self.place[1]


class _Leaf(msgspec.Struct):
    type: str
    time: str
    data: dict[str, Any]


_LEAF: Final = msgspec.json.Decoder(_Leaf)


def _read(epoch: int, index: int, leaf: bytes, period: Period) -> _Entry:
    said = _LEAF.decode(leaf)
    at_ms = events.milliseconds(said.time)
    job = _text(said.data.get("job"))
    inside = at_ms in period
    return _Entry((epoch, index), said.type, at_ms, inside, job, said.data)


def _begun(entry: _Entry) -> Begun:
    data = entry.data
    admission = _mapping(data.get("admission"))
    return Begun(
        *(*entry.place, entry.at_ms, entry.job),
        operation=_text(data.get("operation")) or NOT_STATED,
        actor=_text(data.get("actor")) or NOT_STATED,
        basis=_basis(admission if "consent" in admission else data),
        pack=_pack(_mapping(data.get("pack"))),
    )


def _ended(entry: _Entry, began: Begun | None) -> Job:
    data = entry.data
    outcome = _ENDINGS[entry.type]
    if outcome == FAILED and data.get("outcome") == CANCELLED:
        outcome = CANCELLED
    unnamed = NOT_STATED if entry.job else NO_JOB
    return Job(
        epoch=entry.place[0],
        index=entry.index,
        at_ms=entry.at_ms,
        job=entry.job,
        operation=_text(data.get("operation")) or unnamed,
        outcome=outcome,
        reason=_text(data.get("reason")).removeprefix(_PROBLEM),
        began=began,
    )


def _basis(said: Mapping[str, Any]) -> str:
    """Return on what ground; the first events said it beside the admission."""
    if "consent" in said and said["consent"] is None:
        return "none asked for"
    return _text(_mapping(said.get("consent")).get("basis")) or NOT_STATED


def _pack(said: Mapping[str, Any]) -> str:
    texts = (_text(said.get(name)) for name in ("id", "version", "digest"))
    return " ".join(text for text in texts if text) or NOT_STATED


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    """Return text as it is, at most `TEXT_MAX` of it; "" for what is none."""
    if not isinstance(value, str):
        return ""
    return value if len(value) <= TEXT_MAX else value[: TEXT_MAX - 1] + "…"


def _whole(value: object) -> int:
    """Return a count as it is; 0 for what is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return max(value, 0)


def _size(note: object) -> int:
    """Return the size that a checkpoint states; 0 where it is none."""
    lines = note.split("\n") if isinstance(note, str) else []
    return int(lines[1]) if len(lines) > 1 and _SIZE.fullmatch(lines[1]) else 0


def _keep(listed: list[T], found: T) -> None:
    """Append, and let the oldest go past the limit."""
    listed.append(found)
    if len(listed) > LISTED_MAX:
        del listed[0]


prepare()
