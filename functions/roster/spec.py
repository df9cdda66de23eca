"""The spec of one tenant: what it may have, and how far it is kept apart.

A `Spec` is a possible mix by construction; see `mixes` for those that are not.  Types
are checked by `reading`, where what strangers wrote comes in.  What a field leaves out
is the installation's own to say: no quota here is no quota of this tenant's, and
`Limits` hold for everybody.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from functions.events import OPERATOR
from functions.problems import TenantSuspended, UnknownTenant
from functions.settings import DAYS_MAX
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Sequence

Level = Literal[0, 1, 2]
Tier = Literal["trial", "standard", "premium"]
State = Literal["active", "suspended", "deleted", "shredded"]
Operation = Literal["swap", "anonymize", "detect"]
Basis = Literal["consent", "contract", "public-domain", "own-likeness"]
Channel = Literal["alpha", "beta", "stable"]

OPERATIONS: Final[tuple[Operation, ...]] = ("swap", "anonymize", "detect")
BASES: Final[tuple[Basis, ...]] = (
    "consent",
    "contract",
    "public-domain",
    "own-likeness",
)
WEIGHTS: Final[dict[Tier, Fraction]] = {
    "trial": Fraction(1, 2),
    "standard": Fraction(1),
    "premium": Fraction(4),
}
"""A tenant's share of the pooled device, beside the others who wait for it."""
RESERVED: Final = {
    OPERATOR: "the operator's own log",
    "system": "the namespace guise-system, which speaks for every tenant",
}
"""Ids that name something of the operator's, and what."""
PRIORITIES: Final[dict[Tier, int]] = {"trial": 0, "standard": 1, "premium": 2}
"""How soon the turn of a tenant's jobs comes; the higher goes first, by a little."""

