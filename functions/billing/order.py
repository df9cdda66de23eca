"""In which order a tenant's periods are closed and invoiced.

A period's invoice comes after those of all earlier ones with usage, so what an
invoice corrects is what earlier ones have billed.  A period that was passed over,
since nothing was used in it, has no invoice later.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from functions.billing.invoice import Period
from functions.billing.tables import documents, usages
from functions.problems import Conflict, InvalidRequest

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from functions.billing.drafting import Bill

GRACE_DAYS: Final = 3
"""How long after its end a period waits for usage that is still on its way."""


def refuse_early(period: Period, now: datetime) -> None:
    """Raise `InvalidRequest` for a period that is open or in grace: until when."""
    end = datetime.fromtimestamp(period.stop_ms // 1000, UTC)
    due = end + timedelta(days=GRACE_DAYS)
    if now < due:
        raise InvalidRequest(
            f"{period} is not due until {due.date()}: a month is closed {GRACE_DAYS} "
            "days after its end, and until then there is nothing to do"
        )


def latest(db: Connection, tenant: str) -> str:
    """Return the last period that has an invoice; "" if there is none."""
    query = sa.select(sa.func.max(documents.c.period)).where(
        documents.c.tenant == tenant, documents.c.kind == "invoice"
    )
    return db.execute(query).scalar_one_or_none() or ""


def first_open(db: Connection, tenant: str, closed: str) -> str:
    """Return the first period with usage that is not closed; "" if there is none.

    Usage that was not late is of the month that it is from, so the index on its time
    finds the first; late usage has an index of its own.
    """
    of_tenant = usages.c.tenant == tenant
    since_ms = Period.parse(closed).stop_ms if closed else 0
    queries = (
        sa.select(sa.func.min(usages.c.at_ms)).where(
            of_tenant, usages.c.at_ms >= since_ms
        ),
        sa.select(sa.func.min(usages.c.period)).where(
            of_tenant, usages.c.late, usages.c.period > closed
        ),
    )
    at_ms, late = (db.execute(each).scalar_one_or_none() for each in queries)
    own = "" if at_ms is None else str(Period.at(at_ms))
    return min((each for each in (own, late) if each), default="")


def first_unissued(db: Connection, tenant: str, period: Period) -> str:
    """Return the first period before another with usage and no invoice; or ""."""
    done = latest(db, tenant)
    since_ms = Period.parse(done).stop_ms if done else 0
    query = sa.select(sa.func.min(usages.c.period)).where(
        usages.c.tenant == tenant,
        usages.c.period > done,
        usages.c.period < str(period),
        usages.c.at_ms < period.start_ms,
        sa.or_(usages.c.at_ms >= since_ms, usages.c.late),
    )
    return db.execute(query).scalar_one_or_none() or ""


def was_billed(db: Connection, tenant: str, month: Period, period: Period) -> bool:
    """Return whether anything of a month is on an invoice before a period's.

    On its own, or on one that took up what was late of it.
    """
    own = sa.select(documents.c.number).where(
        documents.c.tenant == tenant,
        documents.c.period == str(month),
        documents.c.kind == "invoice",
    )
    taken = sa.select(usages.c.id).where(
        usages.c.tenant == tenant,
        usages.c.at_ms >= month.start_ms,
        usages.c.at_ms < month.stop_ms,
        usages.c.period < str(period),
    )
    found = (db.execute(each.limit(1)).first() for each in (own, taken))
    return any(each is not None for each in found)


def hold(db: Connection, tenant: str, period: Period, known: str) -> None:
    """Raise unless the next invoice may be a period's.

    `known` is the last period with an invoice when what is billed was read.
    """
    if latest(db, tenant) != known:
        raise Conflict(f"somebody else issues invoices of {tenant}: run it again")
    waiting = first_unissued(db, tenant, period)
    if waiting:
        raise InvalidRequest(f"{waiting} of {tenant} is to be issued first")


def has_begun(db: Connection, bill: Bill) -> bool:
    """Return whether a tenant had used or agreed anything by a bill's period.

    A minimum that the price list asks for is not asked of who came after it.
    """
    query = sa.select(usages.c.id).where(
        usages.c.tenant == bill.tenant, usages.c.at_ms < bill.period.stop_ms
    )
    agreed = any(span.terms.contract for span in bill.metered)
    return agreed or db.execute(query.limit(1)).first() is not None
