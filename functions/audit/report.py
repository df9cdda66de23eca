"""What a report of a period holds.  Plain values; `tally.py` finds them.

Every list and every table has a limit, past which there is only a count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from functions.audit.periods import Period, Scale

KINDS_MAX: Final = 50
ACTORS_MAX: Final = 10_000

COMPLETED: Final = "completed"
REFUSED: Final = "refused"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ERASED: Final = "erased"
EXPIRED: Final = "expired"
OTHERS: Final = "all others"
LANES: Final = (
    "swap",
    "anonymize",
    "detect",
    "other",
    REFUSED,
    FAILED,
    CANCELLED,
    ERASED,
    EXPIRED,
    "conflict",
)
"""What the timeline counts: completed jobs by operation, then what else happened."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of a job from its first `started` entry.

    An entry's place is its `index` in the log of its `epoch`.
    """

    epoch: int
    index: int
    at_ms: int
    job: str
    operation: str
    actor: str
    basis: str
    pack: str


@dataclass(frozen=True, slots=True)
class Job:
    """One ended job; `began` is `None` where its beginning is not in what was read.

    `index` is the entry of its ending.
    """

    epoch: int
    index: int
    at_ms: int
    job: str
    operation: str
    outcome: str
    reason: str
    began: Begun | None
    erased: bool = False
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Erasure:
    """An entry that says what is gone: a job, or `uploads` nobody had used."""

    epoch: int
    index: int
    at_ms: int
    job: str
    why: str
    uploads: int


@dataclass(frozen=True, slots=True)
class Contradiction:
    """An id that came again with other content; `first` is the entry that stands."""

    epoch: int
    index: int
    at_ms: int
    job: str
    type: str
    first: int
    leaf_hash: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the operator took on itself, in the operator's own log."""

    epoch: int
    index: int
    at_ms: int
    kind: str
    pack: str
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class Restore:
    """A log that goes on from an earlier one, of whose `size` entries `held` are left.

    `epoch` is the log that goes on, `earlier` the one before it.
    """

    epoch: int
    index: int
    at_ms: int
    earlier: int
    held: int
    size: int


@dataclass(slots=True)
class Counts:
    """How often each name occurred; past `kinds_max` names, the rest together."""

    kinds_max: int = KINDS_MAX
    named: Counter[str] = field(default_factory=Counter)

    def add(self, name: str) -> None:
        """Count one more of `name`."""
        if name not in self.named and len(self.named) >= self.kinds_max:
            name = OTHERS
        self.named[name] += 1

    def rows(self, most: int | None = None) -> list[tuple[str, int]]:
        """Return names and counts, the most frequent first, then by name."""
        found = sorted(self.named.items(), key=lambda each: (-each[1], each[0]))
        return found[:most]

    @property
    def total(self) -> int:
        """How many were counted in all."""
        return self.named.total()

    @property
    def full(self) -> bool:
        """Whether some are counted together as `OTHERS`."""
        return OTHERS in self.named


@dataclass(slots=True)
class Report:
    """What was found in a period; every list holds the newest of `*_total`.

    `lanes` has a count for each of `starts`, which are the beginnings of the
    timeline's steps in milliseconds since the epoch; `spans` has the first and the
    last entry of the period in each epoch's log.
    """

    period: Period
    scale: Scale
    starts: list[int]
    lanes: dict[str, list[int]]
    entries: int = 0
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    restores: list[Restore] = field(default_factory=list)
    unreadable: int = 0
    unsent: int = 0
    begun: int = 0
    retries: int = 0
    types: Counts = field(default_factory=Counts)
    outcomes: Counts = field(default_factory=Counts)
    operations: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counts = field(default_factory=Counts)
    bases: Counts = field(default_factory=Counts)
    packs: Counts = field(default_factory=Counts)
    actors: Counts = field(default_factory=lambda: Counts(ACTORS_MAX))
    jobs: list[Job] = field(default_factory=list)
    jobs_total: int = 0
    unended: list[Begun] = field(default_factory=list)
    unended_total: int = 0
    forgotten: int = 0
    erasures: list[Erasure] = field(default_factory=list)
    erasures_total: int = 0
    expired_total: int = 0
    conflicts: list[Contradiction] = field(default_factory=list)
    conflicts_total: int = 0
    acceptances: list[Acceptance] = field(default_factory=list)
    acceptances_total: int = 0
