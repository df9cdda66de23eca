"""One tenant's good token against what is another's: every way to ask for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from functions.auth import TokenAuthenticator
from functions.tenant import Key
from tests.attacks.town import (
    ACME,
    GLOBEX,
    ISSUER,
    Town,
    key_set,
    open_town,
    public_door,
    statements,
)
from tests.swap.house import SWAP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from werkzeug.test import TestResponse

NOT_FOUND = b'{"type":"urn:guise:problem:not-found","title":"Not found","status":404}'

LOG = (
    ("GET", "log/checkpoint"),
    ("GET", "log/entries"),
    ("GET", "log/entries?job=job-e1"),
    ("GET", "log/proof/0"),
    ("GET", "log/proof/99"),
    ("GET", "log/tile/0/000.p/1"),
    ("GET", "log/tile/entries/000.p/1"),
    ("GET", "log/erasures/job-e1"),
    ("GET", "logs/1/checkpoint"),
    ("GET", "logs/1/tile/0/000.p/1"),
    ("GET", "logs/9/entries"),
    ("POST", "log/searches"),
    ("POST", "log/erasures"),
)
BILLS = (
    ("GET", "usage"),
    ("GET", "usage?by=job"),
    ("GET", "usage?by=nonsense"),
    ("GET", "invoices"),
    ("GET", "invoices/2026-11"),
    ("GET", "invoices/acme-2026-11"),
    ("GET", "invoices/globex-2026-11"),
    ("GET", "invoices/nonsense"),
)
DOORS = [
    *(("audit", *each) for each in LOG),
    *(("billing", *each) for each in BILLS),
]
JOBS = (("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("DELETE", ""))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, str]]:
    """Return an installation in which acme has a job, a log and a bill; and the job."""
    with open_town(tmp_path_factory.mktemp("lived")) as town:
        yield town, town.work()


def seen(answer: TestResponse) -> tuple[int, bytes, dict[str, str]]:
    """Return all of an answer that a caller could tell apart."""
    return answer.status_code, answer.data, dict(answer.headers)


@pytest.mark.parametrize(("which", "method", "path"), DOORS)
def test_attack_another_tenants_path(
    lived: tuple[Town, str], which: str, method: str, path: str
) -> None:
    """404, the same bytes and headers as for a tenant that never was, and no query."""
    town, _ = lived
    token = town.token("globex")
    answers = []
    with statements() as sent:
        for tenant in ("acme", "nowhere", "ACME", "%2e%2e", "a" * 200, "globex%20"):
            where = f"/v1/tenants/{tenant}/{path}"
            answers.append(seen(town.ask(which, where, token, method=method, json={})))
    assert answers[0][:2] == (404, NOT_FOUND)
    assert all(each == answers[0] for each in answers)
    assert sent == []


@pytest.mark.parametrize(("method", "path"), JOBS)
def test_attack_another_tenants_job(
    lived: tuple[Town, str], method: str, path: str
) -> None:
    """404, the same bytes and headers as for a job that never was."""
    town, job = lived
    made_up = job[:-1] + ("0" if job[-1] != "0" else "1")
    answers = [
        seen(town.ask("swap", f"/v1/swaps/{each}{path}", town.token("globex"), method))
        for each in (job, made_up)
    ]
    assert answers[0][0] == 404
    assert answers[0] == answers[1]
    assert town.ask("swap", f"/v1/swaps/{job}", town.token()).status_code == 200


@pytest.mark.parametrize(("method", "path"), JOBS)
def test_attack_timing_of_exists_but_not_yours(
    lived: tuple[Town, str], method: str, path: str
) -> None:
    """What is another's costs the same calls of a store as what nobody has."""
    town, job = lived
    made_up = job[:-1] + ("0" if job[-1] != "0" else "1")
    counted = []
    for each in (job, made_up):
        town.calls.clear()
        town.ask("swap", f"/v1/swaps/{each}{path}", town.token("globex"), method)
        counted.append([call.replace(each, "<job>") for call in town.calls])
    assert counted[0] == counted[1]
    assert counted[0]  # it did look, in a store of its own


def test_attack_listing_shows_nobody_elses_jobs(lived: tuple[Town, str]) -> None:
    """Nor does a cursor that names one."""
    town, job = lived
    for cursor in ("", job, f"../acme/{job}", "results/"):
        answer = town.ask(
            "swap",
            "/v1/swaps",
            town.token("globex"),
            query_string={"cursor": cursor},
        )
        assert job.encode() not in answer.data.replace(cursor.encode() or b"-", b"")


