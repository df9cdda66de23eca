"""The life of a job in the tenant's store: claim and commit.

    jobs/<job>/claim.json     who works on it until when; if absent, renewed if match
    results/<job>/job.json    how it ended, with the ending events inside; if absent

The commit is one conditional write.  Whoever loses it takes the winner's record
and re-sends the winner's events, so a job has one result whatever happens.
"""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from functions import events
from functions.problems import Changed, Failed, NotFound, Unavailable
from functions.sink import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.events import Event
    from functions.settings import Limits
    from functions.storage import Store
    from functions.tenant import Key, Tenant

T = TypeVar("T")

COMPLETED: Final = "completed"
REFUSED: Final = "refused"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ERASED: Final = "erased"


class Busy(Unavailable):
    """Somebody else works on the job."""


class Exhausted(Failed):
    """The job has used up its attempts."""


class Broken(Failed):
    """What we stored ourselves does not read as what it was."""


class Output(msgspec.Struct, frozen=True):
    """The attempt's output that counts; `sha256` is hex, `type` a media type."""

    key: str
    type: str
    size: int
    sha256: str


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of `results/<job>/job.json`: how the job ended.

    `provenance` says what the output carries: `c2pa`, the `manifest`, and `aigc`.
    `gate` is the verdict of the content gate on a swap; see `gate.Gate.verdict`.
    `vetted` says of the models how they were `verified`, and by what `licence` they
    serve; see `vetting`.
    `counts` has how many faces were `found` in the target, `done` (they are in
    `faces`) and, by `keep`, `kept`; records older than that have none.
    `expired` is when retention took the output and the rest away; what is left then
    is how it ended.
    `events` are the ending events verbatim, in structured form.
    """

    job: str
    operation: str
    outcome: str
    attempt: int
    ended: str
    output: Output | None = None
    problem: dict[str, Any] | None = None
    faces: list[dict[str, Any]] = []
    counts: dict[str, int] | None = None
    receipt: Receipt | None = None
    usage: dict[str, Any] | None = None
    swap_ms: int | None = None
    provenance: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    vetted: dict[str, str] | None = None
    expired: str = ""
    events: list[dict[str, Any]] = []

    def view(self) -> dict[str, Any]:
        """Return what the tenant is shown: all of it but the events."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        document.pop("events", None)
        return document


class _Claim(msgspec.Struct, frozen=True):
    """The content of `claim.json`; `until` is seconds since the epoch.

    `again` says that a holder gave up for want of a receipt or of a store: the
    attempt is not used up, and its `started` event is sent again word for word.
    """

    attempt: int
    holder: str
    until: float
    started: dict[str, Any]
    again: bool = False


