"""From an open period to an issued invoice: each step whole, or not at all.

A period is open, then in grace; closing it says that what comes later is billed in
the next one; issuing it gives its invoice a number, once.  Each is one transaction
that holds the tenant's account, so two who close at once come to the same.  What is
issued never changes; a credit note takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
import sqlalchemy as sa

from functions.billing import billed, drafting, notes, order
from functions.billing import credits as credit_ledger
from functions.billing.canonical import canonical
from functions.billing.credits import Available, Credit
from functions.billing.invoice import Invoice, Period, State, issue, number, parse
from functions.billing.statement import bill_of
from functions.billing.tables import (
    accounts,
    credit_entries,
    documents,
    grants,
)
from functions.billing.tables import (
    cards as card_table,
)
from functions.problems import Conflict, InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime

    from sqlalchemy import Connection

    from functions.billing.credits import Entry
    from functions.billing.ledger import Ledger
    from functions.billing.rates import RateCards


class Said(TypedDict):
    """What a document that takes another one back says of itself."""

    number: str
    issued: date
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a tenant's account is closed ("" for nothing), and its documents."""

    closed: str
    documents: int


def state(ledger: Ledger, tenant: str, period: Period, now: datetime) -> State:
    """Return where a period of a tenant stands."""
    with ledger.reading(tenant) as db:
        if _invoice_of(db, tenant, period) is not None:
            return State.ISSUED
        if str(period) <= _standing(db, tenant).closed:
            return State.CLOSED
    return State.OPEN if _ms(now) < period.stop_ms else State.GRACE


def tenants(ledger: Ledger) -> list[str]:
    """Return every tenant that has an account, in order."""
    with ledger.closing() as db:
        query = sa.select(accounts.c.tenant).order_by(accounts.c.tenant)
        return list(db.execute(query).scalars())


def has_account(ledger: Ledger, tenant: str) -> bool:
    """Return whether a tenant was ever counted, granted or billed anything here."""
    query = sa.select(accounts.c.tenant).where(accounts.c.tenant == tenant)
    with ledger.reading(tenant) as db:
        return db.execute(query).first() is not None


def close(ledger: Ledger, tenant: str, period: Period, now: datetime) -> None:
    """Close a period, and with it all before; closed already is fine.

    Raises `InvalidRequest` while it is open or in grace, or where an earlier period
    has usage that no invoice took up.
    """
    order.refuse_early(period, now)
    with ledger.closing() as db:
        standing = _lock(ledger, db, tenant)
        if str(period) <= standing.closed:
            return
        waiting = order.first_open(db, tenant, standing.closed)
        if waiting and waiting < str(period):
            raise InvalidRequest(f"{waiting} of {tenant} is to be closed first")
        update = sa.update(accounts).where(accounts.c.tenant == tenant)
        db.execute(update.values(closed=str(period)))


def issued(
    ledger: Ledger, cards: RateCards, tenant: str, period: Period, now: datetime
) -> Invoice | None:
    """Return the invoice of a closed period, issued now unless it was before.

    `None` where there is nothing to bill, or the period was passed over.  Raises
    `InvalidRequest` for a period that is not closed, or where an earlier one waits;
    `Conflict` where the rate cards say something else than they did when they priced
    something, or another closer came between; and what `drafting.draft` raises.
    """
    known = invoice_of(ledger, tenant, period)
    if known is not None:
        return known
    if state(ledger, tenant, period, now) in {State.OPEN, State.GRACE}:
        raise InvalidRequest(f"{period} of {tenant} is not closed")
    with ledger.reading(tenant) as db:
        latest = order.latest(db, tenant)
    # What a closed period comes to stays as it is: it is summed without a lock.
    bill = bill_of(ledger, cards, tenant, period)
    with ledger.closing() as db:
        standing = _lock(ledger, db, tenant)
        found = _invoice_of(db, tenant, period)
        if found is not None:
            return found
        if latest > str(period):
            return None
        order.hold(db, tenant, period, latest)
        for late in bill.late:
            billed.check(late, _invoices_since(db, tenant, late.period))
        bill = replace(bill, credits=tuple(_usable(db, tenant, cards.currency)))
        draft = drafting.draft(bill, cards)
        asked = draft.lines and order.has_begun(db, bill)
        if not draft.events.count and not asked:
            return None
        numbered = number(tenant, standing.documents + 1)
        made = issue(draft, numbered, now.date(), cards.due_days)
        _hold_cards(ledger, db, cards, drafting.versions(bill))
        _write(db, standing, made, notes.applied(made))
    return made


