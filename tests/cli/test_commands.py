"""The command line, as a person and as a script would use it.

What starts a stack of its own, or turns into one, is a process here; what talks to one
that runs does so from this process.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import typer

from functions.cli.commands import app
from tests.command import run
from tests.integration.stack import COLLINS, GUISE, HOPPER, REPOSITORY, Stack, up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("cli")


def guise(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command here, and hold it to its exit status."""
    done = run(*arguments, environ=os.environ.copy())
    assert done.returncode == code, done.stdout + done.stderr
    return done


def process(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command as a process, and hold it to its exit status."""
    command = [str(GUISE), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def last(done: subprocess.CompletedProcess[str]) -> Any:
    """Return the JSON in the last line printed."""
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with up(tmp_path_factory.mktemp("cli") / "home", idle=5) as running:
        yield running


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home in which the demonstration has run."""
    home = tmp_path_factory.mktemp("demo") / "home"
    home.mkdir()
    (home / "models").symlink_to(REPOSITORY / ".guise" / "models")
    return home


def test_the_demonstration_tells_a_script_everything(demonstrated: Path) -> None:
    """The last line is one JSON object, and every figure in it was read."""
    told = last(process("demo", "--home", demonstrated, "--json"))
    assert set(told) == {
        "result",
        "job",
        "receipt",
        "usage",
        "audit",
        "bill",
        "cold_start_seconds",
        "swap_ms",
        "processes_before",
        "processes_after",
    }
    assert set(told["receipt"]) == {"index", "leaf_hash", "checkpoint"}
    assert set(told["usage"]) == {"cpu_seconds", "gpu_seconds"}
    assert told["audit"] == {"entries": 2, "verified": True}
    assert told["bill"]["currency"] == "USD"
    assert float(told["bill"]["amount"]) > 0
    assert told["processes_before"] == told["processes_after"] == 0


def test_the_demonstration_leaves_two_pictures(demonstrated: Path) -> None:
    """The output, and source, target and output side by side."""
    done = process("demo", "--home", demonstrated)
    for name in ("output.jpg", "side-by-side.jpg"):
        path = demonstrated / "demo" / name
        assert str(path) in done.stdout
        assert cv2.imread(str(path)) is not None
    assert "log verified" in done.stdout


def test_swap_starts_a_stack_by_itself_and_ends_it(demonstrated: Path) -> None:
    """No server, no url: the picture is there, and nothing runs afterwards."""
    out = demonstrated / "out.png"
    arguments = (COLLINS, HOPPER, "-o", out, "--home", demonstrated)
    done = process("swap", *arguments, "--consent", "public-domain")
    assert ": 1 face, " in done.stdout
    assert "audit entry" in done.stdout
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "nothing runs" in guise("status", "--home", demonstrated).stdout


def test_swap_uses_the_stack_that_runs(stack: Stack, tmp_path: Path) -> None:
    """Several sources, a face by index, and the record as JSON."""
    done = guise(
        "swap",
        COLLINS,
        COLLINS,
        HOPPER,
        *("-o", tmp_path / "out.webp", "--faces", "0", "--quality", 80),
        *("--consent", "consent", "--record", "consents/1.json"),
        *("--home", stack.home, "--json"),
        code=1,
    )
    assert "consents/1.json does not exist" in done.stderr
    (stack.store / "consents").mkdir(exist_ok=True)
    (stack.store / "consents" / "1.json").write_text('{"state": "given"}')
    done = guise(
        "swap",
        COLLINS,
        COLLINS,
        HOPPER,
        *("-o", tmp_path / "out.webp", "--faces", "0", "--quality", 80),
        *("--consent", "consent", "--record", "consents/1.json"),
        *("--home", stack.home, "--json"),
    )
    assert last(done)["output"]["type"] == "image/webp"
    assert (tmp_path / "out.webp").exists()


def test_anonymize_asks_a_door_by_url(stack: Stack, tmp_path: Path) -> None:
    """A door elsewhere, a token from a file."""
    out = tmp_path / "covered.jpg"
    where = ("--url", stack.urls["door"], "--token-file", stack.home / "token")
    guise("anonymize", HOPPER, "-o", out, "--cover", "mosaic", *where)
    before, after = cv2.imread(str(HOPPER)), cv2.imread(str(out))
    assert before is not None
    assert after is not None
    assert np.abs(before.astype(int) - after).max() > 100


def test_detect_shows_where_faces_are(stack: Stack) -> None:
    """A table for people, the record for scripts."""
    assert "index" in guise("detect", HOPPER, "--home", stack.home).stdout
    told = last(guise("detect", HOPPER, "--home", stack.home, "--json"))
    assert len(told["faces"]) == 1


def test_status_shows_services_queue_and_letters(stack: Stack) -> None:
    """Asking wakes nothing."""
    starts = sum(service.starts for service in stack.status().services)
    text = guise("status", "--home", stack.home).stdout
    assert "worker" in text
    assert "dead letters" in text
    told = last(guise("status", "--home", stack.home, "--json"))
    assert told["running"] is True
    assert sum(service.starts for service in stack.status().services) == starts


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("swap", "none.jpg", HOPPER, "-o", "x.jpg"), "urn:guise:problem:not-found"),
        (("swap", COLLINS, HOPPER, "-o", "x.bmp"), "urn:guise:problem:invalid-request"),
    ],
)
def test_an_error_is_one_line_with_its_type(
    arguments: tuple[object, ...],
    kind: str,
    stack: Stack,
) -> None:
    """Exit code 1, and no traceback."""
    where = ("--consent", "public-domain", "--home", stack.home)
    done = guise(*arguments, *where, code=1)
    assert done.stderr.count("\n") == 1
    assert kind in done.stderr


