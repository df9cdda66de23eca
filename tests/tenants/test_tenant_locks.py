"""What works long on one tenant keeps no other command waiting, `suspend` least."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from functions.cli.tenant.place import Place
from functions.tenant import Tenant
from tests.integration.stack import until
from tests.tenants.home import environ, guise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACME = Tenant("acme")
A = ACME.upload("uploads/a.jpg")
FACE = b"\xff\xd8\xff" + bytes(400_000)
"""More than a pipe holds."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home with a tenant whose data is encrypted, and another."""
    home = tmp_path / "home"
    guise(home, "create", "acme", "--data", 1)
    guise(home, "create", "beta")
    Place(home).stores(ACME).of(ACME).put(A, FACE)
    return home


def begun(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Begin a command that will be waiting."""
    words = [sys.executable, "-m", "functions.cli", "tenant", *arguments]
    return subprocess.Popen(
        [*words, "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ(),
    )


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold a file that others are going to lock."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def rotating(home: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a rotation that waits for a writer until the block ends."""
    ring = home / "keys/envelopes/acme"
    written = (ring / "1.key").open("rb")
    fcntl.flock(written, fcntl.LOCK_SH)
    with begun(home, "rotate", "acme", *options) as command:
        with written:
            until((ring / "2.key").exists)
            yield command
        command.communicate(timeout=60)


def state(home: Path, tenant: str) -> str:
    return Place(home).roster().read(Tenant(tenant)).state


def test_a_rotation_keeps_nobody_from_suspending(home: Path) -> None:
    """Neither its own tenant, whose rotation goes on to its end, nor another."""
    with rotating(home, "--destroy-old") as command:
        guise(home, "suspend", "acme")
        guise(home, "suspend", "beta")
        guise(home, "create", "gamma")
        guise(home, "edit", "acme", "--set", "name=Acme")
        assert command.poll() is None
    assert command.returncode == 0
    assert (state(home, "acme"), state(home, "beta")) == ("suspended", "suspended")
    ring = home / "keys/envelopes/acme"
    assert sorted(each.name for each in ring.glob("?.key")) == ["2.key"]
    assert Place(home).stores(ACME).of(ACME).get(A).data == FACE


def test_a_shredding_keeps_nobody_from_suspending(home: Path) -> None:
    """Of its own tenant it is said at once what has become of it."""
    guise(home, "suspend", "acme")
    with (
        holding(home / "keys/envelopes/acme/.lock"),
        begun(home, "shred", "acme", "--yes") as command,
    ):
        until(lambda: state(home, "acme") == "shredded")
        guise(home, "suspend", "beta")
        assert "is shredded" in guise(home, "suspend", "acme", code=1).stderr
        assert command.poll() is None
        command.kill()


def test_who_reads_keeps_nobody_from_suspending(home: Path) -> None:
    """However long it takes to hand over what was read."""
    with begun(home, "get", "acme", A) as command:
        assert command.stdout is not None
        first = command.stdout.read(1)
        guise(home, "suspend", "acme")
        assert command.poll() is None
        assert first + command.stdout.read() == FACE
    assert command.returncode == 0


def test_two_who_work_on_one_tenant_take_turns(home: Path) -> None:
    """Who waits says so; then it does all that it was to do."""
    guise(home, "suspend", "acme")
    with rotating(home):
        shredding = begun(home, "shred", "acme", "--yes")
        assert shredding.stderr is not None
        assert b"acme: waiting for another command" in shredding.stderr.readline()
        assert state(home, "acme") == "suspended"
    shredding.communicate(timeout=60)
    assert (shredding.returncode, state(home, "acme")) == (0, "shredded")


@pytest.mark.parametrize("after", ["rotate", "shred", "delete"])
def test_who_is_killed_keeps_nobody_waiting(home: Path, after: str) -> None:
    """The next command on the same tenant has its locks, and does the rest."""
    with rotating(home) as command:
        guise(home, "suspend", "acme")
        command.kill()
        command.wait()
    options = () if after == "rotate" else ("--yes",)
    said = guise(home, after, "acme", *options)
    assert "waiting" not in said.stderr


def test_how_data_rest_is_not_changed_under_a_rotation(home: Path) -> None:
    """That is refused at once, and nothing is on record or in the spec."""
    with rotating(home):
        edit = ("edit", "acme", "--set", "isolation.data=0")
        said = guise(home, *edit, code=1)
        assert "works on the objects or keys of acme" in said.stderr
    assert Place(home).roster().read(ACME).isolation.data == 1


@pytest.mark.parametrize("ending", ["shred", "delete"])
def test_attack_resumed_while_it_ends(home: Path, ending: str) -> None:
    """Who was resumed after the first look is as active as who never was suspended."""
    guise(home, "suspend", "acme")
    spec = home / "tenants/acme.yaml"
    with holding(home / "tenants/.locks/acme.spec"):
        command = begun(home, ending, "acme", "--yes")
        assert command.stderr is not None
        assert b"waiting" in command.stderr.readline()
        spec.write_text(spec.read_text().replace("suspended", "active"))
    _, said = command.communicate(timeout=60)
    assert b"acme is active: suspend it first" in said
    assert Place(home).stores(ACME).of(ACME).get(A).data == FACE


def test_tenants_that_are_made_at_once_share_a_new_home(tmp_path: Path) -> None:
    """No lock is everybody's: what is common, each finds or makes."""
    home = tmp_path / "home"
    budget = "quotas.budget={limit: '10.00', currency: USD}"
    making = [
        begun(home, "create", f"t-{number}", "--data", "1", "--set", budget)
        for number in range(4)
    ]
    said = [each.communicate(timeout=60)[1] for each in making]
    assert [each.returncode for each in making] == [0] * 4, said
    assert len(Place(home).roster().all()) == 4
