"""What the entries of an honest log have in common, checked while they pass by.

Each is the RFC 8785 form of an event of the log's own tenant; none is there twice,
in any epoch; and an ending that names the start it had a receipt for has that start
before it.  Whoever has the log's key could sign a log that breaks this, so it is
looked at although every hash is right.  A completed swap without its start is what
the log exists to make impossible: that is a failure, not a warning, unless a restore
lost the start, which the log itself then says.

What is remembered of each entry is 16 bytes.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.audit.merkle import VerificationError
from functions.events import Event
from functions.problems import Forbidden, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from functions.audit.manifest import Logged
    from functions.keys import Verifiers

ENDINGS: Final = frozenset(
    {events.SWAP_COMPLETED, events.SWAP_FAILED, events.SWAP_REFUSED}
)
_TEXTS: Final = ("source", "id", "type", "subject", "time", "tenant", "sig", "sigkid")
_PART: Final = 262_144
_WHOLE_MAX: Final = 2**53 - 1
_DIGITS: Final = 17
_OWN: Final = "dev.guise.audit."
_START: Final = 1
_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder(order="sorted").encode


def read_leaf(leaf: bytes) -> dict[str, Any]:
    """Return the event in a leaf, or raise `VerificationError`."""
    try:
        event = _decode(leaf)
        # The second is slow, and right about what the first is not: numbers with
        # fractions or beyond 2^53, and names sorted as UTF-16.
        quick = _encode(event) == leaf and _plain(event)
        canonical = quick or events.canonical(_doubles(leaf)) == leaf
    except (ValueError, RecursionError, InvalidRequest) as error:
        raise VerificationError("is not JSON as the log writes it") from error
    if not canonical:
        raise VerificationError("is not in the canonical form of RFC 8785")
    if not isinstance(event, dict):
        raise VerificationError("is not an event")
    return event


def _doubles(leaf: bytes) -> object:
    """Return the JSON in a leaf, its large numbers as what RFC 8785 takes them for."""

    def number(text: str) -> int | float:
        small = len(text) <= _DIGITS and abs(int(text)) <= _WHOLE_MAX
        return int(text) if small else float(text)

    return json.loads(leaf, parse_int=number)


def _plain(value: object) -> bool:
    """Return whether msgspec writes `value` as RFC 8785 says, sorted as it is."""
    if isinstance(value, dict):
        return all(
            name.isascii() and (isinstance(each, str) or _plain(each))
            for name, each in value.items()
        )
    if isinstance(value, list):
        return all(isinstance(each, str) or _plain(each) for each in value)
    if isinstance(value, int):
        return -_WHOLE_MAX <= value <= _WHOLE_MAX
    return value is None or isinstance(value, str)


def job_of(event: dict[str, Any]) -> str:
    """Return the job that an entry is about; "" for none."""
    data = event.get("data")
    job = data.get("job") if isinstance(data, dict) else None
    return job if isinstance(job, str) else ""


@dataclass(slots=True)
class Seen:
    """What was seen of one log of `size` entries: those from `start` to `stop`."""

    epoch: int
    size: int
    start: int
    stop: int
    starts: array[int] = field(default_factory=lambda: array("q"))
    names: array[int] = field(default_factory=lambda: array("q"))
    singles: dict[int, int] = field(default_factory=dict)
    types: Counter[str] = field(default_factory=Counter)


class Facts:
    """One bundle's entries, log after log, each in the order of its indices.

    `verifiers` are the tenant's own keys, to check each event's signature with.
    """

    def __init__(self, tenant: str, verifiers: Verifiers | None = None) -> None:
        self.tenant = tenant
        self._verifiers = verifiers
        self._logs: list[Seen] = []
        self._lost: dict[int, int] = {}
        self.unchecked = 0

    def begin(self, logged: Logged) -> Seen:
        """Go on with a log; what came before stays known."""
        start = max(logged.covered.start, logged.minimum)
        stop = max(start, logged.covered.stop)
        seen = Seen(logged.epoch, logged.size, start, stop)
        self._logs.append(seen)
        return seen

    def lose(self, epoch: int, size: int) -> None:
        """Note that an earlier log had `size` entries before a restore lost some."""
        self._lost[epoch] = size

    def see(self, index: int, event: dict[str, Any]) -> None:
        """Look at the next entry, or raise `VerificationError`.

        The message goes on from "entry N".
        """
        seen = self._logs[-1]
        self.check_one(event)
        kind, job = event["type"], job_of(event)
        name = hash((event["source"], event["id"]))
        seen.names.append(name)
        seen.starts.append(hash((_START, job)) if kind == events.SWAP_STARTED else 0)
        seen.types[kind] += 1
        if kind in ENDINGS:
            self._check_ending(index, event, job)

    def see_single(self, index: int, event: dict[str, Any]) -> None:
        """Look at an entry of the log that stands alone in the bundle; as `see`."""
        seen = self._logs[-1]
        self.check_one(event)
        kind, job = event["type"], job_of(event)
        seen.singles[index] = hash((_START, job)) if kind == events.SWAP_STARTED else 0
        seen.types[kind] += 1
        if kind in ENDINGS:
            self._check_ending(index, event, job)

    def check_one(self, event: dict[str, Any]) -> None:
        """Look at an entry by itself, or raise `VerificationError`."""
        for name in _TEXTS:
            if not isinstance(event.get(name), str):
                raise VerificationError(f"has no {name}")
        if not isinstance(event.get("data"), dict):
            raise VerificationError("has no data")
        if event["tenant"] != self.tenant:
            raise VerificationError(f"is of another tenant, {event['tenant'][:64]!r}")
        if self._verifiers is not None:
            self._check_signature(event, self._verifiers)

    def _check_signature(self, event: dict[str, Any], verifiers: Verifiers) -> None:
        if event["type"].startswith(_OWN) and not event["sig"]:
            return  # the checkpoint is its signature
        try:
            said = {name: event[name] for name in (*_TEXTS, "data")}
            events.verify(Event(**said), verifiers)
        except (Forbidden, InvalidRequest) as error:
            raise VerificationError(f"is not signed by its tenant: {error}") from error

    def _check_ending(self, index: int, event: dict[str, Any], job: str) -> None:
        """Look for the start that an ending had a receipt for."""
        started = event["data"].get("started")
        at = started.get("index") if isinstance(started, dict) else None
        if at is None and event["type"] != events.SWAP_COMPLETED:
            return  # refused or failed before anything began
        if type(at) is not int:
            raise VerificationError(
                "says that a swap was completed, and names no start"
            )
        found = [self._is_start(seen, at, index, job) for seen in self._logs]
        if True in found:
            return
        if None not in found:
            raise VerificationError(f"ends a job that entry {at} did not start")
        self.unchecked += 1

    def _is_start(self, seen: Seen, at: int, index: int, job: str) -> bool | None:
        """Return whether a log's entry `at` started the job; None if unknown."""
        if at < 0 or (seen is self._logs[-1] and at >= index):
            return False
        if at in seen.singles:
            return seen.singles[at] == hash((_START, job))
        if seen.start <= at < seen.stop:
            return seen.starts[at - seen.start] == hash((_START, job))
        lost = self._lost.get(seen.epoch, seen.size)
        return None if at < lost else False

    def twice(
        self, part_max: int = _PART
    ) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Yield (epoch, index) of two entries that seem to be the same event.

        They share 64 bits of a keyed hash: the caller compares them.  About
        `part_max` of the entries are compared at once.
        """
        parts = sum(len(seen.names) for seen in self._logs) // part_max + 1
        for part in range(parts):
            known: dict[int, tuple[int, int]] = {}
            for seen in self._logs:
                for index, name in enumerate(seen.names, seen.start):
                    if name % parts != part:
                        continue
                    if name in known:
                        yield known[name], (seen.epoch, index)
                    known.setdefault(name, (seen.epoch, index))
