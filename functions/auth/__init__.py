"""Bearer tokens: from an `Authorization` header to a verified `Caller`.

* `caller`   who asks, and what they may do
* `tokens`   from a tenant's token to a caller
* `cluster`  from the cluster's own token to the namespace that calls
* `jws`      one token, verified step by step
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
from functions.auth.cluster import Cluster, NoCluster, Speaker, cluster_of
from functions.auth.issuing import issue_token, jwks_document
from functions.auth.jws import TOKEN_CHARS_MAX
from functions.auth.keysets import FileKeySet, KeySet, RemoteKeySet
from functions.auth.tokens import TokenAuthenticator

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
    "Cluster",
    "FileKeySet",
    "KeySet",
    "NoCluster",
    "RemoteKeySet",
    "Speaker",
    "TokenAuthenticator",
    "cluster_of",
    "issue_token",
    "jwks_document",
]
