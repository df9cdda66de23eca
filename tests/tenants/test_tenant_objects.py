"""`guise tenant put|get|ls`, over real homes: one as it is, one encrypted."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from functions.cli.commands import app
from functions.cli.tenant.place import Place
from functions.problems import Conflict, InvalidRequest, NotFound, Problem
from functions.storage.base import StoreDamaged
from functions.tenant import Key, Tenant

if TYPE_CHECKING:
    from pathlib import Path

ACME = Tenant("acme")
FACE = b"\xff\xd8\xff" + bytes(3_000_000)


@pytest.fixture(params=[0, 1], ids=["plain", "encrypted"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a home with one tenant, whose data rest in one way and in the other."""
    home = tmp_path / "home"
    done("create", "acme", "--data", request.param, "--home", home)
    (tmp_path / "face.jpg").write_bytes(FACE)
    return home


def guise(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["tenant", *map(str, arguments)])


def done(*arguments: object) -> str:
    result = guise(*arguments)
    assert result.exit_code == 0, result.output or result.exception
    return str(result.stdout)


def refused(kind: type[Problem], *arguments: object) -> str:
    result = guise(*arguments)
    assert isinstance(result.exception, kind), result.output or result.exception
    return str(result.exception.detail or result.exception)


def test_what_is_put_is_got_and_listed(home: Path, tmp_path: Path) -> None:
    """Byte for byte, through the tenant's own store, and into nobody else's file."""
    at, face, back = ("--home", home), tmp_path / "face.jpg", tmp_path / "back.jpg"
    told = json.loads(done("put", "acme", face, "uploads/a.jpg", *at, "--json"))
    assert (told["key"], told["bytes"]) == ("uploads/a.jpg", len(FACE))
    assert "uploads/b.jpg of acme" in done("put", "acme", face, "uploads/b.jpg", *at)
    assert Place(home).stores(ACME).of(ACME).get(Key("uploads/a.jpg")).data == FACE
    done("get", "acme", "uploads/a.jpg", "-o", back, *at)
    assert back.read_bytes() == FACE
    assert stat.S_IMODE(back.stat().st_mode) == 0o600
    listed = done("ls", "acme", "uploads/", *at, "--json").splitlines()
    assert json.loads(listed[0]) == {"key": "uploads/a.jpg", "bytes": len(FACE)}
    assert done("ls", "acme", *at).split() == [
        *(str(len(FACE)), "uploads/a.jpg"),
        *(str(len(FACE)), "uploads/b.jpg"),
    ]


def test_without_a_file_it_goes_to_standard_output(home: Path, tmp_path: Path) -> None:
    """As it is, for a pipe."""
    done("put", "acme", tmp_path / "face.jpg", "uploads/a.jpg", "--home", home)
    command = [sys.executable, "-m", "functions.cli", "tenant", "get", "acme"]
    command += ["uploads/a.jpg", "--home", str(home)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == FACE


@pytest.mark.parametrize(
    "key", ["consents/1.json", "requests/j1.json", "policy/gate.json"]
)
def test_a_tenant_s_own_objects_can_be_put(
    home: Path, tmp_path: Path, key: str
) -> None:
    """What it would upload itself, if there were a bucket."""
    (tmp_path / "x").write_text("{}")
    done("put", "acme", tmp_path / "x", key, "--home", home)
    assert Place(home).stores(ACME).of(ACME).get(Key(key)).data == b"{}"


@pytest.mark.parametrize(
    "key",
    ["results/j1/job.json", "policy/budget.json", "outbox/j1", "uploads/../x", "a.jpg"],
)
def test_attack_what_is_guise_s_own_to_write(
    home: Path, tmp_path: Path, key: str
) -> None:
    """A record, a budget or a mark is not forged by hand."""
    why = refused(
        InvalidRequest, "put", "acme", tmp_path / "face.jpg", key, "--home", home
    )
    assert why
    assert done("ls", "acme", "--home", home) == ""


def test_what_is_not_there_or_no_more(home: Path, tmp_path: Path) -> None:
    """No file is left of what could not be read; nobody deleted is read."""
    at, out = ("--home", home), tmp_path / "out.jpg"
    refused(NotFound, "get", "acme", "uploads/none.jpg", "-o", out, *at)
    refused(NotFound, "ls", "nobody", *at)
    done("suspend", "acme", *at)
    done("delete", "acme", "--yes", *at)
    assert "is deleted" in refused(Conflict, "ls", "acme", *at)
    assert not [*tmp_path.glob("*out.jpg*")]


def test_of_a_damaged_object_no_file_is_left(tmp_path: Path) -> None:
    """Not even the half that was still whole."""
    home, out = tmp_path / "home", tmp_path / "out.jpg"
    at = ("--home", home)
    done("create", "acme", "--data", 1, *at)
    (tmp_path / "face.jpg").write_bytes(FACE)
    done("put", "acme", tmp_path / "face.jpg", "uploads/a.jpg", *at)
    files = [each for each in (home / "tenants/acme").rglob("*") if each.is_file()]
    path = max(files, key=lambda each: each.stat().st_size)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(StoreDamaged, "get", "acme", "uploads/a.jpg", "-o", out, *at)
    assert not [*tmp_path.glob("*out.jpg*")]
