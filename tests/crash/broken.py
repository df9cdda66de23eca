"""Five orderings that lose, double or leave unrecorded; each wraps a collaborator.

What the crash tests are worth is that they catch every one of these.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from functions import events
from functions.sink import Receipt
from functions.storage import Stores
from functions.tenant import OUTBOX, Key, Tenant

if TYPE_CHECKING:
    from functions.events import Event
    from functions.sink import Auditor, Sink
    from functions.storage import Store
    from tests.crash.rehearsal import Parts

_RECORD = "/job.json"
_CLAIM = "/claim.json"


class Wrapped:
    """A store, all of it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@dataclass
class Hasty:
    """Gives a receipt at once, and tells audit of the start before the ending."""

    auditor: Auditor
    sink: Sink
    waiting: list[Event] = field(default_factory=list)

    def receipt(self, event: Event, *, timeout: float) -> Receipt:
        self.waiting.append(event)
        return Receipt(0, "00" * 32, "a promise")

    def wake(self) -> None:
        self.auditor.wake()

    def deliver(self, event: Event, *, timeout: float) -> None:
        while self.waiting:
            self.auditor.receipt(self.waiting.pop(), timeout=timeout)
        self.sink.deliver(event, timeout=timeout)


def commit_before_receipt(parts: Parts) -> Parts:
    """Commit first, and have the start put on record afterwards."""
    hasty = Hasty(parts.auditor, parts.sink)
    return replace(parts, auditor=hasty, sink=hasty)


class UsageApart(Wrapped):
    """Leaves the usage out of the record: only who did the work sends it."""

    def put_if_absent(self, key: Key, data: bytes) -> int:
        if key.endswith(_RECORD):
            record = json.loads(data)
            told = record["events"]
            kept = [each for each in told if each["type"] != events.USAGE_RECORDED]
            data = json.dumps(record | {"events": kept}).encode()
        return self.store.put_if_absent(key, data)


def usage_not_in_the_record(parts: Parts) -> Parts:
    """Send usage after the commit, from memory."""
    store: Any = UsageApart(parts.store)
    return replace(parts, store=store)


class AnyClaim(Wrapped):
    """Writes claims whatever was there."""

    def put_if_absent(self, key: Key, data: bytes) -> int:
        if key.endswith(_CLAIM):
            return self.store.put(key, data)
        return self.store.put_if_absent(key, data)

    def put_if_match(self, key: Key, data: bytes, generation: int) -> int:
        if key.endswith(_CLAIM):
            return self.store.put(key, data)
        return self.store.put_if_match(key, data, generation)


def claim_not_conditional(parts: Parts) -> Parts:
    """Let two take the same claim."""
    store: Any = AnyClaim(parts.store)
    return replace(parts, store=store)


class MarkGoesFirst(Wrapped):
    """Takes the mark away with the commit, before anything is delivered."""

    def put_if_absent(self, key: Key, data: bytes) -> int:
        generation = self.store.put_if_absent(key, data)
        if key.endswith(_RECORD):
            self.store.delete(Key(f"{OUTBOX}{json.loads(data)['job']}"))
        return generation


def mark_removed_before_delivery(parts: Parts) -> Parts:
    """Forget that something is to be told, and then tell it."""
    store: Any = MarkGoesFirst(parts.store)
    return replace(parts, store=store)


class OneOutput(Tenant):
    """A tenant whose jobs have one output key for all attempts."""

    def output(self, job: str, attempt: int, extension: str) -> Key:
        return super().output(job, 0, extension)


class OneOutputStores(Stores):
    """Says of every upload that it is such a tenant's."""

    def locate(self, bucket: str, name: str) -> tuple[Tenant, str]:
        tenant, name = super().locate(bucket, name)
        return OneOutput(tenant.id), name


def output_key_not_per_attempt(parts: Parts) -> Parts:
    """Let every attempt write to the same object."""
    return replace(parts, locate=OneOutputStores)


ORDERINGS = (
    commit_before_receipt,
    usage_not_in_the_record,
    claim_not_conditional,
    mark_removed_before_delivery,
    output_key_not_per_attempt,
)
