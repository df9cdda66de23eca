"""Where a request is on its way: spans, and the ids by which they find one another.

W3C Trace Context (https://www.w3.org/TR/trace-context/) over HTTP: `traceparent` comes
with a request and goes with what it calls, through a broker too.  A span holds names
of ours, times and statuses: no tenant, no job, no address and no text of an error.

The ids are made always, as the log has them; spans are kept where somebody wants
them, see `otlp`.  OpenTelemetry's SDK would do the same and takes 80 ms to import.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["internal", "server", "client"]

SPANS_MAX: Final = 2_000
"""Kept until a collector has them; what comes on top is lost, and counted."""
_PARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_NOWHERE: Final = ("0" * 32, "0" * 16)


class Spans:
    """Spans that have ended, until somebody takes them; `lost` found no room."""

    def __init__(self, spans_max: int = SPANS_MAX) -> None:
        self._lock = threading.Lock()
        self._max = spans_max
        self._ended: list[Span] = []
        self.lost = 0

    def add(self, span: Span) -> None:
        """Keep a span, if there is room."""
        self.keep([span])

    def keep(self, spans: list[Span]) -> None:
        """Keep spans as far as there is room: what ended, or was taken in vain."""
        with self._lock:
            room = self._max - len(self._ended)
            self._ended += spans[:room]
            self.lost += len(spans[room:])

    def take(self) -> list[Span]:
        """Return what is kept, and keep it no more."""
        with self._lock:
            taken, self._ended = self._ended, []
        return taken


@dataclass(slots=True)
class Span:
    """One stretch of a trace; times are nanoseconds since the epoch, 0 until it ends.

    Ids are hex as in `traceparent`; `parent` is "" where the trace begins.
    """

    name: str
    trace: str
    id: str
    parent: str = ""
    kind: Kind = "internal"
    began_ns: int = 0
    ended_ns: int = 0
    failed: bool = False
    attributes: dict[str, str | int] = field(default_factory=dict)
    spans: Spans | None = None
    outer: Span | None = None

    @property
    def traceparent(self) -> str:
        """What tells another function of this span."""
        return f"00-{self.trace}-{self.id}-{'01' if self.spans else '00'}"

    def end(self) -> None:
        """End it now, and have it kept where its kind is."""
        self.ended_ns = time.time_ns()
        if self.spans is not None:
            self.spans.add(self)


_current: ContextVar[Span | None] = ContextVar("guise_span", default=None)


def current() -> Span | None:
    """Return the span that this thread is in."""
    return _current.get()


def headers() -> dict[str, str]:
    """Return what goes with a call, so that the other side knows whence it came."""
    span = _current.get()
    return {"traceparent": span.traceparent} if span else {}


def enter(name: str, *, traceparent: str = "", spans: Spans | None = None) -> Span:
    """Begin a request's span and be in it; whoever calls it calls `leave`.

    A `traceparent` that is none begins a new trace, as the standard has it.
    """
    trace, parent = _parsed(traceparent)
    span = Span(
        name,
        trace or os.urandom(16).hex(),
        os.urandom(8).hex(),
        parent,
        "server",
        time.time_ns(),
        spans=spans,
        outer=_current.get(),
    )
    _current.set(span)
    return span


def leave(span: Span) -> None:
    """End a request's span; the thread is where it was before."""
    span.end()
    _current.set(span.outer)


@contextmanager
def within(name: str, kind: Kind = "client") -> Iterator[Span | None]:
    """Be in a span below the current one; where there is none there is nothing to do.

    What leaves it by an error is marked as failed, without a word of the error.
    """
    above = _current.get()
    if above is None:
        yield None
        return
    span = _below(above, name, kind, time.time_ns())
    token = _current.set(span)
    try:
        yield span
    except BaseException:
        span.failed = True
        raise
    finally:
        _current.reset(token)
        span.end()


def past(name: str, seconds: float) -> None:
    """Note a stretch of the current span that lasted `seconds` and ended just now."""
    above = _current.get()
    if above is not None:
        _below(above, name, "internal", time.time_ns() - int(seconds * 1e9)).end()


def _below(above: Span, name: str, kind: Kind, began_ns: int) -> Span:
    return Span(
        name,
        above.trace,
        os.urandom(8).hex(),
        above.id,
        kind,
        began_ns,
        spans=above.spans,
    )


def _parsed(traceparent: str) -> tuple[str, str]:
    """Return the ids of a trace and of the span above; "" for both where it is none."""
    match = _PARENT.fullmatch(traceparent)
    if match is None or match[1] == _NOWHERE[0] or match[2] == _NOWHERE[1]:
        return "", ""
    return match[1], match[2]
