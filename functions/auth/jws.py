"""One signed JWT (RFC 7519, as RFC 8725 wants them used): its claims, or a refusal."""

from __future__ import annotations

import base64
import re
import time
from typing import TYPE_CHECKING, Any, Final

from functions import events
from functions.auth.keysets import KID_CHARS_MAX
from functions.problems import InvalidRequest, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.auth.keysets import KeySet

ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
SKEW_SECONDS: Final = 30
"""How far the issuer's clock and ours may be apart."""
TOKEN_CHARS_MAX: Final = 8192
TYPES: Final = frozenset({"", "jwt", "at+jwt"})
"""What a token may say it is: RFC 9068's access token; a logout token is none."""
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+")
_SEGMENTS: Final = 3


class Issuer:
    """Whose tokens are taken: its name, its keys, and for whom it must mean them.

    `algorithms` are those of its keys that may sign; a key's type decides which.
    """

    def __init__(
        self,
        keys: KeySet,
        *,
        name: str,
        audience: str,
        algorithms: tuple[str, ...] = ALGORITHMS,
    ) -> None:
        self._keys = keys
        self._name = name
        self._audience = audience
        self._algorithms = algorithms

    def claims(self, authorization: str) -> Mapping[str, Any]:
        """Return the claims of the bearer token in a header, good here and now.

        Raises `Unauthenticated`, or `Unavailable` without a usable key set.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("send Authorization: Bearer <token>")
        return self._claims(token.strip())

    def _claims(self, token: str) -> Mapping[str, Any]:
        # 1. Its length, then its form: three segments, the first an object.
        if len(token) > TOKEN_CHARS_MAX:
            raise Unauthenticated(f"a token has at most {TOKEN_CHARS_MAX} characters")
        segments = token.split(".")
        if len(segments) != _SEGMENTS or not all(map(_SEGMENT.fullmatch, segments)):
            raise Unauthenticated("the token is not a signed JWT")
        header = _object(segments[0])
        # 2. What the header says of itself; of keys, it may only name one of ours.
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            raise Unauthenticated(f"tokens are signed by {', '.join(self._algorithms)}")
        if "crit" in header or "b64" in header or not _is_access(header.get("typ", "")):
            raise Unauthenticated("the token asks for what is not done here")
        if not isinstance(kid, str) or not 0 < len(kid) <= KID_CHARS_MAX:
            raise Unauthenticated("the token names no key")
        # 3. The key, and the signature over the first two segments.
        payload = self._verified(token, kid, str(algorithm))
        # 4. The claims, of a payload in which each has one value.
        claims = _object(payload)
        _check_place(claims, self._name, self._audience)
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
