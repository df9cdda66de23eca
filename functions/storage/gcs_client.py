"""A client of Google's buckets that gives up in time, and what its errors mean here.

The tries are ours and none is the client's: only who sends a write again knows
that what it then finds may be its own.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import requests
import urllib3.exceptions
from google.api_core import exceptions as google
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from functions.problems import Changed, NotFound, Problem
from functions.storage.base import (
    StoreBusy,
    StoreClock,
    StoreDamaged,
    StoreDenied,
    StoreFault,
    StoreUnreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

_CLIENTS_MAX: Final = 8
_CONNECTIONS_MAX: Final = 32
_WAIT_SECONDS: Final = 0.1
_SERVER_FAULT: Final = 500
_STATUS: Final[dict[int, type[Problem]]] = {
    401: StoreDenied,
    403: StoreDenied,
    404: NotFound,
    408: StoreUnreachable,
    412: Changed,
    429: StoreBusy,
    503: StoreBusy,
}
# Some quotas are refused as 403, and a wrong checksum is one of many 400s.
_RATES: Final = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
_CHECKSUMS: Final = ("CRC32C", "MD5")
_BROKEN: Final = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    auth.TransportError,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one try may wait, and how many tries there are."""

    connect_seconds: float = 3.0
    read_seconds: float = 15.0
    tries: int = 3

    @property
    def timeout(self) -> tuple[float, float]:
        """The two times as the client takes them."""
        return self.connect_seconds, self.read_seconds


@lru_cache(maxsize=_CLIENTS_MAX)
def client(endpoint: str = "") -> storage.Client:
    """Return the client for `endpoint` (Google itself if empty).

    It knows itself by the credentials that Google's own tools would find; at an
    endpoint of somebody else's it says nothing of who it is.
    """
    nobody = AnonymousCredentials()  # type: ignore[no-untyped-call]
    with wrapped("the client"):
        found = storage.Client(
            project="none",  # no request of ours is about one; it would ask around
            credentials=nobody if endpoint else None,
            client_options={"api_endpoint": endpoint} if endpoint else None,
        )
    # It keeps ten connections, and would ask for each bucket's metadata on a thread,
    # for traces that nobody takes.
    pool = requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS_MAX)
    found._http.mount("https://", pool)  # noqa: SLF001
    found._bucket_metadata_cache = None  # noqa: SLF001
    return found


def tried(what: str, patience: Patience, request: Callable[[bool], T]) -> T:
    """Return what `request` does; without an answer, do it again.

    It is told whether it is done again: what it did before may have been done.
    """
    for number in range(1, patience.tries):
        try:
            with wrapped(what):
                return request(number > 1)
        except (StoreBusy, StoreUnreachable):
            wait(number)
    with wrapped(what):
        return request(patience.tries > 1)


def wait(number: int) -> None:
    """Wait after try `number`, each time about twice as long."""
    time.sleep(_WAIT_SECONDS * 2**number * random.uniform(0.5, 1))  # noqa: S311  # jitter


@contextmanager
def wrapped(what: str) -> Iterator[None]:
    """Turn what the client raises into what a store raises, each by its name."""
    try:
        yield
    except google.GoogleAPICallError as error:
        raise _answered(error, what) from error
    except _BROKEN as error:
        raise StoreUnreachable(internal=f"{what}: {error}") from error
    except auth.GoogleAuthError as error:
        raise _unknown(error)(internal=f"{what}: {error}") from error


def _answered(error: google.GoogleAPICallError, what: str) -> Problem:
    """Return what an answer of the service means."""
    status = int(error.code or 0)
    kind = _STATUS.get(status)
    if kind is NotFound:
        return NotFound(f"{what} does not exist")
    message, reasons = _said(error)
    if reasons & _RATES:
        kind = StoreBusy
    elif status == requests.codes.bad and any(name in message for name in _CHECKSUMS):
        kind = StoreDamaged
    if kind is None:
        kind = StoreUnreachable if status >= _SERVER_FAULT else StoreFault
    return kind(internal=f"{what}: {error}")


def _said(error: google.GoogleAPICallError) -> tuple[str, set[str]]:
    """Return Google's message, and its own names of what is wrong.

    Of an upload or a download that is refused, the client reads neither.
    """
    try:
        document: Any = error.response.json()["error"]
        reasons = {str(each["reason"]) for each in document["errors"]}
        return str(document["message"]), reasons
    except (ValueError, LookupError, TypeError):  # from something on the way
        return "", set()


def _unknown(error: auth.GoogleAuthError) -> type[Problem]:
    """Return what it means that nobody says who we are."""
    if error.retryable:
        return StoreUnreachable
    return StoreClock if "iat and exp" in str(error) else StoreDenied