def credit_note(
    ledger: Ledger,
    tenant: str,
    refers: str,
    *,
    now: datetime,
    reason: str,
    amounts: Mapping[int, int] | None = None,
) -> Invoice:
    """Issue a note that takes back an invoice, or some of its lines; see `notes`.

    Of a note, what reverses it, as a whole.
    """
    with ledger.closing() as db:
        standing = _lock(ledger, db, tenant)
        taken = _document(db, tenant, refers)
        said: Said = {
            "number": number(tenant, standing.documents + 1),
            "issued": now.date(),
            "reason": reason,
        }
        if taken.refers:
            if amounts is not None:
                raise InvalidRequest(f"{refers} is reversed as a whole")
            made, entries = _reversed(db, taken, said)
        else:
            earlier = _standing_notes(db, tenant, refers)
            made = notes.credit_note(taken, earlier, amounts=amounts, **said)
            entries = notes.returned(taken, made)
        _write(db, standing, made, entries)
    return made


def _reversed(db: Connection, note: Invoice, said: Said) -> tuple[Invoice, list[Entry]]:
    """Return what reverses a note, and what it takes of credits again."""
    tenant = note.tenant
    if _documents(db, tenant, documents.c.refers == note.number):
        raise InvalidRequest(f"{note.number} is reversed already")
    invoice = _document(db, tenant, note.refers)
    made = notes.reversal(invoice, note, **said)
    left = {each.credit.id: each.left_minor for each in _available(db, tenant)}
    return made, notes.taken_again(notes.returned(invoice, note), made, left)


def _standing_notes(db: Connection, tenant: str, refers: str) -> list[Invoice]:
    """Return the notes on an invoice, but for those that were reversed."""
    found = _documents(db, tenant, documents.c.refers == refers)
    numbers = [each.number for each in found]
    query = sa.select(documents.c.refers).where(
        documents.c.tenant == tenant, documents.c.refers.in_(numbers)
    )
    gone = set(db.execute(query).scalars())
    return [each for each in found if each.number not in gone]


def grant(ledger: Ledger, credit: Credit) -> None:
    """Grant a credit, once; `Conflict` where its id is another one's."""
    content = canonical(credit)
    with ledger.closing() as db:
        _lock(ledger, db, credit.tenant)
        query = sa.select(grants.c.content).where(
            grants.c.tenant == credit.tenant, grants.c.id == credit.id
        )
        known = db.execute(query).scalar_one_or_none()
        if known is not None and bytes(known) != content:
            raise Conflict(f"{credit.tenant} has another credit {credit.id}")
        if known is None:
            row = {"tenant": credit.tenant, "id": credit.id, "content": content}
            db.execute(sa.insert(grants), row)
            _enter(db, credit.tenant, [credit_ledger.granted(credit)])


def available(ledger: Ledger, tenant: str) -> list[Available]:
    """Return a tenant's credits and what is left of each, in the order of use."""
    with ledger.reading(tenant) as db:
        return credit_ledger.in_order(_available(db, tenant))


def expire(ledger: Ledger, tenant: str, now: datetime) -> list[Entry]:
    """End what is left of credits that are over; return the new entries.

    A credit that held in a period pays for it even when that is issued later, so
    one ends only once every period in which it held is closed, and issued.
    """
    with ledger.closing() as db:
        closed = _lock(ledger, db, tenant).closed
        if not closed:
            return []
        through = Period.parse(closed).following
        waiting = order.first_unissued(db, tenant, through)
        moment_ms = min(_ms(now), Period.parse(waiting or str(through)).start_ms)
        times = _times_ended(db, tenant)
        found = [
            credit_ledger.expired(each, moment_ms, times.get(each.credit.id, 0))
            for each in _available(db, tenant)
        ]
        ended = [each for each in found if each is not None]
        _enter(db, tenant, ended)
    return ended


def document(ledger: Ledger, tenant: str, number_: str) -> Invoice:
    """Return an issued invoice or credit note, or raise `NotFound`."""
    with ledger.reading(tenant) as db:
        return _document(db, tenant, number_)


def invoice_of(ledger: Ledger, tenant: str, period: Period) -> Invoice | None:
    """Return the issued invoice of a period, if there is one."""
    with ledger.reading(tenant) as db:
        return _invoice_of(db, tenant, period)


