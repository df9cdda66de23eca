"""A pull leaves a whole pack, or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.errors import DigestMismatch, FetchFailed, UnknownPack
from models.pull import extract, fetch, pull
from models.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models import catalogue

HERE = Path(__file__).parents[2]


def silent(line: str) -> None:
    """Be told, and say nothing."""


def everything(root: Path) -> list[str]:
    """Return all there is below `root`, hidden or not."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def spoil(folder: Path) -> None:
    """Change one bit of a pack that was left read-only."""
    path = folder / "face_landmark.onnx"
    raw = bytearray(path.read_bytes())
    raw[1000] ^= 1
    path.chmod(0o644)
    path.write_bytes(raw)


@pytest.fixture
def pulled(index: Path, tmp_path: Path) -> Path:
    return pull("lite", tmp_path / "models", report=silent)


def test_pull(index: Path, prepared: Path, tmp_path: Path) -> None:
    """A pull leaves the pack under its name and version, and nothing else."""
    lines: list[str] = []
    folder = pull("lite", tmp_path, report=lines.append)
    assert folder == tmp_path / "lite" / "1.1.0"
    assert verify(folder) == verify(prepared)
    assert os.listdir(folder.parent) == ["1.1.0"]  # noqa: PTH208 - hidden ones too
    assert lines[0] == "fetching mediapipe 0.10.21"
    assert lines[-1] == "lite 1.1.0 is ready"


def test_read_only(pulled: Path) -> None:
    """Nobody may write to the pack, or add to it."""
    assert {path.stat().st_mode & 0o777 for path in pulled.iterdir()} == {0o444}
    assert pulled.stat().st_mode & 0o777 == 0o555


