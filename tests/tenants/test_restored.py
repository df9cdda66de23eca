"""A spec that is lost, put back or changed by hand gives nobody what was another's."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from functions.audit.pruning import retention_of
from functions.audit.store import Store as LogStore
from functions.billing.budgeting import budget_of
from functions.cli.bill_place import Place as Ledger
from functions.cli.tenant_place import Place
from functions.keys import FileKeys, events_key
from functions.local.home import Home
from functions.problems import UnknownTenant
from functions.roster import FolderRoster
from functions.storage.base import StoreDenied
from functions.storage.file import FileStore
from functions.tenant import BUDGET, Tenant
from tests.integration.stack import until
from tests.tenants.home import guise, up

if TYPE_CHECKING:
    from pathlib import Path

ACME = Tenant("acme")
A = ACME.upload("uploads/a.jpg")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def command(home: Path, *arguments: object) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "functions.cli", "tenant", *map(str, arguments)]
    return subprocess.Popen([*words, "--home", str(home)], stdout=subprocess.DEVNULL)


def held(home: Path, tenant: str) -> Any:
    """Return the budget that the ledger has of a tenant."""
    ledger = Ledger(home, Home(home).database_url("billing")).ledger()
    with closing(ledger) as opened:
        return budget_of(opened, tenant)


def log_days(home: Path, tenant: str) -> int | None:
    with closing(LogStore.open(Home(home).database_url("audit"))) as store:
        return retention_of(store, tenant)


# --- put back ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["delete", "shred"])
def test_attack_spec_of_somebody_who_ended_is_put_back(
    home: Path, command: str
) -> None:
    """Their token opens nothing, and nothing is stored."""
    guise(home, "create", "acme", "--data", "1" if command == "shred" else "0")
    token = guise(home, "token", "acme").stdout.strip()
    spec = home / "tenants/acme.yaml"
    backup = spec.read_text()
    guise(home, "suspend", "acme")
    guise(home, command, "acme", "--yes")
    spec.write_text(backup)
    before = files(home / "tenants/acme")
    with up(home) as urls:
        answer = httpx.post(
            f"{urls['door']}/v1/swaps",
            data={"request": '{"operation": "detect"}'},
            files={"target": ("b", b"\xff\xd8\xff")},
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,
        )
        assert answer.status_code == httpx.codes.UNAUTHORIZED
    assert files(home / "tenants/acme") == before


def test_who_ended_is_known_by_their_key(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, however often they are asked for."""
    guise(home, "create", "acme")
    roster = FolderRoster(home / "tenants", keys=home / "keys")
    assert roster.spec(ACME).state == "active"
    FileKeys(home / "keys").destroy(events_key("acme"))
    for _ in range(2):
        with pytest.raises(UnknownTenant):
            roster.spec(ACME)
    assert roster.all() == ()
    assert caplog.text.count("acme is shut out") == 1


# --- lost --------------------------------------------------------------------


def test_attack_lost_spec_hands_over_data(home: Path) -> None:
    """Whoever comes next is not given what is there."""
    guise(home, "create", "acme")
    FileStore(home / "tenants/acme").put(A, b"acme's")
    (home / "tenants/acme.yaml").rename(home / "acme.bak")
    said = guise(home, "create", "acme", code=1)
    assert "is or was a tenant: there are keys of its events" in said.stderr
    assert not (home / "tenants/acme.yaml").exists()
    (home / "acme.bak").rename(home / "tenants/acme.yaml")
    guise(home, "suspend", "acme")


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        ("keys/envelopes", "keys of its objects"),
        ("tenants", "there are objects in"),
        ("audit.db", "its log has entries"),
    ],
)
def test_each_thing_that_is_left_of_a_tenant_is_enough(
    home: Path, kept: str, why: str
) -> None:
    """Keys, objects or a log: nobody else is called so."""
    guise(home, "create", "acme", "--data", "1")
    Place(home).stores(ACME).of(ACME).put(A, b"acme's")
    (home / "tenants/acme.yaml").unlink()
    shutil.rmtree(home / "keys/events")
    for each in {"keys/envelopes", "tenants", "audit.db"} - {kept}:
        path = home / each
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    said = guise(home, "create", "acme", code=1)
    assert why in said.stderr


