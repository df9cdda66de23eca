"""What a swap needs of a source face: its texture, laid out flat, and its shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from functions.swap.engine import skin
from functions.swap.engine.arrays import Bytes, Floats, f32, sample, u8
from functions.swap.engine.atlas import HALF, half, scale, unwrap, visible
from functions.swap.engine.topology import ringed

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAINT = 0.01  # the weight of what nobody trusts, so that it is still something
_SIDE_MIN, _SIDE_MAX = 16, 1024
_WORTH_IT = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A face without its picture.

    `textures` holds the same atlas at halving sides, largest first, (n, n, 3)
    uint8 BGR.  `trust` is (HALF, HALF) float32 from 0 to 1: where the texture is
    skin that was seen; `frames` (SIDE, SIDE) alike: where the face wears glasses.
    `scale` is how many pixels of its picture the atlas's side had.  `shape` is
    (468, 3) float32, centred, level and of unit size.
    """

    textures: tuple[Bytes, ...]
    trust: Floats
    frames: Floats
    scale: float
    shape: Floats

    def texture(self, side: float) -> Bytes:
        """Return the smallest texture that is at least `side` wide, or the largest."""
        enough = [texture for texture in self.textures if len(texture) >= side]
        return enough[-1] if enough else self.textures[0]

    @property
    def flat(self) -> Bytes:
        """The texture at HALF."""
        return self.texture(HALF)


def take(pixels: Bytes, points: Floats) -> Identity:
    """Return the identity of the face whose mesh is `points` in a BGR picture."""
    size = scale(points)
    side = HALF
    while side < min(size, _SIDE_MAX):
        side *= 2
    texture = flatten(pixels, points, side, cubic=True)
    seen = visible(points)
    found = skin.read(texture, seen)
    trust, frames = f32(found.open * seen), found.frames
    if not found.resolved:  # a smear of glasses is worse than none
        trust, frames = f32(trust * (1 - half(frames))), np.zeros_like(frames)
    texture, trust = _mirrored(texture, trust, seen)
    return Identity(_halved(texture), trust, frames, size, shape(points))


def _mirrored(texture: Bytes, trust: Floats, seen: Floats) -> tuple[Bytes, Floats]:
    """Return texture and trust with the side that is turned away filled in.

    The atlas is symmetric, and so, nearly, is a face.
    """
    missing = f32((1 - seen) * seen[:, ::-1])
    if missing.max() < _WORTH_IT:
        return texture, trust
    side = len(texture)
    weight = f32(cv2.resize(missing, (side, side)))
    other = np.ascontiguousarray(texture[:, ::-1])
    filled = u8(cv2.blendLinear(other, texture, weight, 1 - weight))
    return filled, f32(np.maximum(trust, missing * trust[:, ::-1]))


def flatten(pixels: Bytes, points: Floats, side: int, *, cubic: bool = False) -> Bytes:
    """Return the face as an atlas `side` wide; a larger picture is reduced first."""
    place = unwrap(points, side)
    outline = ringed(points)
    low = np.floor(outline.min(axis=0)).astype(int) - 2
    high = np.ceil(outline.max(axis=0)).astype(int) + 3
    x0, y0 = np.clip(low, 0, (pixels.shape[1] - 1, pixels.shape[0] - 1))
    x1, y1 = np.clip(high, (x0 + 1, y0 + 1), (pixels.shape[1], pixels.shape[0]))
    part = pixels[y0:y1, x0:x1]
    place = place - f32((x0, y0))
    step = int(scale(points) / side)
    if step > 1:
        small = max(1, (x1 - x0) // step), max(1, (y1 - y0) // step)
        ratio = f32((small[0] / (x1 - x0), small[1] / (y1 - y0)))
        part = u8(cv2.resize(part, small, interpolation=cv2.INTER_AREA))
        place = (place + np.float32(0.5)) * ratio - np.float32(0.5)
    method = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    return u8(sample(part, place, method))


def shape(points: Floats) -> Floats:
    """Return the mesh centred, eyes level, and with a root mean square of 1."""
    centred = points - points.mean(axis=0)
    across = centred[263] - centred[33]
    norm = float(np.hypot(across[0], across[1])) or 1.0
    cos, sin = across[0] / norm, across[1] / norm
    level = centred @ f32([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    size = float(np.sqrt(np.square(level).sum(axis=1).mean())) or 1.0
    return f32(level / size)


def _halved(texture: Bytes) -> tuple[Bytes, ...]:
    levels = [texture]
    while len(levels[-1]) > _SIDE_MIN:
        side = len(levels[-1]) // 2
        small = cv2.resize(levels[-1], (side, side), interpolation=cv2.INTER_AREA)
        levels.append(u8(small))
    return tuple(levels)


def merge(identities: Sequence[Identity]) -> Identity:
    """Return one identity of several pictures of one person.

    In the atlas all faces lie alike, so textures are averaged texel by texel, each
    weighted by how far it is trusted there and by its resolution squared: what one
    picture hides, behind hair or by its turn, another gives, and a large picture is
    not dulled by a small one.  Shapes are averaged alike.
    """
    if len(identities) == 1:
        return identities[0]
    side = max(len(each.textures[0]) for each in identities)
    total = np.full((side, side, 1), 1e-6, np.float32)
    texture = np.zeros((side, side, 3), np.float32)
    for each in identities:
        weight = cv2.resize((each.trust + _FAINT) * each.scale**2, (side, side))
        texture += f32(cv2.resize(each.textures[0], (side, side))) * weight[..., None]
        total += f32(weight)[..., None]
    weights = f32([each.scale**2 for each in identities])
    shapes = np.stack([each.shape for each in identities])
    return Identity(
        _halved(u8(np.rint(texture / total))),
        f32(np.maximum.reduce([each.trust for each in identities])),
        f32(np.minimum.reduce([each.frames for each in identities])),
        max(each.scale for each in identities),
        f32(np.tensordot(weights / weights.sum(), shapes, 1)),
    )
