"""Reading a log wherever it is: in our database, or behind anybody's address.

A `LogSource` is what c2sp.org/tlog-tiles says a log serves, and no more: its newest
checkpoint, tiles of hashes, and bundles of entries.  Whoever reads takes the
checkpoint once and then asks only for what a log of that size has: all of that
never changes, however the log grows meanwhile.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, Protocol

from functions.audit.merkle import HASH_BYTES
from functions.audit.tiles import (
    ENTRY_BYTES_MAX,
    NOTE_CHARACTERS_MAX,
    TILE_WIDTH,
    tile_path,
)
from functions.problems import (
    Forbidden,
    NotFound,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from functions.audit.store import Store

BUNDLE_BYTES_MAX: Final = TILE_WIDTH * (2 + ENTRY_BYTES_MAX)
_TIMEOUT_SECONDS: Final = 30.0
_PATIENCE_SECONDS: Final = 30
"""How long a reader that is too fast waits in all before one answer."""
_SECONDS: Final = re.compile(r"[0-9]{1,6}")
_REFUSALS: Final = {401: Unauthenticated, 403: Forbidden, 404: NotFound}


class LogSource(Protocol):
    """One tenant's log of one epoch.

    Each of its methods raises `NotFound` for what the log has not, or has no more.
    """

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint."""

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile."""

    def entries(self, number: int, width: int) -> bytes:
        """Return the first `width` entries of a bundle, as `parse_bundle` takes it."""


class KeptLog:
    """A tenant's log in our database; its newest epoch unless one is named."""

    def __init__(self, store: Store, tenant: str, epoch: int | None = None) -> None:
        self._store = store
        self._tenant = tenant
        self._epoch = epoch

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint, or raise `NotFound`."""
        from functions.audit import read

        return read.checkpoint(self._store, self._tenant, self._epoch)

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile, or raise `NotFound`."""
        from functions.audit import read

        where = (self._store, self._tenant)
        return read.tile(*where, level, number, width, self._epoch)

    def entries(self, number: int, width: int) -> bytes:
        """Return the first `width` entries of a bundle, or raise `NotFound`."""
        from functions.audit import read

        return read.bundle(self._store, self._tenant, number, width, self._epoch)


class RemoteLog:
    """A log behind an address, ours or anybody's that serves what C2SP says.

    `url` is what `checkpoint` and `tile/` lie under: of ours, that ends in
    `/v1/tenants/<tenant>/log`, or `/logs/<epoch>` for an epoch.  Beside `NotFound`
    it raises `Unauthenticated`, `Forbidden`, `TooLarge` and `Unavailable`.
    """

    def __init__(
        self, url: str, token: str = "", wait: Callable[[float], None] = time.sleep
    ) -> None:
        import httpx

        self._wait = wait
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(
            headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=False
        )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def checkpoint(self) -> str:
        """Return the newest signed checkpoint."""
        return self._read("checkpoint", NOTE_CHARACTERS_MAX).decode(errors="replace")

    def tile(self, level: int, number: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile."""
        path = f"tile/{level:d}/{tile_path(number, width)}"
        return self._read(path, width * HASH_BYTES)

    def entries(self, number: int, width: int) -> bytes:
        """Return the first `width` entries of a bundle."""
        return self._read(f"tile/entries/{tile_path(number, width)}", BUNDLE_BYTES_MAX)

    def _read(self, path: str, bytes_max: int) -> bytes:
        """Return what lies at `path`, at the pace that the log asks for."""
        waited = 0
        while True:
            try:
                return self._asked(path, bytes_max)
            except TooManyRequests as problem:
                waited += problem.retry_seconds
                if waited > _PATIENCE_SECONDS:
                    raise Unavailable(f"the log answers 429 for {path}") from problem
                self._wait(problem.retry_seconds)

    def _asked(self, path: str, bytes_max: int) -> bytes:
        """Return what lies at `path`; no stranger decides how much we hold."""
        import httpx

        try:
            with self._client.stream("GET", f"{self._url}/{path}") as answer:
                self._require(answer, path)
                data = bytearray()
                for piece in answer.iter_bytes():
                    data += piece
                    if len(data) > bytes_max:
                        raise TooLarge(f"{path} has over {bytes_max} bytes")
                return bytes(data)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"the log does not answer: {error}") from error

    def _require(self, answer: httpx.Response, path: str) -> None:
        if answer.status_code in _REFUSALS:
            text = f"the log answers no {path}"
            if answer.status_code == NotFound.status:
                text += ", which is what another tenant's token is told, too"
            raise _REFUSALS[answer.status_code](text)
        if answer.status_code == TooManyRequests.status:
            told = _SECONDS.fullmatch(answer.headers.get("Retry-After", ""))
            raise TooManyRequests(retry_seconds=max(1, int(told[0]) if told else 1))
        if not answer.is_success:
            raise Unavailable(f"the log answers {answer.status_code} for {path}")
