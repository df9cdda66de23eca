"""An event as it rests in the queue: structured-mode JSON, and to whom it is owed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.problems import TooLarge

if TYPE_CHECKING:
    from functions.events import Event

ERROR: Final = "knativeerror"
"""How the extensions begin that tell why an event is a dead letter."""
_BODY_BYTES_MAX: Final = 1024 * 1024
_STRUCTURED: Final = {"content-type": "application/cloudevents+json"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A Trigger that is owed something.

    `is_due` says that some of it is due, under way or not; `next_due` is when the next
    of what is not due yet will be (epoch), None where there is no such.
    """

    trigger: str
    is_due: bool
    next_due: float | None


@dataclass(frozen=True, slots=True)
class Owed:
    """One event owed to one Trigger.  `attempts` are those made before."""

    number: int
    trigger: str
    attempts: int
    body: bytes

    def event(self) -> Event:
        """Return the event, or raise `Refused` if it cannot be read any more."""
        return read(self.body)


class DeadLetter(msgspec.Struct, frozen=True):
    """One event that one Trigger could not deliver.

    The event is in structured mode, with `knativeerrordest`, `-code` and `-data`
    where a broker would have set them.  `died` is seconds since the epoch.
    """

    number: int
    trigger: str
    destination: str
    reason: str
    attempts: int
    died: float
    event: dict[str, Any]


def dead_letter(*columns: Any) -> DeadLetter:  # noqa: ANN401  # a row
    """Return the dead letter in a row whose last column is the event."""
    fields = (*columns[:-1], msgspec.json.decode(columns[-1]))
    return DeadLetter(*fields)


def as_body(event: Event) -> bytes:
    """Return the event as it is stored."""
    return msgspec.json.encode(events.as_dict(event))


def checked(event: Event) -> bytes:
    """Return the event as it is stored, if it can be read and delivered.

    Raises `Refused`: what would be stuck here is not taken.
    """
    body = as_body(event)
    read(body)
    _, sent = events.encode(event)
    if len(sent) > events.EVENT_BYTES_MAX:  # wider than it came: spaces, escapes
        raise TooLarge(f"an event is sent with at most {events.EVENT_BYTES_MAX} bytes")
    return body


def read(body: bytes) -> Event:
    """Return a stored event, or raise `Refused` if it cannot be read any more."""
    # Taken within the limit as it came, it may be over it in this form.
    return events.decode(_STRUCTURED, body, bytes_max=_BODY_BYTES_MAX)


def without_errors(event: Event) -> Event:
    """Return the event of a dead letter as it was first sent."""
    kept = {k: v for k, v in event.extensions.items() if not k.startswith(ERROR)}
    return replace(event, extensions=kept)