def test_an_url_without_a_token_is_an_error() -> None:
    """Nobody knows whose work it would be."""
    done = guise("detect", HOPPER, "--url", "http://127.0.0.1:9", code=1)
    assert "unauthenticated" in done.stderr


def test_a_door_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    """Named, with the address."""
    (tmp_path / "token").write_text("x")
    where = ("--url", "http://127.0.0.1:9", "--token-file", tmp_path / "token")
    done = guise("detect", HOPPER, *where, code=1)
    assert "127.0.0.1:9 does not answer" in done.stderr


def test_a_door_that_refuses_says_why(stack: Stack, tmp_path: Path) -> None:
    """The service's own problem is what is printed."""
    (tmp_path / "token").write_text("nonsense")
    where = ("--url", stack.urls["door"], "--token-file", tmp_path / "token")
    done = guise("detect", HOPPER, *where, code=1)
    assert "urn:guise:problem:unauthenticated" in done.stderr


def test_something_else_that_answers_is_an_error(stack: Stack, tmp_path: Path) -> None:
    """What is no door of ours answers no problem document."""
    (tmp_path / "token").write_text("x")
    where = ("--url", f"{stack.urls['broker']}/x", "--token-file", tmp_path / "token")
    done = guise("detect", HOPPER, *where, code=1)
    assert "urn:guise:problem:" in done.stderr


def test_a_refused_job_says_why(stack: Stack, tmp_path: Path) -> None:
    """A picture without a face, by the record's own problem."""
    blank = tmp_path / "blank.png"
    cv2.imwrite(str(blank), np.full((64, 64, 3), 127, np.uint8))
    out = tmp_path / "out.jpg"
    done = guise("anonymize", blank, "-o", out, "--home", stack.home, code=1)
    assert "no-face" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"# Notes", "These bytes are not a JPEG, PNG or WebP image. "),
        (b"GIF89a", "GIF is not accepted; send JPEG, PNG or WebP. "),
    ],
)
def test_a_file_that_is_no_picture_is_named(
    stack: Stack, tmp_path: Path, data: bytes, why: str
) -> None:
    """The service knows no names; whoever typed them does."""
    notes = tmp_path / "notes.md"
    notes.write_bytes(data)
    to = ("-o", tmp_path / "x.jpg", "--consent", "public-domain")
    for words in (
        ("swap", COLLINS, notes, *to),
        ("swap", notes, HOPPER, *to),
        ("detect", notes),
    ):
        done = guise(*words, "--home", stack.home, code=1)
        assert f"error: {notes}: {why}(urn:guise:problem:un" in done.stderr


def test_a_picture_that_is_corrupt_inside_is_refused_as_it_was(
    stack: Stack, tmp_path: Path
) -> None:
    """Its header says nothing of it: the service's own words stand."""
    path = tmp_path / "corrupt.png"
    chunks = (b"IHDR", struct.pack(">2I5B", 8, 8, 8, 2, 0, 0, 0)), (b"IDAT", b"no zlib")
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data))
            + name
            + data
            + struct.pack(">I", zlib.crc32(name + data))
            for name, data in (*chunks, (b"IEND", b""))
        )
    )
    done = guise("detect", path, "--home", stack.home, code=1)
    assert "corrupt. (urn:guise:problem:unreadable)" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("swap", COLLINS, "-o", "x.jpg", "--consent", "public-domain"),
        ("swap", COLLINS, HOPPER, "-o", "x.jpg", "--consent", "because"),
        ("swap", COLLINS, HOPPER, "-o", "x.jpg"),
        ("dance",),
    ],
)
def test_a_usage_error_is_2(arguments: tuple[object, ...]) -> None:
    """As everywhere."""
    process(*arguments, code=2)


