"""From a prepared pack to an engine: what is refused, when, and by which name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from functions.swap.engine import MeshEngine, Unfit, load
from functions.swap.engine.neural import NeuralEngine
from models import manifest
from models.errors import PackRefused
from models.verify import verify
from tests.engine.neural import packs

if TYPE_CHECKING:
    from pathlib import Path

EMAP = "inswapper_128-emap.npy"
READ_FIRST = ("det_10g.onnx", "w600k_r50.onnx", "inswapper_128.onnx", EMAP)


def opened(folder: Path, *, full: bool = True) -> NeuralEngine:
    return NeuralEngine.load(folder, device="cpu", threads=1, full=full)


# --- which engine ------------------------------------------------------------


def test_the_pack_says_which_engine(plain: Path, folder: Path) -> None:
    """Swappers make the neural one, a mesh the other."""
    assert isinstance(load(plain, verify(plain), device="cpu"), NeuralEngine)
    assert isinstance(load(folder, verify(folder), device="cpu"), MeshEngine)


def test_another_pack_than_the_vetted_one_is_unfit(plain: Path, halved: Path) -> None:
    """It came into the place of the one whose signatures and licence were looked at."""
    with pytest.raises(Unfit, match=r"1\.0\.0: another pack"):
        load(plain, verify(halved), device="cpu")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("w600k_r50", "inswapper_128"), "no network of scrfd or retinaface or yunet"),
        (("det_10g", "inswapper_128"), "no network of arcface"),
        (("det_10g", "w600k_r50"), "no network of inswapper or hyperswap or ghost"),
        (
            ("det_10g", "w600k_r50", "ghost_1_256"),
            "no network of crossface",
        ),
        (
            (*packs.CORE, "det_500m"),
            "2 networks of scrfd or retinaface or yunet: det_10g, det_500m",
        ),
        (
            (*packs.CORE, "w600k_mbf"),
            "2 networks of arcface: w600k_r50, w600k_mbf",
        ),
        (
            (*packs.CORE, "hyperswap_1a_256"),
            "2 networks of inswapper or hyperswap or ghost: inswapper_128, hypersw",
        ),
        (
            (*packs.CORE, "gfpgan_1_4", "restoreformer_plus_plus"),
            "2 networks of gfpgan or restoreformer: gfpgan_1_4, restoreformer",
        ),
        (
            (*packs.CORE, "bisenet_resnet_18", "bisenet_resnet_34"),
            "2 networks of bisenet: bisenet_resnet_18, bisenet_resnet_34",
        ),
    ],
)
def test_a_pack_has_one_network_of_each_kind(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    """One that lacks what a swap needs, or leaves a choice, is unfit, and says so."""
    folder = packs.assembled(tmp_path / "odd", *names)
    with pytest.raises(Unfit, match=message):
        opened(folder)


@pytest.mark.parametrize(
    "names",
    [
        ("yunet", "w600k_mbf", "hyperswap_1a_256"),
        ("retinaface_r50", "w600k_r50", "ghost_1_256", "crossface_ghost"),
        ("det_500m", "w600k_mbf", "inswapper_128", "restoreformer_plus_plus"),
    ],
)
def test_any_kin_will_do(tmp_path: Path, names: tuple[str, ...]) -> None:
    """One detector, one embedder and one swapper, of whichever contract, and proved."""
    opened(packs.assembled(tmp_path / "odd", *names)).proof.get()


def test_two_upscalers_by_one_factor_are_unfit(tmp_path: Path) -> None:
    """Neither is quietly taken for the other."""
    names = (*packs.CORE, "real_esrgan_x4", "swin2_sr_x4")
    folder = packs.assembled(tmp_path / "odd", *names)
    with pytest.raises(Unfit, match="by 4: real_esrgan_x4, swin2_sr_x4"):
        opened(folder)


def test_a_swapper_without_its_map_is_unfit(tmp_path: Path, plain: Path) -> None:
    """An inswapper's manifest names its emap."""
    folder = packs.spoilable(plain, tmp_path / "pack")
    pack = verify(folder)
    models = tuple(msgspec.structs.replace(model, emap=None) for model in pack.models)
    rewritten(folder, pack, models=models)
    with pytest.raises(Unfit, match="inswapper_128: the manifest names no emap"):
        opened(folder)


def rewritten(folder: Path, pack: manifest.Pack, **changes: object) -> None:
    """Write another manifest into a pack; files that no model names stay listed."""
    new = msgspec.structs.replace(pack, **changes)
    (folder / manifest.NAME).write_bytes(manifest.encode(new))


# --- spoiled packs -----------------------------------------------------------


@pytest.mark.parametrize("name", READ_FIRST)
def test_what_is_read_is_hashed_before_it_is_read(
    halved: Path, tmp_path: Path, name: str
) -> None:
    """However a byte breaks a graph or a map, it is the file that is named."""
    for number, at in enumerate((0, 0.01, 0.3, 0.999)):
        folder = packs.spoilable(halved, tmp_path / str(number))
        packs.flip(folder / name, at)
        with pytest.raises(PackRefused, match=f"^{name}: its SHA-256 is"):
            opened(folder)


@pytest.mark.parametrize("name", ["inswapper_128.bin", "golden.npz"])
def test_the_rest_is_hashed_beside_the_first_job(
    halved: Path, tmp_path: Path, name: str
) -> None:
    """Mapped weights: the engine is there at once, and the proof of it fails."""
    folder = packs.spoilable(halved, tmp_path / "pack")
    packs.flip(folder / name)
    engine = opened(folder)
    with pytest.raises(PackRefused, match=f"^{name}: its SHA-256 is"):
        engine.proof.get()


@pytest.mark.parametrize("name", [*READ_FIRST, "golden.npz"])
def test_a_small_pack_is_proved_before_it_is_handed_over(
    plain: Path, tmp_path: Path, name: str
) -> None:
    """Nothing of it is mapped, so hashing it takes less time than a job."""
    folder = packs.spoilable(plain, tmp_path / "pack")
    packs.flip(folder / name)
    with pytest.raises(PackRefused, match=f"^{name}: its SHA-256 is"):
        opened(folder)


def test_a_manifest_that_was_verified_by_others_is_not_hashed(
    halved: Path, tmp_path: Path
) -> None:
    """With `full` unset digests are another's business; golden outputs are not."""
    folder = packs.spoilable(halved, tmp_path / "pack")
    (folder / "inswapper_128.bin").write_bytes(
        bytes((folder / "inswapper_128.bin").stat().st_size)
    )
    engine = opened(folder, full=False)
    with pytest.raises(Unfit, match="inswapper_128: output is not the golden output"):
        engine.proof.get()


def test_a_halved_network_is_held_to_its_own_tolerance(halved: Path) -> None:
    """Its manifest says how far from float32 it may lie."""
    opened(halved).proof.get()


def test_a_tolerance_is_held(halved: Path, tmp_path: Path) -> None:
    """The same network under a closer one is refused by its golden output."""
    folder = packs.spoilable(halved, tmp_path / "pack")
    pack = verify(folder)
    closer = msgspec.structs.replace(pack.model("inswapper_128"), tolerance_micro=9)
    models = tuple(closer if m.name == closer.name else m for m in pack.models)
    rewritten(folder, pack, models=models)
    engine = opened(folder)
    with pytest.raises(Unfit, match="inswapper_128: output is not the golden output"):
        engine.proof.get()
