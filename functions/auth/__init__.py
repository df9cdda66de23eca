"""Bearer tokens: from an `Authorization` header to a verified `Caller`.

* `caller`   who asks, and what they may do
* `tokens`   one token, verified step by step
* `keysets`  the issuer's keys, out of a file or from an https address
* `issuing`  the development profile's own issuer

Nothing here is imported from a token: not its key, not where to get one.
"""

from functions.auth.caller import (
    AUDIT_ERASE,
    AUDIT_READ,
    BILLING_READ,
    OPERATOR,
    SWAP_READ,
    SWAP_WRITE,
    Authenticator,
    Caller,
)
from functions.auth.issuing import issue_token, jwks_document
from functions.auth.keysets import FileKeySet, KeySet, RemoteKeySet
from functions.auth.tokens import TOKEN_CHARS_MAX, TokenAuthenticator

__all__ = [
    "AUDIT_ERASE",
    "AUDIT_READ",
    "BILLING_READ",
    "OPERATOR",
    "SWAP_READ",
    "SWAP_WRITE",
    "TOKEN_CHARS_MAX",
    "Authenticator",
    "Caller",
    "FileKeySet",
    "KeySet",
    "RemoteKeySet",
    "TokenAuthenticator",
    "issue_token",
    "jwks_document",
]
