"""Who asks: a tenant, a person or program of theirs, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from functions.problems import Forbidden, NotFound

if TYPE_CHECKING:
    from functions.tenant import Tenant

SWAP_WRITE: Final = "swap:write"
SWAP_READ: Final = "swap:read"
AUDIT_READ: Final = "audit:read"
AUDIT_ERASE: Final = "audit:erase"
BILLING_READ: Final = "billing:read"
OPERATOR: Final = "operator"
"""What runs the installation; it stands for none of the others."""


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

    def require_tenant(self, tenant: str) -> None:
        """Raise `NotFound` unless the token is that tenant's.

        `tenant` is as the path has it, and need not be one.  What is another's
        answers as what nobody has: the same words, and nothing is looked up.
        """
        if tenant != self.tenant.id:
            raise NotFound(internal=f"{self.tenant.id} asked for {tenant!r}")


class Authenticator(Protocol):
    """Turns a header into a caller."""

    def caller(self, authorization: str) -> Caller:
        """Return who sent `authorization`, or raise `Unauthenticated`.

        Raises `NotFound` for another's token at a door that serves one tenant.
        """
