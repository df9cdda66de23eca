"""Logs to report on: leaves as audit keeps them, and a source that can lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from functions import events
from functions.audit.bundle import SIGNING_KEY
from functions.audit.leaf import CONFLICT, leaf_of
from functions.audit.merkle import leaf_hash, tree_root
from functions.audit.periods import Period, moment_ms
from functions.audit.reporting import About, page, survey
from functions.audit.tally import Tally
from functions.audit.tiles import (
    TILE_WIDTH,
    Checkpoint,
    NoteVerifier,
    bundle_bytes,
    origin,
    sign_checkpoint,
    tile_bytes,
)
from functions.events import Event
from functions.keys import MemoryKeys
from functions.problems import NotFound

if TYPE_CHECKING:
    from functions.audit.report import Report
    from tests.pages.strict import Element

EVIL = "<script>alert(1)</script>"
NOVEMBER = Period(moment_ms("2026-11-01"), moment_ms("2026-12-01"))
ABOUT = About("acme", "a test", "guise audit export", "/v1/entries", 1_800_000_000_000)


def leaf(kind: str, at: str, ident: str = "", /, **data: Any) -> bytes:
    """Return the leaf of an event that happened at `at`, a date or a time."""
    event = Event(
        id=ident or f"{kind}-{at}-{data.get('job', '')}",
        source=events.swap_source("acme"),
        type=kind,
        time=at if "T" in at else f"{at}T12:00:00.000Z",
        tenant="acme",
        data=data,
    )
    return leaf_of(event).data


def started(job: str, at: str = "2026-11-10", ident: str = "", /, **data: Any) -> bytes:
    plain: dict[str, Any] = {
        "job": job,
        "attempt": 1,
        "operation": "swap",
        "actor": "alice",
        "admission": {"verdict": "admitted", "consent": {"basis": "contract"}},
        "pack": {"id": "lite", "version": "1.2.0", "digest": "ab12"},
    }
    return leaf(events.SWAP_STARTED, at, ident, **(plain | data))


def ended(
    job: str, at: str = "2026-11-10", /, how: str = events.SWAP_COMPLETED, **data: Any
) -> bytes:
    plain: dict[str, Any] = {"job": job, "operation": "swap", "outcome": "completed"}
    return leaf(how, at, **(plain | data))


def span(since: str, until: str) -> Period:
    return Period(moment_ms(since), moment_ms(until))


def table(page: Element, caption: str) -> list[list[str]]:
    """Return the texts of the one table whose caption begins so."""
    (found,) = (
        each
        for each in page.all("table")
        if each.one("caption").text.startswith(caption)
    )
    return found.rows()


def lively() -> list[bytes]:
    """Return a log with one of everything, two bundles long."""
    many = [
        each
        for number in range(140)
        for job in [f"job-{number}"]
        for at in [f"2026-11-{number % 28 + 1:02d}"]
        for each in (started(job, at, actor=f"actor {number % 15}"), ended(job, at))
    ]
    refused = {"reason": "urn:guise:problem:no-face", "outcome": "refused"}
    return [
        *many,
        started("evil", actor=EVIL, pack={"id": EVIL, "digest": '"><img src=x>'}),
        ended("evil", operation=EVIL, how=events.SWAP_REFUSED, reason=EVIL),
        started("hidden", actor="\u202egnp.exe"),
        ended("faceless", how=events.SWAP_REFUSED, **refused),
        started("broken"),
        ended("broken", how=events.SWAP_FAILED, outcome="failed"),
        started("stopped"),
        ended("stopped", how=events.SWAP_FAILED, outcome="cancelled"),
        leaf(events.SWAP_REFUSED, "2026-11-11", reason=EVIL, where="door", unsent=9),
        leaf(events.SWAP_ERASED, "2026-11-12", job="job-3", outcome="erased"),
        leaf(events.SWAP_ERASED, "2026-11-12", "x", reason="retention", uploads=14),
        leaf(CONFLICT, "2026-11-13", job="j", type=EVIL, index=7, leaf_hash="ff00"),
        leaf(events.MODELS_ACCEPTED, "2026-11-14", kind=EVIL, pack="p"),
        leaf("dev.guise.some.later.v9", "2026-11-15", job="j"),
    ]


def tallied(*leaves: bytes, period: Period = NOVEMBER, jobs_max: int = 200) -> Report:
    """Return what is counted of a log with these leaves."""
    tally = Tally(period, jobs_max=jobs_max)
    for index, each in enumerate(leaves):
        tally.add(index, each)
    return tally.report()


@dataclass
class FakeLog:
    """A log in memory; `signed` are the leaves that its checkpoint is of.

    `pruned` are the numbers of bundles that are gone, `short` those that lack one.
    """

    leaves: list[bytes]
    signed: list[bytes] = field(default_factory=list)
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    pruned: set[int] = field(default_factory=set)
    short: set[int] = field(default_factory=set)

    def checkpoint(self) -> str:
        leaves = self.signed or self.leaves
        root = tree_root(map(leaf_hash, leaves))
        at = Checkpoint(origin("acme"), len(leaves), root)
        return sign_checkpoint(at, self.keys.signer(SIGNING_KEY))

    def tile(self, level: int, number: int, width: int) -> bytes:
        assert level == 0
        width -= number in self.short
        return tile_bytes([leaf_hash(each) for each in self._span(number, width)])

    def entries(self, number: int, width: int) -> bytes:
        if number in self.pruned:
            raise NotFound("the log has no such entries")
        return bundle_bytes(self._span(number, width - (number in self.short)))

    def _span(self, number: int, width: int) -> list[bytes]:
        return self.leaves[number * TILE_WIDTH :][:width]

    def verifiers(self) -> list[NoteVerifier]:
        signer = self.keys.signer(SIGNING_KEY)
        return [NoteVerifier(origin("acme"), signer.public_bytes())]

    def page(self, period: Period = NOVEMBER, *, jobs_max: int = 200) -> str:
        """Return the report's page, if the log is what it says it is."""
        tally = Tally(period, jobs_max=jobs_max)
        proof = survey(self, self.verifiers(), tally)
        return page(tally.report(), [proof], ABOUT)
