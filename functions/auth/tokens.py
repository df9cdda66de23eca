"""One token: a signed JWT (RFC 7519, as RFC 8725 wants them used), or no caller."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions import events
from functions.auth.caller import Caller
from functions.auth.keysets import (
    KID_CHARS_MAX,
    FileKeySet,
    RemoteKeySet,
    is_development,
)
from functions.problems import (
    InvalidRequest,
    NotFound,
    Unauthenticated,
    UnknownTenant,
)
from functions.settings import SettingsError
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.auth.keysets import KeySet
    from functions.settings import Settings

ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
SKEW_SECONDS: Final = 30
"""How far the issuer's clock and ours may be apart."""
TOKEN_CHARS_MAX: Final = 8192
SUBJECT_CHARS_MAX: Final = 255
"""OpenID Connect Core 1.0, section 2."""
TYPES: Final = frozenset({"", "jwt", "at+jwt"})
"""What a token may say it is: RFC 9068's access token; a logout token is none."""
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+")
_SEGMENTS: Final = 3


class TokenAuthenticator:
    """Verifies JWTs by an issuer's keys: pinned algorithms, issuer and audience.

    The tenant comes from the verified claim `tenant` and from nowhere else, and
    must be the pinned one where there is one.  A path stands for the key set in it.
    """

    def __init__(
        self,
        keys: KeySet | Path,
        *,
        issuer: str,
        audience: str,
        pinned: Tenant | None = None,
    ) -> None:
        self._keys = FileKeySet(keys) if isinstance(keys, Path) else keys
        self._issuer = issuer
        self._audience = audience
        self._pinned = pinned

    @classmethod
    def from_settings(cls, settings: Settings) -> TokenAuthenticator:
        """Return the authenticator a deployment names."""
        settings.require("jwks", "issuer", "audience")
        return cls(
            _key_set(settings),
            issuer=settings.issuer,
            audience=settings.audience,
            pinned=settings.tenant,
        )

    def caller(self, authorization: str) -> Caller:
        """Return who sent `authorization`, or raise `Unauthenticated`.

        Raises `NotFound` for another tenant's token where one is pinned: all that
        is behind this door is somebody else's.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("send Authorization: Bearer <token>")
        claims = self._claims(token.strip())
        tenant = _tenant(claims)
        if self._pinned is not None and tenant != self._pinned:
            raise NotFound(internal=f"{tenant.id} at {self._pinned.id}'s door")
        # A list of scopes is refused, not guessed at: its text could hold ours.
        scopes = frozenset(_text(claims, "scope").split())
        return Caller(tenant, _subject(claims), scopes)

    def _claims(self, token: str) -> Mapping[str, Any]:
        """Return the claims of a token that is good here and now."""
        # 1. Its length, then its form: three segments, the first an object.
        if len(token) > TOKEN_CHARS_MAX:
            raise Unauthenticated(f"a token has at most {TOKEN_CHARS_MAX} characters")
        segments = token.split(".")
        if len(segments) != _SEGMENTS or not all(map(_SEGMENT.fullmatch, segments)):
            raise Unauthenticated("the token is not a signed JWT")
        header = _object(segments[0])
        # 2. What the header says of itself; of keys, it may only name one of ours.
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise Unauthenticated(f"tokens are signed by {', '.join(ALGORITHMS)}")
        if "crit" in header or "b64" in header or not _is_access(header.get("typ", "")):
            raise Unauthenticated("the token asks for what is not done here")
        if not isinstance(kid, str) or not 0 < len(kid) <= KID_CHARS_MAX:
            raise Unauthenticated("the token names no key")
        # 3. The key, and the signature over the first two segments.
        payload = self._verified(token, kid, str(algorithm))
        # 4. The claims, of a payload in which each has one value.
        claims = _object(payload)
        _check_place(claims, self._issuer, self._audience)
        _check_times(claims, time.time())
        return claims

    def _verified(self, token: str, kid: str, algorithm: str) -> str:
        """Return the middle segment of a token whose signature is good."""
        import jwt

        key = self._keys.find(kid)
        if key is None or key.algorithm != algorithm:
            raise Unauthenticated("the token's key is not known")
        try:
            jwt.PyJWS().decode(token, key.public, algorithms=[algorithm])
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated(
                "the token does not verify",
                internal=repr(error),
            ) from error
        return token.split(".")[1]


def _key_set(settings: Settings) -> KeySet:
    production = settings.profile == "production"
    place: Path | str = settings.need("jwks")
    if not isinstance(place, Path):
        return RemoteKeySet(place, production=production)
    if production and is_development(place):
        raise SettingsError("GUISE_JWKS: the development profile's own key set")
    return FileKeySet(place, production=production)


def _object(segment: str) -> Mapping[str, Any]:
    """Return the JSON object in a segment, or raise `Unauthenticated`."""
    try:
        padded = segment + "=" * (-len(segment) % 4)
        value = events.strict_json(base64.urlsafe_b64decode(padded))
    except (ValueError, InvalidRequest) as error:
        raise Unauthenticated("the token is not a signed JWT") from error
    if not isinstance(value, dict):
        raise Unauthenticated("the token is not a signed JWT")
    return value


def _is_access(kind: object) -> bool:
    """Return whether a header's `typ`, a media type (RFC 7515, 4.1.9), may be."""
    return isinstance(kind, str) and kind.lower().removeprefix("application/") in TYPES


def _check_place(claims: Mapping[str, Any], issuer: str, audience: str) -> None:
    """Raise `Unauthenticated` unless the token is by this issuer, and for here."""
    if claims.get("iss") != issuer:
        raise Unauthenticated("the token is another issuer's")
    meant = claims.get("aud")
    if not (meant == audience or (isinstance(meant, list) and audience in meant)):
        raise Unauthenticated("the token is for another audience")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    """Raise `Unauthenticated` unless the token is good at `now`, in epoch seconds."""
    ends = _moment(claims, "exp")
    begins, issued = _moment(claims, "nbf", 0), _moment(claims, "iat", 0)
    if ends <= now - SKEW_SECONDS:
        raise Unauthenticated("the token has expired")
    if max(begins, issued) > now + SKEW_SECONDS:
        raise Unauthenticated("the token is not good yet")


def _moment(
    claims: Mapping[str, Any], name: str, default: float | None = None
) -> float:
    """Return a NumericDate (RFC 7519, section 2), in seconds since the epoch."""
    moment = claims.get(name, default)
    # To Python a boolean is a number, too.
    if isinstance(moment, bool) or not isinstance(moment, int | float):
        raise Unauthenticated(f"the token's {name} is no time")
    return moment


def _tenant(claims: Mapping[str, Any]) -> Tenant:
    try:
        return Tenant(_text(claims, "tenant"))
    except UnknownTenant as error:
        raise Unauthenticated("the token's tenant is none") from error


def _subject(claims: Mapping[str, Any]) -> str:
    subject = _text(claims, "sub")
    # It goes into records and logs, where one line is one line.
    if not subject.isprintable() or not 0 < len(subject) <= SUBJECT_CHARS_MAX:
        raise Unauthenticated("the token names nobody")
    return subject


def _text(claims: Mapping[str, Any], name: str) -> str:
    claim = claims.get(name, "")
    if not isinstance(claim, str):
        raise Unauthenticated(f"the token's {name} is not text")
    return claim
