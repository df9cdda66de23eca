"""A bundle as a file that a stranger made."""

from __future__ import annotations

import json
import re
import stat
import struct
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from functions.audit import archive
from functions.audit.archive import Archive
from functions.audit.manifest import Range
from functions.audit.merkle import VerificationError
from tests.audit.bundles import (
    Made,
    bundle,
    changed,
    check,
    files,
    told,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from functions.audit.logcheck import Fault

LOG = Made(told(40))


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    """Return a bundle of a log of 40 entries."""
    return bundle(tmp_path / "honest.zip", LOG.piece(notes=(10,)))


def broken(path: Path, match: str) -> Fault:
    """Check a bundle that must fail, for the reason that is named."""
    fault = check(path).fault
    assert fault is not None
    assert re.search(match, fault.text), fault
    return fault


def holds(path: Path) -> None:
    """Check a bundle that must hold."""
    report = check(path)
    assert report.verified, report.fault


# --- the file ----------------------------------------------------------------


def test_attack_a_file_that_is_no_zip(tmp_path: Path) -> None:
    """Whatever is no zip is refused, and so is a zip with something after it."""
    path = tmp_path / "b"
    for data in (b"", b"PK", b"x" * 100, b"PK\x05\x06" + bytes(17)):
        path.write_bytes(data)
        broken(path, "not a bundle")


def test_attack_a_zip_with_a_comment(honest: Path) -> None:
    """A comment could hold a second directory, for readers that look elsewhere."""
    with zipfile.ZipFile(honest, "a") as file:
        file.comment = b"PK\x05\x06"
    broken(honest, "not a bundle")


def test_attack_a_broken_directory(honest: Path) -> None:
    """A directory that is damaged is not guessed at."""
    data = bytearray(honest.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at : at + 4] = b"XXXX"
    honest.write_bytes(data)
    broken(honest, "not a bundle")


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "tile/../manifest.json",
        "tile/0/../000",
        "tile\\0\\000",
        "epochs/0/checkpoint",
        "epochs/01/checkpoint",
        "epochs/1/epochs/2/checkpoint",
        "epochs/1/README.md",
        "tile/64/000",
        "tile/00/000",
        "tile/0/0",
        "tile/entries/",
        "tile/0/",
        "proofs/01.tlog-proof",
        "proofs/1",
        "checkpoints/7",
        "checkpoint/",
        "CHECKPOINT",
        "t\u0131le/0/000",
        "x" * 300,
    ],
)
def test_attack_a_name_that_leads_elsewhere(honest: Path, name: str) -> None:
    """Only names of a bundle's own are taken, in their one spelling."""
    changed(honest, {})
    write(honest, [*files(honest).items(), (name, b"x")])
    broken(honest, "is no name in a bundle|not a bundle")


def test_attack_a_name_with_an_end_of_its_own(honest: Path) -> None:
    """A name that goes on after a zero byte is not read as its first part."""
    write(honest, [*files(honest).items(), ("manifest.jsom", b"x")])
    data = honest.read_bytes().replace(b"manifest.jsom", b"README.md\0abc")
    honest.write_bytes(data)
    broken(honest, "is no name in a bundle")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["manifest.json", "checkpoint", "tile/0/000.p/40"])
def test_attack_a_duplicate_name(honest: Path, name: str) -> None:
    """A file that is there twice is two files, and nobody knows which was checked."""
    write(honest, [*files(honest).items(), (name, files(honest)[name])])
    broken(honest, f"{name} is there twice")


def test_attack_a_zip_bomb(honest: Path) -> None:
    """A file that says it inflates to more than it may have is not inflated."""
    write(honest, [*files(honest).items(), ("tile/0/001", bytes(8193))])
    broken(honest, "'tile/0/001' has more than 8192 bytes")


def test_attack_a_zip_bomb_that_lies(tmp_path: Path) -> None:
    """A file that says it is small, and is not, is read no further than it says."""
    path, bomb = tmp_path / "b", bytes(64 * 1024 * 1024)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("README.md", bomb)
    data = path.read_bytes().replace(struct.pack("<I", len(bomb)), struct.pack("<I", 9))
    path.write_bytes(data)
    with Archive(path) as file_:
        tracemalloc.start()
        with pytest.raises(VerificationError, match="cannot be read"):
            file_.read("README.md")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < len(bomb) // 8


