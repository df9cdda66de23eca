"""A folder is the pack its manifest describes, or it is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import rfc8785

from models.verify import ModelError, PackRefused, verify, verify_as

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = (
    "LICENSE",
    "face_detection_full_range.onnx",
    "face_detection_short_range.onnx",
    "face_landmark.onnx",
    "golden.npz",
)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, and write it as canonically as it was."""
    path = folder / "pack.json"
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_bytes(rfc8785.dumps(manifest))


def flip(path: Path) -> None:
    """Change the last bit of a file, and nothing of its size."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def test_whole(prepared: Path) -> None:
    """A whole pack is accepted, and its manifest returned."""
    pack = verify(prepared)
    assert (pack.id, pack.version, pack.licence) == ("lite", "1.1.0", "Apache-2.0")
    assert pack.commercial
    assert [file.name for file in pack.files] == sorted(FILES)
    assert pack.model("face_landmark").contract == "facemesh"


def test_digest_of_the_pack(prepared: Path) -> None:
    """The digest of a pack is that of the file `pack.json`."""
    raw = (prepared / "pack.json").read_bytes()
    assert verify(prepared).pack_digest == hashlib.sha256(raw).hexdigest()


def test_canonical(prepared: Path) -> None:
    """A manifest is canonical JSON, as an implementation we did not write makes it."""
    raw = (prepared / "pack.json").read_bytes()
    assert rfc8785.dumps(json.loads(raw)) == raw


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit(copy: Path, name: str) -> None:
    """One bit changed in any file is found, and the file named."""
    flip(copy / name)
    with pytest.raises(PackRefused, match=rf"^{name}: its SHA-256 is"):
        verify(copy)


@pytest.mark.parametrize("name", FILES)
def test_grown_file(copy: Path, name: str) -> None:
    """A file with a byte too many is refused before it is read."""
    with (copy / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(PackRefused, match=rf"^{name}: \d+ bytes, not \d+$"):
        verify(copy)


@pytest.mark.parametrize("name", [*FILES, "pack.json"])
def test_missing_file(copy: Path, name: str) -> None:
    """A file that is not there is named."""
    (copy / name).unlink()
    with pytest.raises(PackRefused, match=rf"^{name}: missing$"):
        verify(copy)


@pytest.mark.parametrize("name", [".hidden", "extra.onnx", "pack.json.bak"])
def test_extra_file(copy: Path, name: str) -> None:
    """A file the manifest does not list is refused, hidden or not."""
    (copy / name).touch()
    with pytest.raises(PackRefused, match=rf"^{name}: not in the manifest$"):
        verify(copy)


@pytest.mark.parametrize("name", [*FILES, "pack.json"])
def test_symlink(copy: Path, prepared: Path, name: str) -> None:
    """A link is refused even where what it points at is right."""
    (copy / name).unlink()
    (copy / name).symlink_to(prepared / name)
    with pytest.raises(PackRefused, match=rf"^{name}: a symbolic link$"):
        verify(copy)


def test_directory_for_a_file(copy: Path) -> None:
    """A folder with a file's name is refused."""
    (copy / "LICENSE").unlink()
    (copy / "LICENSE").mkdir()
    with pytest.raises(PackRefused, match=r"^LICENSE: Is a directory$"):
        verify(copy)


def test_pipe_for_a_file(copy: Path) -> None:
    """A pipe is refused, and never waited for."""
    (copy / "LICENSE").unlink()
    os.mkfifo(copy / "LICENSE")
    with pytest.raises(PackRefused, match=r"^LICENSE: not a plain file$"):
        verify(copy)


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is refused like one without a manifest."""
    with pytest.raises(ModelError, match=r"^pack\.json: missing$"):
        verify(tmp_path / "nowhere")


def test_without_digests(copy: Path) -> None:
    """`full=False` reads no file, and still refuses a wrong size or a stranger."""
    flip(copy / "golden.npz")
    assert verify(copy, full=False).id == "lite"
    (copy / "extra").touch()
    with pytest.raises(PackRefused, match=r"^extra: not in the manifest$"):
        verify(copy, full=False)
    (copy / "extra").unlink()
    (copy / "golden.npz").write_bytes(b"")
    with pytest.raises(PackRefused, match=r"^golden\.npz: 0 bytes"):
        verify(copy, full=False)


def test_another_pack_in_its_place(prepared: Path) -> None:
    """A whole pack that lies where another belongs is refused."""
    assert verify_as(prepared, "lite", "1.1.0").id == "lite"
    with pytest.raises(PackRefused, match=r"^pack\.json: it is lite 1\.1\.0$"):
        verify_as(prepared, "lite", "2.0.0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(motto="trust me"), "unknown field `motto`"),
        (lambda m: m["files"][0].update(mode=7), r"unknown field `mode`.*\$\.files"),
        (lambda m: m["models"][0].update(url=""), r"unknown field `url`.*\$\.models"),
        (lambda m: m["models"][0]["input"].update(bgr=True), "unknown field `bgr`"),
        (lambda m: m.pop("licence"), "missing required field `licence`"),
        (lambda m: m.update(commercial="yes"), r"Expected `bool`.*\$\.commercial"),
        (lambda m: m.update(version="1"), r"matching regex.*\$\.version"),
        (
            lambda m: m.update(format=1),
            "format 1, and this reads 2: make the pack anew",
        ),
        (lambda m: m["models"][0]["input"].update(std=[1, 0, 1]), "0 is no deviation"),
        (lambda m: m["files"][0].update(bytes="9"), r"Expected `int`.*\.bytes"),
        (lambda m: m["files"][0].update(bytes=-1), r"Expected `int` >= 0.*\.bytes"),
        (lambda m: m["files"][0].update(sha256="AA"), r"matching regex.*\.sha256"),
        (lambda m: m["files"][0].update(name="../up"), r"matching regex.*\.name"),
        (lambda m: m["files"][0].update(name="a\n"), r"matching regex.*\.name"),
        (lambda m: m["models"][0].update(contract="?"), r"Invalid enum value '\?'"),
        (lambda m: m.update(models=[]), r"length >= 1.*\$\.models"),
        (lambda m: m["files"].append(m["files"][0]), "named twice"),
        (lambda m: m["models"].append(m["models"][0]), "named twice"),
        (lambda m: m.update(golden="other.npz"), "other.npz is not among its files"),
        (lambda m: m["models"][0].update(file="x.onnx"), "x.onnx is not among"),
        (lambda m: m["models"][0].update(commercial=False), "one of its models is not"),
    ],
)
def test_manifest_is_strict(
    copy: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """What a manifest may not say is refused, with the place where it says it."""
    rewrite(copy, change)
    with pytest.raises(PackRefused, match=rf"^pack\.json: .*{message}"):
        verify(copy)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: b"", "Input data was truncated"),
        (lambda raw: raw[:-1], "Input data was truncated"),
        (lambda raw: b"\xff" + raw, "invalid"),
        (lambda _: b"[" * 50_000, "Expected `object`"),
        (lambda raw: raw[:-1] + b',"x":' + b"[" * 50_000, "recursion|unknown field"),
        (lambda raw: raw + b"\n", "not canonical"),
        (lambda raw: b'{"id":"lite",' + raw[1:], "not canonical"),
        (lambda raw: raw + b" " * 65_536, "more than 65536 bytes"),
    ],
)
def test_manifest_bytes(
    copy: Path, spoil: Callable[[bytes], bytes], message: str
) -> None:
    """One manifest has one form: cut, stretched or written twice it is refused."""
    path = copy / "pack.json"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(PackRefused, match=rf"^pack\.json: .*({message})"):
        verify(copy)
