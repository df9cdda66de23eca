"""Webhooks: a tenant is told of its jobs' endings at a URL of its own.

    policy/webhooks.json          the tenant's wish: where, of what, under which secret
    webhooks/jobs/<job>.json      what is told of a job, and each try of it
    webhooks/due/<when>-<job>     there while a call is due; `when` is seconds, epoch
    webhooks/off/<name>.json      an endpoint that answered 410, and for which URL

As the Standard Webhooks specification 1.0 says (standardwebhooks.com): `webhook-id`,
`webhook-timestamp` and `webhook-signature`, HMAC-SHA-256 over the three with dots
between; 410 ends it, whatever else is not 2xx is tried again with growing pauses.

The commit of a job never waits for any of this.  Once its events are delivered, and
before its mark is taken from the outbox, a job of a tenant with such a policy gets
the two objects in the middle; the sweeper calls.  A call may come twice, always with
the same id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Protocol

import msgspec
from msgspec import Meta, structs

from functions import __version__, events
from functions.problems import (
    Changed,
    Failed,
    InvalidRequest,
    NotFound,
    TooLarge,
    Unavailable,
)
from functions.swap.ledger import Broken, decoded
from functions.tenant import WEBHOOKS, WEBHOOKS_DUE, Key, Tenant, job_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.sink import Answer
    from functions.storage import Store
    from functions.swap.ledger import Record

log = logging.getLogger(__name__)

_MINUTE: Final = 60
_HOUR: Final = 3600
PAUSES_SECONDS: Final = (
    *(5, 5 * _MINUTE, 30 * _MINUTE),
    *(2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR),
)
"""After each try in vain: the schedule that the specification proposes; 75 hours."""
CALLS_MAX: Final = 100
"""Calls of one sweep."""
CALLS_SECONDS_MAX: Final = 30.0
"""How long one sweep may call: enough for each endpoint to give no answer once.

No call begins that could not end by then.
"""
CALL_SECONDS: Final = 5.0
_POLICY_BYTES_MAX: Final = 65_536
_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
_GONE: Final = 410
_OK: Final = range(200, 300)

Told = Literal["completed", "failed", "refused"]
_TOLD: Final[Mapping[str, Told]] = {
    events.SWAP_COMPLETED: "completed",
    events.SWAP_FAILED: "failed",
    events.SWAP_REFUSED: "refused",
}


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to call, of which endings, and the secrets that sign, the newest first.

    With several, each signs: so a secret is changed without a gap.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
    url: Annotated[str, Meta(max_length=2048)]
    secrets: Annotated[list[str], Meta(min_length=1, max_length=3)]
    events: tuple[Told, ...] = ("completed", "failed", "refused")


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `policy/webhooks.json`."""

    endpoints: Annotated[list[Endpoint], Meta(max_length=5)] = []


class Unreadable(Failed):
    """The tenant's wish cannot be read: what is due waits."""


class Try(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call that was made: the `status` it got, or the `reason` it got none."""

    at: str
    status: int = 0
    reason: str = ""


class Call(msgspec.Struct, frozen=True):
    """What became of telling one endpoint; `due` is when the next try is (epoch)."""

    endpoint: str
    state: Literal["due", "done", "off", "given up"] = "due"
    begun: int = 0
    due: float = 0
    tries: list[Try] = []


class Webhook(msgspec.Struct, frozen=True):
    """The content of `webhooks/jobs/<job>.json`: an ending event, and its calls.

    `calls` is None until a sweeper has looked who wants to know.
    """

    job: str
    since: str
    event: dict[str, Any]
    calls: list[Call] | None = None


class _Off(msgspec.Struct, frozen=True):
    url: str
    since: str


class Caller(Protocol):
    """Calls a URL of a tenant's own; see `calling.call`."""

    def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes, *, timeout: float
    ) -> Answer:
        """Return the answer, or raise `InvalidRequest` or `Unavailable`."""


def enqueue(ending: Record, *, tenant: Tenant, store: Store) -> None:
    """Have an ending told by webhook, where the tenant wants any; may be repeated."""
    told = _told(ending)
    if told is None or not _exists(WEBHOOKS, store):
        return
    webhook = Webhook(ending.job, events.now(), told)
    # Once it is there the mark may still be missing; one too many does no harm.
    with suppress(Changed):
        store.put_if_absent(tenant.webhook(ending.job), msgspec.json.encode(webhook))
    store.put(tenant.webhook_due(ending.job, time.time()), b"{}")


