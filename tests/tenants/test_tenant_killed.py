"""A command that is killed at any step leaves what the same command finishes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from functions.audit.store import Selection, select_entries
from functions.audit.store import Store as LogStore
from functions.cli.commands import app
from functions.cli.tenant.place import Place
from functions.keys import FileKeys, events_key
from functions.local.home import Home
from functions.tenant import Tenant
from tests.tenants.home import environ

if TYPE_CHECKING:
    from pathlib import Path

ACME = Tenant("acme")
STEPS_MAX = 100
KILLED = """
import os, signal, sys
home, at, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
seen = 0
def count(event, arguments):
    global seen
    named = [each for each in arguments if isinstance(each, (str, os.PathLike))]
    if event in {"os.rename", "os.remove", "os.rmdir", "shutil.rmtree"} and named:
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
from functions.cli.commands import app
app(["tenant", *words, "--home", home])
"""
"""Kills itself before so manieth a name is changed or removed."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with two tenants, of whom one has something and is suspended."""
    home = tmp_path_factory.mktemp("killed") / "made"
    for words in (["create", "acme", "--data", "1"], ["create", "beta"]):
        guise(home, *words)
    store = Place(home).stores(ACME).of(ACME)
    for number in range(2):
        store.put(ACME.upload(f"uploads/{number}.jpg"), b"a face")
    guise(home, "suspend", "acme")
    return home


def guise(home: Path, *words: str) -> None:
    ran = CliRunner().invoke(app, ["tenant", *words, "--home", str(home)])
    assert ran.exit_code == 0, ran.exception


def killed(home: Path, at: int, *words: str) -> bool:
    """Run a command that is killed at a step; return whether it was."""
    command = [sys.executable, "-c", KILLED, str(home), str(at), *words]
    ran = subprocess.run(command, capture_output=True, check=False, env=environ())
    assert ran.returncode in {0, -signal.SIGKILL}, ran.stderr
    return ran.returncode != 0


def changes(home: Path) -> list[str]:
    url = Home(home).database_url("audit")
    with closing(LogStore.open(url)) as store, store.reading("acme") as db:
        leaves = [each.leaf for each in select_entries(db, Selection("acme"), 100)]
    return [json.loads(leaf)["data"]["change"] for leaf in leaves]


@pytest.mark.parametrize(
    ("command", "state"), [("delete", "deleted"), ("shred", "shredded")]
)
def test_an_end_that_is_cut_off_is_no_half_end(
    made: Path, tmp_path: Path, command: str, state: str
) -> None:
    """On record before anything goes; then nobody's, and the same command ends it."""
    for at in range(1, STEPS_MAX):
        home = tmp_path / str(at)
        shutil.copytree(made, home)
        cut = killed(home, at, command, "acme", "--yes")
        roster = Place(home).roster()
        if roster.has_ended(roster.read(ACME)):
            assert state in changes(home)
        else:  # nothing is gone: it can be resumed as well
            stored = Place(home).stores(ACME).of(ACME)
            assert stored.get(ACME.upload("uploads/1.jpg")).data == b"a face"
            assert not FileKeys(home / "keys").is_destroyed(events_key("acme"))
        guise(home, command, "acme", "--yes")
        assert roster.fate(ACME) == state
        assert roster.read(ACME).state == state
        assert FileKeys(home / "keys").is_destroyed(events_key("acme"))
        left = list((home / "keys/envelopes/acme").glob("*.key"))
        assert bool(left) == (command == "delete")
        guise(home, "suspend", "beta")
        shutil.rmtree(home)
        if not cut:
            assert at > 4
            return
    pytest.fail("it has no end")


@pytest.mark.parametrize(
    ("words", "state"),
    [(["resume", "acme"], "active"), (["create", "gamma"], "active")],
)
def test_a_change_that_is_cut_off_is_made_anew(
    made: Path, tmp_path: Path, words: list[str], state: str
) -> None:
    """The spec is as it was or as it is to be, and nothing else is left of it."""
    who = Tenant(words[1])
    for at in range(1, STEPS_MAX):
        home = tmp_path / str(at)
        shutil.copytree(made, home)
        cut = killed(home, at, *words)
        spec = Place(home).path(who)
        if not spec.exists() or f"state: {state}" not in spec.read_text():
            guise(home, *words)
        assert Place(home).roster().spec(who).state == state
        assert not list((home / "tenants").glob(".*.making"))
        if not cut:
            return
    pytest.fail("it has no end")
