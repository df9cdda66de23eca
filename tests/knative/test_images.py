"""What the images are built from, and what looks at them once they are built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.sink import HttpSink
from tests.swap.receiver import receiving
from tools import image_checks, image_packages
from tools.image_relay import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
TARGETS = ("door", "worker-cpu", "worker-gpu", "audit", "billing")
LOCKS = sorted((REPOSITORY / "requirements/images").glob("*.lock"))
ML = {"numpy", "onnxruntime", "onnxruntime-gpu", "opencv-python-headless"}


def stages() -> Iterator[tuple[str, str, list[str]]]:
    """Yield each stage: its name, what it is built on, its instructions."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    for stage in text.split("\nFROM ")[1:]:
        first, *rest = (line.strip() for line in stage.splitlines() if line.strip())
        base, name = first.split(" AS ")
        yield name, base, rest


STAGES = {name: (base, lines) for name, base, lines in stages()}


def run(target: str) -> list[str]:
    """Return what makes the image `target`, from its base on."""
    base, lines = STAGES[target]
    return [*(run(base) if base in STAGES else []), *lines]


def packages(lock: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_in_particular(target: str) -> None:
    """The user is a number, set once and last, so that a cluster can see it."""
    users = [line for line in run(target) if line.startswith("USER ")]
    assert users == ["USER 65532:65532"]
    assert not [line for line in STAGES[target][1] if line.startswith("RUN ")]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_takes_code_from_nowhere_that_can_be_written(target: str) -> None:
    """Python and gunicorn look where they stand: that is no folder in memory."""
    lines = run(target)
    assert [each for each in lines if each.startswith("WORKDIR")] == ["WORKDIR /"]
    assert "ENV PYTHONSAFEPATH=1" in lines


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_builds_is_in_an_image(target: str) -> None:
    """An image starts on BASE, takes one folder from what built it, and runs one rm."""
    lines = run(target)
    bases = {STAGES[each][0] for each in STAGES if each in {"runtime", "tools"}}
    assert bases == {"${BASE}", "${TOOLS}"}
    [removing] = [line for line in lines if line.startswith("RUN ")]
    assert removing.startswith("RUN rm -rf ")
    copies = [line for line in lines if line.startswith(("COPY ", "ADD "))]
    packed = f"COPY --from={target}-packages /opt/guise /opt/guise"
    weights = ["COPY build/pack/ /models/"] if target.startswith("worker") else []
    assert copies == [*weights, packed]  # the weights below the code


def test_every_image_has_its_lock_and_its_labels() -> None:
    """What is built is what the Makefile names, and says what it is."""
    makefile = (REPOSITORY / "Makefile").read_text()
    assert f"TARGETS ?= {' '.join(TARGETS)}\n" in makefile
    assert {lock.stem for lock in LOCKS} == {*TARGETS, "tools"}
    assert set(image_packages.IMPORTED) == set(TARGETS) == set(image_checks.IMAGES)
    for target in TARGETS:
        labels = " ".join(line for line in run(target) if line.startswith("LABEL "))
        for each in ("licenses", "version", "revision", "title", "description"):
            assert f"org.opencontainers.image.{each}=" in labels


def test_a_mirror_leaves_no_trace() -> None:
    """Secrets are mounted where packages are fetched, and in no stage of an image."""
    for name, (_, lines) in STAGES.items():
        fetches = name == "tools" or name.endswith("-packages")
        mounts = [line for line in lines if "--mount=" in line]
        assert len(mounts) == (1 if fetches else 0)
        assert all("type=secret" in line for line in mounts)


@pytest.mark.parametrize(
    ("builder", "told"),
    [
        (
            "/usr/bin/buildah",
            "/usr/bin/buildah build --layers --timestamp 1577836800 -",
        ),
        ("docker", "SOURCE_DATE_EPOCH=1577836800 docker build --build-arg "),
    ],
)
def test_each_builder_is_told_what_it_knows(builder: str, told: str) -> None:
    """What settles times is an option of buildah's, and a variable to docker."""
    done = subprocess.run(
        ["make", "--dry-run", "image", f"BUILD={builder}", "BASE=a", "TOOLS=b"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    said = re.sub(r"\\\s+", " ", done.stdout)
    assert told in re.sub(" +", " ", said)
    assert ("--layers" in said) == (builder != "docker")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda each: each.stem)
def test_every_package_is_pinned_with_its_hash(lock: Path) -> None:
    """A lock names versions and hashes alone, and only workers' have what is ML."""
    for each in lock.read_text().replace("\\\n", " ").splitlines():
        assert re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", each), each
    assert bool(packages(lock) & ML) == lock.stem.startswith("worker")
    assert not packages(lock) & {"pip", "pytest", "mypy", "ruff", "rsa"}


def test_pip_is_told_to_hold_packages_to_their_hashes() -> None:
    """Nothing is installed by name alone."""
    installed = " ".join(STAGES["tools"][1])
    assert "pip install --quiet --no-deps --require-hashes" in re.sub(
        r" +", " ", installed
    )
    source = (REPOSITORY / "tools/image_packages.py").read_text()
    assert '"--require-hashes", "-r", lock' in source


def test_the_context_is_what_is_copied() -> None:
    """A file that is copied is let through, and one that is not copied is not."""
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    through = {line[1:] for line in ignored if line.startswith("!")}
    copied = set()
    for _, lines in STAGES.values():
        for line in lines:
            if line.startswith("COPY ") and "--from" not in line:
                copied |= {each.rstrip("/") for each in line.split()[1:-1]}
    assert "*" in ignored
    within = {each for each in copied if Path(each).parent in map(Path, through)}
    assert copied - within | {str(Path(each).parent) for each in within} == through


def test_what_is_compiled_is_the_same_bytes_twice(tmp_path: Path) -> None:
    """Bytecode does not tell when or where it was made; our sources stay."""
    seen = []
    for age, name in enumerate(("one", "two")):
        site = tmp_path / name
        for package in ("theirs", "functions"):
            (site / package).mkdir(parents=True)
            (site / package / "code.py").write_text("WORDS = {'a', 'b'}\n")
        (site / "alone.py").write_text("X = 1\n")
        for each in site.rglob("*.py"):
            os.utime(each, (age, age))
        command = (
            "import os, pathlib; os.chdir({!r}); from tools import image_packages as i;"
            "i.compile_all(pathlib.Path('.'))"
        )
        subprocess.run(
            [sys.executable, "-c", command.format(str(site))],
            check=True,
            env={"PYTHONHASHSEED": "0", "PYTHONPATH": str(REPOSITORY)},
        )
        seen.append({f.relative_to(site): f.read_bytes() for f in site.rglob("*.py*")})
    assert seen[0] == seen[1]
    assert {each.name for each in map(Path, map(str, seen[0]))} == {
        "alone.pyc",
        "code.pyc",
        "code.py",
        f"code.{sys.implementation.cache_tag}.pyc",
    }
    assert Path("theirs/code.py") not in seen[0]


def test_what_nothing_reads_goes(tmp_path: Path) -> None:
    """Tests, sources of what is compiled, and what else is not for us; ours stays."""
    goes = {
        "flask/tests/test_app.py",
        "numpy/core.pyi",
        "google/api/http.proto",
        "flask-3.dist-info/RECORD",
        "botocore/data/ec2/service-2.json.gz",
        "pygments/lexers/cobol.py",
        "sqlalchemy/dialects/oracle/base.py",
    }
    stays = {
        "flask/app.py",
        "numpy/testing/__init__.py",
        "functions/tests/x.py",
        "flask-3.dist-info/METADATA",
        "botocore/data/s3/service-2.json.gz",
        "botocore/data/endpoints.json",
        "pygments/lexers/python.py",
        "sqlalchemy/dialects/__init__.py",
        "sqlalchemy/dialects/sqlite/base.py",
    }
    for name in goes | stays:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    gone = set(image_packages.unread(tmp_path))
    assert {
        name
        for name in goes | stays
        if {tmp_path / name, *(tmp_path / name).parents} & gone
    } == goes


def test_what_does_not_compile_ends_the_build(tmp_path: Path) -> None:
    """A module that nobody can import is found here, and not on a cluster."""
    (tmp_path / "broken.py").write_text("def\n")
    with pytest.raises(SystemExit, match="does not compile"):
        image_packages.compile_all(tmp_path)


def test_who_may_not_mount_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be tried is skipped, and said; nothing failed."""
    monkeypatch.setenv("PATH", "")
    image_checks.main()
    assert capsys.readouterr().out.startswith("skipped the images: ")


def test_the_relay_does_what_the_triggers_do() -> None:
    """Usage goes to billing, the rest to audit, and what was delivered is kept."""
    with receiving() as audit, receiving() as billing:
        with closing(Relay(audit.url, billing.url)) as relay:
            sink = HttpSink(f"{relay.url}/broker", overrides={"region": "eu"})
            for kind in (events.USAGE_RECORDED, events.SWAP_COMPLETED):
                event = events.Event(id="1", source="/x", type=kind, tenant="acme")
                sink.deliver(event, timeout=10)
        assert [each["ce-type"] for each, _ in billing.seen] == [events.USAGE_RECORDED]
        assert [each["ce-type"] for each, _ in audit.seen] == [events.SWAP_COMPLETED]
        assert [each["ce-region"] for each in relay.delivered] == ["eu", "eu"]
        assert relay.receipts == []
