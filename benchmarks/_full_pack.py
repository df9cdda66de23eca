"""What the neural engine is measured with: full-size stand-ins, and a pack of them.

They are made once, below `.guise/bench`, which git ignores: a gigabyte and a half, two
minutes.  The weights are random, so a face that is found is none; what is measured
depends on the networks' form alone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from models import importing
from models.verify import PackRefused, verify
from tools import standins

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".guise" / "bench"
NETWORKS = ("det_10g", "w600k_r50", "inswapper_128")


@dataclass(frozen=True, slots=True)
class Full:
    """The published files' stand-ins in `weights`, and what we make of them."""

    weights: Path
    pack: Path


def full(*, halved: bool = False) -> Full:
    """Return the full-size stand-ins and their pack, made where they are not there.

    `halved` gives the pack at float16.  All files are in the page cache then.
    """
    weights = HOME / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        if not (weights / f"{name}.onnx").exists():
            _say(f"making the stand-in of {name}")
            standins.build(name, weights, small=False)
    return Full(
        weights, _pack(weights, HOME / ("fp16" if halved else "models"), halved)
    )


def _pack(weights: Path, root: Path, halved: bool) -> Path:  # noqa: FBT001  # as above
    folder = root / "insightface" / "1.0.0"
    found = importing.scan([weights], report=_quiet)  # reads each of them
    try:
        verify(folder)
    except PackRefused:
        private = {one.path.stem: one.sha256 for one in found}
        wish = importing.Wish(pack="insightface", private=private, halved=halved)
        importing.bring([weights], root, wish, report=_say)
    return folder


def _quiet(_: str) -> None:
    pass


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
