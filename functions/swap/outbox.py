"""What is still to be told of a job, and what never can be.

    outbox/<job>             there from acceptance until the events are delivered
    undelivered/<job>.json   events that their receiver refuses for ever: dead letters

Dead letters take the place of the mark, so nobody asks again until a person does.
They hold the events word for word: the job's record may be erased meanwhile.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from functions import events
from functions.problems import Changed, InvalidRequest, NotFound, Unavailable
from functions.sink import Undeliverable
from functions.swap import webhooks
from functions.swap.ledger import decoded
from functions.tenant import OUTBOX, UNDELIVERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from functions.settings import Limits
    from functions.sink import Sink
    from functions.storage import Info, Store
    from functions.swap.ledger import Record
    from functions.tenant import Key, Tenant

Delivery = Literal["told", "later", "dead"]
"""Everything went; not now; something never will, and a note says so."""

TOLD: Final = "told"
LATER: Final = "later"
DEAD: Final = "dead"


class Letter(msgspec.Struct, frozen=True):
    """An event that nobody takes, verbatim, and why; `{}` where none can be read."""

    reason: str
    event: dict[str, Any] = {}


class Undelivered(msgspec.Struct, frozen=True):
    """The content of `undelivered/<job>.json`; `since` is RFC 3339."""

    job: str
    since: str
    letters: list[Letter]


def mark(tenant: Tenant, job: str, store: Store) -> None:
    """Set the mark that a job is not fully ended and told, anew if it is there.

    Each holds a word of its own: whoever delivers deletes exactly the mark they
    saw, and on S3 the same bytes written again would pass for the same mark.
    """
    store.put(tenant.outbox(job), uuid.uuid4().hex.encode())


def deliver(
    ending: Record,
    *,
    tenant: Tenant,
    store: Store,
    sink: Sink,
    limits: Limits,
) -> Delivery:
    """Send the ending's events, and take the mark away once all went.

    An event that is refused for ever does not keep the others back.  Who is to be
    called by webhook is noted before the mark goes.
    """
    key = tenant.outbox(ending.job)
    generation = _generation(key, store)
    try:
        letters = _send(ending.events, sink, limits)
    except Unavailable:
        return LATER  # the mark stays: the sweeper delivers
    if letters:
        note(tenant, ending.job, letters, store)
    webhooks.enqueue(ending, tenant=tenant, store=store)
    try:
        # Exactly the mark there was: an erasure may have set a new one meanwhile.
        if generation:
            store.delete_if_match(key, generation)
    except Changed:
        return LATER
    return DEAD if letters else TOLD


def _send(told: Iterable[dict[str, Any]], sink: Sink, limits: Limits) -> list[Letter]:
    """Send events, and return those that are refused for ever.

    Raises `Unavailable` at the first that cannot be sent now.
    """
    deadline = time.monotonic() + limits.delivery_ms_max / 1000
    letters = []
    for each in told:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unavailable(internal="no time is left for the next event")
        try:
            sink.deliver(events.from_dict(each), timeout=left)
        except (Undeliverable, InvalidRequest) as refusal:
            letters.append(Letter(refusal.detail, each))
    return letters


def note(tenant: Tenant, job: str, letters: list[Letter], store: Store) -> None:
    """Write down what cannot be delivered, with what could not be before.

    The mark is the caller's to take away.
    """
    before = undelivered(tenant, job, store)
    kept = [] if before is None else before.letters
    new = {each.event.get("id", "") for each in letters}
    letters = [each for each in kept if each.event.get("id", "") not in new] + letters
    content = Undelivered(job, before.since if before else events.now(), letters)
    store.put(tenant.undelivered(job), msgspec.json.encode(content))


def redeliver(
    tenant: Tenant,
    job: str,
    *,
    store: Store,
    sink: Sink,
    limits: Limits,
) -> bool:
    """Send a job's dead letters again; return whether all were taken this time.

    Raises `Unavailable`, `NotFound` where there are none.
    """
    found = undelivered(tenant, job, store)
    if found is None:
        raise NotFound("nothing of the job is undelivered")
    letters = _send((each.event for each in found.letters), sink, limits)
    if letters:
        note(tenant, job, letters, store)
        return False
    store.delete(tenant.undelivered(job))
    return True


def undelivered(tenant: Tenant, job: str, store: Store) -> Undelivered | None:
    """Return what could not be delivered of a job, or None."""
    try:
        data = store.get(tenant.undelivered(job)).data
    except NotFound:
        return None
    return decoded(data, Undelivered)


def dead(store: Store) -> list[str]:
    """Return the jobs of which something could not be delivered."""
    names = (info.key.removeprefix(UNDELIVERED) for info in _all(UNDELIVERED, store))
    return [name.removesuffix(".json") for name in names]


def told(tenant: Tenant, job: str, store: Store) -> bool:
    """Return whether the events of an ended job have been delivered."""
    return not _generation(tenant.outbox(job), store)


def pending(store: Store) -> Iterator[tuple[str, float]]:
    """Yield each job not yet ended and told, and when its mark was set (epoch)."""
    for info in _all(OUTBOX, store):
        yield info.key.removeprefix(OUTBOX), info.updated


def _all(prefix: Key, store: Store) -> Iterator[Info]:
    cursor = ""
    while True:
        page = store.list(prefix, cursor=cursor)
        yield from page.objects
        cursor = page.cursor
        if not cursor:
            return


def _generation(key: Key, store: Store) -> int:
    try:
        return store.head(key).generation
    except NotFound:
        return 0