def _told(ending: Record) -> dict[str, Any] | None:
    """Return the event that says how the job ended, if the record holds one."""
    for each in ending.events:
        with suppress(InvalidRequest):  # what cannot be read is a dead letter
            if events.from_dict(each).type in _TOLD:
                return each
    return None


def read_policy(store: Store) -> Policy:
    """Return the tenant's wish, an empty one where there is none, or `Unreadable`."""
    try:
        data = store.get(WEBHOOKS, bytes_max=_POLICY_BYTES_MAX).data
        said = msgspec.convert(events.strict_json(data), Policy)
        _check(said)
    except NotFound:
        return Policy()
    except (InvalidRequest, TooLarge, msgspec.ValidationError) as fault:
        raise Unreadable(internal=f"{WEBHOOKS} is no policy: {fault}") from fault
    return said


def _check(said: Policy) -> None:
    for each in said.endpoints:
        _keys(each)
    if len({each.name for each in said.endpoints}) != len(said.endpoints):
        raise InvalidRequest("two endpoints have one name")


def _keys(endpoint: Endpoint) -> list[bytes]:
    """Return the secrets' bytes, or raise `InvalidRequest`, which names none."""
    keys = []
    for each in endpoint.secrets:
        try:
            key = base64.b64decode(each.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not each.startswith(_PREFIX) or len(key) not in _SECRET_BYTES:
            raise InvalidRequest("a secret is whsec_ and 24 to 64 bytes in base64")
        keys.append(key)
    return keys


def signature(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """Return `v1,` and base64 of HMAC-SHA-256 over id, timestamp and body."""
    signed = b".".join((message.encode(), str(timestamp).encode(), body))
    mac = hmac.digest(key, signed, hashlib.sha256)
    return f"v1,{base64.b64encode(mac).decode()}"


def request(
    endpoint: Endpoint, event: Mapping[str, Any], timestamp: int
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of a call: the event's type, time and data."""
    body = msgspec.json.encode(
        {"type": event["type"], "timestamp": event["time"], "data": event["data"]}
    )
    message = str(event["id"])
    signed = (signature(key, message, timestamp, body) for key in _keys(endpoint))
    return {
        "Content-Type": "application/json",
        "User-Agent": f"Guise/{__version__}",
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signed),
    }, body


def shown(tenant: Tenant, job: str, store: Store) -> list[dict[str, Any]]:
    """Return what became of a job's calls, as a person wants to see it."""
    entry = _Entry.read(tenant, job, store)
    if entry is None:
        return []
    if entry.content.calls is None:
        return [{"state": "due"}]
    return [msgspec.to_builtins(each) for each in entry.content.calls]


@dataclass(slots=True)
class _Entry:
    """A webhook as it lies in the store; what another has written over is `Changed`."""

    key: Key
    content: Webhook
    generation: int
    store: Store

    @classmethod
    def read(cls, tenant: Tenant, job: str, store: Store) -> _Entry | None:
        """Return the webhook of a job, None where there is none, or raise `Broken`."""
        key = tenant.webhook(job)
        try:
            found = store.get(key)
        except NotFound:
            return None
        return cls(key, decoded(found.data, Webhook), found.generation, store)

    def write(self, calls: list[Call]) -> None:
        """Write down how the calls stand, unless that is what is there."""
        if calls != self.content.calls:
            content = structs.replace(self.content, calls=list(calls))
            data = msgspec.json.encode(content)
            self.generation = self.store.put_if_match(self.key, data, self.generation)
            self.content = content


@dataclass(slots=True)
class Sender:
    """Calls what is due of one tenant, within the limits of one sweep."""

    tenant: Tenant
    store: Store
    call: Caller
    now: float = field(default_factory=time.time)
    until: float = field(default_factory=lambda: time.monotonic() + CALLS_SECONDS_MAX)
    made: int = 0
    silent: set[str] = field(default_factory=set)
    """Endpoints that gave no answer in this sweep: the others' time is not theirs."""

    def run(self) -> int:
        """Make the calls that are due; return how many.

        Raises `Unreadable` where something is due and the policy cannot be read.
        """
        wish: Policy | None = None
        for key, job in self._due():
            if self._is_over():
                break
            wish = wish or read_policy(self.store)
            self._tell(key, job, wish)
        return self.made

    def _is_over(self) -> bool:
        left = self.until - time.monotonic()
        return self.made >= CALLS_MAX or left < CALL_SECONDS

    def _due(self) -> Iterator[tuple[Key, str]]:
        """Yield the marks that are due, the longest due first."""
        cursor = ""
        while True:
            page = self.store.list(WEBHOOKS_DUE, cursor=cursor)
            for info in page.objects:
                when, _, job = info.key.removeprefix(WEBHOOKS_DUE).partition("-")
                try:
                    job, stamp = job_id(job), int(when)
                except (InvalidRequest, ValueError):
                    continue  # nothing of ours
                if stamp > self.now:
                    return
                yield info.key, job
            cursor = page.cursor
            if not cursor:
                return

    def _tell(self, mark: Key, job: str, wish: Policy) -> None:
        try:
            entry = _Entry.read(self.tenant, job, self.store)
        except Broken:
            log.exception("the webhook of %s of %s", job, self.tenant.id)
            entry = None
        if entry is None:  # or expired, or erased
            self.store.delete(mark)
            return
        calls = entry.content.calls
        calls = _wanted(entry.content, wish) if calls is None else list(calls)
        try:
            self._call_each(entry, calls, {each.name: each for each in wish.endpoints})
            entry.write(calls)
        except Changed:
            return  # another sweeper is at it
        waiting = [each.due for each in calls if each.state == "due"]
        if waiting:
            when = max(min(waiting), self.now + 1)
            self.store.put(self.tenant.webhook_due(job, when), b"{}")
        self.store.delete(mark)

    def _call_each(
        self, entry: _Entry, calls: list[Call], wish: Mapping[str, Endpoint]
    ) -> None:
        """Make the calls that are due, each noted before it is made."""
        for number, call in enumerate(calls):
            if call.state != "due" or call.due > self.now:
                continue
            endpoint = wish.get(call.endpoint)
            if endpoint is None or self._is_off(endpoint):
                calls[number] = structs.replace(call, state="off")
            elif endpoint.name not in self.silent and not self._is_over():
                begun = call.begun + 1
                due = self.now + PAUSES_SECONDS[min(begun, len(PAUSES_SECONDS)) - 1]
                calls[number] = structs.replace(call, begun=begun, due=due)
                entry.write(calls)
                calls[number] = self._called(calls[number], endpoint, entry.content)

    def _called(self, call: Call, endpoint: Endpoint, webhook: Webhook) -> Call:
        """Return the call as it stands after one more try."""
        self.made += 1
        headers, body = request(endpoint, webhook.event, int(time.time()))
        at = events.now()
        try:
            answer = self.call(endpoint.url, headers, body, timeout=CALL_SECONDS)
        except InvalidRequest as fault:
            tried = Try(at, reason=fault.detail)
        except Unavailable as fault:
            self.silent.add(endpoint.name)
            tried = Try(at, reason=fault.detail or "no answer")
        else:
            tried = Try(at, answer.status)
        tries = [*call.tries, tried]
        if tried.status in _OK:
            return structs.replace(call, state="done", tries=tries)
        log.info("%s of %s: %s", webhook.job, self.tenant.id, tried)
        if tried.status == _GONE:
            off = _Off(endpoint.url, at)
            key = self.tenant.webhook_off(endpoint.name)
            self.store.put(key, msgspec.json.encode(off))
            return structs.replace(call, state="off", tries=tries)
        if call.begun > len(PAUSES_SECONDS):
            return structs.replace(call, state="given up", tries=tries)
        return structs.replace(call, tries=tries)

    def _is_off(self, endpoint: Endpoint) -> bool:
        """Return whether this very URL has answered 410 before."""
        try:
            data = self.store.get(self.tenant.webhook_off(endpoint.name)).data
        except NotFound:
            return False
        return decoded(data, _Off).url == endpoint.url


def _wanted(webhook: Webhook, wish: Policy) -> list[Call]:
    kind = _TOLD[webhook.event["type"]]
    return [Call(each.name) for each in wish.endpoints if kind in each.events]


def _exists(key: Key, store: Store) -> bool:
    try:
        store.head(key)
    except NotFound:
        return False
    return True
