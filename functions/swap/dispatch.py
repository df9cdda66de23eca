"""How an accepted job reaches a worker: by a call, when somebody waits for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from functions import events
from functions.problems import Unavailable
from functions.sink import post_event, problem_of
from functions.swap.ledger import Record, decoded

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from functions.events import Event
    from functions.settings import Limits, Settings
    from functions.swap.journal import Books

_COLD_SECONDS: Final = 30
"""What waking a worker may take on top of the job."""


class Worker(Protocol):
    """Runs an accepted job while the caller waits."""

    def run(self, event: Event) -> Record:
        """Return how the job ended, or raise `Unavailable`: it goes on later."""


class HttpWorker:
    """The worker at a URL; `token` is as for `sink.HttpSink`."""

    def __init__(self, url: str, limits: Limits, *, token: Path | None = None) -> None:
        self._url = url
        self._token = token
        self._timeout = limits.job_seconds_max + _COLD_SECONDS

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the worker that a deployment names."""
        url, token = settings.need("worker_url"), settings.worker_token_file
        return cls(url, settings.limits, token=token)

    def run(self, event: Event) -> Record:
        """Return how the job in `event` ended, or raise `Unavailable`."""
        url = f"{self._url}/v1/tenants/{event.tenant}/jobs/{event.data['job']}"
        answer = post_event(url, event, timeout=self._timeout, token=self._token)
        if answer.status != 200:  # noqa: PLR2004  # HTTP's OK
            raise Unavailable(internal=f"{url}: {dict(problem_of(answer))}")
        return decoded(answer.body, Record)


def requested(job: str, books: Books, *distinct: str) -> Event:
    """Return the signed event that asks for an accepted job to be run."""
    data: dict[str, Any] = {"job": job}
    return books.signed(job, events.SWAP_REQUESTED, data, *distinct)


def ask(job: str, books: Books) -> None:
    """Have an accepted job run, or raise `Unavailable`.

    The event has a new id each time: a broker that dropped the first must not drop
    this one.
    """
    event = requested(job, books, str(time.time_ns()))
    books.sink.deliver(event, timeout=books.limits.delivery_ms_max / 1000)