@dataclass(slots=True)
class Claim:
    """A claim that is ours; `generation` moves with each renewal."""

    job: str
    attempt: int
    started: Event
    generation: int
    content: _Claim
    until: float
    released: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a claim says: `until` is seconds since the epoch, 0 for released or none.

    `held` says that somebody works on the job, `spent` that its attempts are used up.
    """

    attempt: int = 0
    until: float = 0
    held: bool = False
    spent: bool = False


def claim(
    tenant: Tenant,
    job: str,
    *,
    store: Store,
    limits: Limits,
    start: Callable[[int], Event],
) -> Claim:
    """Take the job, or raise `Busy` or `Exhausted`.

    `start` makes the `started` event of an attempt.  It is written with the
    claim before it is sent anywhere, so that a retry sends the very same one.
    """
    key = tenant.claim(job)
    try:
        current = store.get(key)
    except NotFound:
        content = _fresh(1, start(1), limits)
        generation = _write(lambda: store.put_if_absent(key, _json(content)))
    else:
        content = _next(decoded(current.data, _Claim), start, limits)
        found = current.generation
        generation = _write(lambda: store.put_if_match(key, _json(content), found))
    started = events.from_dict(content.started)
    return Claim(job, content.attempt, started, generation, content, content.until)


def _next(
    previous: _Claim,
    start: Callable[[int], Event],
    limits: Limits,
) -> _Claim:
    """Return the claim that follows one which ran out or was released."""
    if _alive(previous, limits):
        raise Busy(internal=f"held by {previous.holder}")
    if previous.again:
        return _fresh(previous.attempt, events.from_dict(previous.started), limits)
    if previous.attempt >= limits.attempts_max:
        raise Exhausted(internal=f"{previous.attempt} attempts")
    attempt = previous.attempt + 1
    return _fresh(attempt, start(attempt), limits)


def _alive(claim: _Claim, limits: Limits) -> bool:
    """Return whether a claim holds; one from a clock far ahead of ours does not."""
    return 0 < claim.until - time.time() <= 2 * limits.claim_seconds


def _fresh(attempt: int, started: Event, limits: Limits) -> _Claim:
    until = time.time() + limits.claim_seconds
    return _Claim(attempt, uuid.uuid4().hex, until, events.as_dict(started))


def _json(content: _Claim) -> bytes:
    return msgspec.json.encode(content)


def _write(write: Callable[[], int]) -> int:
    try:
        return write()
    except Changed as error:
        raise Busy(internal="lost the race for the claim") from error


@contextmanager
def renewing(
    held: Claim,
    limits: Limits,
    *,
    tenant: Tenant,
    store: Store,
) -> Iterator[None]:
    """Keep the claim alive from a thread while the body works.

    Not for longer than a job may take: a body that hangs loses its claim.
    """
    done = threading.Event()
    end = time.monotonic() + limits.job_seconds_max

    def renew() -> None:
        while not done.wait(limits.claim_seconds / 3) and time.monotonic() < end:
            until = time.time() + limits.claim_seconds
            try:
                _rewrite(held, tenant, store, until=until)
            except Changed:
                return  # taken over; the commit will tell who was first
            except Unavailable:
                continue  # two more tries fit in before it runs out

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def confirm(
    held: Claim,
    limits: Limits,
    *,
    tenant: Tenant,
    store: Store,
) -> None:
    """Return if the job is still ours, or raise `Busy`.

    Whoever was stopped past the end of the claim and goes on learns here, before
    storing anything, that another has taken over.  While the claim holds by our own
    clock nothing is asked of the store.
    """
    if time.time() < held.until:
        return
    try:
        until = time.time() + limits.claim_seconds
        _rewrite(held, tenant, store, until=until)
    except Changed as error:
        raise Busy(internal=f"{held.job} was taken over") from error


def release(held: Claim, *, tenant: Tenant, store: Store, again: bool) -> None:
    """Let the job go for another try at once; see `_Claim.again`."""
    try:
        _rewrite(held, tenant, store, until=0, again=again)
    except (Changed, Unavailable):
        return  # it runs out by itself


def _rewrite(
    held: Claim,
    tenant: Tenant,
    store: Store,
    *,
    until: float,
    again: bool = False,
) -> None:
    with held.lock:
        if held.released:
            return  # the renewing thread comes a moment after the release
        held.released = until == 0
        content = msgspec.structs.replace(held.content, until=until, again=again)
        key = tenant.claim(held.job)
        try:
            held.generation = store.put_if_match(key, _json(content), held.generation)
        except Changed:
            # Perhaps by ourselves: the store took a renewal, and its answer was lost.
            ours = _ours(held, key, store)
            held.generation = store.put_if_match(key, _json(content), ours)
        held.until = until


def _ours(held: Claim, key: Key, store: Store) -> int:
    """Return the generation of the claim if it is ours still, or raise `Changed`."""
    try:
        current = store.get(key)
    except NotFound as error:
        raise Changed(internal=f"{held.job} is gone") from error
    if decoded(current.data, _Claim).holder != held.content.holder:
        raise Changed(internal=f"{held.job} was taken over")
    return current.generation


def record(tenant: Tenant, job: str, store: Store) -> Record | None:
    """Return how the job ended, or None while it has not."""
    return record_at(tenant, job, store)[0]


def record_at(tenant: Tenant, job: str, store: Store) -> tuple[Record | None, int]:
    """Return how the job ended, if it has, and the generation that says so."""
    try:
        found = store.get(tenant.record(job))
    except NotFound:
        return None, 0
    return decoded(found.data, Record), found.generation


def known(tenant: Tenant, job: str, store: Store) -> bool:
    """Return whether the job was accepted or has ended."""
    for key in (tenant.record(job), tenant.pinned(job)):
        try:
            store.head(key)
        except NotFound:
            continue
        return True
    return False


def decoded(data: bytes, kind: type[T]) -> T:
    """Return what we stored ourselves, or raise `Broken`: a fault of ours."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Broken(internal=f"a stored {kind.__name__}: {error}") from error


def commit(ending: Record, *, tenant: Tenant, store: Store) -> Record:
    """Write how the job ended unless it has; return the record that counts."""
    try:
        store.put_if_absent(tenant.record(ending.job), msgspec.json.encode(ending))
    except Changed:
        winner = record(tenant, ending.job, store)
        if winner is None:
            raise Unavailable(internal=f"{ending.job}: the record vanished") from None
        return winner
    return ending


def replace(ending: Record, generation: int, *, tenant: Tenant, store: Store) -> None:
    """Write over exactly that generation of a job's record, or raise `Changed`."""
    key = tenant.record(ending.job)
    store.put_if_match(key, msgspec.json.encode(ending), generation)


def standing(tenant: Tenant, job: str, store: Store, limits: Limits) -> Standing:
    """Return how the claim on a job stands."""
    try:
        current = store.get(tenant.claim(job))
    except NotFound:
        return Standing()
    claim = decoded(current.data, _Claim)
    alive = _alive(claim, limits)
    spent = not alive and not claim.again and claim.attempt >= limits.attempts_max
    return Standing(claim.attempt, claim.until, held=alive, spent=spent)


def held(tenant: Tenant, job: str, store: Store, limits: Limits) -> bool:
    """Return whether somebody works on the job now."""
    return standing(tenant, job, store, limits).held
