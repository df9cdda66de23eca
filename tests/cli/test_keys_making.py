"""`guise keys make`: a production's keys, as an operator makes them."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from functions.cli.commands import app
from functions.cli.keys.making import WHERE
from functions.keys import FileKeys
from functions.problems import Conflict, InvalidRequest, Problem
from functions.settings import DEVELOPMENT_MARK

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TENANTS = "events.<tenant>"


def make(*arguments: object) -> Result:
    """Run the command in this process; what it raises is what `main` would print."""
    return CliRunner().invoke(app, ["keys", "make", *map(str, arguments)])


def told(*arguments: object) -> list[dict[str, Any]]:
    """Return what it prints for scripts, line by line."""
    ran = make(*arguments, "--json")
    assert ran.exit_code == 0, ran.exception
    return [json.loads(line) for line in ran.stdout.splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Return each file of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_an_installation_s_keys_are_what_its_functions_read(tmp_path: Path) -> None:
    """All three, each of which signs and verifies; and audit's has its secret."""
    found = told(tmp_path / "keys")
    keys = FileKeys(tmp_path / "keys")
    assert [each["name"] for each in found] == list(WHERE)
    for each in found:
        assert keys.signer(each["name"]).kid == each["kid"]
        assert set(keys.verifiers(each["name"])) == {each["kid"]}
    assert len(keys.secret("audit")) == 32


def test_what_is_private_is_the_operator_s_alone(tmp_path: Path) -> None:
    """Private halves and the secret have mode 0600, their folders 0700."""
    make(tmp_path / "keys")
    for path in (tmp_path / "keys").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.suffix in {".key", ".secret"}:
            assert mode == 0o600, path
        if path.is_dir():
            assert mode == 0o700, path
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_no_key_is_ever_written_over(tmp_path: Path) -> None:
    """Made anew by nobody: a second time it is told where each goes, and no more."""
    made = make(tmp_path, "audit")
    assert "audit: made" in made.stdout
    before = contents(tmp_path)
    again = make(tmp_path, "audit", "billing")
    assert "audit: was there" in again.stdout
    assert "billing: made" in again.stdout
    assert before.items() < contents(tmp_path).items()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("events/acme", "guise tenant prepare acme"),
        ("provenance", "certificate"),
        ("tokens", "issuer"),
        ("../audit", "say any of audit"),
    ],
)
def test_what_is_no_installation_s_is_not_made(
    tmp_path: Path, name: str, why: str
) -> None:
    """Nor is anything that is named beside it."""
    refused(InvalidRequest, why, tmp_path / "keys", "audit", name)
    assert not (tmp_path / "keys").exists()


def test_keys_of_one_machine_are_no_production_s(tmp_path: Path) -> None:
    """Its folder is refused at the start of each function there, and here."""
    (tmp_path / DEVELOPMENT_MARK).write_bytes(b"")
    refused(Conflict, "production refuses it", tmp_path)
    assert set(contents(tmp_path)) == {DEVELOPMENT_MARK}


def refused(kind: type[Problem], why: str, *arguments: object) -> None:
    """Run the command, which must be refused for this reason."""
    ran = make(*arguments)
    assert isinstance(ran.exception, kind), ran.output
    assert why in ran.exception.detail


@pytest.mark.parametrize("secret", ["audit-keys", "billing-keys", "pool-keys"])
def test_what_goes_where_is_what_the_page_says(secret: str, tmp_path: Path) -> None:
    """Of the installation's own keys each Secret has what the table names, no more."""
    page = PAGE.read_text()
    [row] = re.findall(rf"^\| Secret `{secret}` \| (.*) \|$", page, re.MULTILINE)
    named = {each for each in re.findall(r"`([^`]+)`", row) if TENANTS not in each}
    goes = {
        each["name"].replace("/", ".") + Path(file).suffix
        for each in told(tmp_path)
        for file, secrets in each["files"].items()
        if secret in secrets
    }
    others = {".key", ".pub", "provenance.key", "provenance.pem"}
    assert named - others == goes
    printed = make(tmp_path).stdout
    assert all(f"as {key}" in printed for key in goes)


def test_the_operator_s_own_key_goes_nowhere(tmp_path: Path) -> None:
    """What it signs, no function may."""
    printed = make(tmp_path, "events/operator").stdout
    assert "operator.key (private) → no Secret: it stays with you" in printed
