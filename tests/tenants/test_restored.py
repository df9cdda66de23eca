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
from typer.testing import CliRunner

from functions.audit.pruning import retention_of
from functions.audit.store import Store as LogStore
from functions.billing.budgeting import budget_of
from functions.cli.bill.place import Place as Ledger
from functions.cli.commands import app
from functions.cli.tenant.place import Place
from functions.keys import FileKeys, events_key
from functions.local.home import Home
from functions.problems import Unavailable, UnknownTenant
from functions.roster import FolderRoster
from functions.storage.base import StoreDenied
from functions.storage.file import FileStore
from functions.tenant import BUDGET, Tenant
from tests.integration.stack import until
from tests.integration.stack import up as real_up
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


def ended(home: Path, command: str = "delete") -> tuple[str, Path]:
    """End a tenant; return a token that it had, and a copy of the home of before."""
    guise(home, "create", "acme", "--data", "1" if command == "shred" else "0")
    token = guise(home, "token", "acme").stdout.strip()
    backup = home.parent / "backup"
    shutil.copytree(home, backup)
    guise(home, "suspend", "acme")
    guise(home, command, "acme", "--yes")
    return token, backup


def said(home: Path, *arguments: object) -> str:
    """Run a command in this process; return what it prints, or why it is refused."""
    words = ["tenant", *map(str, arguments), "--home", str(home)]
    ran = CliRunner().invoke(app, words)
    return str(ran.exception) if ran.exception else ran.stdout


def restore(home: Path, backup: Path, name: str) -> None:
    """Have a file or a folder of a home be exactly as it was."""
    if (backup / name).is_dir():
        shutil.rmtree(home / name)
        shutil.copytree(backup / name, home / name)
    else:
        shutil.copy(backup / name, home / name)


def answer(door: str, token: str) -> int:
    """Ask for something; return the status of what is answered."""
    return httpx.post(
        f"{door}/v1/swaps",
        data={"request": '{"operation": "detect"}'},
        files={"target": ("b", b"\xff\xd8\xff")},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
        trust_env=False,
    ).status_code


@pytest.mark.parametrize(
    ("command", "restored"),
    [
        ("delete", ["tenants"]),
        ("shred", ["tenants/acme.yaml", "keys"]),
    ],
)
def test_attack_spec_of_somebody_who_ended_is_put_back(
    home: Path, command: str, restored: list[str]
) -> None:
    """Their token opens nothing, nothing is stored; nor with their keys put back."""
    token, backup = ended(home, command)
    for name in restored:
        restore(home, backup, name)
    before = files(home / "tenants/acme")
    with up(home) as urls:
        assert answer(urls["door"], token) == httpx.codes.UNAUTHORIZED
    assert files(home / "tenants/acme") == before


@pytest.mark.xdist_group("cli")
@pytest.mark.parametrize("command", ["delete", "shred"])
def test_attack_everything_but_the_log_is_put_back(home: Path, command: str) -> None:
    """`guise up` finds in the log that they ended, says so, and shuts them out."""
    token, backup = ended(home, command)
    restore(home, backup, "tenants")
    restore(home, backup, "keys")
    edit = said(home, "edit", "acme", "--set", "name=A")
    assert "acme: changed" in edit  # nobody has looked at the log yet
    with real_up(home) as stack:
        assert answer(stack.urls["door"], token) == httpx.codes.UNAUTHORIZED
    state = "deleted" if command == "delete" else "shredded"
    tombstone = home / "tenants/acme.ended"
    assert tombstone.read_text().startswith(f"{state} by 2")
    assert f'"{state}"' in guise(home, "show", "acme", "--json").stdout


@pytest.mark.parametrize("command", ["delete", "shred"])
def test_no_command_takes_a_spec_that_was_put_back_at_its_word(
    home: Path, command: str
) -> None:
    """It is shown as what it is, not changed; the same end does what is left."""
    _, backup = ended(home, command)
    tombstone = home / "tenants/acme.ended"
    tombstone.unlink()  # as a crash before it was written would leave it
    said(home, command, "acme", "--yes")
    state = tombstone.read_text().partition(" ")[0]
    for name in ("tenants/acme.yaml", "keys"):
        restore(home, backup, name)
    assert f'"state":"{state}"' in said(home, "list", "--json")
    assert f'"state":"{state}"' in said(home, "show", "acme", "--json")
    for words in (
        ("suspend", "acme"),
        ("resume", "acme"),
        ("token", "acme"),
        ("edit", "acme", "--set", "name=A"),
        ("apply", backup / "tenants/acme.yaml"),
        ("ls", "acme"),
    ):
        assert f"acme is {state}" in said(home, *words)
    said(home, command, "acme", "--yes")
    assert f"state: {state}" in (home / "tenants/acme.yaml").read_text()
    assert FileKeys(home / "keys").is_destroyed(events_key("acme"))
    (home / "tenants/acme.yaml").unlink()
    assert "so called again" in said(home, "create", "acme")


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


@pytest.mark.parametrize("text", ["", "deleted by", "shredded by", None])
def test_any_tombstone_is_one(tmp_path: Path, text: str | None) -> None:
    """Whatever it says or is; what it says decides which end it was."""
    (tmp_path / "acme.yaml").write_text("id: acme\n")
    tombstone = tmp_path / "acme.ended"
    tombstone.mkdir() if text is None else tombstone.write_text(text)
    roster = FolderRoster(tmp_path)
    said = "shredded" if text and text.startswith("shredded") else "deleted"
    assert roster.fate(ACME) == said
    with pytest.raises(UnknownTenant):
        roster.spec(ACME)


@pytest.mark.parametrize("keys", ["keys", "k" * 300])
def test_a_mark_that_cannot_be_looked_for_lets_nobody_in(
    tmp_path: Path, keys: str
) -> None:
    """Nobody can tell whether they ended: 503, and not that they did not."""
    (tmp_path / "acme.yaml").write_text("id: acme\n")
    (tmp_path / "keys").touch()  # no folder, and a name that no folder has
    with pytest.raises(Unavailable):
        FolderRoster(tmp_path, keys=tmp_path / keys).spec(ACME)


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
