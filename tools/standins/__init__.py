"""Stand-ins: the published architecture, names, shapes and size, but random weights.

Published weights can never be in the repository, and most may not be had without a
licence.  What depends on a network's form alone (loading, contracts, packing, speed)
is built and measured against these; what depends on what it has learned is not.

    python -m tools.standins FOLDER [--small] [NAME...]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tools.standins import (
    aad,
    arcface,
    bisenet,
    classifier,
    gfpgan,
    inswapper,
    restoreformer,
    retinaface,
    scrfd,
    upscale,
    yunet,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tools.standins.graph import Graph

    Recipe = tuple[str, Callable[[str, bool], Graph]]

Widths = TypeVar("Widths")


def _of(
    file: str, make: Callable[[str, Widths], Graph], full: Widths, small: Widths
) -> Recipe:
    """Return the published file name, and how to make the network of either size."""
    return file, lambda name, few: make(name, small if few else full)


_RECIPES: Mapping[str, Recipe] = {
    "det_10g": _of("det_10g.onnx", scrfd.build, scrfd.DET_10G, scrfd.SMALL_10G),
    "det_2_5g": _of("det_2.5g.onnx", scrfd.build, scrfd.DET_2_5G, scrfd.SMALL_2_5G),
    "det_500m": _of("det_500m.onnx", scrfd.build, scrfd.DET_500M, scrfd.SMALL_500M),
    "retinaface_r50": _of(
        "retinaface_r50_v1.onnx",
        retinaface.build,
        retinaface.RESNET_50,
        retinaface.SMALL,
    ),
    "yunet": _of(
        "face_detection_yunet_2023mar.onnx", yunet.build, yunet.YUNET_S, yunet.SMALL
    ),
    "w600k_r50": _of(
        "w600k_r50.onnx", arcface.residual, arcface.W600K_R50, arcface.SMALL_R50
    ),
    "w600k_mbf": _of(
        "w600k_mbf.onnx", arcface.mobile, arcface.W600K_MBF, arcface.SMALL_MBF
    ),
    "inswapper_128": _of(
        "inswapper_128.onnx",
        inswapper.build,
        inswapper.INSWAPPER_128,
        inswapper.SMALL,
    ),
    "hyperswap_1a_256": _of(
        "hyperswap_1a_256.onnx", aad.build, aad.HYPERSWAP, aad.SMALL_HYPERSWAP
    ),
    "ghost_1_256": _of("ghost_1_256.onnx", aad.build, aad.GHOST, aad.SMALL_GHOST),
    "crossface_ghost": _of(
        "crossface_ghost.onnx", aad.crossface, aad.CROSSFACE, aad.SMALL_CROSSFACE
    ),
    "gfpgan_1_4": _of("GFPGANv1.4.onnx", gfpgan.build, gfpgan.GFPGAN_1_4, gfpgan.SMALL),
    "restoreformer_plus_plus": _of(
        "restoreformer_plus_plus.onnx",
        restoreformer.build,
        restoreformer.PLUS_PLUS,
        restoreformer.SMALL,
    ),
    "real_esrgan_x2": _of(
        "real_esrgan_x2.onnx", upscale.dense, upscale.REAL_ESRGAN_X2, upscale.SMALL_X2
    ),
    "real_esrgan_x4": _of(
        "real_esrgan_x4.onnx", upscale.dense, upscale.REAL_ESRGAN_X4, upscale.SMALL_X4
    ),
    "swin2_sr_x4": _of(
        "swin2_sr_x4.onnx", upscale.swin, upscale.SWIN2_SR_X4, upscale.SMALL_SWIN
    ),
    "nsfw_marqo": _of(
        "nsfw_2.onnx", classifier.build, classifier.MARQO, classifier.SMALL_MARQO
    ),
    "nsfw_freepik": _of(
        "nsfw_3.onnx", classifier.build, classifier.FREEPIK, classifier.SMALL_FREEPIK
    ),
    "bisenet_resnet_18": _of(
        "resnet18.onnx", bisenet.build, bisenet.RESNET_18, bisenet.SMALL
    ),
    "bisenet_resnet_34": _of(
        "resnet34.onnx", bisenet.build, bisenet.RESNET_34, bisenet.SMALL
    ),
}

NAMES = tuple(_RECIPES)
"""Every model there is a stand-in for, by its name in the catalogue."""


_PUBLISHED = {file.removesuffix(".onnx"): name for name, (file, _) in _RECIPES.items()}


def file_name(name: str) -> str:
    """Return the name of the file under which `name` is published.

    Raises:
        KeyError: there is no stand-in of that name.
    """
    return _RECIPES[_PUBLISHED.get(name, name)][0]


def graph(name: str, *, small: bool) -> Graph:
    """Return the network called `name` with its weights not yet drawn.

    Raises:
        KeyError: there is no stand-in of that name.
    """
    known = _PUBLISHED.get(name, name)
    return _RECIPES[known][1](known, small)


def build(name: str, folder: Path, *, small: bool) -> Path:
    """Write the stand-in of `name` under its published file name; return where.

    `name` is one of `NAMES`, or that of the published file without its ending.  The
    same name and size give the same bytes, on every machine.  A `small` one keeps
    names, ranks, strides, sizes of inputs and contract, but has few channels.

    Raises:
        KeyError: there is no stand-in of that name.
    """
    import onnx

    model = graph(name, small=small).model()
    onnx.checker.check_model(model)
    path = folder / file_name(name)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