Name = Annotated[str, Meta(max_length=120, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
Region = Annotated[str, Meta(pattern=r"^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)?\Z")]
Version = Annotated[
    str, Meta(pattern=r"^((0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*))?\Z", max_length=32)
]
Pack = Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_-]{0,63})?\Z")]
KeyUri = Annotated[
    str, Meta(pattern=r"^((gcpkms://|arn:aws:kms:)[A-Za-z0-9._:/-]{1,400})?\Z")
]
Amount = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,4})?\Z")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Days = Annotated[int, Meta(ge=1, le=DAYS_MAX)]
LogDays = Annotated[int, Meta(ge=180, le=DAYS_MAX)]
"""The shortest is what the audit log itself refuses to go below, by law."""
Label = Annotated[str, Meta(min_length=1, max_length=256)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Percent = Annotated[int, Meta(ge=1, le=1_000)]


class Impossible(ValueError):
    """What cannot be; `faults` has every reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a spec: unknown keys are refused by name."""


class Isolation(_Part, frozen=True):
    """How far a tenant is kept apart; docs/tenants.md has the table.

    `data`: 0 the store's own encryption, 1 a key of the tenant's, 2 a key in the
    customer's own KMS.  `model`: 0 the pack that everybody has, 1 a version of the
    tenant's own choice, 2 a pack of its own.  `compute`: 0 the pooled worker, 1 a
    namespace with door and worker, 2 nodes and a sandbox besides.
    """

    data: Level = 0
    model: Level = 0
    compute: Level = 0


class Budget(_Part, frozen=True):
    """What a tenant means to spend in a month (UTC), as `guise bill budget` sets it.

    `limit` is decimal text in `currency`; `alerts` are per cent of it, rising.  Only
    a `hard` one lets nothing new run once the limit is reached.
    """

    limit: Amount
    currency: Currency
    hard: bool = False
    alerts: Annotated[tuple[Percent, ...], Meta(max_length=10)] = (50, 80, 100)


class Quotas(_Part, frozen=True):
    """How much a tenant may have.

    `gpus` (whole devices), `gpu_memory_gib` (of each) and `cpus` (cores) are of its own
    worker.  `concurrency` is how many of its jobs may be under way at once,
    `requests_per_second` its rate at the door, of which `burst` may come at once.
    """

    gpus: Annotated[int, Meta(ge=0, le=64)] = 0
    gpu_memory_gib: Annotated[int, Meta(ge=1, le=1_024)] | None = None
    cpus: Annotated[int, Meta(ge=1, le=1_024)] | None = None
    concurrency: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    requests_per_second: Annotated[float, Meta(ge=0.01, le=10_000)] | None = None
    burst: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    storage_gib: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    budget: Budget | None = None

    @property
    def bucket(self) -> tuple[float, int] | None:
        """The rate a second and how many may come at once; None is no rate."""
        rate = self.requests_per_second
        return None if rate is None else (rate, self.burst or max(1, math.ceil(rate)))


class Models(_Part, frozen=True):
    """Which models a tenant's worker has: a channel of the installation's pack.

    Or `pin`, a version of it; or `pack`, one of the tenant's own, pinned too.
    """

    channel: Channel = "stable"
    pin: Version = ""
    pack: Pack = ""


class Retention(_Part, frozen=True):
    """For how many days things are kept, at most; None is the installation's own.

    `uploads_days` since the upload, `results_days` since the job's end: the tenant's
    own `policy/retention.json` may say less, and never more.  `log_days` is of the
    audit log; None is for ever.
    """

    uploads_days: Days | None = None
    results_days: Days | None = None
    log_days: LogDays | None = None


class Consent(_Part, frozen=True):
    """On what grounds a face may be used, and whether each names its record."""

    bases: Annotated[tuple[Basis, ...], Meta(min_length=1)] = BASES
    record: bool = False


class Gate(_Part, frozen=True):
    """How probable a label of the content gate may be, at most, whatever else holds."""

    max: Annotated[dict[Label, Probability], Meta(min_length=1, max_length=64)]


class Policy(_Part, frozen=True):
    """What the operator lets a tenant do; the tenant's own may only be stricter.

    `gate` is `default` (the gate's own limits, see `swap.gate`), `tenant` (whatever
    `policy/gate.json` says), or limits.
    """

    operations: Annotated[tuple[Operation, ...], Meta(min_length=1)] = OPERATIONS
    consent: Consent = Consent()
    gate: Literal["default", "tenant"] | Gate = "default"


class Spec(_Part, frozen=True):
    """One tenant.  Raises `Impossible` for a mix that cannot be."""

    id: str
    name: Name = ""
    tier: Tier = "standard"
    region: Region = ""
    state: State = "active"
    isolation: Isolation = Isolation()
    key: KeyUri = ""
    quotas: Quotas = Quotas()
    models: Models = Models()
    retention: Retention = Retention()
    policy: Policy = Policy()

    def __post_init__(self) -> None:
        """Refuse what cannot be, every fault at once.

        Raises:
            Impossible: the mix cannot be.
        """
        from functions.roster.mixes import faults  # it knows what a spec is

        if found := [*_names_nobody(self.id), *faults(self)]:
            raise Impossible(found)

    @property
    def tenant(self) -> Tenant:
        """Whose it is."""
        return Tenant(self.id)

    @property
    def level(self) -> Level:
        """The one level that a tenant is kept apart at: that of its weakest part."""
        parts = self.isolation
        return min(parts.data, parts.model, parts.compute)

    @property
    def why(self) -> str:
        """What holds the level where it is."""
        parts = msgspec.structs.asdict(self.isolation)
        lowest = [name for name, level in parts.items() if level == self.level]
        if len(lowest) == len(parts):
            return f"data, model and compute are all at {self.level}"
        above = [
            f"{name} {level}" for name, level in parts.items() if level > self.level
        ]
        verb = "is" if len(lowest) == 1 else "are"
        return (
            f"{' and '.join(lowest)} {verb} at {self.level}, though {', '.join(above)}"
        )

    @property
    def weight(self) -> Fraction:
        """Its share of the pooled device beside the others' who wait for it."""
        return WEIGHTS[self.tier]

    @property
    def priority(self) -> int:
        """How soon the turn of its jobs comes; the higher goes first, by a little."""
        return PRIORITIES[self.tier]

    @property
    def living(self) -> bool:
        """Whether there is such a tenant still: active, or suspended."""
        return self.state in {"active", "suspended"}

    def admit(self) -> None:
        """Return if something new may begin, or raise `TenantSuspended`.

        Raises `UnknownTenant` for one that is no more.
        """
        if not self.living:
            raise UnknownTenant(internal=f"{self.id} is {self.state}")
        if self.state == "suspended":
            raise TenantSuspended("nothing new begins while the tenant is suspended")


def _names_nobody(text: str) -> list[str]:
    try:
        taken = RESERVED.get(Tenant(text).id)
    except UnknownTenant:
        return [f"id: {text[:64]!r} is not 1 to 32 of a-z, 0-9 and '-'"]
    return [f"id: {text!r} is {taken}, and no tenant"] if taken else []


def plain(spec: Spec) -> dict[str, Any]:
    """Return a spec as plain data: what a file says, every field in it."""
    found: dict[str, Any] = msgspec.to_builtins(spec)
    return found
