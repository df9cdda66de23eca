"""What an answer to a delivery means.  Pure; the table is Knative's.

* 2xx, empty body: done.  2xx with a CloudEvent: done, and the reply is a new event.
* 2xx with another body: a failure, tried again, and then a dead letter that
  carries no `knativeerror...` attribute, as on a cluster.
* no answer, 404, 408, 409, 429 and every 5xx: tried again.
* everything else: a dead letter at once.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from functions import events
from functions.local.stored import ERROR
from functions.problems import Refused

if TYPE_CHECKING:
    from functions.events import Event
    from functions.sink import Answer

_DONE: Final = range(200, 300)
_RETRIED: Final = frozenset({404, 408, 409, 429})
_SERVER_ERROR: Final = 500
_DATA_BYTES_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a delivery: `reason` is for people, `error` for the event."""

    verdict: Literal["done", "again", "dead"]
    reason: str = ""
    error: Answer | None = None
    reply: Event | None = None


def judge(answer: Answer | str, event: Event) -> Outcome:
    """Return what `answer` to `event` means; text says why there was none."""
    if isinstance(answer, str):
        return Outcome("again", f"no answer: {answer}")
    if answer.status in _DONE:
        return _reply(answer, event) if answer.body else Outcome("done")
    again = answer.status in _RETRIED or answer.status >= _SERVER_ERROR
    return Outcome("again" if again else "dead", f"status {answer.status}", answer)


def _reply(answer: Answer, event: Event) -> Outcome:
    try:
        reply = events.decode(answer.headers, answer.body)
    except Refused:
        return Outcome("again", f"status {answer.status} with a body that is no event")
    if reply.type == event.type:
        return Outcome(
            "dead", "a reply of the event's own type would go round for ever"
        )
    return Outcome("done", reply=reply)


def dead_letter(event: Event, outcome: Outcome, destination: str) -> Event:
    """Return the event with the reason a broker would give."""
    if outcome.error is None and outcome.reason.startswith("status"):
        return event
    extensions = {**event.extensions, f"{ERROR}dest": destination}
    if outcome.error is not None:
        data = base64.b64encode(outcome.error.body[:_DATA_BYTES_MAX]).decode()
        extensions[f"{ERROR}code"] = str(outcome.error.status)
        extensions[f"{ERROR}data"] = data
    return replace(event, extensions=extensions)
