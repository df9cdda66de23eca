"""A home with a stack of its own, a process; and commands on it, in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.command import run

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]


def environ(**said: str) -> dict[str, str]:
    """Return an environment in which of Guise's nothing is said but `said`."""
    ours = {name for name in os.environ if name.startswith("GUISE_")}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | said


def guise(
    home: Path, *arguments: object, code: int | None = 0, **said: str
) -> subprocess.CompletedProcess[str]:
    """Run `guise tenant` on a home; with another `code` than None it ends so."""
    ran = run("tenant", *arguments, "--home", home, environ=environ(**said))
    assert code is None or ran.returncode == code, ran.stdout + ran.stderr
    return ran


def start(home: Path, *options: str, **said: str) -> subprocess.Popen[str]:
    """Begin to serve a home, as `guise up` does once the pack is there."""
    command = [sys.executable, "-m", "functions.cli.up", "--home", str(home)]
    command += ["--port", "0", "--idle", "2", "--tenant", "demo", "--json"]
    command += ["--models", str(REPOSITORY / ".guise/models"), "--attached", *options]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ(**said),
    )


@contextmanager
def up(home: Path, *options: str, **said: str) -> Iterator[dict[str, str]]:
    """Serve a home, and yield the address of each of its doors."""
    with start(home, *options, **said) as stack:
        assert stack.stdout is not None
        line = stack.stdout.readline()
        if not line:
            raise AssertionError(stack.communicate()[1])
        try:
            yield json.loads(line)["urls"]
        finally:
            stack.communicate(timeout=30)  # its input ends, and with it the stack
