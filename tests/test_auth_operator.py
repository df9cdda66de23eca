"""The scope `operator`: every tenant's log and bills may be read, and nothing else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import pytest

from functions.auth import AUDIT_READ, BILLING_READ, OPERATOR
from functions.events import OPERATOR as OPERATORS
from tests.attacks.town import EVERYTHING, Town, open_town

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG: Final = "/v1/tenants/acme/log"
SCOPES: Final = f"{EVERYTHING} {OPERATOR}"
BOOKS: Final = {
    f"{LOG}/checkpoint": "audit",
    f"{LOG}/tile/0/000.p/1": "audit",
    f"{LOG}/tile/entries/000.p/1": "audit",
    f"{LOG}/proof/0": "audit",
    f"{LOG}/entries": "audit",
    "/v1/tenants/acme/logs/1/checkpoint": "audit",
    "/v1/tenants/acme/usage": "billing",
    "/v1/tenants/acme/invoices": "billing",
    "/v1/tenants/acme/invoices/2026-11": "billing",
}
"""What the operator may read of acme, and at which door."""
NOT_BOOKS: Final = {
    f"{LOG}/searches": '{"sha256": "' + "0" * 64 + '"}',
    f"{LOG}/erasures": '{"job": "job-e1"}',
}
"""Who is in which picture, and what becomes of it: the tenant's own affair."""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Return an installation in which acme has swapped, and been audited and billed."""
    with open_town(tmp_path_factory.mktemp("town")) as made:
        made.work()
        yield made


def token(town: Town, tenant: str = OPERATORS, scope: str = SCOPES) -> str:
    return town.token(tenant, scope=scope)


@pytest.mark.parametrize(("path", "which"), BOOKS.items())
def test_the_operator_reads_what_the_tenant_reads(
    town: Town, path: str, which: str
) -> None:
    """The same bytes, whoever asks."""
    theirs = town.ask(which, path, town.token())
    ours = town.ask(which, path, token(town))
    assert (ours.status_code, ours.data) == (theirs.status_code, theirs.data)
    assert ours.status_code == 200


def test_who_read_of_whom_is_in_the_functions_log(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the tenant's: a log that grew by being read would never be at rest."""
    before = town.ask("audit", f"{LOG}/checkpoint", town.token()).data
    with caplog.at_level(logging.INFO):
        town.ask("audit", f"{LOG}/checkpoint", token(town))
    assert f"the operator's ann reads of 'acme': {AUDIT_READ}" in caplog.messages
    assert town.ask("audit", f"{LOG}/checkpoint", town.token()).data == before


@pytest.mark.parametrize(("path", "which"), BOOKS.items())
def test_attack_the_operators_scope_in_a_tenants_token(
    town: Town, path: str, which: str
) -> None:
    """It counts in the operator's own alone."""
    assert town.ask(which, path, token(town, "globex")).status_code == 404


@pytest.mark.parametrize(("path", "which"), BOOKS.items())
def test_attack_the_operators_name_without_the_scope(
    town: Town, path: str, which: str
) -> None:
    """Another's is as if it were not."""
    without = token(town, scope=EVERYTHING)
    assert town.ask(which, path, without).status_code == 404


@pytest.mark.parametrize(("path", "which"), BOOKS.items())
def test_the_scope_stands_for_no_other(town: Town, path: str, which: str) -> None:
    """Each door's own is wanted besides."""
    other = BILLING_READ if which == "audit" else AUDIT_READ
    for scope in (OPERATOR, f"{OPERATOR} {other}"):
        assert town.ask(which, path, token(town, scope=scope)).status_code == 403


@pytest.mark.parametrize(("path", "body"), NOT_BOOKS.items())
def test_attack_an_operator_that_searches_or_erases(
    town: Town, path: str, body: str
) -> None:
    """Not by a token: `guise audit erase` is for that, and on record."""
    answer = town.ask("audit", path, token(town), method="POST", data=body)
    assert answer.status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_attack_an_operator_at_the_public_door(town: Town, method: str) -> None:
    """It is no tenant there, and no object of any store is its to see."""
    [job] = town.ask("swap", "/v1/swaps", town.token()).get_json()["jobs"]
    path = f"/v1/swaps/{job['job']}"
    assert town.ask("swap", path, token(town), method=method).status_code == 403


@pytest.mark.parametrize("name", ["..", "ACME", "a" * 33, "%0a"])
def test_attack_a_name_that_no_tenant_has(town: Town, name: str) -> None:
    """It is not found, and begins no line of a log."""
    path = f"/v1/tenants/{name}/log/checkpoint"
    assert town.ask("audit", path, token(town)).status_code == 404


def test_the_operators_own_log_is_read_as_any(town: Town) -> None:
    """It is empty here, and found by its name."""
    path = f"/v1/tenants/{OPERATORS}/log/entries"
    assert town.ask("audit", path, token(town)).get_json()["entries"] == []
