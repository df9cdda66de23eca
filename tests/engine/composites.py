"""Pictures with faces at known places, made from the two portraits.

Run as a program it measures recall by size and prints the table of
docs/detection.md; the tests use the same makers on a smaller scale.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from functions.swap.engine import MeshEngine, boxes
from functions.swap.media import Image, decode
from models import pull

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
# Where the detector sees the face of each portrait, to whole pixels.
PORTRAITS = {"collins": (172, 70, 278, 176), "hopper": (166, 137, 367, 338)}
HARDSHIPS = ("clean", "blur", "noise", "jpeg40", "dark")
TURNS = (0, 20, -45, 45)
SIZES = (16, 20, 24, 32, 48, 64, 96, 200, 400)
WIDTH, HEIGHT = 1280, 960

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Spot:
    """A face to draw: which, how large, how turned (degrees), where its middle is."""

    name: str
    size: float
    turn: float
    x: float
    y: float

    @property
    def box(self) -> Box:
        half = self.size / 2
        return self.x - half, self.y - half, self.x + half, self.y + half


def portrait(name: str) -> NDArray[np.uint8]:
    return decode((ROOT / "examples" / f"{name}.jpg").read_bytes()).pixels


def texture(
    random: np.random.Generator, width: int, height: int, kind: int
) -> NDArray[np.uint8]:
    """Return face-free texture: blurred noise, noise of many scales, or plain."""
    if kind % 3 == 0:
        noise = random.integers(0, 256, (height, width, 3), np.uint8)
        return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.uint8)
    if kind % 3 == 1:
        picture = np.full((height, width, 3), 127.0, np.float32)
        for cell in (2, 4, 8, 16, 32):
            coarse = random.normal(0, 14, (height // cell, width // cell, 3))
            picture += cv2.resize(
                coarse.astype(np.float32), (width, height), interpolation=2
            )
        return np.clip(picture, 0, 255).astype(np.uint8)
    return np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)


def draw(picture: NDArray[np.uint8], spot: Spot) -> None:
    """Draw a portrait's head into the picture, in place."""
    pixels, (x0, y0, x1, y1) = portrait(spot.name), PORTRAITS[spot.name]
    scale = spot.size / (x1 - x0)
    halvings = max(0, int(np.floor(np.log2(1 / scale))))
    for _ in range(halvings):
        half = (pixels.shape[1] // 2, pixels.shape[0] // 2)
        pixels = np.asarray(cv2.resize(pixels, half, interpolation=3), np.uint8)
    factor = 2**halvings
    middle = ((x0 + x1) / 2 / factor, (y0 + y1) / 2 / factor)
    matrix: Any = cv2.getRotationMatrix2D(middle, spot.turn, scale * factor)
    matrix[:, 2] += np.array([spot.x, spot.y]) - middle
    size = (picture.shape[1], picture.shape[0])
    head = cv2.warpAffine(pixels, matrix, size)
    there = cv2.warpAffine(np.ones(pixels.shape[:2], np.uint8), matrix, size)
    y, x = np.ogrid[: size[1], : size[0]]
    disc = np.hypot(x - spot.x, y - spot.y) <= spot.size * 0.95
    np.copyto(picture, head, where=(disc & (np.asarray(there) > 0))[..., np.newaxis])


def worsen(
    random: np.random.Generator, picture: NDArray[np.uint8], how: str
) -> NDArray[np.uint8]:
    """Return the picture blurred, noisy, badly compressed or dark."""
    if how == "blur":
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.2), np.uint8)
    if how == "noise":
        noisy = picture + random.normal(0, 20, picture.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)
    if how == "jpeg40":
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    if how == "dark":
        return (picture * 0.25).astype(np.uint8)
    return picture


def spots(random: np.random.Generator, size: float, turn: float) -> list[Spot]:
    """Return up to three places that do not touch."""
    cell = max(size * 2.2, 100)
    cells = [
        (x, y) for x in range(int(WIDTH // cell)) for y in range(int(HEIGHT // cell))
    ]
    random.shuffle(cells)
    names = list(PORTRAITS)
    return [
        Spot(names[n % 2], size, turn, (x + 0.5) * cell, (y + 0.5) * cell)
        for n, (x, y) in enumerate(cells[:3])
    ]


def score(
    engine: MeshEngine, picture: NDArray[np.uint8], wanted: list[Spot]
) -> tuple[int, int]:
    """Return how many of the wanted faces are found, and how many others."""
    faces = engine.detect(Image(picture, "png"))
    found = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
    hits, used = 0, set[int]()
    for spot in wanted:
        over = boxes.overlap(np.array(spot.box, np.float32), found)
        if len(over) and over.max() > 0.3:
            hits += 1
            used.add(int(over.argmax()))
    return hits, len(faces) - len(used)


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    """Tell recall by size and hardship, and false boxes by area."""
    folder = pull.pull("lite", ROOT / ".guise" / "models", report=lambda _: None)
    engine, random = MeshEngine.load(folder), np.random.default_rng(0)
    pictures = extra = 0
    write(f"| size | {' | '.join((*HARDSHIPS, 'all', 'faces'))} |\n")
    for size in SIZES:
        tally = {how: [0, 0] for how in HARDSHIPS}
        for how in HARDSHIPS:
            for turn in TURNS:
                picture = texture(random, WIDTH, HEIGHT, pictures)
                wanted = spots(random, size, turn)
                for spot in wanted:
                    draw(picture, spot)
                hits, others = score(engine, worsen(random, picture, how), wanted)
                pictures, extra = pictures + 1, extra + others
                tally[how][0] += hits
                tally[how][1] += len(wanted)
        rates = [f"{hits / count:.2f}" for hits, count in tally.values()]
        hits, count = (sum(column) for column in zip(*tally.values(), strict=True))
        write(f"| {size} | {' | '.join(rates)} | {hits / count:.2f} | {count} |\n")
    area = pictures * WIDTH * HEIGHT / 1e7
    write(f"{extra / area:.2f} false boxes per 10 megapixels, over {area * 10:.0f}\n")


if __name__ == "__main__":
    main()