def test_attack_a_file_shorter_than_it_says(tmp_path: Path) -> None:
    """A file that ends before the size it states is refused."""
    path = write(tmp_path / "b", [("README.md", b"12345678")])
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02") + 24
    path.write_bytes(data[:at] + struct.pack("<I", 20) + data[at + 4 :])
    with Archive(path) as file, pytest.raises(VerificationError, match=r"README\.md"):
        file.read("README.md")


def test_attack_files_that_lie_over_one_another(tmp_path: Path) -> None:
    """A small zip cannot show the same bytes as many files."""
    path = write(tmp_path / "b", [("README.md", b"one"), ("keys.txt", b"two")])
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 42
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    broken(path, "lies over another file|not a bundle")


def test_attack_a_directory_of_gigabytes(tmp_path: Path) -> None:
    """A directory larger than any bundle's is not read at all."""
    path = write(tmp_path / "b", [("README.md", b"one")])
    data = bytearray(path.read_bytes())
    data[-10:-6] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    broken(path, "its directory is too large")


def test_attack_a_directory_of_gigabytes_in_the_other_record(tmp_path: Path) -> None:
    """Nor where a zip of many files says so in the record that such ones have."""
    path = write(tmp_path / "b", [("README.md", b"one")])
    data = path.read_bytes()
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 2**40, 0)
    where = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(data) - 22, 1)
    path.write_bytes(data[:-22] + wide + where + data[-22:])
    broken(path, "its directory is too large")


def test_attack_too_many_files(tmp_path: Path) -> None:
    """How many files there are is limited before they are looked at."""
    infos = [zipfile.ZipInfo("README.md")] * (archive.FILES_MAX + 1)
    with pytest.raises(VerificationError, match="over 262144 files"):
        archive.check_places(infos, 0)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("external_attr", (stat.S_IFLNK | 0o777) << 16),
        ("compress_type", zipfile.ZIP_LZMA),
    ],
)
def test_attack_a_link_or_another_packing(
    honest: Path, attribute: str, value: int
) -> None:
    """A bundle holds files, stored or deflated."""
    info = zipfile.ZipInfo("tile/0/001")
    setattr(info, attribute, value)
    write(honest, [*files(honest).items(), (info, b"x")])
    broken(honest, "is a link|is encrypted")


def test_attack_an_encrypted_file(honest: Path) -> None:
    """What only somebody with a password can read is not checked by anybody."""
    data = bytearray(honest.read_bytes())
    at = data.index(b"PK\x01\x02") + 8
    data[at] |= 1
    honest.write_bytes(data)
    broken(honest, "is encrypted")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """That there is no such file is the caller's to say."""
    with pytest.raises(FileNotFoundError):
        check(tmp_path / "none")


# --- the manifest ------------------------------------------------------------


def manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the manifest of a bundle."""
    document = json.loads(files(path)["manifest.json"])
    change(document)
    return changed(path, {"manifest.json": json.dumps(document).encode()})


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"version": 1, "\xc2": 1}'],
)
def test_a_manifest_that_is_none(honest: Path, data: bytes) -> None:
    """A manifest that cannot be read is refused."""
    broken(changed(honest, {"manifest.json": data}), "the manifest is malformed")


def test_a_manifest_of_another_version(honest: Path) -> None:
    """A bundle of a version that is not known is not read as one that is."""
    broken(manifest(honest, lambda m: m.update(version=2)), "version 2, not 1")


def test_a_manifest_with_more_in_it(honest: Path) -> None:
    """Nothing is believed that nothing checks."""
    broken(manifest(honest, lambda m: m.update(verified=True)), "malformed")


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 0},
        {"origin": "guise.audit/other"},
        {"folder": "epochs/1/"},
        {"size": 0},
        {"size": 1 << 62},
        {"wanted": {"start": 2, "stop": 1}},
        {"wanted": {"start": -1, "stop": 40}},
        {"wanted": {"start": 0, "stop": 41}},
        {"covered": {"start": 0, "stop": 39}},
        {"minimum": 1},
        {"minimum": -256},
        {"minimum": 256},
        {"left_out": [1, 0]},
        {"single": [40]},
        {"single": [-1]},
        {"single": [2, 1]},
        {"single": [1, 1]},
    ],
)
def test_attack_a_manifest_that_contradicts_itself(
    honest: Path, changes: dict[str, Any]
) -> None:
    """Numbers that cannot be are refused before anything is made of them."""
    manifest(honest, lambda m: m["logs"][0].update(changes))
    broken(honest, "the manifest contradicts itself")


@pytest.mark.parametrize("size", [1 << 61, 1 << 64, 1 << 300])
def test_attack_a_manifest_of_a_giant(honest: Path, size: int) -> None:
    """A range beyond any bundle is refused before its names are listed."""
    giant = {"size": size, "left_out": [0, 0]}
    whole = {"start": 0, "stop": size}
    changes = giant | {"wanted": whole, "covered": whole}
    manifest(honest, lambda m: m["logs"][0].update(changes))
    broken(honest, "the manifest contradicts itself")


@pytest.mark.parametrize("logs", [[], [1, 0], [0, 0]])
def test_attack_logs_out_of_order(honest: Path, logs: list[int]) -> None:
    """Each epoch is there once, in order."""

    def shuffle(document: dict[str, Any]) -> None:
        one = document["logs"][0]
        document["logs"] = [one | {"epoch": 1 + each} for each in logs]

    broken(manifest(honest, shuffle), "does not list the logs in order")


def test_attack_a_job_and_a_range(honest: Path) -> None:
    """A bundle is of a job or of a range."""
    broken(manifest(honest, lambda m: m.update(job="job-1")), "contradicts itself")


def test_attack_other_times(honest: Path) -> None:
    """The times that the manifest states are those of the entries."""
    times = {"first": "2026-11-21T12:00:00.000Z", "last": "2026-12-01T00:00:00.000Z"}
    manifest(honest, lambda m: m["logs"][0].update(times=times))
    broken(honest, "times are not those of the entries")


@pytest.mark.parametrize(
    ("period", "match"),
    [
        ({"from": "yesterday"}, "period is not of times"),
        ({"from": "2026-11-21T12:00:01Z"}, "entry 0 bounds the range"),
        ({"to": "2026-11-21T12:00:39Z"}, "entry 39 bounds the range"),
    ],
)
def test_attack_another_period(
    honest: Path, period: dict[str, str], match: str
) -> None:
    """A range is the smallest that has the period's entries."""
    broken(manifest(honest, lambda m: m.update(period)), match)


def test_attack_a_range_too_small(tmp_path: Path) -> None:
    """An entry of the period outside of its range is found, if it is shown."""
    path = bundle(
        tmp_path / "b",
        LOG.piece(Range(5, 10)),
        after="2026-11-21T12:00:05Z",
        before="2026-11-21T12:00:11Z",
    )
    broken(path, "entry 10 is of the period, and outside of its range")


def test_attack_a_file_that_nothing_mentions(honest: Path) -> None:
    """What is in a bundle is checked, or it is not in it."""
    write(honest, [*files(honest).items(), ("tile/5/000", bytes(8192))])
    broken(honest, "tile/5/000 is in the bundle, and nothing says why")


@pytest.mark.parametrize("name", ["README.md", "keys.txt", "checkpoint"])
def test_a_file_that_is_missing(honest: Path, name: str) -> None:
    """Every bundle has these."""
    broken(changed(honest, {name: None}), f"{name} is not in the bundle")


def test_attack_a_hidden_checkpoint(honest: Path) -> None:
    """How many earlier checkpoints there are is said."""
    broken(changed(honest, {f"checkpoints/{10:020d}": None}), "0 earlier checkpoints")


def test_attack_a_checkpoint_of_what_is_left_out(honest: Path) -> None:
    """An earlier checkpoint is of entries that the bundle can hold it to."""
    write(honest, [*files(honest).items(), (f"checkpoints/{41:020d}", b"x")])
    broken(honest, "a checkpoint is of entries that are left out")


@pytest.mark.parametrize("data", [b"\xff", b"nonsense"])
def test_keys_that_are_none(honest: Path, data: bytes) -> None:
    """The list of keys is not trusted, and yet it is one."""
    assert check(changed(honest, {"keys.txt": data})).fault is not None
