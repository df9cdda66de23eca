"""The cluster's own tokens, over the real doors: whose namespace may say what.

The claims are those that a receiver behind Knative sees (`authentication-oidc`), and
those of a token that Kubernetes projects.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from functions import events
from functions.audit import app as audit
from functions.audit.log import Log
from functions.auth import NoCluster, cluster_of
from functions.auth.cluster import as_reader
from functions.billing import app as billing
from functions.billing.ledger import Ledger
from functions.keys import MemoryKeys
from functions.problems import NoReceipt, Unavailable
from functions.roster import EveryTenant
from functions.settings import Settings, SettingsError
from functions.sink import HttpAuditor
from functions.swap import worker
from functions.swap.dispatch import HttpWorker, requested
from tests.attacks.issuer import Issuer
from tests.audit.house import House as Audit
from tests.audit.house import TokensByName
from tests.billing.house import House as Billing
from tests.billing.house import clock
from tests.integration.production import served
from tests.swap.house import SWAP, House, finalized, picture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from functions.events import Event
    from functions.swap.pipeline import Loaded

CLUSTER: Final = "https://kubernetes.default.svc.cluster.local"
RSA: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER: Final = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KID: Final = "zIq9cQ0nYk"
SET: Final = json.dumps(
    {
        "keys": [
            {
                **RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True),
                "use": "sig",
                "alg": "RS256",
                "kid": KID,
            }
        ]
    }
)


def claims(
    audience: str, namespace: str = "guise-acme", **changes: Any
) -> dict[str, Any]:
    """Return what a projected token says; a change to `...` leaves a claim out."""
    now = int(time.time())
    account = {"name": "worker", "uid": "ac2d3f55-0b5e-4f0e-9b4b-1d1a37b8a9d0"}
    pod = {"name": "worker-00001-deployment-5d8", "uid": "5b6f0c3a"}
    good = {
        "aud": [audience],
        "exp": now + 3600,
        "iat": now,
        "nbf": now,
        "iss": CLUSTER,
        "jti": "3e7b1f7e-1c5a-4d0b-8b0a-3f6f3d1f7b0e",
        "kubernetes.io": {
            "namespace": namespace,
            "pod": pod,
            "serviceaccount": account,
        },
        "sub": f"system:serviceaccount:{namespace}:worker",
    }
    return {name: what for name, what in {**good, **changes}.items() if what is not ...}


def token(audience: str, namespace: str = "guise-acme", **changes: Any) -> str:
    """Return a token as the cluster signs them."""
    return signed(claims(audience, namespace, **changes))


def signed(said: dict[str, Any], key: Any = RSA, algorithm: str = "RS256") -> str:
    return jwt.encode(said, key, algorithm, headers={"kid": KID, "typ": None})


@dataclass
class Town:
    """The three doors that only the cluster reaches, with OIDC on."""

    swap: House
    audit: Audit
    billing: Billing
    worker: FlaskClient
    jwks: Path

    def told(self, which: str, header: str | None, tenant: str = "acme") -> int:
        """Tell a door what acme says, or another tenant; return the status."""
        return self.send(which, header, tenant).status_code

    def send(self, which: str, header: str | None, tenant: str) -> TestResponse:
        path, client, event = self._call(which, tenant)
        headers, body = events.encode(event)
        if header is not None:
            headers["Authorization"] = f"Bearer {header}"
        return client.post(path, headers=headers, data=body)

    def _call(self, which: str, tenant: str) -> tuple[str, FlaskClient, Event]:
        root = f"/v1/tenants/{tenant}"
        if which == "audit":
            return f"{root}/events", self.audit.client, self.audit.event(tenant=tenant)
        if which == "billing":
            usage = self.billing.event(tenant=tenant)
            return f"{root}/events", self.billing.client, usage
        if which == "ticks":
            source = f"/apis/v1/namespaces/guise-{tenant}/pingsources/storage"
            ping = events.Event(id="p", source=source, type=events.PING, time=NOON)
            return f"{root}/ticks", self.billing.client, ping
        if which == "upload":
            return "/events", self.worker, finalized("requests/j1.json", bucket=tenant)
        event = requested("j0", self.swap.books)
        return (
            ("/events" if which == "events" else f"{root}/jobs/j0"),
            self.worker,
            event,
        )


NOON: Final = "2026-11-21T12:00:00.000Z"
AUDIENCES: Final = {
    "audit": "guise-audit",
    "billing": "guise-billing",
    "ticks": "guise-billing",
    "upload": "guise-worker",
    "events": "guise-worker",
    "jobs": "guise-worker",
}
"""The doors, and for whom a token must be."""
DONE: Final = dict.fromkeys(AUDIENCES, 204) | {"audit": 200, "jobs": 200}


def settings(jwks: object, audience: str, **changes: Any) -> Settings:
    environ = {
        "GUISE_OIDC_ISSUER": CLUSTER,
        "GUISE_OIDC_JWKS": str(jwks),
        "GUISE_OIDC_AUDIENCE": audience,
        **changes,
    }
    return Settings.from_env(environ)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Return the doors, each with an audience of its own, and a job of acme's."""
    folder = tmp_path_factory.mktemp("cluster")
    jwks = folder / "jwks.json"
    jwks.write_text(SET)
    keys = MemoryKeys()
    log = Log.at(f"sqlite:///{folder}/audit.db", keys)
    ledger = Ledger.open(f"sqlite:///{folder}/billing.db")
    swap = House(keys=keys)
    by = TokensByName()
    log_door = audit.create_app(
        settings(jwks, "guise-audit"), log=log, keys=keys, authenticator=by
    )
    bill_door = billing.create_app(
        settings(jwks, "guise-billing"),
        ledger=ledger,
        keys=keys,
        authenticator=by,
        now=clock,
    )
    work = worker.create_app(
        settings(jwks, "guise-worker"),
        stores=swap.stores,
        keys=keys,
        roster=EveryTenant(),
        auditor=swap.auditor,
        sink=swap.sink,
        load=_nothing,
    )
    for name in "ab":
        swap.put(f"{name}.png", picture(1))
    swap.upload("j0", SWAP)
    yield Town(
        swap,
        Audit(log, keys, log_door.test_client(), ""),
        Billing(ledger, keys, bill_door.test_client()),
        work.test_client(),
        jwks,
    )
    log.close()
    ledger.close()


