"""Stand-ins: the published architecture, names, shapes and size, but random weights.

Published weights can never be in the repository, and most may not be had without a
licence.  What depends on a network's form alone (loading, contracts, packing, speed)
is built and measured against these; what depends on what it has learned is not.

    python -m tools.standins FOLDER [--small] [NAME...]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.standins import arcface, inswapper, scrfd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tools.standins.graph import Graph

    Make = Callable[[str, bool], Graph]


def _scrfd(full: scrfd.Widths, small: scrfd.Widths) -> Make:
    return lambda name, few: scrfd.build(name, small if few else full)


def _residual(full: arcface.Residual, small: arcface.Residual) -> Make:
    return lambda name, few: arcface.residual(name, small if few else full)


def _mobile(full: arcface.Mobile, small: arcface.Mobile) -> Make:
    return lambda name, few: arcface.mobile(name, small if few else full)


def _inswapper(full: inswapper.Widths, small: inswapper.Widths) -> Make:
    return lambda name, few: inswapper.build(name, small if few else full)


_MAKERS: Mapping[str, Make] = {
    "det_10g": _scrfd(scrfd.DET_10G, scrfd.SMALL_10G),
    "det_2.5g": _scrfd(scrfd.DET_2_5G, scrfd.SMALL_2_5G),
    "det_500m": _scrfd(scrfd.DET_500M, scrfd.SMALL_500M),
    "w600k_r50": _residual(arcface.W600K_R50, arcface.SMALL_R50),
    "w600k_mbf": _mobile(arcface.W600K_MBF, arcface.SMALL_MBF),
    "inswapper_128": _inswapper(inswapper.INSWAPPER_128, inswapper.SMALL),
}

NAMES = tuple(_MAKERS)
"""Every model there is a stand-in for, by the name of its published file."""


def graph(name: str, *, small: bool) -> Graph:
    """Return the network called `name` with its weights not yet drawn.

    Raises:
        KeyError: there is no stand-in of that name.
    """
    return _MAKERS[name](name, small)


def build(name: str, folder: Path, *, small: bool) -> Path:
    """Write the stand-in of `name` under its published file name; return where.

    The same name and size give the same bytes, on every machine.  A `small` one keeps
    names, ranks, strides, sizes of inputs and contract, but has few channels.

    Raises:
        KeyError: there is no stand-in of that name.
    """
    import onnx

    model = graph(name, small=small).model()
    onnx.checker.check_model(model)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
