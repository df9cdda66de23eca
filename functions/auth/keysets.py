"""The issuer's keys: a JWKS (RFC 7517) in a file, or at an https address.

What can serve is kept, and the rest of a set passed over, as the RFC asks.  A key
serves one algorithm, which its type decides (RFC 8725, section 3.1):

    RSA, 2048 to 8192 bits   RS256
    EC, P-256                ES256
    OKP, Ed25519             EdDSA

No secret is a key here (`oct`), no key is one whose private half is published, and
an id that two keys share names neither.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from functions import events
from functions.auth.issuing import DEVELOPMENT, MARK
from functions.problems import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from ssl import SSLContext

    import jwt

log = logging.getLogger(__name__)

KEYSET_BYTES_MAX: Final = 256 * 1024
KEYS_MAX: Final = 64
KID_CHARS_MAX: Final = 256
RSA_BITS: Final = range(2048, 8192 + 1)
FETCH_SECONDS_MAX: Final = 5.0
FRESH_SECONDS: Final = 300.0
"""How long a fetched set is used before it is asked for again."""
COOLDOWN_SECONDS: Final = 10.0
"""The time between two fetches, whatever ids tokens name and however many fail."""
STALE_SECONDS_MAX: Final = 3600.0
"""How long a set is used while no newer one can be had; then nobody comes in."""

_ALGORITHMS: Final = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of the issuer and the one algorithm it is for."""

    algorithm: str
    public: jwt.PyJWK


Keys = dict[str, Key]
"""Keys by their id."""


class KeySet(Protocol):
    """Where an issuer's keys come from."""

    def find(self, kid: str) -> Key | None:
        """Return the key with an id, None where the issuer has no such.

        Raises `Unavailable` where that cannot be told now.
        """


def parse(document: bytes, *, production: bool) -> Keys:
    """Return the keys of a JWKS that can serve.

    Raises `Unavailable` where there is none, or where the production profile is
    handed a key that the development profile's issuer made.
    """
    if len(document) > KEYSET_BYTES_MAX:
        raise Unavailable(internal=f"a key set of over {KEYSET_BYTES_MAX} bytes")
    members = _members(document)
    if production and any(each.get(MARK) == DEVELOPMENT for each in members):
        raise Unavailable(internal="the key set is the development profile's own")
    named = Counter(each.get("kid") for each in members if _is_kid(each.get("kid")))
    found = {}
    for each in members:
        kid = each.get("kid")
        if _is_kid(kid) and named[kid] == 1 and (key := _key(each)):
            found[str(kid)] = key
    if not found:
        raise Unavailable(internal="no key of the set can serve")
    return found


def is_development(path: Path) -> bool:
    """Return whether the development profile's issuer made a file, as far as it shows.

    Cheap enough for a start: no key is looked at.  A file that is not there yet, or
    cannot be read, shows nothing, and lets nobody in either.
    """
    try:
        with path.open("rb") as file:
            members = _members(file.read(KEYSET_BYTES_MAX))
    except (OSError, Unavailable):
        return False
    return any(each.get(MARK) == DEVELOPMENT for each in members)


def _members(document: bytes) -> list[dict[str, Any]]:
    try:
        value = events.strict_json(document)
    except InvalidRequest as error:
        raise Unavailable(internal=f"the key set is no JSON: {error}") from error
    keys = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(keys, list) or len(keys) > KEYS_MAX:
        raise Unavailable(internal=f"a key set has a list of up to {KEYS_MAX} keys")
    return [each for each in keys if isinstance(each, dict)]


def _is_kid(kid: object) -> bool:
    return isinstance(kid, str) and 0 < len(kid) <= KID_CHARS_MAX


