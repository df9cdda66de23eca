"""The door of the billing function: usage comes in, prices and invoices go out."""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Final, cast

from flask import Response, request

from functions import events
from functions.auth import BILLING_READ, NoCluster, TokenAuthenticator, cluster_of
from functions.billing.books import Books, clock
from functions.billing.measuring import Measuring, brake
from functions.database import check_database
from functions.keys import BILLING, FileKeys, events_key
from functions.problems import Failed, InvalidRequest, Unavailable, UnknownTenant
from functions.seats import seated
from functions.settings import Settings
from functions.storage import Stores
from functions.tenant import Tenant
from functions.web import (
    answer_broker,
    answer_notice,
    guard,
    html_response,
    json_response,
    new_app,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from flask import Flask

    from functions.auth import Authenticator
    from functions.billing.budgets import Budget, Watch
    from functions.billing.counting import Posted
    from functions.billing.invoice import Invoice
    from functions.billing.ledger import Ledger
    from functions.billing.statement import Span
    from functions.billing.usage import Usage
    from functions.events import Event
    from functions.keys import KeyProvider, Verifiers

log = logging.getLogger(__name__)

JSON: Final = "application/json"
HTML: Final = "text/html"
PDF: Final = "application/pdf"
CSV: Final = "text/csv"
EVENTS: Final = "/v1/tenants/<tenant>/events"
TICKS: Final = "/v1/tenants/<tenant>/ticks"


def create_app(
    settings: Settings | None = None,
    *,
    ledger: Ledger | None = None,
    keys: KeyProvider | None = None,
    authenticator: Authenticator | None = None,
    stores: Stores | None = None,
    watch: Watch | None = None,
    now: Callable[[], datetime] = clock,
) -> Flask:
    """Wire one billing function; the environment decides what is not handed in.

    Without stores nothing that is stored is measured, and no budget kept.
    Returns before the database is open.  Raises `SettingsError`.
    """
    settings = settings or Settings.from_env(os.environ)
    needed = {"database": ledger, "keys": keys, "jwks": authenticator}
    needed |= {"issuer": authenticator, "audience": authenticator}
    settings.require(*(name for name, given in needed.items() if given is None))
    keys = keys or FileKeys(cast("Path", settings.keys))
    authenticator = seated(
        authenticator or TokenAuthenticator.from_settings(settings), settings
    )
    rates, tenants = settings.rates, settings.tenants
    books = Books(lambda: ledger or _open(settings.database), now, rates, tenants)
    if ledger is None:
        check_database(settings.database)
    app = new_app(
        "billing",
        bytes_max=max(settings.limits.event_bytes_max, events.BATCH_BYTES_MAX),
        metrics=books.metrics,
        described="functions.billing",
        settings=settings,
        before_push=books.price,
    )
    if stores is None and settings.store:
        stores = Stores.from_settings(settings)
    if watch is None and stores is not None:
        watch = _watch(books, stores, keys)
    cluster = cluster_of(settings)
    guard(app, cluster, EVENTS, TICKS)
    _add_events(app, books, keys, watch)
    measuring = None if stores is None else Measuring(books, keys, stores)
    vouched = not isinstance(cluster, NoCluster)
    _add_ticks(app, books, measuring, watch, vouched=vouched)
    _add_statements(app, books, authenticator)
    return app


def _open(url: str) -> Ledger:
    from functions.billing.ledger import Ledger

    return Ledger.open(url)


def _watch(books: Books, stores: Stores, keys: KeyProvider) -> Watch:
    """Return who keeps the budgets that the ledger has."""
    from functions.billing.budgets import Watch

    def budget_of(tenant: str) -> Budget | None:
        from functions.billing import budgeting

        return budgeting.budget_of(books.ledger, tenant)

    return Watch(budget_of, books.spent, stores, keys)


def _add_events(
    app: Flask, books: Books, keys: KeyProvider, watch: Watch | None
) -> None:
    @app.post(EVENTS)
    def receive(tenant: str) -> Response:
        def handle(event: Event) -> Response | None:
            who = Tenant(tenant)
            posted = post(event, who, books, keys)
            if watch is None:
                return None
            return _reply(after(event, who, posted, watch))

        def handle_batch(batch: list[Event]) -> Response | None:
            who = Tenant(tenant)
            posted = post_all(batch, who, books, keys)
            if watch is None or not batch:
                return None
            came_of_it = next((each for each in posted if each is each.NEW), posted[0])
            return _reply(after(batch[-1], who, came_of_it, watch))

        if events.is_batch(request.content_type or ""):
            limit = events.BATCH_BYTES_MAX
            return answer_notice(handle_batch, events.decode_batch, bytes_max=limit)
        return answer_broker(handle)


def _add_ticks(
    app: Flask,
    books: Books,
    measuring: Measuring | None,
    watch: Watch | None,
    *,
    vouched: bool,
) -> None:
    """Add the door for ticks; `vouched` is whether it is known who brings them."""

    @app.post(TICKS)
    def tick(tenant: str) -> Response:
        def handle(event: Event) -> Response | None:
            if measuring is None:
                log.warning("no GUISE_STORE: nothing stored is measured")
                return None
            who = Tenant(tenant)
            usage = measuring.usage(event, who)
            if usage is None or vouched:
                return _reply(usage)
            post(usage, who, books, measuring.keys)
            if watch is not None:
                brake(who, watch)
            return None

        return answer_broker(handle)


def _reply(event: Event | None) -> Response | None:
    """Return the answer that a broker takes for an event of its own."""
    if event is None:
        return None
    headers, body = events.encode(event)
    return Response(body, headers=headers)


def after(event: Event, tenant: Tenant, posted: Posted, watch: Watch) -> Event | None:
    """Return what became of the tenant's budget by the usage, if anything did.

    Where that cannot be told now the broker comes again (503); where it never can,
    the usage is counted all the same.
    """
    cause = f"{event.source} {event.id}"
    try:
        return watch.after(tenant, cause, again=posted is not posted.NEW)
    except Unavailable:
        raise
    except Failed:
        log.exception("the budget of %s", tenant.id)
        return None


def post(event: Event, tenant: Tenant, books: Books, keys: KeyProvider) -> Posted:
    """Count a usage event that came to `tenant`'s door, once.

    What the tenant's functions used they sign; what is stored, billing itself.
    Raises `InvalidRequest` (400), `Forbidden` (403), `Unavailable` (503).
    """
    return _counted([_checked(event, tenant, keys.verifiers, books)], books)[0]


def post_all(
    batch: list[Event], tenant: Tenant, books: Books, keys: KeyProvider
) -> list[Posted]:
    """Count each event of a batch, once: all of them, or none.

    Raises what `post` does; a refusal names the first event that it is about.
    """
    usages = []
    verifiers = functools.cache(keys.verifiers)  # a file is read once a batch
    for index, event in enumerate(batch):
        with events.naming(index):
            usages.append(_checked(event, tenant, verifiers, books))
    return _counted(usages, books) if usages else []


def _checked(
    event: Event, tenant: Tenant, verifiers: Callable[[str], Verifiers], books: Books
) -> Usage:
    from functions.billing.usage import usage_of

    if event.type != events.USAGE_RECORDED:
        raise InvalidRequest(f"billing does not count {event.type}")
    signers = {
        events.swap_source(tenant.id): events_key(tenant.id),
        events.billing_source(tenant.id): BILLING,
    }
    if event.tenant != tenant.id or event.source not in signers:
        raise UnknownTenant(internal=f"{event.source!r} at {tenant.id}'s door")
    if event.subject != tenant.id:
        raise UnknownTenant(internal=f"usage of {event.subject!r} from {tenant.id}")
    events.verify(event, verifiers(signers[event.source]))
    return usage_of(event, now=books.now())


def _counted(usages: list[Usage], books: Books) -> list[Posted]:
    found = books.ledger.post_all(usages)
    for usage, posted in zip(usages, found, strict=True):
        books.metrics.count("usage_events", posted=posted.value)
        if posted is posted.NEW:
            books.figures.note(usage)
        if posted is posted.CONFLICT:
            log.warning("usage %r of %s: other content", usage.id, usage.tenant)
    return found


def _add_statements(app: Flask, books: Books, authenticator: Authenticator) -> None:
    @app.get("/v1/tenants/<tenant>/usage")
    def usage(tenant: str) -> Response:
        from functions.billing import statement

        who = _reader(authenticator, tenant)
        by = _grouping()
        span = _span(books.now())
        books_of = (books.ledger, books.cards, who.id, span)
        if request.accept_mimetypes.best_match([JSON, HTML]) == HTML:
            from functions.billing.page import usage_page

            return html_response(usage_page(*books_of, books.now()), Vary="Accept")
        return json_response(statement.usage(*books_of, by), Vary="Accept")

    _add_invoices(app, books, authenticator)


def _add_invoices(app: Flask, books: Books, authenticator: Authenticator) -> None:
    @app.get("/v1/tenants/<tenant>/invoices")
    def invoices(tenant: str) -> Response:
        from functions.billing import closing, exports

        who = _reader(authenticator, tenant)
        found = closing.issued_documents(books.ledger, who.id)
        return json_response({"invoices": [exports.listed(each) for each in found]})

    @app.get("/v1/tenants/<tenant>/invoices/<name>")
    def invoice(tenant: str, name: str) -> Response:
        who = _reader(authenticator, tenant)
        return _document(_invoice(books, who, name))


def _invoice(books: Books, who: Tenant, name: str) -> Invoice:
    """Return the document of a number; or of a month, its draft until it is issued."""
    from functions.billing import closing, statement
    from functions.billing.invoice import Period, is_number

    if is_number(who.id, name):
        return closing.document(books.ledger, who.id, name)
    month = Period.parse(name)
    issued = closing.invoice_of(books.ledger, who.id, month)
    return issued or statement.draft(books.ledger, books.cards, who.id, month)


def _document(invoice: Invoice) -> Response:
    """Return a document as the request wants it: JSON, a page, a PDF, or CSV."""
    from functions.billing import documents, exports

    best = request.accept_mimetypes.best_match([JSON, HTML, PDF, CSV])
    if best == HTML:
        return html_response(documents.as_html(invoice), Vary="Accept")
    if best == PDF:
        return _bytes(documents.as_pdf(invoice), PDF)
    if best == CSV:
        return _bytes(exports.as_csv([invoice]).encode(), CSV)
    return json_response(invoice, Vary="Accept")


def _bytes(content: bytes, media: str) -> Response:
    answer = Response(content, mimetype=media)
    answer.headers["Vary"] = "Accept"
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


def _reader(authenticator: Authenticator, tenant: str) -> Tenant:
    """Return the tenant in the path if the request's token may read its bills."""
    caller = authenticator.caller(request.headers.get("Authorization", ""))
    return caller.reads(tenant, BILLING_READ)


def _grouping() -> str:
    from functions.billing.ledger import GROUPINGS

    by = request.args.get("by", "")
    if by not in GROUPINGS:
        known = ", ".join(sorted(GROUPINGS - {""}))
        raise InvalidRequest(f"usage is grouped by one of {known}")
    return by


def _span(now: datetime) -> Span:
    """Return the span in the query; the current month where it names none."""
    from functions.billing.invoice import Period
    from functions.billing.statement import Span

    month = Period.of(now)
    span = Span(
        _moment_ms("from", month.start_ms),
        _moment_ms("to", month.stop_ms),
    )
    if span.start_ms >= span.stop_ms:
        raise InvalidRequest("from is earlier than to")
    return span


def _moment_ms(name: str, default: int) -> int:
    """Return the moment in the query, in milliseconds since the epoch."""
    text = request.args.get(name)
    return default if text is None else events.milliseconds(text)
