"""`guise anonymize`: what becomes what, what is never touched, what is told."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from functions.cli.anonymize import Covering, anonymize_all, plan_of
from functions.cli.work import Place
from functions.problems import Conflict, InvalidRequest, NotFound, Problem
from tests.command import run
from tests.integration.stack import COLLINS, GUISE, HOPPER, Stack, up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("cli-anonymize")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Return a folder of files with the names of an album, and nothing in them."""
    names = ("a.jpg", "b.PNG", "notes.txt", ".c.jpg", "in/a.jpg", "in/.d/e.jpg")
    for name in names:
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "album"


def test_a_folders_own_pictures_are_planned(album: Path, tmp_path: Path) -> None:
    """Not the hidden, not those below; what is no picture is skipped by name."""
    plan = plan_of([album], tmp_path / "out", recursive=False)
    assert [task.path.name for task in plan.tasks] == ["a.jpg", "b.PNG"]
    assert plan.skipped == [album / "notes.txt"]


def test_recursion_keeps_the_structure(album: Path, tmp_path: Path) -> None:
    """What lay below a folder lies below the output's."""
    out = tmp_path / "out"
    plan = plan_of([album], out, recursive=True)
    places = [str(task.to.relative_to(out)) for task in plan.tasks]
    assert places == ["a.jpg", "b.PNG", "in/a.jpg"]


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("*.jpg", ["a.jpg"]),
        ("?.*", ["a.jpg", "b.PNG"]),
        ("**/b.*", ["b.PNG"]),
        ("**/*.jpg", ["a.jpg", "in/a.jpg"]),
        ("i*/*.jpg", ["in/a.jpg"]),
        ("i?", ["in/a.jpg"]),
    ],
)
def test_a_glob_names_what_the_shell_would(
    glob: str, names: list[str], album: Path, tmp_path: Path
) -> None:
    """A quoted pattern is expanded here, without hidden files."""
    plan = plan_of([album / glob, COLLINS], tmp_path / "out", recursive=False)
    *paths, _ = [task.path for task in plan.tasks]
    assert [str(path.relative_to(album)) for path in paths] == names


def test_a_file_with_a_pattern_for_a_name_is_a_file(tmp_path: Path) -> None:
    """What is there is taken before what it might mean."""
    path = tmp_path / "a[1].jpg"
    path.touch()
    assert plan_of([path], tmp_path / "b.jpg", recursive=False).tasks[0].path == path


def test_one_photograph_goes_into_a_file_or_a_folder(tmp_path: Path) -> None:
    """A folder only if there is one."""
    plan = plan_of([HOPPER], tmp_path / "x.jpg", recursive=False)
    assert plan.tasks[0].to == tmp_path / "x.jpg"
    plan = plan_of([HOPPER], tmp_path, recursive=False)
    assert plan.tasks[0].to == tmp_path / "hopper.jpg"


def test_the_output_folder_is_no_input(album: Path) -> None:
    """What was covered yesterday is not covered again today."""
    out = album / "in"
    plan = plan_of([album], out, recursive=True)
    assert [task.path.name for task in plan.tasks] == ["a.jpg", "b.PNG"]


def test_the_symlink_attack_leads_nowhere(album: Path, tmp_path: Path) -> None:
    """A link out of the folder is skipped by name; a linked folder is not entered."""
    (album / "out.jpg").symlink_to(HOPPER)
    (album / "inside.jpg").symlink_to(album / "a.jpg")
    (album / "round").symlink_to(album)
    (album / "broken.jpg").symlink_to(album / "none.jpg")
    plan = plan_of([album], tmp_path / "out", recursive=True)
    names = [task.path.name for task in plan.tasks]
    assert names == ["a.jpg", "b.PNG", "inside.jpg", "a.jpg"]
    assert plan.skipped == [album / "notes.txt", album / "out.jpg"]


