"""The catalogue says exactly what a pack is made from; the inventory what is here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from models import catalogue
from models.errors import UnknownPack
from models.inventory import Entry, inventory
from models.verify import verify

HERE = Path(__file__).parents[2]
HEAVY = ("cv2", "flatbuffers", "numpy", "onnx", "onnxruntime", "tflite")


def test_lite(lite: catalogue.Pack) -> None:
    """The pack `lite` may be used by anyone for anything: Apache-2.0 throughout."""
    assert lite.commercial
    assert {lite.licence, *(model.licence for model in lite.models)} == {"Apache-2.0"}
    assert [(model.name, model.contract) for model in lite.models] == [
        ("face_detection_full_range", "blazeface"),
        ("face_detection_short_range", "blazeface"),
        ("face_landmark", "facemesh"),
    ]


def test_unknown_pack() -> None:
    """A pack the catalogue does not have is refused, and those it has are named."""
    with pytest.raises(UnknownPack, match=r"no pack 'x'.*it has: lite$"):
        catalogue.load().pack("x")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('id = "lite"', 'id = "lite"\nmotto = "x"', "unknown field `motto`"),
        ('version = "1.1.0"', 'version = "1"', "matching regex"),
        ("bytes = 676746", 'bytes = "676746"', "Expected `int`, got `str`"),
        ('contract = "facemesh"', 'contract = "mesh"', "Invalid enum value 'mesh'"),
        ("commercial = true", "", "missing required field `commercial`"),
    ],
)
def test_catalogue_is_strict(tmp_path: Path, old: str, new: str, message: str) -> None:
    """What the catalogue may not say is refused with its place."""
    spoiled = tmp_path / "catalogue.toml"
    spoiled.write_text(catalogue.HERE.read_text().replace(old, new))
    with pytest.raises(msgspec.ValidationError, match=rf"{message}.*\$\.pack"):
        catalogue.load(spoiled)


def test_nothing_here(tmp_path: Path) -> None:
    """Where there is nothing, the inventory has what the catalogue offers."""
    assert inventory(tmp_path / "nowhere") == (
        Entry(
            id="lite",
            version="1.1.0",
            folder=tmp_path / "nowhere" / "lite" / "1.1.0",
            offered=True,
            state="absent",
            licence="Apache-2.0",
            commercial=True,
        ),
    )


def test_what_is_here(prepared: Path, tmp_path: Path) -> None:
    """A whole pack is verified, a foreign or a broken one refused with the reason."""
    shutil.copytree(prepared, tmp_path / "lite" / "1.1.0")
    shutil.copytree(prepared, tmp_path / "lite" / "2.0.0")
    (tmp_path / "mine" / "0.1.0").mkdir(parents=True)
    (tmp_path / "lite" / ".1.1.0-making").mkdir()
    found = {(entry.id, entry.version): entry for entry in inventory(tmp_path)}
    assert list(found) == [("lite", "1.1.0"), ("lite", "2.0.0"), ("mine", "0.1.0")]
    whole, foreign, broken = found.values()
    assert (whole.state, whole.digest) == ("verified", verify(prepared).pack_digest)
    assert (foreign.state, foreign.reason, foreign.offered) == (
        "refused",
        "pack.json: it is lite 1.1.0",
        False,
    )
    assert (broken.state, broken.reason) == ("refused", "pack.json: missing")
    assert (broken.licence, broken.commercial) == ("", False)


@pytest.mark.parametrize(
    "module", ["catalogue", "errors", "inventory", "manifest", "pull", "verify"]
)
def test_light(module: str) -> None:
    """Importing it imports nothing heavy: what serves and what lists stays cold."""
    script = f"import models.{module}, sys; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, check=True, cwd=HERE, text=True)
    assert not {*HEAVY} & {*done.stdout.split()}
    assert f"models.{module}" in done.stdout.split()
