"""Two tenants in one installation: the three real doors behind one real issuer.

Stores, keys, databases, token verification and every module of ours are the real
ones; behind the door, the auditor, the sink and the engine are those of
`tests.swap.house`.
"""

from __future__ import annotations

import base64
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from functions.audit import app as audit
from functions.audit.log import Log
from functions.auth import (
    AUDIT_ERASE,
    AUDIT_READ,
    BILLING_READ,
    SWAP_READ,
    SWAP_WRITE,
    TokenAuthenticator,
    jwks_document,
)
from functions.billing import app as billing
from functions.billing.ledger import Ledger
from functions.keys import MemoryKeys
from functions.roster import EveryTenant
from functions.settings import Settings
from functions.storage.memory import MemoryStore
from functions.swap import door
from functions.tenant import Tenant
from tests.audit.house import House as Audit
from tests.billing.house import House as Billing
from tests.swap.house import SWAP, House, picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from functions.auth import Authenticator
    from functions.storage import Store

ISSUER: Final = "https://id.example"
EVERYTHING: Final = (
    f"{SWAP_READ} {SWAP_WRITE} {AUDIT_READ} {AUDIT_ERASE} {BILLING_READ}"
)
RSA: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC: Final = ec.generate_private_key(ec.SECP256R1())
ACME, GLOBEX = Tenant("acme"), Tenant("globex")


def segment(value: object) -> str:
    """Return a segment of a token: bytes as they are, all else as JSON."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Spied:
    """A store, and the list of the calls that are made of it, with their keys."""

    def __init__(self, calls: list[str]) -> None:
        self._store = MemoryStore()
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)

        def call(*arguments: Any, **more: Any) -> Any:
            self._calls.append(f"{name} {arguments[0] if arguments else ''}")
            return found(*arguments, **more)

        return call


@dataclass
class Town:
    """The doors, by the first word of what is behind each, and their issuer."""

    keys: MemoryKeys
    swap: House
    audit: Audit
    billing: Billing
    door: FlaskClient
    authenticator: Authenticator
    calls: list[str] = field(default_factory=list)

    def claims(self, **changes: object) -> dict[str, Any]:
        """Return ann's claims; a change to `...` leaves one out."""
        good = {
            "iss": ISSUER,
            "aud": "guise",
            "sub": "ann",
            "tenant": "acme",
            "scope": EVERYTHING,
            "iat": int(time.time()),
            "exp": int(time.time()) + 600,
        }
        changed = {**good, **changes}
        return {name: text for name, text in changed.items() if text is not ...}

    def header(self, **changes: object) -> dict[str, Any]:
        """Return the header of the issuer's tokens; `...` leaves a member out."""
        kid = self.keys.signer("tokens").kid
        changed = {"alg": "EdDSA", "kid": kid, "typ": "JWT", **changes}
        return {name: text for name, text in changed.items() if text is not ...}

    def signed(self, header: object, payload: object) -> str:
        """Return any header and payload under the issuer's good signature."""
        text = f"{segment(header)}.{segment(payload)}"
        signature = self.keys.signer("tokens").sign(text.encode("latin-1"))
        return f"{text}.{segment(signature)}"

    def token(self, tenant: str = "acme", **changes: object) -> str:
        """Return a token as the issuer makes them."""
        return self.signed(self.header(), self.claims(tenant=tenant, **changes))

    def ask(
        self, which: str, path: str, token: str, method: str = "GET", **more: Any
    ) -> TestResponse:
        """Send a request to one of the doors: `swap`, `audit`, `billing`."""
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        client = self.clients[which]
        return client.open(path, method=method, headers=headers, **more)

    def billed(self) -> dict[str, Any]:
        """Return the total of acme's usage in the current month."""
        answer = self.ask("billing", "/v1/tenants/acme/usage", self.token())
        total = answer.get_json()["total"]
        assert isinstance(total, dict)
        return total

    @property
    def clients(self) -> dict[str, FlaskClient]:
        """The doors themselves."""
        return {
            "swap": self.door,
            "audit": self.audit.client,
            "billing": self.billing.client,
        }

    def work(self, tenant: Tenant = ACME) -> str:
        """Have a tenant swap, be audited and be billed; return the job."""
        store = self.swap.stores.of(tenant)
        for name in "ab":
            store.put(tenant.upload(f"uploads/{name}.png"), picture(1))
        answer = self.ask(
            "swap", "/v1/swaps", self.token(tenant.id), method="POST", json=SWAP
        )
        assert answer.status_code == 201
        self.audit.post(self.audit.event(tenant=tenant.id), tenant=tenant.id)
        self.billing.post(self.billing.event(tenant=tenant.id), tenant=tenant.id)
        return str(answer.get_json()["job"])


@contextmanager
def open_town(folder: Path) -> Iterator[Town]:
    """Yield an installation whose databases lie in `folder`."""
    keys = MemoryKeys()
    path = folder / "jwks.json"
    path.write_text(json.dumps(key_set(keys)))
    authenticator = TokenAuthenticator(path, issuer=ISSUER, audience="guise")
    calls: list[str] = []
    swap = House(keys=keys, opener=lambda _: cast("Store", Spied(calls)))
    log = Log.at(f"sqlite:///{folder}/audit.db", keys)
    ledger = Ledger.open(f"sqlite:///{folder}/billing.db")
    log_door = audit.create_app(log=log, keys=keys, authenticator=authenticator)
    bill_door = billing.create_app(
        ledger=ledger, keys=keys, authenticator=authenticator
    )
    yield Town(
        keys,
        swap,
        Audit(log, keys, log_door.test_client(), ""),
        Billing(ledger, keys, bill_door.test_client()),
        public_door(swap, authenticator),
        authenticator,
        calls,
    )
    log.close()
    ledger.close()


def public_door(swap: House, authenticator: Authenticator) -> FlaskClient:
    """Return a door of a swap function, whose callers are who a token says."""
    return door.create_app(
        Settings(limits=swap.limits),
        stores=swap.stores,
        keys=swap.keys,
        roster=EveryTenant(),
        authenticator=authenticator,
        auditor=swap.auditor,
        sink=swap.sink,
        worker=swap,
    ).test_client()


def key_set(keys: MemoryKeys) -> dict[str, Any]:
    """Return the issuer's set: a key of each kind, and a secret that is none."""
    document = jwks_document(keys.signer("tokens"))
    document["keys"] += [
        {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "rsa"},
        {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "ec"},
        {"kty": "oct", "kid": "oct", "k": segment(b"0" * 32)},
    ]
    return document


@contextmanager
def statements() -> Iterator[list[str]]:
    """Yield the list of the SQL statements that any database is sent meanwhile."""
    seen: list[str] = []

    def note(*arguments: Any) -> None:
        seen.append(str(arguments[2]))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