@pytest.mark.parametrize(
    ("named", "out", "problem"),
    [
        (["none.jpg"], "out", NotFound),
        (["*.gif"], "out", NotFound),
        (["a.jpg"], "out.bmp", InvalidRequest),
        (["a.jpg", "b.PNG"], "out.jpg", InvalidRequest),
        (["a.jpg", "b.PNG"], "album/notes.txt", InvalidRequest),
        (["empty"], "out", NotFound),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    named: list[str], out: str, problem: type[Problem], album: Path
) -> None:
    """Before anything runs, and by name."""
    (album / "empty").mkdir()
    paths = [album / name for name in named]
    with pytest.raises(problem):
        plan_of(paths, album.parent / out, recursive=False)


def refused(
    *named: Path, out: Path, force: bool = False, keep: Path | None = None
) -> str:
    """Return why nothing was begun; no door is there to be asked."""
    place = Place(out.parent / "home", "http://127.0.0.1:9", COLLINS, json=True)
    covering = Covering("blur", [keep] if keep else [])
    with pytest.raises((Conflict, NotFound)) as caught:
        anonymize_all(place, named, out, covering, recursive=False, force=force)
    return str(caught.value)


def test_two_pictures_that_would_be_one_are_refused(album: Path) -> None:
    """Neither would say which of them it is."""
    why = refused(album / "a.jpg", album / "in" / "a.jpg", out=album.parent / "out")
    assert "both become" in why
    assert not (album.parent / "out").exists()


@pytest.mark.parametrize("force", [True, False])
def test_an_input_is_never_written_over(album: Path, *, force: bool) -> None:
    """By name, through a link of either kind, or as a picture to keep by."""
    assert "is an input" in refused(album, out=album, force=force)
    os.link(album / "a.jpg", album / "hard.jpg")
    (album / "soft.jpg").symlink_to(album / "a.jpg")
    for name in ("hard.jpg", "soft.jpg"):
        out = album / name
        assert "is an input" in refused(album / "a.jpg", out=out, force=force)
    keep = album / "in" / "a.jpg"
    why = refused(album / "a.jpg", out=keep, force=force, keep=keep)
    assert "is an input" in why
    assert (album / "a.jpg").read_bytes() == b"a.jpg"


def test_outputs_that_exist_are_left_without_force(album: Path) -> None:
    """All are counted, the first is named, and nothing runs."""
    out = album.parent / "out"
    out.mkdir()
    (out / "a.jpg").touch()
    (out / "b.PNG").touch()
    assert "a.jpg and 1 more exists already" in refused(album, out=out)


def test_a_picture_to_keep_by_must_be_there(album: Path) -> None:
    """Else everybody would be covered for a typing error."""
    why = refused(album, out=album.parent / "out", keep=album / "none.jpg")
    assert "none.jpg is not a file" in why


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with up(tmp_path_factory.mktemp("anonymize") / "home", idle=20) as running:
        yield running


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Return a folder: two portraits, a blank, a broken one, and no picture."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    (folder / "collins.jpg").symlink_to(folder / "more" / "collins.jpg")
    (folder / "more" / "collins.jpg").write_bytes(COLLINS.read_bytes())
    (folder / "hopper.jpg").write_bytes(HOPPER.read_bytes())
    cv2.imwrite(str(folder / "blank.png"), np.full((64, 64, 3), 127, np.uint8))
    (folder / "broken.webp").write_bytes(b"RIFF, and nothing more")
    (folder / "notes.txt").write_text("no picture")
    return folder


def anonymize(stack: Stack, *arguments: object) -> subprocess.CompletedProcess[str]:
    home = ("--home", stack.home)
    return run("anonymize", *arguments, *home, environ=os.environ.copy())


def test_a_folder_is_covered_and_everything_told_to_a_script(
    stack: Stack, photographs: Path
) -> None:
    """One line a picture with its receipt or its problem, then one for all."""
    out = photographs.parent / "out"
    done = anonymize(stack, photographs, "-o", out, "-r", "--json", "--cover", "box")
    assert (done.returncode, done.stderr) == (1, "")
    *lines, summary = map(json.loads, done.stdout.splitlines())
    blank = str(photographs / "blank.png")
    assert summary == {
        "done": 3,
        "failed": 2,
        "faces": 3,
        "kept": 0,
        "no_face": [blank],
        "skipped": [str(photographs / "notes.txt")],
    }
    told: dict[str, Any] = {line["in"]: line for line in lines}
    assert told[blank]["problem"]["type"] == "urn:guise:problem:no-face"
    hopper = told[str(photographs / "hopper.jpg")]
    assert hopper["counts"] == {"found": 1, "done": 1, "kept": 0}
    assert hopper["usage"]["outcome"] == "completed"
    assert len({line["receipt"]["index"] for line in lines if "receipt" in line}) == 3
    assert not (out / "blank.png").exists()
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == [
        "collins.jpg",
        "hopper.jpg",
        "more/collins.jpg",
    ]


def test_a_person_is_told_what_to_look_at(stack: Stack, photographs: Path) -> None:
    """A line a failure, the sum, the pictures without a face, and what was skipped."""
    done = anonymize(stack, photographs, "-o", photographs.parent / "out")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 2
    for name, kind in (("blank.png", "no-face"), ("broken.webp", "unreadable")):
        [line] = [text for text in done.stderr.splitlines() if name in text]
        assert f"urn:guise:problem:{kind}" in line
    assert "2 pictures done, 2 faces covered, 0 kept; 2 pictures failed" in done.stdout
    assert "look yourself:\n" in done.stdout
    assert done.stdout.rstrip().endswith("notes.txt")


def test_somebody_is_kept_wherever_they_are(stack: Stack, photographs: Path) -> None:
    """One reference for an album: kept where she is, everybody else covered."""
    out = photographs.parent / "out"
    both = (photographs / "more" / "collins.jpg", photographs / "hopper.jpg")
    done = anonymize(stack, *both, "-o", out, "--keep", COLLINS, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    collins, hopper, summary = map(json.loads, done.stdout.splitlines())
    assert collins["counts"] == {"found": 1, "done": 0, "kept": 1}
    assert hopper["counts"] == {"found": 1, "done": 1, "kept": 0}
    assert (summary["faces"], summary["kept"]) == (1, 1)
    before, after = cv2.imread(str(COLLINS)), cv2.imread(str(out / "collins.jpg"))
    assert before is not None
    assert after is not None
    assert np.abs(before.astype(int) - after).mean() < 2


def test_force_writes_over_an_output(stack: Stack, tmp_path: Path) -> None:
    """Once asked for; and a picture in another format by its name."""
    out = tmp_path / "out.png"
    out.write_text("old")
    assert anonymize(stack, HOPPER, "-o", out).returncode == 1
    assert out.read_text() == "old"
    done = anonymize(stack, HOPPER, "-o", out, "--force")
    assert "1 face covered, 0 kept, audit entry" in done.stdout
    assert out.read_bytes().startswith(b"\x89PNG")


def test_an_output_that_cannot_be_written_is_that_pictures_failure(
    stack: Stack, tmp_path: Path
) -> None:
    """One line with a type, no traceback, and no half of a file."""
    (tmp_path / "out").write_text("a file where a folder should be")
    done = anonymize(stack, HOPPER, "-o", tmp_path / "out" / "x.jpg")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "urn:guise:problem:unavailable" in done.stderr


def test_a_terminal_sees_progress(stack: Stack, tmp_path: Path) -> None:
    """A bar on standard error; what is piped stays plain."""
    ours, theirs = pty.openpty()
    command = [
        GUISE,
        "anonymize",
        HOPPER,
        COLLINS,
        "-o",
        tmp_path,
        "--home",
        stack.home,
    ]
    with subprocess.Popen(
        [str(each) for each in command], stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        assert process.stdout is not None
        told = process.stdout.read()
    os.close(theirs)
    shown = os.read(ours, 1 << 16)
    os.close(ours)
    assert b"anonymize" in shown
    assert told.startswith(b"2 pictures done")
