"""The tenant that `guise up` makes is a tenant as every other."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from functions.audit.store import Selection, select_entries
from functions.audit.store import Store as LogStore
from functions.cli.commands import app
from functions.cli.tenant.first import before_up
from functions.cli.tenant.place import Place
from functions.keys import FileKeys, events_key
from functions.local.home import Home, Running
from functions.tenant import Tenant
from tests.integration.stack import GUISE, REPOSITORY, up

if TYPE_CHECKING:
    from pathlib import Path

DEMO = Tenant("demo")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def changes(home: Path) -> list[str]:
    """Return what the log says was done to the tenant."""
    url = Home(home).database_url("audit")
    with closing(LogStore.open(url)) as store, store.reading("demo") as db:
        leaves = [each.leaf for each in select_entries(db, Selection("demo"), 100)]
    return [json.loads(leaf)["data"]["change"] for leaf in leaves]


@pytest.mark.xdist_group("cli")
def test_the_first_tenant_is_on_record_as_every_other(home: Path) -> None:
    """Before anything is served; once, however often it is started."""
    for _ in range(2):
        with up(home) as stack:
            assert stack.get("/v1/swaps/none").status_code == 404  # its token
            assert changes(home) == ["created"]
    assert Place(home).roster().spec(DEMO).policy.gate == "tenant"


def test_a_making_that_was_cut_off_goes_on(home: Path) -> None:
    """Killed with its key made, and no entry, or with one, and no spec."""
    before_up(home, DEMO)
    key = FileKeys(home / "keys").signer(events_key("demo")).kid
    (home / "tenants/demo.yaml").unlink()
    (home / "tenants/.demo.making").touch()
    before_up(home, DEMO)
    assert FileKeys(home / "keys").signer(events_key("demo")).kid == key
    assert changes(home) == ["created", "created"]
    assert not list((home / "tenants").glob(".demo*"))


def test_nothing_is_made_in_a_home_that_is_served(home: Path) -> None:
    """It is another's, until its lock is ours."""
    before_up(home, DEMO)
    folder = Home(home)
    lock = folder.lock()
    folder.announce(Running(1, {}))
    before_up(home, Tenant("acme"))
    os.close(lock)
    assert [tenant.id for tenant in folder.roster().names()] == ["demo"]


def test_who_was_deleted_is_not_made_anew(home: Path) -> None:
    """Nor where even the spec is gone that says so."""
    before_up(home, DEMO)
    for command in ("suspend", "delete"):
        words = ["tenant", command, "demo", "--home", str(home)]
        words += ["--yes"] if command == "delete" else []
        ran = CliRunner().invoke(app, words)
        assert ran.exit_code == 0, ran.exception
    (home / "tenants/demo.yaml").unlink()
    (home / "tenants/broken.yaml").write_text("id: [")  # served by nobody anyway
    before_up(home, DEMO)
    Home(home).prepare([DEMO])
    assert not (home / "tenants/demo.yaml").exists()
    assert not (home / "tenants/demo").exists()
    assert changes(home) == ["created", "suspended", "deleted"]


def test_the_operator_is_no_first_tenant(home: Path) -> None:
    """It is said in one line, and nothing is there."""
    words = [str(GUISE), "up", "--home", str(home), "--tenant", "operator"]
    models = max((REPOSITORY / ".guise/models/lite").iterdir())
    ran = subprocess.run(
        [*words, "--models", str(models)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "'operator' is the operator's own log" in ran.stderr
    assert not (home / "tenants").exists()