def _key(jwk: Mapping[str, Any]) -> Key | None:
    """Return a member of a set as a key, None where it cannot serve."""
    import jwt as pyjwt

    kinds = (jwk.get("kty"), jwk.get("crv"))
    if not all(isinstance(each, str | None) for each in kinds):
        return None
    algorithm = _ALGORITHMS.get(kinds)  # type: ignore[arg-type]  # no such key, then
    if algorithm is None or not _for_verifying(jwk, algorithm):
        return None
    try:
        public = pyjwt.PyJWK(dict(jwk), algorithm)
    except (pyjwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if algorithm == "RS256" and public.key.key_size not in RSA_BITS:
        return None
    return Key(algorithm, public)


def _for_verifying(jwk: Mapping[str, Any], algorithm: str) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return (
        jwk.get("use", "sig") == "sig"
        and jwk.get("alg", algorithm) == algorithm
        and isinstance(operations, list)
        and "verify" in operations
        and "d" not in jwk  # the private half, for everybody to sign with
    )


class FileKeySet:
    """A JWKS in a file, read again when it changes.

    A file that cannot be read, or holds no key that can serve, lets nobody in.
    """

    def __init__(self, path: Path, *, production: bool = False) -> None:
        self._path = path
        self._production = production
        self._read: tuple[object, Keys] = (None, {})

    def find(self, kid: str) -> Key | None:
        """Return the key with an id; raises `Unavailable` without a good file."""
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            known, keys = self._read
            if known != stamp:
                with self._path.open("rb") as file:
                    document = file.read(KEYSET_BYTES_MAX + 1)
                keys = parse(document, production=self._production)
                self._read = (stamp, keys)
        except OSError as error:
            raise Unavailable(internal=f"{self._path}: {error!r}") from error
        return keys.get(kid)


class RemoteKeySet:
    """A JWKS at an https address: fetched when first needed, kept, and renewed.

    It is asked for again when it is no longer fresh, and when a token names a key
    that it does not have, yet never within the cooldown: who makes ids up moves
    nothing.  While it cannot be had the last one serves, for a bounded time.
    """

    def __init__(
        self,
        url: str,
        *,
        production: bool = False,
        fetch: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._production = production
        self._fetch = fetch or fetch_key_set
        self._clock = clock
        self._kept: tuple[float, Keys] | None = None
        self._tried: float | None = None
        self._fetching = threading.Lock()

    def find(self, kid: str) -> Key | None:
        """Return the key with an id; raises `Unavailable` without a usable set."""
        keys, fresh = self._usable()
        if keys and kid in keys and fresh:
            return keys[kid]
        # Who has no keys at all waits for those that another thread is fetching.
        wait = FETCH_SECONDS_MAX if not keys else 0
        if self._fetching.acquire(timeout=wait):
            try:
                self._renew()
            finally:
                self._fetching.release()
        elif kid not in keys:
            raise Unavailable(internal=f"{self._url}: it is being asked for")
        keys, _ = self._usable()
        if not keys:
            raise Unavailable(internal=f"{self._url}: no key set that may be used")
        return keys.get(kid)

    def _usable(self) -> tuple[Keys, bool]:
        """Return the keys that may be used now, and whether they are fresh."""
        if self._kept is None:
            return {}, False
        fetched, keys = self._kept
        age = self._clock() - fetched
        return (keys if age <= STALE_SECONDS_MAX else {}), age <= FRESH_SECONDS

    def _renew(self) -> None:
        began = self._clock()
        if self._tried is not None and began - self._tried < COOLDOWN_SECONDS:
            return
        self._tried = began
        try:
            keys = parse(self._fetch(self._url), production=self._production)
        except Unavailable as error:
            log.warning("the issuer's key set cannot be renewed: %s", error)
            return
        self._kept = (self._clock(), keys)


def fetch_key_set(
    url: str,
    *,
    context: SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """GET a JWKS, following no redirect, or raise `Unavailable`.

    `headers` are sent besides our own.  Looking the host's name up comes on top of
    `FETCH_SECONDS_MAX`.
    """
    from functions import sink

    wanted = {"Accept": "application/jwk-set+json, application/json"}
    sent = {**wanted, **(headers or {})}
    answer = sink.get(url, sent, timeout=FETCH_SECONDS_MAX, context=context)
    if answer.status != _OK:
        raise Unavailable(internal=f"{url}: {answer.status}")
    return answer.body
