"""The leases in the ledger, of every tenant: for reconciling, and for nothing else."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from functions.billing.reconcile import Lease
from functions.billing.tables import usages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.billing.ledger import Ledger

_NO_GPU: Final = ("cpu", "none")
_US_PER_MS: Final = 1_000
_LATE_MS: Final = 3_600_000
"""How long after its lease a job may end at most."""


def leases(ledger: Ledger, start_ms: int, stop_ms: int) -> Iterator[Lease]:
    """Yield each lease on a GPU that touches a span, in milliseconds since the epoch.

    Where nobody said when the device was granted, the lease is taken to have ended
    with its job: up to the time that writing the output takes too late.
    """
    began = sa.func.coalesce(usages.c.leased_ms, usages.c.at_ms - usages.c.lease_ms)
    query = sa.select(
        usages.c.device_uuid, usages.c.device_share, usages.c.lease_ms, began
    ).where(
        usages.c.device_kind.not_in(_NO_GPU),
        usages.c.at_ms >= start_ms,
        usages.c.at_ms < stop_ms + _LATE_MS,
    )
    with ledger.closing() as db:
        for uuid, share, lease_ms, began_ms in db.execute(query):
            start, stop = began_ms * _US_PER_MS, (began_ms + lease_ms) * _US_PER_MS
            yield Lease(uuid, start, stop, Fraction(share))
