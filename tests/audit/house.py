"""One audit function with a real database, its door, and tenants that sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functions import events
from functions.auth import AUDIT_ERASE, AUDIT_READ, Caller
from functions.events import Event
from functions.keys import events_key
from functions.problems import Unauthenticated
from functions.tenant import Tenant

if TYPE_CHECKING:
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from functions.audit.log import Log
    from functions.keys import MemoryKeys


BOTH = ("sqlite", "postgresql")
"""The databases that what touches the log is tested on."""


class TokensByName:
    """An authenticator for whom the token is the tenant's name."""

    def caller(self, authorization: str) -> Caller:
        """Return a caller that may read its own log; `nobody` may not.

        `<tenant> erase` may erase, too.
        """
        name, _, more = authorization.removeprefix("Bearer ").partition(" ")
        if not name:
            raise Unauthenticated
        scopes = set() if name == "nobody" else {AUDIT_READ}
        scopes |= {AUDIT_ERASE} if more == "erase" else set()
        return Caller(Tenant(name), "someone", frozenset(scopes))


@dataclass(frozen=True, slots=True)
class House:
    """The function under test and whoever talks to it."""

    log: Log
    keys: MemoryKeys
    client: FlaskClient
    url: str

    def event(self, name: str = "e1", tenant: str = "acme", **changes: Any) -> Event:
        """Return a signed event; `changes` are attributes, set before signing."""
        plain: dict[str, Any] = {
            "id": name,
            "source": events.swap_source(tenant),
            "type": events.SWAP_STARTED,
            "subject": name,
            "time": "2026-11-21T12:00:00.000Z",
            "tenant": tenant,
            "data": {"job": f"job-{name}", "attempt": 1},
        }
        event = Event(**(plain | changes))
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
        **headers: str,
    ) -> TestResponse:
        """Read from a tenant's log."""
        return self.client.get(
            f"/v1/tenants/{tenant}/log/{path}",
            headers={"Authorization": f"Bearer {token}", **headers},
        )

    def entries(self, tenant: str = "acme") -> list[bytes]:
        """Return every leaf of a tenant's log, straight from the store."""
        from functions.audit.store import Selection, select_entries

        with self.log.store.reading(tenant) as db:
            found = select_entries(db, Selection(tenant), 100_000)
        return [entry.leaf for entry in found]

    def tamper(self, statement: str) -> None:
        """Run a statement as somebody whom the database refuses nothing."""
        import sqlalchemy as sa

        from tests.postgres import SUPERUSER

        url = sa.make_url(self.url)
        if url.drivername != "sqlite":
            url = url.set(username=SUPERUSER)
        engine = sa.create_engine(url)
        with engine.begin() as db:
            db.exec_driver_sql(statement)
        engine.dispose()