def _nothing() -> Loaded:
    raise AssertionError("no job is run here")


doors = pytest.mark.parametrize("which", AUDIENCES)


@doors
def test_the_tenants_own_namespace_speaks_for_it(town: Town, which: str) -> None:
    """As its Triggers, its door and its worker do."""
    assert town.told(which, token(AUDIENCES[which])) == DONE[which]


@doors
def test_the_installations_namespace_speaks_for_everybody(
    town: Town, which: str
) -> None:
    """There the pooled worker is."""
    header = token(AUDIENCES[which], "guise-system")
    assert town.told(which, header) == DONE[which]


@doors
def test_attack_a_call_without_the_clusters_token(town: Town, which: str) -> None:
    """The signature inside is good; who brought it is nobody."""
    assert town.told(which, None) == 401


@doors
@pytest.mark.parametrize("namespace", ["guise-globex", "acme", "guise-acme2", "guise"])
def test_attack_a_call_from_another_namespace(
    town: Town, which: str, namespace: str
) -> None:
    """However well the event is signed; and nothing of it is said but that."""
    answer = town.send(which, token(AUDIENCES[which], namespace), "acme")
    assert answer.status_code == 403
    detail = "the token's namespace is not the tenant's"
    assert answer.get_json()["detail"] == detail


@doors
def test_attack_a_token_for_another_function(town: Town, which: str) -> None:
    """What a sink was sent cannot be sent on."""
    assert town.told(which, token("guise-door")) == 401


