"""Events leave through here: to `K_SINK`, and to audit for a receipt.

`http.client` of the standard library, because a cold door pays for every import
(21 ms here, where urllib3 takes 101 and httpx 165).

What an answer to an event means:

* 2xx: taken.
* no answer, 404, 408, 409, 425, 429 and 5xx: sent again, after a pause that doubles
  at most and is drawn anew each time, until the time is over; then `Unavailable`.
* 3xx, 401, 403, 407: `Unavailable` at once.  The address, the token or a
  policy is wrong, which an operator mends; nothing is wrong with the event.
* every other 4xx: `Undeliverable`.  The same event would be refused for ever.
"""

from __future__ import annotations

import http.client
import io
import itertools
import random
import ssl
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from functions import events, traces
from functions.problems import Failed, NoReceipt, Unavailable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from typing import Self

    from functions.events import Event
    from functions.settings import Settings

ANSWER_BYTES_MAX: Final = 1024 * 1024
TOKEN_BYTES_MAX: Final = 16 * 1024
TRIES_MAX: Final = 20
PROJECTED_TOKEN: Final = Path("/oidc/token")
"""Where a SinkBinding puts the token for its sink, once OIDC is on (`oidc-token`)."""
# What `http.client` raises on an answer, or on a URL, that is none.
_FAULTS: Final = (OSError, http.client.HTTPException, ValueError)
_OK: Final = range(200, 300)
_SENT_AGAIN: Final = frozenset({404, 408, 409, 425, 429})
_MENDED: Final = frozenset({401, 403, 407})
_REFUSALS: Final = range(400, 500)
_SERVER_ERRORS: Final = range(500, 600)
_PAUSE_SECONDS: Final = 0.1
_PAUSE_SECONDS_MAX: Final = 2.0


class Undeliverable(Failed):
    """The receiver refuses the event for what it is, and always will."""


class Unrecordable(Failed):
    """Audit refuses to record the event for what it is, and always will."""


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
        """Return when the event is taken.

        Raises `Unavailable` where another time may do, `Undeliverable` where none
        ever will.
        """


class Auditor(Protocol):
    """Gives receipts."""

    def receipt(self, event: Event, *, timeout: float) -> Receipt:
        """Return the receipt of `event` within `timeout` seconds.

        Raises `NoReceipt`, or `Unrecordable` where no other time will do either.
        """

    def wake(self) -> None:
        """Let the function begin to wake, and do not wait for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, its headers (names in lower case), and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Hurried(io.RawIOBase):
    """A socket's bytes, up to a moment: whoever sends them one by one gains no time."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", 0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401  # as its base
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the whole answer takes too long")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(
        self,
        sock: socket.socket,
        *,
        deadline: float,
        method: str | None = None,
    ) -> None:
        super().__init__(sock, method=method)
        self.fp.close()
        self.fp = io.BufferedReader(_Hurried(sock, deadline))


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    timeout: float,
    context: ssl.SSLContext | None = None,
    way: http.client.HTTPConnection | None = None,
) -> Answer:
    """POST `body` to `url` and return the answer, or raise `Unavailable`.

    `timeout` is in seconds, and bounds the call once the host's name is looked up:
    connecting (to each of its addresses), sending, and reading the whole answer.
    `context` is what vouches for an https server, `way` a connection of the
    caller's own that is to be made.  No redirect is followed.
    """
    return _exchange("POST", url, headers, body, timeout, context, way)


def get(
    url: str,
    headers: Mapping[str, str],
    *,
    timeout: float,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """GET `url` and return the answer, bounded as by `post`, or raise `Unavailable`."""
    return _exchange("GET", url, headers, None, timeout, context, None)


def _exchange(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    timeout: float,
    context: ssl.SSLContext | None,
    way: http.client.HTTPConnection | None,
) -> Answer:
    deadline = time.monotonic() + timeout
    try:
        with closing(way or _connection(url, timeout, context)) as connection:
            connection.response_class = partial(_Response, deadline=deadline)  # type: ignore[assignment]  # it is called, and no more
            connection.connect()
            connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
            parts = urlsplit(url)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            data = answer.read(ANSWER_BYTES_MAX)
            if answer.length and len(data) < ANSWER_BYTES_MAX:
                raise http.client.IncompleteRead(data, answer.length)
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, data)
    except _FAULTS as error:
        raise Unavailable(internal=f"{url}: {error!r}") from error


def _connection(
    url: str,
    timeout: float,
    context: ssl.SSLContext | None = None,
) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        trusted = context or ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=trusted)
    return http.client.HTTPConnection(host, port, timeout=timeout)


def post_event(
    url: str, event: Event, *, timeout: float, token: Path | None = None
) -> Answer:
    """POST an event in binary mode and return the answer, or raise `Unavailable`.

    `token` is as for `HttpSink`.
    """
    headers, body = events.encode(event)
    with traces.within("post an event"):
        sent = {**headers, **bearer(token), **traces.headers()}
        return post(url, sent, body, timeout=timeout)


