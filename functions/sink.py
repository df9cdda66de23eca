"""Events leave through here: to `K_SINK`, and to audit for a receipt.

`http.client` of the standard library, because a cold door pays for every import
(21 ms here, where urllib3 takes 101 and httpx 165).
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from functions import events
from functions.problems import NoReceipt, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.events import Event

ANSWER_BYTES_MAX: Final = 1024 * 1024
# What `http.client` raises on an answer, or on a URL, that is none.
_FAULTS: Final = (OSError, http.client.HTTPException, ValueError)
_OK: Final = range(200, 300)
_PAUSE_SECONDS: Final = 0.1


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What audit answers to `started`: where it stands in the log, and since when.

    `leaf_hash` is hex; `checkpoint` is a C2SP signed note whose tree holds the leaf.
    """

    index: Annotated[int, msgspec.Meta(ge=0)]
    leaf_hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
    checkpoint: Annotated[str, msgspec.Meta(min_length=1)]


class Sink(Protocol):
    """Takes events."""

    def deliver(self, event: Event, *, timeout: float) -> None:
        """Return when the event is taken, or raise `Unavailable`."""


class Auditor(Protocol):
    """Gives receipts."""

    def receipt(self, event: Event, *, timeout: float) -> Receipt:
        """Return the receipt of `event`, or raise `NoReceipt`."""

    def wake(self) -> None:
        """Let the function begin to wake, and do not wait for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, its headers (names in lower case), and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    timeout: float,
) -> Answer:
    """POST `body` to `url` and return the answer, or raise `Unavailable`.

    `timeout` is in seconds and bounds each wait on the socket.
    """
    try:
        with closing(_connection(url, timeout)) as connection:
            parts = urlsplit(url)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body, dict(headers))
            answer = connection.getresponse()
            data = answer.read(ANSWER_BYTES_MAX)
            if answer.length and len(data) < ANSWER_BYTES_MAX:
                raise http.client.IncompleteRead(data, answer.length)
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, data)
    except _FAULTS as error:
        raise Unavailable(internal=f"{url}: {error!r}") from error


def _connection(url: str, timeout: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, port, timeout=timeout)


def post_event(url: str, event: Event, *, timeout: float) -> Answer:
    """POST an event in binary mode and return the answer."""
    headers, body = events.encode(event)
    return post(url, headers, body, timeout=timeout)


class HttpSink:
    """A `Sink` at a URL: a broker's ingress, say."""

    def __init__(self, url: str) -> None:
        self._url = url

    def deliver(self, event: Event, *, timeout: float) -> None:
        """Return when the sink has taken the event; try again until `timeout`."""
        deadline = time.monotonic() + timeout
        left = timeout
        while True:
            try:
                answer = post_event(self._url, event, timeout=left)
                if answer.status in _OK:
                    return
                fault = Unavailable(internal=f"{self._url}: {answer.status}")
            except Unavailable as error:
                fault = error
            left = deadline - time.monotonic() - _PAUSE_SECONDS
            if left <= 0:
                raise fault
            time.sleep(_PAUSE_SECONDS)


class HttpAuditor:
    """The audit function at a URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._waking = threading.Lock()

    def receipt(self, event: Event, *, timeout: float) -> Receipt:
        """Return the receipt of `event`, or raise `NoReceipt`."""
        url = f"{self._url}/v1/tenants/{event.tenant}/events"
        try:
            answer = post_event(url, event, timeout=timeout)
        except Unavailable as error:
            raise NoReceipt(internal=str(error)) from error
        if answer.status not in _OK:
            raise NoReceipt(internal=f"{url}: {answer.status} {answer.body[:500]!r}")
        try:
            return msgspec.json.decode(answer.body, type=Receipt)
        except ValueError as error:  # of msgspec, or the codec
            raise NoReceipt(internal=f"{url}: {error}") from error

    def wake(self) -> None:
        """Ask for the health page on a thread, whose answer nobody reads."""
        if not self._waking.acquire(blocking=False):
            return  # one is on its way
        try:
            threading.Thread(target=self._ping, daemon=True).start()
        except RuntimeError:  # no thread to be had
            self._waking.release()

    def _ping(self) -> None:
        try:
            # Whoever needs the answer will meet the fault itself.
            with suppress(*_FAULTS), closing(_connection(self._url, 10)) as connection:
                connection.request("GET", urlsplit(self._url).path + "/health/live")
                connection.getresponse().read(ANSWER_BYTES_MAX)
        finally:
            self._waking.release()


def problem_of(answer: Answer) -> Mapping[str, Any]:
    """Return the problem document in an answer, `{}` when there is none."""
    try:
        document = msgspec.json.decode(answer.body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