def test_a_second_stack_in_a_home_is_an_error(stack: Stack) -> None:
    """It says which process has it, and where."""
    done = process("up", "--home", stack.home, "--port", 0, code=1)
    assert "error:" in done.stderr
    assert stack.urls["door"] in done.stderr


def test_up_tells_a_person_where_everything_is(tmp_path: Path) -> None:
    """The addresses, the token, and how to end it; then Ctrl-C does."""
    (tmp_path / "models").symlink_to(REPOSITORY / ".guise" / "models")
    command = [str(GUISE), "up", "--home", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(7)]
        process.terminate()
    assert lines[0].startswith("door ")
    assert "token" in lines[5]


def test_a_dead_letter_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """By its number."""
    done = guise("replay", 7, "--home", tmp_path, code=1)
    assert "no dead letter 7" in done.stderr


def test_a_face_by_its_place(stack: Stack, tmp_path: Path) -> None:
    """X,Y names the face there, as it is in the target."""
    done = guise(
        *("swap", COLLINS, HOPPER, "-o", tmp_path / "out.png", "--faces", "250,230.5"),
        *("--consent", "public-domain", "--home", stack.home, "--json"),
    )
    [face] = last(done)["faces"]
    x0, y0, x1, y1 = face["box"]
    assert x0 < 250 < x1
    assert y0 < 230.5 < y1


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--restore",), "options.restore"),
        (("--upscale", "4"), "options.upscale"),
        (("--weight", "0.5"), "options.weight"),
        (("--mask", "hull"), "options.mask"),
    ],
)
def test_an_option_without_a_model_for_it(
    stack: Stack, tmp_path: Path, option: tuple[str, ...], named: str
) -> None:
    """It reaches the function, which refuses it by name; nothing is written."""
    out = tmp_path / "out.png"
    place = ("--consent", "public-domain", "--home", stack.home)
    done = guise("swap", COLLINS, HOPPER, "-o", out, *place, *option, code=1)
    assert f"{named}: the pack lite has no model" in done.stderr
    assert not out.exists()


def test_packs_are_listed_pulled_and_verified(tmp_path: Path) -> None:
    """For people and for scripts; what is not the pack is refused by file."""
    root = REPOSITORY / ".guise" / "models"
    assert "lite" in guise("models", "list", "--root", root).stdout
    listed = last(guise("models", "list", "--root", root, "--json"))
    told = last(guise("models", "pull", "lite", "--root", root, "--json"))
    assert told["licence"] == "Apache-2.0"
    states = {(pack["id"], pack["version"]): pack["state"] for pack in listed}
    assert states["lite", told["version"]] == "verified"
    assert ("insightface", "1.0.0") in states
    assert "verified" in guise("models", "verify", told["folder"]).stdout
    done = guise("models", "verify", tmp_path, code=1)
    assert "pack.json" in done.stderr
    done = guise("models", "pull", "none", code=1)
    assert "none" in done.stderr


def test_the_help_names_every_command() -> None:
    """What there is to do is one call away."""
    text = process("--help").stdout
    for name in ("up", "status", "swap", "anonymize", "detect", "demo", "models"):
        assert name in text


def test_the_usage_names_what_a_swap_is_given() -> None:
    """Pictures of a face, and the one that it goes onto; one by itself is too few."""
    assert "{SOURCE}... {TARGET}" in guise("swap", "--help").stdout
    assert "'SOURCE'" in guise("swap", HOPPER, "-o", "x.jpg", code=2).stderr


def test_no_list_of_commands_cuts_a_sentence() -> None:
    """Each command's first line fits beside its name on a narrow terminal."""
    narrow = {**os.environ, "COLUMNS": "80"}
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
    groups = [name for name in commands if hasattr(commands[name], "commands")]
    assert len(groups) > 3
    for words in ((), *((name,) for name in groups)):
        text = run(*words, "--help", environ=narrow).stdout
        assert "..." not in text.partition("Commands:")[2]