def full_jitter(tries: int) -> float:
    """Return how many seconds to wait after `tries` tries (1, 2, …) in vain.

    Drawn from all of 0 to a bound that doubles, so that many who were sent away
    together do not come back together (M. Brooker, "Exponential backoff and jitter",
    AWS Architecture Blog, 2015).
    """
    bound = min(_PAUSE_SECONDS * 2.0 ** (tries - 1), _PAUSE_SECONDS_MAX)
    return random.uniform(0, bound)  # noqa: S311  # no secret


class HttpSink:
    """A `Sink` at a URL: a broker's ingress, say.

    `overrides` are extensions that each event is sent with; `ca_certs` (PEM) vouches
    for the server beside the system's own authorities; `token` is a file whose text
    goes along as a bearer token, read anew for each request, as it is renewed in
    place.  A token file that cannot be read is `Unavailable`.
    """

    def __init__(
        self,
        url: str,
        *,
        overrides: Mapping[str, str] | None = None,
        ca_certs: str = "",
        token: Path | None = None,
        pauses: Callable[[int], float] = full_jitter,
    ) -> None:
        self._url = url
        self._overrides = dict(overrides or {})
        self._context = (
            ssl.create_default_context() if url.startswith("https:") else None
        )
        if self._context and ca_certs:
            self._context.load_verify_locations(cadata=ca_certs)
        self._token = token
        self._pauses = pauses

    @classmethod
    def from_settings(
        cls, settings: Settings, *, projected: Path = PROJECTED_TOKEN
    ) -> Self:
        """Return the sink that `K_SINK` and what goes with it describe.

        Without a token file of its own, the one that a SinkBinding projects is used
        where there is one.
        """
        token = settings.token_file
        if token is None and projected.exists():
            token = projected
        return cls(
            settings.need("sink_url"),
            overrides=dict(settings.ce_overrides),
            ca_certs=settings.ca_certs,
            token=token,
        )

    def deliver(self, event: Event, *, timeout: float) -> None:
        """Return when the sink has taken the event; see the module for when not."""
        deadline = time.monotonic() + timeout
        extensions = {**event.extensions, **self._overrides}
        headers, body = events.encode(replace(event, extensions=extensions))
        for tries in itertools.count(1):
            with traces.within("deliver an event") as span:
                fault = self._try(headers, body, deadline - time.monotonic())
                if span is not None:
                    span.failed = fault is not None
            if fault is None:
                return
            pause = self._pauses(tries)
            if tries == TRIES_MAX or time.monotonic() + pause >= deadline:
                try:
                    raise fault
                finally:
                    # Or the two keep each other, and every frame that called this
                    # one with what is in it: a picture, say.
                    del fault
            time.sleep(pause)

    def _try(
        self, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Unavailable | None:
        """Return None when the event is taken, or why it is to be sent again."""
        try:
            answer = post(
                self._url,
                {**headers, **bearer(self._token), **traces.headers()},
                body,
                timeout=timeout,
                context=self._context,
            )
        except Unavailable as error:
            return error
        if answer.status in _OK:
            return None
        said = f"{self._url}: {answer.status}"
        if answer.status in _SENT_AGAIN or answer.status in _SERVER_ERRORS:
            return Unavailable(internal=said)
        if is_for_good(answer.status):
            detail = f"refused with status {answer.status}"
            raise Undeliverable(detail, internal=f"{said} {answer.body[:200]!r}")
        raise Unavailable(internal=said)


def bearer(token: Path | None) -> dict[str, str]:
    """Return the header with the token in a file; none without a file.

    Read anew for each request, as it is renewed in place.  Raises `Unavailable`.
    """
    if token is None:
        return {}
    try:
        with token.open("rb") as file:
            text = file.read(TOKEN_BYTES_MAX).decode("ascii").strip()
    except (OSError, UnicodeError) as error:
        raise Unavailable(internal=f"{token}: {error!r}") from error
    return {"Authorization": f"Bearer {text}"}


def is_for_good(status: int) -> bool:
    """Return whether an answer refuses the event itself, whatever one tries later."""
    return status in _REFUSALS and status not in _SENT_AGAIN | _MENDED


class HttpAuditor:
    """The audit function at a URL; `token` is as for `HttpSink`."""

    def __init__(self, url: str, *, token: Path | None = None) -> None:
        self._url = url
        self._token = token
        self._waking = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the audit function that a deployment names."""
        return cls(settings.need("audit_url"), token=settings.audit_token_file)

    def receipt(self, event: Event, *, timeout: float) -> Receipt:
        """Return the receipt of `event`, or raise `NoReceipt` or `Unrecordable`."""
        url = f"{self._url}/v1/tenants/{event.tenant}/events"
        headers, body = events.encode_structured(event)  # a sidecar is no header
        try:
            with traces.within("ask for a receipt"):
                sent = {**headers, **bearer(self._token), **traces.headers()}
                answer = post(url, sent, body, timeout=timeout)
        except Unavailable as error:
            raise NoReceipt(internal=str(error)) from error
        if is_for_good(answer.status):
            raise Unrecordable(internal=f"{url}: {answer.status} {answer.body[:500]!r}")
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
