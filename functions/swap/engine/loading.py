"""From a prepared pack to the engine that its models make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.swap.engine.engine import Engine
from functions.swap.engine.placement import Unfit

if TYPE_CHECKING:
    from pathlib import Path

    from functions.swap.engine.neural import NeuralEngine
    from models.manifest import Pack


def load(
    folder: Path, pack: Pack, *, device: str = "auto", full: bool = True
) -> Engine | NeuralEngine:
    """Return the engine of the pack in `folder`: the mesh's, or the neural one.

    Raises:
        models.errors.PackRefused: the folder is not the pack it claims to be.
        Unfit: it is not `pack`, a network is wrong here, the pack lacks one, or there
            is no such device.

    """
    engine = _load(folder, pack, device=device, full=full)
    if engine.pack != pack:
        raise Unfit(f"{folder.name}: another pack than the one that was vetted")
    return engine


def _load(
    folder: Path, pack: Pack, *, device: str, full: bool
) -> Engine | NeuralEngine:
    if pack.of("facemesh"):
        return Engine.load(folder, device=device, full=full)
    # Imported here, since the mesh engine's cold start needs none of it.
    from functions.swap.engine.neural import NeuralEngine

    return NeuralEngine.load(folder, device=device, full=full)
