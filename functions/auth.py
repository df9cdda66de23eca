"""Bearer tokens: from an `Authorization` header to a verified `Caller`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from functions.problems import Forbidden, Unauthenticated, Unavailable, UnknownTenant
from functions.tenant import Tenant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from functions.keys import Signer
    from functions.settings import Settings

ALGORITHMS: Final = ("EdDSA", "ES256", "RS256")
SKEW_SECONDS: Final = 30
TOKEN_CHARS_MAX: Final = 8192
SWAP_WRITE: Final = "swap:write"
SWAP_READ: Final = "swap:read"
AUDIT_READ: Final = "audit:read"
AUDIT_ERASE: Final = "audit:erase"
BILLING_READ: Final = "billing:read"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the tenant, the person or program, and what they may do."""

    tenant: Tenant
    subject: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Raise `Forbidden` unless the token carries `scope`."""
        if scope not in self.scopes:
            raise Forbidden(f"the token lacks the scope {scope}")

    def require_tenant(self, tenant: Tenant) -> None:
        """Raise `UnknownTenant` unless the token is that tenant's."""
        if tenant != self.tenant:
            raise UnknownTenant(internal=f"{self.tenant.id} asked for {tenant.id}")


class Authenticator(Protocol):
    """Turns a header into a caller."""

    def caller(self, authorization: str) -> Caller:
        """Return who sent `authorization`, or raise `Unauthenticated`."""


class TokenAuthenticator:
    """Verifies JWTs against a JWKS file: pinned algorithms, issuer and audience.

    The tenant comes from the verified claim `tenant` and from nowhere else, and
    must be the pinned one where there is one.
    """

    def __init__(
        self,
        jwks: Path,
        *,
        issuer: str,
        audience: str,
        pinned: Tenant | None = None,
    ) -> None:
        self._jwks = jwks
        self._issuer = issuer
        self._audience = audience
        self._pinned = pinned
        self._keys: Mapping[str, Any] | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> TokenAuthenticator:
        """Return the authenticator a deployment names."""
        settings.require("jwks", "issuer", "audience")
        return cls(
            settings.need("jwks"),
            issuer=settings.issuer,
            audience=settings.audience,
            pinned=settings.tenant,
        )

    def caller(self, authorization: str) -> Caller:
        """Return who sent `authorization`, or raise `Unauthenticated`."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("send Authorization: Bearer <token>")
        claims = self._claims(token.strip())
        tenant = Tenant(_text(claims, "tenant"))
        if self._pinned is not None and tenant != self._pinned:
            raise UnknownTenant(internal=f"{tenant.id} at {self._pinned.id}'s door")
        subject = _text(claims, "sub")
        if not subject:
            raise Unauthenticated("the token names nobody")
        # A list of scopes is refused, not guessed at: its text could hold ours.
        return Caller(tenant, subject, frozenset(_text(claims, "scope").split()))

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        if len(token) > TOKEN_CHARS_MAX:
            raise Unauthenticated(f"a token has at most {TOKEN_CHARS_MAX} characters")
        known = self._known()
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            if kid not in known:
                raise Unauthenticated("the token's key is not known")
            return jwt.decode(
                token,
                known[kid],
                algorithms=list(ALGORITHMS),
                issuer=self._issuer,
                audience=self._audience,
                leeway=SKEW_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub", "tenant"]},
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated(
                "the token does not verify",
                internal=repr(error),
            ) from error

    def _known(self) -> Mapping[str, Any]:
        import jwt

        if self._keys is None:
            try:
                keys = jwt.PyJWKSet.from_json(self._jwks.read_text()).keys
            except (OSError, ValueError, AttributeError, jwt.PyJWTError) as error:
                raise Unavailable(internal=f"{self._jwks}: {error!r}") from error
            self._keys = {key.key_id: key for key in keys if key.key_id}
        return self._keys


def _text(claims: Mapping[str, Any], name: str) -> str:
    claim = claims.get(name, "")
    if not isinstance(claim, str):
        raise Unauthenticated(f"the token's {name} is not text")
    return claim


def jwks_document(signer: Signer) -> dict[str, Any]:
    """Return the JWKS in which a development issuer publishes its key."""
    import base64

    x = base64.urlsafe_b64encode(signer.public_bytes()).rstrip(b"=").decode()
    key = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"}
    return {"keys": [{**key, "kid": signer.kid, "x": x}]}


def issue_token(signer: Signer, claims: Mapping[str, Any]) -> str:
    """Return a JWT of `claims`, for the development profile's own issuer."""
    import jwt

    return jwt.encode(
        dict(claims),
        signer.private,
        algorithm="EdDSA",
        headers={"kid": signer.kid},
    )