def issued_documents(ledger: Ledger, tenant: str) -> list[Invoice]:
    """Return all that a tenant was sent, in the order of the numbers."""
    with ledger.reading(tenant) as db:
        return _documents(db, tenant)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _lock(ledger: Ledger, db: Connection, tenant: str) -> Standing:
    """Return the tenant's account, and hold it until the end of the transaction."""
    new = ledger.insert(accounts).on_conflict_do_nothing()
    db.execute(new, {"tenant": tenant})
    return _standing(db, tenant, lock=True)


def _standing(db: Connection, tenant: str, *, lock: bool = False) -> Standing:
    query = sa.select(accounts).where(accounts.c.tenant == tenant)
    row = db.execute(query.with_for_update() if lock else query).one_or_none()
    return Standing(row.closed, row.documents) if row else Standing("", 0)


def _invoice_of(db: Connection, tenant: str, period: Period) -> Invoice | None:
    of_period = documents.c.period == str(period), documents.c.kind == "invoice"
    return next(iter(_documents(db, tenant, *of_period)), None)


def _document(db: Connection, tenant: str, number_: str) -> Invoice:
    found = _documents(db, tenant, documents.c.number == number_)
    if not found:
        raise NotFound(f"{tenant} was sent no {number_}")
    return found[0]


def _documents(
    db: Connection, tenant: str, *which: sa.ColumnElement[bool]
) -> list[Invoice]:
    query = sa.select(documents.c.content).where(documents.c.tenant == tenant, *which)
    rows = db.execute(query.order_by(documents.c.number)).scalars()
    return [parse(bytes(content)) for content in rows]


def _invoices_since(db: Connection, tenant: str, month: Period) -> list[Invoice]:
    """Return the invoices that may bill usage of a month."""
    since = documents.c.period >= str(month)
    return _documents(db, tenant, documents.c.kind == "invoice", since)


def _usable(db: Connection, tenant: str, currency: str) -> list[Available]:
    """Return a tenant's credits in a currency; one in another pays no such bill."""
    found = _available(db, tenant)
    return [each for each in found if each.credit.currency == currency]


def _times_ended(db: Connection, tenant: str) -> dict[str, int]:
    """Return how often each credit has ended: a note may have returned it since."""
    entry = credit_entries.c
    query = (
        sa.select(entry.credit, sa.func.count())
        .where(entry.tenant == tenant, entry.kind == "expired")
        .group_by(entry.credit)
    )
    return {credit: int(count) for credit, count in db.execute(query)}


def _available(db: Connection, tenant: str) -> list[Available]:
    left = sa.func.sum(credit_entries.c.amount_minor)
    query = (
        sa.select(grants.c.content, left)
        .join(
            credit_entries,
            sa.and_(
                credit_entries.c.tenant == grants.c.tenant,
                credit_entries.c.credit == grants.c.id,
            ),
        )
        .where(grants.c.tenant == tenant)
        .group_by(grants.c.id, grants.c.content)
    )
    return [
        Available(msgspec.json.decode(bytes(content), type=Credit), int(minor))
        for content, minor in db.execute(query)
    ]


def _hold_cards(
    ledger: Ledger, db: Connection, cards: RateCards, used: set[str]
) -> None:
    """Note what each card said that prices something for the first time.

    Raises `Conflict` where one says something else since.
    """
    digests = {version: cards.digests[version] for version in sorted(used)}
    new = ledger.insert(card_table).on_conflict_do_nothing()
    for version, digest in digests.items():
        db.execute(new, {"version": version, "digest": digest})
    query = sa.select(card_table).where(card_table.c.version.in_(used))
    for row in db.execute(query):
        if row.digest != digests[row.version]:
            raise Conflict(
                f"rate card {row.version} has priced an invoice, and says something"
                " else now: a new price is a new card"
            )


def _write(
    db: Connection, standing: Standing, made: Invoice, entries: Iterable[Entry]
) -> None:
    row: dict[str, Any] = {
        "tenant": made.tenant,
        "number": made.number,
        "kind": "credit-note" if made.refers else "invoice",
        "period": made.period,
        "refers": made.refers,
        "content": canonical(made),
        "told_ms": None,
    }
    db.execute(sa.insert(documents), row)
    update = sa.update(accounts).where(accounts.c.tenant == made.tenant)
    db.execute(update.values(documents=standing.documents + 1))
    _enter(db, made.tenant, entries)


def _enter(db: Connection, tenant: str, entries: Iterable[Entry]) -> None:
    rows = [
        {
            "tenant": tenant,
            "credit": each.credit,
            "id": each.id,
            "kind": each.kind,
            "amount_minor": each.amount_minor,
            "document": each.document,
        }
        for each in entries
    ]
    if rows:
        db.execute(sa.insert(credit_entries), rows)
