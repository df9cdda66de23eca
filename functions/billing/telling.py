"""Telling whoever subscribes that an invoice or a credit note was issued.

A document is untold from the transaction that issued it until its event is taken.
The event depends on the document alone, so a retry says the same thing twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from functions import events
from functions.billing.invoice import Invoice, parse
from functions.billing.tables import documents
from functions.events import Event
from functions.keys import BILLING
from functions.problems import Unavailable
from functions.sink import Undeliverable

if TYPE_CHECKING:
    from datetime import datetime

    from functions.billing.ledger import Ledger
    from functions.keys import KeyProvider
    from functions.sink import Sink

DELIVERY_SECONDS: Final = 5.0


def issued_event(invoice: Invoice, keys: KeyProvider) -> Event:
    """Return the signed event of an issued document; the same whenever it is asked."""
    tenant = invoice.tenant
    event = Event(
        id=events.derived_id(tenant, events.INVOICE_ISSUED, invoice.number),
        source=events.billing_source(tenant),
        type=events.INVOICE_ISSUED,
        subject=invoice.number,
        time=f"{invoice.issued}T00:00:00.000Z",
        tenant=tenant,
        data={
            "number": invoice.number,
            "kind": invoice.kind,
            "period": invoice.period,
            "refers": invoice.refers,
            "currency": invoice.currency,
            "total": invoice.total,
            "total_minor": invoice.total_minor,
            "due": invoice.due,
            "events": {"count": invoice.events.count, "root": invoice.events.root},
        },
    )
    return events.sign(event, keys.signer(BILLING))


def untold(ledger: Ledger) -> list[Invoice]:
    """Return what was issued and nobody was told of yet."""
    query = sa.select(documents.c.content).where(documents.c.told_ms.is_(None))
    with ledger.closing() as db:
        rows = db.execute(query.order_by(documents.c.tenant, documents.c.number))
        return [parse(bytes(content)) for content in rows.scalars()]


def told(ledger: Ledger, invoice: Invoice, now: datetime) -> None:
    """Note that the event of a document is delivered."""
    update = sa.update(documents).where(
        documents.c.tenant == invoice.tenant, documents.c.number == invoice.number
    )
    with ledger.closing() as db:
        db.execute(update.values(told_ms=int(now.timestamp() * 1000)))


def tell(ledger: Ledger, keys: KeyProvider, sink: Sink, now: datetime) -> list[Invoice]:
    """Deliver what nobody was told of; return what could not be delivered now.

    What a sink refuses for what it is, it always will: that stays untold, too, for a
    person to see.
    """
    waiting = []
    for invoice in untold(ledger):
        try:
            sink.deliver(issued_event(invoice, keys), timeout=DELIVERY_SECONDS)
        except (Unavailable, Undeliverable):
            waiting.append(invoice)
        else:
            told(ledger, invoice, now)
    return waiting
