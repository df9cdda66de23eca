"""The facade and the runtime: what loads, what refuses to serve."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from functions.swap.engine import Device, MeshEngine, Unfit, placement, runtime
from functions.swap.engine.mesh import _assemble
from functions.swap.engine.placement import Placement
from models.errors import PackRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.swap.engine.runtime import Network
    from functions.swap.media import Image


def test_the_engine_says_what_it_is(engine: MeshEngine) -> None:
    """Pack, digest and device are there for the record."""
    assert engine.pack.id == "lite"
    assert len(engine.pack.pack_digest) == 64
    assert engine.device.as_dict() == {
        "kind": "cpu",
        "name": engine.device.name,
        "uuid": "",
    }
    assert engine.device.name


@pytest.mark.parametrize("device", ["cuda:0", "tpu", ""])
def test_a_device_that_is_not_there_is_refused(device: str, folder: Path) -> None:
    """Nothing falls back to another device in silence."""
    with pytest.raises(Unfit):
        MeshEngine.load(folder, device=device)


def test_a_pack_with_a_changed_byte_is_refused(folder: Path, tmp_path: Path) -> None:
    """The digests are checked before anything is opened."""
    copy = shutil.copytree(folder, tmp_path / "pack")
    victim = copy / "face_landmark.onnx"
    victim.chmod(0o600)
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(PackRefused):
        MeshEngine.load(copy)


@pytest.fixture(scope="module")
def networks(folder: Path) -> tuple[Network, ...]:
    return runtime.load(folder, Placement.of("cpu")).networks


def test_a_wrong_golden_output_is_refused(
    networks: tuple[Network, ...], folder: Path
) -> None:
    """A network that answers otherwise than on the day it was made must not serve."""
    with np.load(folder / "golden.npz") as golden:
        arrays = dict(golden)
    runtime._prove(networks[0], arrays)
    arrays[f"{networks[0].model.name}/boxes"] = arrays[
        f"{networks[0].model.name}/boxes"
    ] + np.float32(1)
    with pytest.raises(Unfit, match="golden"):
        runtime._prove(networks[0], arrays)


def test_an_incomplete_pack_is_refused(
    networks: tuple[Network, ...], engine: MeshEngine
) -> None:
    """Two detectors and a mesh, or nothing."""
    with pytest.raises(Unfit):
        _assemble(networks[:2], engine._detector.pool)


def test_images_become_what_the_manifest_says(networks: tuple[Network, ...]) -> None:
    """Pixels are scaled to each network's own range, in RGB."""
    for network in networks:
        black = np.zeros((network.side, network.side, 3), np.uint8)
        black[..., 0] = 255  # blue
        tensor = network.image(black)
        assert tensor.shape == network.model.input.shape
        assert tensor.dtype == np.float32
        mean, std = network.model.input.mean[0], network.model.input.std[0]
        low, high = (0 - mean) / std, (255_000 - mean) / std
        assert tensor[0, 0, 0].tolist() == [low, low, high]


def test_a_processor_without_a_name_is_still_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the system tells no name, its architecture is one."""
    monkeypatch.setattr(Path, "read_text", lambda *_: "processor : 0\n")
    assert placement.cpu() == Device("cpu", platform.machine())


def test_the_whole_story(engine: MeshEngine, portrait: Callable[[str], Image]) -> None:
    """Detect, identify, merge, swap and blend, as the pipeline does it."""
    source, target = portrait("collins"), portrait("hopper")
    before = target.pixels.copy()
    who = engine.merge([engine.identity(source, engine.detect(source)[0])])
    for face in engine.detect(target):
        engine.blend(target, engine.swap(target, face, who))
    assert not np.array_equal(target.pixels, before)


def test_a_cover_is_looked_through_until_nothing_is_found(
    engine: MeshEngine, portrait: Callable[[str], Image]
) -> None:
    """If a face is found under every cover, the last is a solid box."""
    image = portrait("hopper")
    face = engine.detect(image)[0]

    class Suspicious(type(engine._detector)):  # type: ignore[misc]
        def still(self, pixels: object, face: object) -> bool:
            return True

    detector = engine._detector
    stubborn = MeshEngine(
        engine.pack,
        engine.device,
        engine.proof,
        Suspicious(detector.wide, detector.near, detector.mesh, detector.pool),
    )
    stubborn.cover(image, face, "mosaic")
    x, y = (round(value) for value in face.landmarks[2])
    assert image.pixels[y, x].max() < 64  # dark, whatever the band


def test_loading_is_quick_and_brings_nothing_else(folder: Path) -> None:
    """The engine imports no web framework and no database, and loads in a second."""
    code = (
        "import sys, time; began = time.perf_counter()\n"
        "from pathlib import Path\n"
        "from functions.swap.engine import MeshEngine\n"
        f"MeshEngine.load(Path({str(folder)!r}))\n"
        "assert not {'flask', 'sqlalchemy', 'onnx', 'PIL'} & set(sys.modules)\n"
        "assert time.perf_counter() - began < 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