@pytest.mark.parametrize(
    "where",
    [
        {"headers": {"X-Tenant": "acme", "X-Forwarded-User": "acme"}},
        {"headers": {"Guise-Tenant": "acme", "X-Guise-Tenant": "acme"}},
        {"headers": {"Host": "acme.guise.example", "X-Forwarded-Host": "acme"}},
        {"headers": {"ce-tenant": "acme"}},
        {"headers": {"Cookie": "tenant=acme"}},
        {"query_string": {"tenant": "acme", "GUISE_TENANT": "acme"}},
    ],
    ids=["header", "own-header", "host", "event", "cookie", "query"],
)
def test_attack_tenant_named_beside_the_token(
    lived: tuple[Town, str], where: dict[str, Any]
) -> None:
    """The tenant is the verified claim's, whatever else a request says."""
    town, job = lived
    answer = town.ask("swap", f"/v1/swaps/{job}", town.token("globex"), **where)
    assert answer.status_code == 404
    assert (
        town.ask("swap", "/v1/swaps", town.token("globex"), **where).get_json()["jobs"]
        == []
    )


@pytest.mark.parametrize("name", ["tenant", "actor", "job", "bucket", "store"])
def test_attack_tenant_named_in_the_body(fresh: Town, name: str) -> None:
    """A request has no place for it: unknown members are refused by name."""
    fresh.work()
    answer = fresh.ask(
        "swap", "/v1/swaps", fresh.token("globex"), "POST", json={**SWAP, name: "acme"}
    )
    assert answer.status_code == 400
    assert name in answer.get_json()["detail"]


@pytest.mark.parametrize("field", ["source", "target"])
def test_attack_another_tenants_upload(fresh: Town, field: str) -> None:
    """A key names an object of one's own store: the other's is as if it were not."""
    fresh.work()
    own = fresh.swap.stores.of(GLOBEX)
    own.put(GLOBEX.upload("uploads/mine.png"), b"x")
    told = []
    for name in ("uploads/a.png", "uploads/nowhere.png"):
        ask = {**SWAP, "source": "uploads/mine.png", "target": "uploads/mine.png"}
        answer = fresh.ask(
            "swap",
            "/v1/swaps",
            fresh.token("globex"),
            "POST",
            json={**ask, field: name},
        )
        told.append((answer.status_code, answer.data.replace(name.encode(), b"-")))
    assert told[0] == told[1]
    assert told[0][0] in {400, 404}


def test_attack_another_tenants_consent_record(fresh: Town) -> None:
    """A basis that another was given is none."""
    fresh.swap.stores.of(ACME).put(
        ACME.consent("consents/1.json"), b'{"state":"given"}'
    )
    fresh.work(GLOBEX)
    told = [
        fresh.ask(
            "swap",
            "/v1/swaps",
            fresh.token("globex"),
            "POST",
            json={**SWAP, "consent": {"basis": "consent", "record": record}},
        )
        for record in ("consents/1.json", "consents/2.json")
    ]
    assert [each.status_code for each in told] == [403, 403]
    assert told[0].data.replace(b"1.json", b"2.json") == told[1].data


def test_attack_idempotency_key_of_another_tenant(fresh: Town) -> None:
    """The same key is another job in another tenant: a unique key tells nothing."""
    told = []
    for tenant in (ACME, GLOBEX):
        fresh.work(tenant)
        answer = fresh.ask(
            "swap",
            "/v1/swaps",
            fresh.token(tenant.id),
            "POST",
            json=SWAP,
            headers={"Idempotency-Key": "same"},
        )
        told.append((answer.status_code, answer.get_json()["job"]))
    assert [status for status, _ in told] == [201, 201]
    assert told[0][1] != told[1][1]


def test_attack_idempotency_key_of_another_caller(fresh: Town) -> None:
    """Nor does a colleague's key lead to a colleague's job."""
    fresh.work()
    jobs = {
        fresh.ask(
            "swap",
            "/v1/swaps",
            fresh.token(sub=subject),
            "POST",
            json=SWAP,
            headers={"Idempotency-Key": "same"},
        ).get_json()["job"]
        for subject in ("ann", "bob")
    }
    assert len(jobs) == 2


def test_attack_erasing_another_tenants_job(fresh: Town) -> None:
    """404, and every object of it is there afterwards."""
    job = fresh.work()
    store = fresh.swap.stores.of(ACME)
    before = [info.key for info in store.list(Key("")).objects]
    for method, path in (("DELETE", ""), ("POST", "/cancel")):
        answer = fresh.ask(
            "swap", f"/v1/swaps/{job}{path}", fresh.token("globex"), method
        )
        assert answer.status_code == 404
    assert [info.key for info in store.list(Key("")).objects] == before


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), *JOBS])
def test_attack_token_at_another_tenants_own_door(
    fresh: Town, tmp_path: Path, method: str, path: str
) -> None:
    """A door that serves one tenant has nothing for the others, and reads no store."""
    job = fresh.work()
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps(key_set(fresh.keys)))
    authenticator = TokenAuthenticator(
        jwks, issuer=ISSUER, audience="guise", pinned=ACME
    )
    door = public_door(fresh.swap, authenticator)
    fresh.calls.clear()
    where = f"/v1/swaps/{job}{path}" if path or method == "DELETE" else "/v1/swaps"
    header = {"Authorization": f"Bearer {fresh.token('globex')}"}
    answer = door.open(where, method=method, headers=header, json=SWAP)
    assert (answer.status_code, answer.data) == (404, NOT_FOUND)
    assert fresh.calls == []