def test_an_upload_to_anothers_bucket_is_not_the_callers_to_tell(town: Town) -> None:
    """The tenant is whose store it lies in, and not what the event says."""
    header = token("guise-worker")
    assert town.told("upload", header, tenant="globex") == 403


BENT: Final[dict[str, dict[str, Any]]] = {
    "another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": time.time() - 3600},
    "never ends": {"exp": ...},
    "not yet": {"nbf": time.time() + 3600},
    "no audience": {"aud": ...},
    "no claim": {"kubernetes.io": ...},
    "no namespace": {"kubernetes.io": {"serviceaccount": {"name": "worker"}}},
    "an empty one": {
        "kubernetes.io": {"namespace": ""},
        "sub": "system:serviceaccount::worker",
    },
    "a list of them": {"kubernetes.io": {"namespace": ["guise-acme"]}},
    "a claim that is text": {"kubernetes.io": "guise-acme"},
    "a flat claim": {"kubernetes.io": ..., "kubernetes.io.namespace": "guise-acme"},
    "no subject": {"sub": ...},
    "a person": {"sub": "ann"},
    "a subject elsewhere": {"sub": "system:serviceaccount:guise-globex:worker"},
    "a subject of a longer name": {"sub": "system:serviceaccount:guise-acme2:w"},
}


@pytest.mark.parametrize("how", BENT)
def test_attack_a_bent_service_account_token(town: Town, how: str) -> None:
    """Each claim must be there, and all must agree."""
    assert town.told("audit", signed(claims("guise-audit", **BENT[how]))) == 401


def test_attack_a_token_by_another_key(town: Town) -> None:
    """Under the cluster's id, with the algorithm confused, or with none."""
    said = claims("guise-audit")
    assert town.told("audit", signed(said, OTHER)) == 401
    assert town.told("audit", signed(said, "a" * 64, "HS256")) == 401
    assert town.told("audit", signed(said, RSA, "RS512")) == 401
    none = signed(said, "", "none")
    assert town.told("audit", none) == 401


def test_what_a_tenant_reads_takes_the_tenants_token_alone(town: Town) -> None:
    """Only what the cluster delivers is the cluster's to vouch for."""
    assert town.told("audit", token("guise-audit")) == 200
    assert town.audit.get("checkpoint").status_code == 200


def test_health_and_metrics_ask_for_no_token(town: Town) -> None:
    """The cluster's probes have none."""
    for client in (town.audit.client, town.billing.client, town.worker):
        assert client.get("/health/live").status_code == 204
        assert client.get("/metrics").status_code == 200
        assert client.post("/health/live").status_code == 405


def test_without_the_clusters_keys_nothing_is_taken(tmp_path: Path) -> None:
    """503: a broker comes again, and nothing is lost or believed meanwhile."""
    keys = MemoryKeys()
    log = Log.at(f"sqlite:///{tmp_path}/audit.db", keys)
    made = settings(tmp_path / "none.json", "guise-audit")
    door = audit.create_app(made, log=log, keys=keys, authenticator=TokensByName())
    house = Audit(log, keys, door.test_client(), "")
    headers, body = events.encode(house.event())
    headers["Authorization"] = f"Bearer {token('guise-audit')}"
    answer = house.client.post("/v1/tenants/acme/events", headers=headers, data=body)
    assert answer.status_code == 503
    log.close()


def test_off_by_default(tmp_path: Path) -> None:
    """No token is asked for, and one that is sent is not looked at."""
    assert isinstance(cluster_of(Settings()), NoCluster)
    keys = MemoryKeys()
    log = Log.at(f"sqlite:///{tmp_path}/audit.db", keys)
    door = audit.create_app(
        Settings(), log=log, keys=keys, authenticator=TokensByName()
    )
    house = Audit(log, keys, door.test_client(), "")
    assert house.post(house.event()).status_code == 200
    log.close()


