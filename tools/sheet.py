"""The contact sheet: every sample on every other, and what makes a swap hard.

Run as `python -m tools.sheet [FOLDER]`; it writes a sheet for each direction and
the pictures of the documentation into FOLDER, by default docs/pictures.  Look at it at
full size whenever the engine changes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine import MeshEngine
from functions.swap.engine.anonymize import METHODS
from functions.swap.media import Image, decode, encode
from models import pull

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Change = Callable[[Pixels], NDArray[np.generic]]

ROOT = Path(__file__).parents[1]
SIDE, LABEL, QUALITY = 240, 24, 88
BYTES_MAX = 200_000


def turned(pixels: Pixels) -> NDArray[np.generic]:
    """Return the picture leaning by 25 degrees."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 25, 1)
    reflect = cv2.BORDER_REFLECT
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=reflect)


def scaled(factor: float) -> Change:
    """Return a change of size."""
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return lambda p: cv2.resize(p, None, fx=factor, fy=factor, interpolation=method)


def grey(pixels: Pixels) -> NDArray[np.generic]:
    """Return the picture in black and white."""
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def held(pixels: Pixels) -> NDArray[np.generic]:
    """Return the picture with a bar before the mouth, for either portrait."""
    changed = pixels.copy()
    ends = ((150, 130), (215, 148)) if len(pixels) == len(pixels[0]) else None
    start, end = ends or ((160, 255), (265, 285))
    cv2.line(changed, start, end, (60, 160, 60), 9 if ends else 18, cv2.LINE_AA)
    return changed


PLAIN: Change = lambda p: p.copy()  # noqa: E731 - one of the changes
# What is written below, what happens to the source, what happens to the target.
CASES: tuple[tuple[str, Change, Change], ...] = (
    ("as they are", PLAIN, PLAIN),
    ("target leans", PLAIN, turned),
    ("source at a fifth", scaled(0.2), PLAIN),
    ("target at a third", PLAIN, scaled(0.33)),
    ("grey target", PLAIN, grey),
    ("dark target", PLAIN, lambda p: p * 0.35),
    ("something held", PLAIN, held),
)


def image(pixels: NDArray[np.generic]) -> Image:
    """Return pixels as a picture."""
    return Image(np.ascontiguousarray(pixels, np.uint8), "png")


def head(picture: Image, box: tuple[float, ...]) -> Pixels:
    """Return the head around a box, SIDE pixels a side."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    reach = (box[2] - box[0]) * 0.95
    scale = SIDE / (2 * reach)
    matrix = np.array(
        [[scale, 0, SIDE / 2 - scale * x], [0, scale, SIDE / 2 - scale * y]]
    )
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shown = cv2.warpAffine(picture.pixels, matrix, (SIDE, SIDE), flags=method)
    return np.asarray(shown, np.uint8)


def row(engine: MeshEngine, source: Image, target: Image, label: str) -> Pixels:
    """Return source, target and result side by side, with a line of text below."""
    from_face, onto = engine.detect(source)[0], engine.detect(target)[0]
    shown = [head(source, from_face.box), head(target, onto.box)]
    who = engine.identity(source, from_face)
    engine.blend(target, engine.swap(target, onto, who))
    shown.append(head(target, onto.box))
    strip = np.full((SIDE + LABEL, 3 * SIDE, 3), 255, np.uint8)
    strip[:SIDE] = np.hstack(shown)
    place, font = (6, SIDE + 18), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(strip, label, place, font, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    return strip


def covers(engine: MeshEngine, picture: Image) -> Pixels:
    """Return the portrait covered in each way."""
    shown, face = [], engine.detect(picture)[0]
    for method in METHODS:
        target = image(picture.pixels.copy())
        engine.cover(target, face, method)
        shown.append(head(target, face.box))
    return np.hstack(shown)


def sheet(engine: MeshEngine, source: Image, target: Image) -> Pixels:
    """Return every case in one direction, and the target covered in each way."""
    rows = [
        row(engine, image(first(source.pixels)), image(second(target.pixels)), label)
        for label, first, second in CASES
    ]
    return np.vstack((*rows, covers(engine, target)))


def write(path: Path, pixels: Pixels) -> None:
    """Write a JPEG that fits into the repository."""
    quality = QUALITY
    while len(data := encode(image(pixels), "jpeg", quality)) > BYTES_MAX:
        quality -= 4
    path.write_bytes(data)


def swapped(engine: MeshEngine, source: Image, target: Image) -> Pixels:
    """Return the target beside itself after the swap."""
    before = target.pixels.copy()
    who = engine.identity(source, engine.detect(source)[0])
    engine.blend(target, engine.swap(target, engine.detect(target)[0], who))
    return np.hstack((before, target.pixels))


def main(folder: Path = ROOT / "docs" / "pictures") -> None:
    """Write the sheet and the single pictures."""
    pack = pull.pull("lite", ROOT / ".guise" / "models", report=lambda _: None)
    engine = MeshEngine.load(pack)

    def read(name: str) -> Image:
        return decode((ROOT / "examples" / f"{name}.jpg").read_bytes())

    folder.mkdir(parents=True, exist_ok=True)
    for source, target in (("collins", "hopper"), ("hopper", "collins")):
        pair = swapped(engine, read(source), read(target))
        write(folder / f"{source}-on-{target}.jpg", pair)
        cases = sheet(engine, read(source), read(target))
        write(folder / f"sheet-{source}-on-{target}.jpg", cases)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
