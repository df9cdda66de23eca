"""From a prepared pack to the engine that its models make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.swap.engine.placement import GIB, Unfit

if TYPE_CHECKING:
    from pathlib import Path

    from functions.swap.engine.mesh import MeshEngine
    from functions.swap.engine.neural import NeuralEngine
    from models.manifest import Pack


def load(
    folder: Path,
    pack: Pack,
    *,
    device: str = "auto",
    full: bool = True,
    gpu_memory_bytes_max: int = 8 * GIB,
    cuda_graph: bool = False,
) -> MeshEngine | NeuralEngine:
    """Return the engine of the pack in `folder`: the mesh's, or the neural one.

    The last two are `Placement`'s, and say nothing to a processor.

    Raises:
        models.errors.PackRefused: the folder is not the pack it claims to be.
        Unfit: it is not `pack`, a network is wrong here, the pack lacks one, or there
            is no such device.

    """
    engine: MeshEngine | NeuralEngine
    # Each is imported here: the cold start of one needs little of the other.
    if pack.of("facemesh"):
        from functions.swap.engine.mesh import MeshEngine

        engine = MeshEngine.load(folder, device=device, full=full)
    else:
        from functions.swap.engine.neural import NeuralEngine

        engine = NeuralEngine.load(
            folder,
            device=device,
            full=full,
            gpu_memory_bytes_max=gpu_memory_bytes_max,
            cuda_graph=cuda_graph,
        )
    if engine.pack != pack:
        raise Unfit(f"{folder.name}: another pack than the one that was vetted")
    return engine
