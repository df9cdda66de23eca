"""Sessions of a pack: what is imported for them, and what they are held to."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from msgspec.structs import replace

from functions.swap import engine as engines
from functions.swap.engine import runtime
from functions.swap.engine.binding import Binding
from functions.swap.engine.placement import Placement, Unfit
from functions.swap.engine.runtime import Network
from models import manifest
from models.verify import verify
from tests.engine.neural import packs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.manifest import Model

MESH = {f"functions.swap.engine.{name}" for name in ("engine", "atlas", "facemesh")}
NEURAL = {f"functions.swap.engine.{name}" for name in ("neural", "scrfd", "arcface")}


def imported(module: str) -> set[str]:
    """Return all that a fresh interpreter has imported with a module."""
    code = f"import {module}, sys; print(*sys.modules)"
    told = subprocess.check_output([sys.executable, "-c", code], text=True)
    return set(told.split())


def test_one_engine_is_imported_without_the_other() -> None:
    """A cold start pays for the engine that its pack makes."""
    neural = imported("functions.swap.engine.neural")
    assert neural >= NEURAL
    assert MESH.isdisjoint(neural)
    assert NEURAL.isdisjoint(imported("functions.swap.engine.mesh"))
    assert (MESH | NEURAL).isdisjoint(imported("functions.swap.engine.loading"))


@pytest.mark.parametrize("name", engines.__all__)
def test_all_that_is_named_is_there(name: str) -> None:
    """What the engine's package says it has can be had, without a submodule's name."""
    assert getattr(engines, name).__name__ == name


def test_nothing_else_is_there() -> None:
    """A name that is misspelt is an error at once."""
    with pytest.raises(AttributeError, match="no Engin in"):
        engines.Engin  # type: ignore[attr-defined]  # noqa: B018


def test_kept_buffers_pass_the_golden_outputs(halved: Path) -> None:
    """Every network of a pack gives its golden outputs through a binding, too."""
    opened = runtime.load(halved, Placement.of("cpu", threads=1))
    opened.proof.get()
    with np.load(halved / opened.pack.golden) as golden:
        for network in opened.networks:
            bound = Binding(network.session, network.model, "cpu")
            runtime._prove(Network(network.model, bound), golden)


def renamed(model: Model) -> Model:
    first, *rest = model.outputs
    return replace(model, outputs=(replace(first, name="face"), *rest))


def resized(model: Model) -> Model:
    image = model.input
    return replace(model, input=replace(image, shape=(*image.shape[:2], 64, 64)))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (renamed, "inswapper_128: its tensors are output"),
        (resized, r"inswapper_128: target is \('batch', 3, 128, 128\)"),
    ],
)
def test_a_network_is_what_its_manifest_says(
    plain: Path, tmp_path: Path, other: Callable[[Model], Model], message: str
) -> None:
    """Another name or another shape is refused when the session is there."""
    folder = packs.spoilable(plain, tmp_path / "pack")
    pack = verify(folder)
    models = tuple(
        other(model) if model.contract == "inswapper" else model
        for model in pack.models
    )
    (folder / manifest.NAME).write_bytes(manifest.encode(replace(pack, models=models)))
    with pytest.raises(Unfit, match=message):
        runtime.load(folder, Placement.of("cpu", threads=1))
