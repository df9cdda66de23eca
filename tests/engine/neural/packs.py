"""Packs of small stand-ins, made as an operator makes them of weights."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from msgspec.structs import replace

from models import catalogue
from models.importing import Wish, bring
from models.prepare import Brought, assemble, stamp
from tools import standins

if TYPE_CHECKING:
    from pathlib import Path

CORE = ("det_10g", "w600k_r50", "inswapper_128")
ALL = (*CORE, "gfpgan_1_4", "real_esrgan_x2", "nsfw_marqo", "bisenet_resnet_34")


def silent(line: str) -> None:
    """Be told, and say nothing."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def imported(
    root: Path, pack: str = "insightface", *names: str, halved: bool = False
) -> Path:
    """Return the pack of the catalogue below `root`, made of private stand-ins.

    Halved, the swapper's weights lie in a file of their own, which is mapped.
    """
    weights = root / "weights"
    weights.mkdir(parents=True)
    paths = {
        name: standins.build(name, weights, small=True) for name in (*CORE, *names)
    }
    private = {name: digest(path) for name, path in paths.items()}
    wish = Wish(pack=pack, private=private, halved=halved)
    return bring([weights], root, wish, report=silent)


def assembled(folder: Path, *names: str) -> Path:
    """Return a pack of just these stand-ins, which the catalogue may not offer."""
    weights = folder.with_suffix(".weights")
    for each in (folder, weights):
        each.mkdir(parents=True)
    offered = catalogue.load()
    brought = []
    for name in names:
        path = standins.build(name, weights, small=True)
        size = path.stat().st_size
        model = offered.model(name)
        brought.append(
            Brought(model, path, digest(path), size, stamp(path), private=True)
        )
    pack = replace(offered.pack("insightface"), id="odd")
    assemble(pack, brought, folder, report=silent)
    return folder


def spoilable(folder: Path, to: Path) -> Path:
    """Return a copy of a pack that may be written to."""
    shutil.copytree(folder, to)
    for path in (to, *to.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return to


def flip(path: Path, at: float = 0.5) -> None:
    """Flip one bit of a file, that far from its beginning."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(data)
