"""An issuer of our own, as the development profile has one: key set and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.keys import Signer

MARK: Final = "guise_profile"
"""A member of a published key: the profile whose issuer made it.

It is what lets the production profile refuse the key wherever it was copied to.
RFC 7517, section 4, has readers ignore members that they do not know.
"""
DEVELOPMENT: Final = "development"


def jwks_document(signer: Signer, *, development: bool = False) -> dict[str, Any]:
    """Return the JWKS in which an issuer publishes its one key.

    With the mark of the `development` profile the production profile refuses it.
    """
    import base64

    x = base64.urlsafe_b64encode(signer.public_bytes()).rstrip(b"=").decode()
    key = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"}
    marked = {MARK: DEVELOPMENT} if development else {}
    return {"keys": [{**key, "kid": signer.kid, "x": x, **marked}]}


def issue_token(signer: Signer, claims: Mapping[str, Any]) -> str:
    """Return a JWT of `claims`, signed by an issuer of our own."""
    import jwt

    return jwt.encode(
        dict(claims),
        signer.private,
        algorithm="EdDSA",
        headers={"kid": signer.kid},
    )
