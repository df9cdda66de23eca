"""One billing function with a real database, its door, and tenants that sign."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from functions import events
from functions.auth import BILLING_READ, Caller
from functions.events import Event
from functions.keys import events_key
from functions.problems import Unauthenticated
from functions.tenant import Tenant

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from functions.billing.ledger import Ledger
    from functions.keys import MemoryKeys

BOTH = ("sqlite", "postgresql")
"""The databases that what touches the ledger is tested on."""
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def clock() -> datetime:
    """Return the time in these tests."""
    return NOW


def usage_data(**changes: Any) -> dict[str, Any]:
    """Return what the worker says of one swap on a GPU."""
    return {
        "job": "job-1",
        "operation": "swap",
        "device": {"kind": "cuda", "name": "L4", "uuid": "GPU-1", "share": "1"},
        "lease_ms": 136,
        "gpu_seconds": "0.136",
        "cpu_seconds": "0.412",
        "load_ms": 700,
        "requests": 1,
        "faces": 2,
        "frames": 1,
        "input_bytes": 1000,
        "output_bytes": 500,
        "model_digest": "sha256:00",
        "outcome": "completed",
        "billable": True,
        **changes,
    }


class TokensByName:
    """An authenticator for whom the token is the tenant's name."""

    def caller(self, authorization: str) -> Caller:
        """Return a caller that may read its own bills; `nobody` may not."""
        name = authorization.removeprefix("Bearer ")
        if not name:
            raise Unauthenticated
        scopes = frozenset() if name == "nobody" else frozenset({BILLING_READ})
        return Caller(Tenant(name), "someone", scopes)


@dataclass(frozen=True, slots=True)
class House:
    """The function under test and whoever talks to it."""

    ledger: Ledger
    keys: MemoryKeys
    client: FlaskClient

    def event(
        self,
        name: str = "u1",
        tenant: str = "acme",
        attributes: dict[str, Any] | None = None,
        **data: Any,
    ) -> Event:
        """Return a signed usage event; `data` changes what it says."""
        plain: dict[str, Any] = {
            "id": name,
            "source": events.swap_source(tenant),
            "type": events.USAGE_RECORDED,
            "subject": tenant,
            "time": "2026-11-21T11:00:00.000Z",
            "tenant": tenant,
            "data": usage_data(**data),
        }
        event = Event(**(plain | (attributes or {})))
        return events.sign(event, self.keys.signer(events_key(tenant)))

    def post(self, event: Event, tenant: str = "acme") -> TestResponse:
        """Post an event to a tenant's door in binary mode."""
        headers, body = events.encode(event)
        path = f"/v1/tenants/{tenant}/events"
        return self.client.post(path, headers=headers, data=body)

    def get(
        self,
        path: str,
        *,
        tenant: str = "acme",
        token: str = "acme",  # noqa: S107  # a name, not a secret
    ) -> TestResponse:
        """Read a tenant's usage or invoices."""
        headers = {"Authorization": f"Bearer {token}"}
        return self.client.get(f"/v1/tenants/{tenant}/{path}", headers=headers)

    def total(self, query: str = "") -> dict[str, Any]:
        """Return the total of the usage in the current month, or in a query."""
        shown = self.get(f"usage{query}").get_json()["total"]
        assert isinstance(shown, dict)
        return shown