def test_leaves_nothing_behind(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel is gone after a pull, and ONNX Runtime has left no id to track."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    script = (
        "import sys; from pathlib import Path; from models.pull import pull\n"
        "pull('lite', Path(sys.argv[1]), report=lambda line: None)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "models")]
    subprocess.run(command, check=True, cwd=HERE)
    assert everything(tmp_path / "TMPDIR") == []
    assert not (tmp_path / "HOME" / ".cache").exists()


def test_second_pull(pulled: Path, unreachable: Path) -> None:
    """A second pull fetches nothing: it succeeds where no index can be reached."""
    lines: list[str] = []
    assert pull("lite", pulled.parents[1], report=lines.append) == pulled
    assert lines == ["lite 1.1.0 is there"]


def test_unreachable(unreachable: Path, tmp_path: Path) -> None:
    """Without an index a pull fails by name, keeps what pip said, leaves nothing."""
    root = tmp_path / "models"
    with pytest.raises(FetchFailed, match=r"^mediapipe 0\.10\.21: pip could") as caught:
        pull("lite", root, report=silent)
    assert "No matching distribution" in caught.value.diagnostics
    assert everything(root) == ["lite"]


def test_slow_index(lite: catalogue.Pack, tmp_path: Path) -> None:
    """An index that does not answer in time is given up."""
    assert lite.source is not None
    with pytest.raises(FetchFailed, match=r"not within 0\.01 s$"):
        fetch(lite.source, tmp_path, seconds_max=0.01)


def test_unknown_pack(tmp_path: Path) -> None:
    """A pack that is not in the catalogue is refused, and the known ones named."""
    with pytest.raises(UnknownPack, match=r"'heavy' in the catalogue; it has: lite,"):
        pull("heavy", tmp_path, report=silent)


def test_not_fetched(tmp_path: Path) -> None:
    """What only the operator may download is not fetched: where it is, and how, is."""
    with pytest.raises(FetchFailed) as caught:
        pull("insightface", tmp_path, report=silent)
    said = str(caught.value)
    assert "inswapper_128.onnx from https://github.com/deepinsight/insightface" in said
    assert said.endswith("guise models import FOLDER --pack insightface")


# --- what was published is not what came -------------------------------------


def forge(
    wheel: Path, folder: Path, members: Mapping[str, bytes | None], keep: str
) -> Path:
    """Write a wheel like `wheel` with some members changed, or left out for None.

    Of the rest it has what pip wants, and what begins with `keep`.
    """
    forged = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(forged, "w") as new:
        for name in old.namelist():
            content = members.get(name, b"")
            if content:
                new.writestr(name, content)
            elif name not in members and name.startswith((keep, "mediapipe-")):
                new.writestr(name, old.read(name))
    return forged


def wrong(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


@pytest.mark.parametrize(
    ("at", "change", "message"),
    [
        (0, wrong, "its SHA-256 is [0-9a-f]{64}$"),
        (2, wrong, "its SHA-256 is"),
        (1, lambda raw: raw[:-1], "not 229714 bytes$"),
        (1, lambda raw: raw + b"\0", "not 229714 bytes$"),
    ],
)
def test_altered_member(
    wheel: Path,
    lite: catalogue.Pack,
    originals: Mapping[str, bytes],
    unreachable: Path,
    tmp_path: Path,
    at: int,
    change: object,
    message: str,
) -> None:
    """A published file of another size or digest is refused and named."""
    assert callable(change)
    member = lite.models[at].member
    altered = {member: change(originals[member])}
    forge(wheel, unreachable, altered, "mediapipe/modules/face_")
    root = tmp_path / "models"
    with pytest.raises(DigestMismatch, match=f"^{member}: {message}"):
        pull("lite", root, report=silent)
    assert everything(root) == ["lite"]


def test_missing_member(wheel: Path, lite: catalogue.Pack, tmp_path: Path) -> None:
    """A package without one of the files is refused, and the file named."""
    member = lite.models[2].member
    forged = forge(wheel, tmp_path, {member: None}, "mediapipe/modules/face_")
    with pytest.raises(FetchFailed, match=f"{wheel.name}: .*{member}"):
        extract(forged, lite.models)


def test_not_a_wheel(lite: catalogue.Pack, tmp_path: Path) -> None:
    """A file that is no wheel is refused."""
    forged = tmp_path / "mediapipe.whl"
    forged.write_bytes(b"hello")
    with pytest.raises(FetchFailed, match=r"^mediapipe\.whl: File is not a zip file$"):
        extract(forged, lite.models)


def test_damaged_archive(wheel: Path, lite: catalogue.Pack, tmp_path: Path) -> None:
    """An archive whose own checksum does not hold is refused."""
    member = lite.models[1].member
    forged = forge(wheel, tmp_path, {}, "mediapipe/modules/face_")
    with zipfile.ZipFile(forged) as archive:
        begin = archive.getinfo(member).header_offset
    raw = bytearray(forged.read_bytes())
    raw[begin + 1000] ^= 1
    forged.write_bytes(raw)
    with pytest.raises(FetchFailed, match=f"Bad CRC-32 for file '{member}'"):
        extract(forged, lite.models)


# --- at once, again, and half way --------------------------------------------


def test_two_at_once(index: Path, tmp_path: Path) -> None:
    """Two pulls at once both succeed, and leave one pack."""
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(pull, "lite", tmp_path, report=silent) for _ in range(2)]
        folders = {each.result() for each in both}
    assert folders == {tmp_path / "lite" / "1.1.0"}
    assert verify(folders.pop()).id == "lite"
    assert [path.name for path in (tmp_path / "lite").iterdir()] == ["1.1.0"]


def test_overtaken(index: Path, tmp_path: Path) -> None:
    """A pull that is overtaken leaves the pack that is there, untouched."""
    inodes: list[int] = []

    def overtake(line: str) -> None:
        if line == "preparing face_landmark":
            inodes.append(pull("lite", tmp_path, report=silent).stat().st_ino)

    folder = pull("lite", tmp_path, report=overtake)
    assert [folder.stat().st_ino] == inodes
    assert [path.name for path in (tmp_path / "lite").iterdir()] == ["1.1.0"]


def test_overtaken_by_a_broken_one(index: Path, tmp_path: Path) -> None:
    """A pull that finds its place taken by a broken pack puts a whole one there."""

    def overtake(line: str) -> None:
        if line == "preparing face_landmark":
            spoil(pull("lite", tmp_path, report=silent))

    assert verify(pull("lite", tmp_path, report=overtake)).id == "lite"
    assert [path.name for path in (tmp_path / "lite").iterdir()] == ["1.1.0"]


def test_broken_pack(pulled: Path) -> None:
    """A pack that no longer verifies is made anew, and the reason reported."""
    spoil(pulled)
    lines: list[str] = []
    pull("lite", pulled.parents[1], report=lines.append)
    assert lines[0].startswith(
        "making lite 1.1.0 anew: face_landmark.onnx: its SHA-256"
    )
    assert verify(pulled).id == "lite"
    assert [path.name for path in pulled.parent.iterdir()] == ["1.1.0"]


def test_file_in_the_way(index: Path, tmp_path: Path) -> None:
    """A file where the pack belongs is nobody's to delete: it stays."""
    (tmp_path / "lite").mkdir()
    (tmp_path / "lite" / "1.1.0").write_text("mine")
    with pytest.raises(NotADirectoryError):
        pull("lite", tmp_path, report=silent)
    assert everything(tmp_path / "lite") == ["1.1.0"]


def test_never_half_written(index: Path, tmp_path: Path) -> None:
    """Until it is whole the pack has no name; if the making fails, nothing stays."""

    def fail_late(line: str) -> None:
        assert not (tmp_path / "lite" / "1.1.0").exists()
        if line == "preparing face_landmark":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull("lite", tmp_path, report=fail_late)
    assert everything(tmp_path) == ["lite"]


def test_killed(index: Path, tmp_path: Path) -> None:
    """A pull that is killed leaves no pack, and does not hinder the next one."""
    script = (
        "import os, sys; from pathlib import Path\n"
        "from models.pull import pull\n"
        "def die(line):\n"
        "    if line == 'preparing face_landmark': os.kill(os.getpid(), 9)\n"
        "pull('lite', Path(sys.argv[1]), report=die)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=HERE)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "lite" / "1.1.0").exists()
    assert verify(pull("lite", tmp_path, report=silent)).id == "lite"
