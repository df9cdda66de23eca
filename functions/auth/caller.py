"""Who asks: a tenant, a person or program of theirs, and what they may do."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, Protocol

from functions import events
from functions.problems import Forbidden, NotFound, UnknownTenant
from functions.tenant import Tenant

log = logging.getLogger(__name__)

SWAP_WRITE: Final = "swap:write"
SWAP_READ: Final = "swap:read"
AUDIT_READ: Final = "audit:read"
AUDIT_ERASE: Final = "audit:erase"
BILLING_READ: Final = "billing:read"
OPERATOR: Final = "operator"
"""What reads the log and the bills of every tenant, with the scope that each takes.

It counts in a token whose tenant is the operator's own, `events.OPERATOR`, and opens
no store of anybody's.
"""


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

    def reads(self, tenant: str, scope: str) -> Tenant:
        """Return the tenant in a path whose books the token may read, by `scope`.

        That is its own; and each, to the operator.  Raises `NotFound` and `Forbidden`.
        """
        if self.tenant.id != events.OPERATOR or OPERATOR not in self.scopes:
            self.require_tenant(tenant)
        self.require(scope)
        if tenant == self.tenant.id:
            return self.tenant
        log.info("the operator's %s reads of %r: %s", self.subject, tenant, scope)
        try:
            return Tenant(tenant)
        except UnknownTenant as error:
            raise NotFound(internal=str(error)) from error


class Authenticator(Protocol):
    """Turns a header into a caller."""

    def caller(self, authorization: str) -> Caller:
        """Return who sent `authorization`, or raise `Unauthenticated`.

        Raises `NotFound` for another's token at a door that serves one tenant.
        """