def test_a_making_that_was_cut_off_goes_on(home: Path) -> None:
    """Killed with its keys made, and perhaps its first entry, before its spec."""
    guise(home, "create", "beta")
    ring = home / "keys/envelopes/acme"
    ring.mkdir(parents=True)
    with (ring / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with command(home, "create", "acme", "--data", "1") as making:
            until((home / "keys/events/acme.key").exists)
            making.kill()
    guise(home, "create", "acme", "--data", "1")
    assert not list((home / "tenants").glob(".*making"))


# --- changed by hand ---------------------------------------------------------


def test_attack_data_that_was_encrypted_is_said_not_to_be(home: Path) -> None:
    """Nothing is written as it is beside envelopes, and no command agrees to it."""
    guise(home, "create", "acme", "--data", "1")
    Place(home).stores(ACME).of(ACME).put(A, b"a face")
    guise(home, "edit", "acme", "--set", "isolation.data=0", code=1)
    spec = home / "tenants/acme.yaml"
    spec.write_text(spec.read_text().replace("data: 1", "data: 0"))
    with pytest.raises(StoreDenied, match="holds encrypted objects"):
        Place(home).stores(ACME).of(ACME)
    source = home / "acme.bak"
    source.write_text(spec.read_text())
    said = guise(home, "apply", source, code=1)
    assert "lie encrypted" in said.stderr
    guise(home, "edit", "acme", "--set", "isolation.data=1")
    store = Place(home).stores(ACME).of(ACME)
    store.delete(A)
    guise(home, "edit", "acme", "--set", "isolation.data=0")
    Place(home).stores(ACME).of(ACME).put(A, b"a face")


# --- cut off -----------------------------------------------------------------


def test_a_budget_is_armed_by_the_same_command_again(home: Path) -> None:
    """Killed once the spec says it, and before the ledger does."""
    rest = "quotas: {budget: {limit: '0.00', currency: USD, hard: true}}\n"
    rest += "retention: {log_days: 400}\n"
    for name in ("bud", "first"):
        (home.parent / f"{name}.yaml").write_text(f"id: {name}\n{rest}")
    guise(home, "apply", home.parent / "first.yaml")
    with (
        closing(sqlite3.connect(home / "billing.db", isolation_level=None)) as ledger,
        command(home, "apply", home.parent / "bud.yaml") as applying,
    ):
        ledger.execute("BEGIN EXCLUSIVE")
        until((home / "tenants/bud.yaml").exists)
        applying.kill()
    assert held(home, "bud") is None
    said = guise(home, "apply", home.parent / "bud.yaml")
    assert "as it was" in said.stdout
    assert held(home, "bud").hard
    assert log_days(home, "bud") == 400
    folder = FileStore(home / "tenants/bud")
    generation = folder.head(BUDGET).generation
    guise(home, "apply", home.parent / "bud.yaml")
    assert folder.head(BUDGET).generation == generation
    folder.delete(BUDGET)
    guise(home, "edit", "bud", "--set", "name=Bud")
    assert folder.head(BUDGET).size


def test_a_budget_that_only_the_ledger_has_is_said(home: Path) -> None:
    """It may be the other command's, and is not lifted unasked."""
    budget = "quotas.budget={limit: '10.00', currency: USD}"
    guise(home, "create", "acme", "--set", budget)
    spec = home / "tenants/acme.yaml"
    was = guise(home, "edit", "acme", "--set", "name=A").stdout
    assert "left to do" not in was
    lines = spec.read_text()
    guise(home, "edit", "acme", "--set", "quotas.budget=null")
    assert held(home, "acme") is None
    spec.write_text(lines)
    guise(home, "edit", "acme", "--set", "name=B")
    assert held(home, "acme") is not None
    spec.write_text("id: acme\n")
    said = guise(home, "edit", "acme", "--set", "name=C")
    assert "--lift" in said.stdout
    assert held(home, "acme") is not None