@pytest.mark.parametrize(
    "missing", ["GUISE_OIDC_ISSUER", "GUISE_OIDC_JWKS", "GUISE_OIDC_AUDIENCE"]
)
def test_half_of_it_is_none(missing: str) -> None:
    """Who meant to switch it on learns that it is not."""
    made = settings("/jwks.json", "guise-audit", **{missing: ""})
    with pytest.raises(SettingsError, match=f"{missing}: not set"):
        cluster_of(made)


def test_our_own_calls_bring_the_projected_token(town: Town, tmp_path: Path) -> None:
    """The worker's for its receipt and the door's for its job, read at each call."""
    file = tmp_path / "token"
    with (
        served(town.audit.client.application) as log_url,
        served(town.worker.application) as work_url,
    ):
        mine: dict[str, Any] = {
            "audit_url": log_url,
            "worker_url": work_url,
            "audit_token_file": file,
            "worker_token_file": file,
        }
        auditor = HttpAuditor.from_settings(Settings(**mine))
        with pytest.raises(NoReceipt):
            auditor.receipt(town.audit.event("e2"), timeout=10)
        file.write_text(token("guise-audit"))
        assert auditor.receipt(town.audit.event("e2"), timeout=10).checkpoint
        file.write_text(token("guise-worker"))
        made = HttpWorker.from_settings(Settings(**mine))
        assert made.run(requested("j0", town.swap.books)).job == "j0"
        file.write_text(token("guise-audit"))
        with pytest.raises(Unavailable, match="unauthenticated"):
            made.run(requested("j0", town.swap.books))


class TestReader:
    """The cluster's keys from its own address, which answers service accounts."""

    @pytest.fixture
    def issuer(self) -> Iterator[Issuer]:
        with Issuer.open() as made:
            made.answer = (200, {}, SET.encode())
            yield made

    @pytest.fixture
    def reader(self, tmp_path: Path, issuer: Issuer) -> Path:
        """Return a folder as Kubernetes projects one."""
        (tmp_path / "ca.crt").write_text(issuer.certificate)
        (tmp_path / "token").write_text("first")
        return tmp_path

    def test_the_keys_are_fetched_by_a_service_account(
        self, issuer: Issuer, reader: Path
    ) -> None:
        """Its token goes along, and the cluster's own authority is believed."""
        made = settings(issuer.url, "guise-audit", GUISE_OIDC_READER=str(reader))
        header = f"Bearer {token('guise-audit')}"
        speaker = cluster_of(made).speaker(header)
        assert speaker.namespace == "guise-acme"
        assert not speaker.everybody
        assert issuer.sent == ["Bearer first"]

    def test_the_readers_token_is_renewed_in_place(
        self, issuer: Issuer, reader: Path
    ) -> None:
        """It lives an hour, the process longer."""
        fetch = as_reader(reader)
        fetch(issuer.url)
        (reader / "token").write_text("second")
        fetch(issuer.url)
        assert issuer.sent == ["Bearer first", "Bearer second"]

    @pytest.mark.parametrize("name", ["ca.crt", "token"])
    def test_without_a_whole_folder_nobody_is_asked(
        self, issuer: Issuer, reader: Path, name: str
    ) -> None:
        """A token goes to nobody whom the cluster's authority does not vouch for."""
        (reader / name).unlink()
        with pytest.raises(Unavailable):
            as_reader(reader)(issuer.url)
        assert issuer.sent == []

    def test_attack_another_server_in_the_clusters_place(
        self, issuer: Issuer, reader: Path
    ) -> None:
        """By an authority of its own: it sees no token."""
        with Issuer.open() as other, pytest.raises(Unavailable):
            as_reader(reader)(other.url)
        assert other.sent == []

    def test_without_a_reader_nobodys_token_is_sent(self, issuer: Issuer) -> None:
        """A public address is asked as any issuer's is."""
        made = cluster_of(settings(issuer.url, "guise-audit"))
        with pytest.raises(Unavailable):  # the system does not vouch for it
            made.speaker(f"Bearer {token('guise-audit')}")
        assert issuer.sent == []
