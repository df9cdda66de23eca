"""The engine: find faces, swap them, cover them.

There are two, and `operations.Engine` is all that the story of a job knows of them.

`mesh` is the mesh engine: `detect` finds faces, `facemesh` measures one, `atlas`
lays it out flat, `skin` tells what lies in front of it, `identity` keeps what a swap
needs of a source, `swap` draws it on a target and `paste` blends it in.  `neural` is
the other one, with a reader for each contract of the InsightFace family: `scrfd`,
`retinaface` and `yunet` detect, `align` and `arcface` tell who it is, `inswapper`,
`hyperswap` and `ghost` swap, `pasteback` pastes, `restore` and `upscale` finish,
`classifier` judges and `parser` tells the parts of a face.  `anonymize` covers, for
both.  `loading` chooses by the manifest, `runtime` opens and proves the networks,
`placement` says where they run and `binding` keeps their buffers there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functions.swap.engine.face import Face
    from functions.swap.engine.identity import Identity
    from functions.swap.engine.loading import load
    from functions.swap.engine.mesh import MeshEngine
    from functions.swap.engine.placement import Device, Unfit
    from functions.swap.engine.swap import Swapped
else:
    # Found when asked for: a cold start imports one engine, not both.
    _WHERE = {
        "Device": "placement",
        "MeshEngine": "mesh",
        "Face": "face",
        "Identity": "identity",
        "Swapped": "swap",
        "Unfit": "placement",
        "load": "loading",
    }

    def __getattr__(name: str) -> object:
        if name not in _WHERE:
            raise AttributeError(f"no {name} in {__name__}")
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


__all__ = ["Device", "Face", "Identity", "MeshEngine", "Swapped", "Unfit", "load"]
