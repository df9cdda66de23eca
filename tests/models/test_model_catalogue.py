"""The catalogue says exactly what a pack is made from; the inventory what is here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from models import catalogue
from models.errors import UnknownModel, UnknownPack
from models.inventory import Entry, inventory
from models.verify import verify

HERE = Path(__file__).parents[2]
HEAVY = ("cv2", "flatbuffers", "numpy", "onnx", "onnxruntime", "tflite")


def test_lite(lite: catalogue.Pack) -> None:
    """The pack `lite` may be used by anyone for anything: Apache-2.0 throughout."""
    assert catalogue.load().commercial(lite)
    assert {lite.licence, *(model.licence for model in lite.models)} == {"Apache-2.0"}
    assert [(model.name, model.contract) for model in lite.models] == [
        ("face_detection_full_range", "blazeface"),
        ("face_detection_short_range", "blazeface"),
        ("face_landmark", "facemesh"),
    ]


def test_published() -> None:
    """Every model says where it is published, and what may be done with it."""
    models = catalogue.load().models
    digests = [model.sha256 for model in models if model.sha256]
    assert len(digests) == len({*digests})
    assert all(model.url.startswith("https://") for model in models)
    free = {model.licence for model in models if model.commercial}
    assert free == {"MIT", "Apache-2.0", "BSD-3-Clause"}
    assert not any("InsightFace" in licence for licence in free)


def test_reference() -> None:
    """The figures of the published inswapper are those of the reference."""
    model = catalogue.load().model("inswapper_128")
    assert (model.sha256, model.bytes) == (
        "e4a3f08c753cb72d04e10aa0f7dbe3deebbf39567d4ead6dce08e98aa49e16af",
        554_253_681,
    )


def test_scrfd() -> None:
    """A detector's outputs are nine: scores, boxes and points, of three strides."""
    for model in catalogue.load().models:
        if model.contract == "scrfd":
            widths = [output.shape[1] for output in model.outputs]
            assert widths == [1, 1, 1, 4, 4, 4, 10, 10, 10]


def test_one_face_space() -> None:
    """A pack with an inswapper has the one embedder whose embeddings it knows."""
    offered = catalogue.load()
    for pack in offered.packs:
        contracts = {offered.model(name).contract: name for name in pack.needs}
        if "inswapper" in contracts:
            assert contracts["arcface"] == "w600k_r50"


def test_described() -> None:
    """A private build of a free network is not called commercial: who knows."""
    model = catalogue.load().model("yunet")
    published = model.described("0" * 64, 1)
    private = model.described("0" * 64, 1, private=True)
    assert (published.commercial, published.upstream.private) == (True, False)
    assert (private.commercial, private.upstream.private) == (False, True)


def test_unknown_model() -> None:
    """A model the catalogue does not have is refused, and those it has are named."""
    with pytest.raises(UnknownModel, match=r"no model 'x'.*it has: det_10g,"):
        catalogue.load().model("x")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "det_500m"', 'name = "det_10g"', "a model is named twice"),
        ('needs = ["det_500m"', 'needs = ["det_600m"', "insightface-fast: no model"),
        ('needs = ["det_500m", "w600k_r50", "inswapper_128"]', "", "made of"),
    ],
)
def test_catalogue_fits(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A catalogue whose parts do not fit together is refused."""
    spoiled = tmp_path / "catalogue.toml"
    spoiled.write_text(catalogue.HERE.read_text().replace(old, new, 1))
    with pytest.raises(msgspec.ValidationError, match=message):
        catalogue.load(spoiled)


def test_unknown_pack() -> None:
    """A pack the catalogue does not have is refused, and those it has are named."""
    with pytest.raises(UnknownPack, match=r"no pack 'x'.*it has: lite,"):
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
    with pytest.raises(msgspec.ValidationError, match=rf"{message}.*\$\.(pack|model)"):
        catalogue.load(spoiled)


def test_nothing_here(tmp_path: Path) -> None:
    """Where there is nothing, the inventory has what the catalogue offers."""
    found = {entry.id: entry for entry in inventory(tmp_path / "nowhere")}
    assert list(found) == sorted(pack.id for pack in catalogue.load().packs)
    assert {entry.state for entry in found.values()} == {"absent"}
    assert [found["lite"]] == [
        Entry(
            id="lite",
            version="1.1.0",
            folder=tmp_path / "nowhere" / "lite" / "1.1.0",
            offered=True,
            state="absent",
            licence="Apache-2.0",
            commercial=True,
        )
    ]
    assert not found["insightface"].commercial


def test_what_is_here(prepared: Path, tmp_path: Path) -> None:
    """A whole pack is verified, a foreign or a broken one refused with the reason."""
    shutil.copytree(prepared, tmp_path / "lite" / "1.1.0")
    shutil.copytree(prepared, tmp_path / "lite" / "2.0.0")
    (tmp_path / "mine" / "0.1.0").mkdir(parents=True)
    (tmp_path / "lite" / ".1.1.0-making").mkdir()
    found = {(entry.id, entry.version): entry for entry in inventory(tmp_path)}
    there = [key for key, entry in found.items() if entry.state != "absent"]
    assert there == [("lite", "1.1.0"), ("lite", "2.0.0"), ("mine", "0.1.0")]
    whole, foreign, broken = (found[key] for key in there)
    assert (whole.state, whole.digest) == ("verified", verify(prepared).pack_digest)
    assert (foreign.state, foreign.reason, foreign.offered) == (
        "refused",
        "pack.json: it is lite 1.1.0",
        False,
    )
    assert (broken.state, broken.reason) == ("refused", "pack.json: missing")
    assert (broken.licence, broken.commercial) == ("", False)


@pytest.mark.parametrize(
    "module",
    [
        "catalogue",
        "errors",
        "importing",
        "inventory",
        "manifest",
        "pull",
        "shelf",
        "verify",
    ],
)
def test_light(module: str) -> None:
    """Importing it imports nothing heavy: what serves and what lists stays cold."""
    script = f"import models.{module}, sys; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, check=True, cwd=HERE, text=True)
    assert not {*HEAVY} & {*done.stdout.split()}
    assert f"models.{module}" in done.stdout.split()
