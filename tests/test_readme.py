"""The README is true: what it tells a newcomer to type works as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.integration.stack import REPOSITORY, free_ports, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("readme")
README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code of one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder that looks like this checkout, with a home of its own."""
    for name in (".venv", "examples"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / ".guise").mkdir()
    (tmp_path / ".guise" / "models").symlink_to(REPOSITORY / ".guise" / "models")
    return tmp_path


def test_the_two_commands_exist() -> None:
    """`make demo` and `make test` are targets of the Makefile."""
    for line in blocks("sh")[0].splitlines():
        command = line.partition("#")[0].split()
        assert command[0] == "make"
        known = subprocess.run(["make", "-n", command[1]], cwd=REPOSITORY, check=False)
        assert known.returncode == 0


def test_every_other_command_of_the_readme_works(checkout: Path) -> None:
    """Serve, call by curl and by Python, upload, and work without a server."""
    _, serve, curl, upload, alone = blocks("sh")
    [python] = blocks("python")
    # The README's port may be taken on this machine; nothing else is changed.
    port = str(free_ports())
    serving = subprocess.Popen(
        ["sh", "-c", "exec " + serve.replace("8080", port)],
        cwd=checkout,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert serving.stdout is not None
    try:
        for line in serving.stdout:
            if "Ctrl-C" in line:
                break
        sh(curl.replace("8080", port), checkout)
        assert (checkout / "out.jpg").read_bytes().startswith(b"\xff\xd8")
        told = subprocess.check_output(
            [sys.executable, "-W", "ignore", "-c", python.replace("8080", port)],
            cwd=checkout,
            text=True,
        )
        assert told.startswith("completed ")
        sh(upload, checkout)
        record = checkout / ".guise/tenants/demo/results/first/job.json"
        until(record.exists)
        assert json.loads(record.read_bytes())["outcome"] == "completed"
    finally:
        serving.terminate()
        serving.wait(30)
        serving.stdout.close()
    sh(alone, checkout)
    assert (checkout / "covered.jpg").exists()


class Accepting(BaseHTTPRequestHandler):
    """A door whose worker cannot be waited for."""

    status = 202
    answer = b'{"job":"j1","outcome":"accepted"}'

    def do_POST(self) -> None:
        """Answer as the door does."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.answer)


class Refusing(Accepting):
    """A door that does not do what it is asked."""

    status = 403
    answer = b'{"type":"urn:guise:problem:tenant-suspended"}'


@pytest.mark.parametrize("door_kind", [Accepting, Refusing])
def test_an_answer_that_is_no_picture_is_shown(
    checkout: Path,
    door_kind: type[Accepting],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """What the README has for curl fails then, and why is on the screen."""
    (checkout / ".guise" / "token").write_text("a token")
    with HTTPServer(("127.0.0.1", 0), door_kind) as door:
        serving = threading.Thread(target=door.handle_request)
        serving.start()
        curl = blocks("sh")[2].replace("8080", str(door.server_port))
        with pytest.raises(subprocess.CalledProcessError):
            sh(curl, checkout)
        serving.join()
    assert capfdbinary.readouterr().out == door_kind.answer


def test_a_door_that_is_not_there_shows_no_earlier_picture(
    checkout: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """It would be taken for the answer; curl's own words are what there is."""
    (checkout / ".guise" / "token").write_text("a token")
    (checkout / "out.jpg").write_bytes(b"an earlier picture")
    with pytest.raises(subprocess.CalledProcessError):
        sh(blocks("sh")[2].replace("8080", str(free_ports())), checkout)
    said = capfdbinary.readouterr()
    assert said.out == b""
    assert b"curl: (7)" in said.err


def sh(script: str, folder: Path) -> None:
    """Run a block as a person's shell would; any failing line fails."""
    environ = {**os.environ, "no_proxy": "*"}
    subprocess.run(["sh", "-e", "-c", script], cwd=folder, check=True, env=environ)


def test_every_file_the_docs_point_to_exists() -> None:
    """No link leads nowhere."""
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
