"""The neural engine: detect → align → embed → swap → restore → paste back.

The models are the InsightFace family's and their kin; which contract each honours,
its manifest says.  A pack has one detector, one embedder and one swapper, and may
have a restorer, upscalers, a face parser and content classifiers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import cv2
import numpy as np

from functions.problems import NoFace
from functions.swap.engine import anonymize, boxes, embedding, masks, runtime
from functions.swap.engine.align import Degenerate, crop, estimate
from functions.swap.engine.arcface import ArcFace
from functions.swap.engine.arrays import Bytes, f32, u8
from functions.swap.engine.classifier import Classifier
from functions.swap.engine.ghost import Ghost
from functions.swap.engine.hyperswap import Hyperswap
from functions.swap.engine.inswapper import Inswapper
from functions.swap.engine.letterbox import Passes
from functions.swap.engine.parser import Parser, face_mask
from functions.swap.engine.pasteback import Paster
from functions.swap.engine.placement import Placement, Unfit
from functions.swap.engine.restore import Restorer
from functions.swap.engine.retinaface import RetinaFace
from functions.swap.engine.scrfd import Scrfd
from functions.swap.engine.upscale import Upscaler
from functions.swap.engine.yunet import YuNet
from functions.swap.offers import Offers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from functions.swap.engine.anonymize import Method
    from functions.swap.engine.arrays import Floats, Matrix
    from functions.swap.engine.detections import Detections
    from functions.swap.engine.embedding import Embedding
    from functions.swap.engine.face import Face
    from functions.swap.engine.placement import Device
    from functions.swap.engine.runtime import Network, Opened
    from functions.swap.engine.swapper import Swapper
    from functions.swap.job import Mask, Options
    from functions.swap.media import Image
    from functions.warm import Warm
    from models.manifest import Contract, Pack, Template

    Detector = Callable[[Bytes], Detections]

T = TypeVar("T")

_NO_LANDMARKS: Final = "the landmarks of a face there are no face's"
_NO_MEAN: Final = "the faces are so unlike that they have no mean"
_PARSED: Final[Template] = "ffhq_512"  # how a face lies in a parser's crop
_AROUND: Final = (2.2, 3.5, 5.0)  # of the face's size: how far one looks again
_SAME: Final = 0.3  # overlap with where the covered face was


@dataclass(frozen=True, slots=True, eq=False)
class Worn:
    """A swapped face ready to be pasted into its picture.

    `crop` is (side, side, 3) uint8 BGR, `matrix` (2, 3) float64 from the picture to
    the crop, `mask` (side, side) float32 from 0 to 1, None for the whole crop.
    """

    crop: Bytes
    matrix: Matrix
    mask: Floats | None


@dataclass(frozen=True, slots=True, eq=False)
class NeuralEngine:
    """The models of one pack on one device; safe to call from several threads.

    `proof` ends when the pack's every byte and golden output has been compared: what
    the engine gives must not leave the process before.
    """

    pack: Pack
    offers: Offers
    device: Device
    proof: Warm[None]
    _detector: Detector
    _embedder: ArcFace
    _swapper: Swapper
    _restorer: _Restoring | None
    _upscalers: Mapping[int, Upscaler]
    _parser: Parser | None
    _classifier: Classifier | None
    _paster: Paster

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "auto",
        threads: int = 0,
        full: bool = True,
        **limits: Any,  # noqa: ANN401  # as they come
    ) -> NeuralEngine:
        """Open the pack in `folder`, and begin to prove it; see `runtime.load`.

        `limits` are those of `Placement`.

        Raises:
            models.errors.PackRefused: the folder is not the pack it claims to be.
            Unfit: a network is wrong here, the pack lacks one, or there is no such
                device.

        """
        placement = Placement.of(device, threads=threads, **limits)
        cv2.setNumThreads(placement.threads)
        opened = runtime.load(folder, placement, full=full)
        parts = _Parts(opened, folder)
        swapper = parts.swapper()
        return cls(
            pack=opened.pack,
            offers=Offers.of(opened.pack),
            device=placement.device(),
            proof=opened.proof,
            _detector=parts.detector(),
            _embedder=parts.needed(ArcFace, "arcface"),
            _swapper=swapper,
            _restorer=parts.one(_Restoring, "gfpgan", "restoreformer"),
            _upscalers=parts.upscalers(),
            _parser=parts.one(Parser, "bisenet"),
            _classifier=parts.classifier(),
            _paster=Paster(swapper.side),
        )

    def detect(self, image: Image, *, small: bool = True) -> list[Face]:  # noqa: ARG002  # the mesh engine's alone
        """Return the faces in a picture, largest first."""
        return self._detector(image.pixels).faces()

    def identity(self, image: Image, face: Face) -> Embedding:
        """Return the face's embedding, or raise `NoFace` if it cannot be aligned."""
        try:
            return self._embedder.embed(image.pixels, face.points)
        except Degenerate as error:
            raise NoFace(_NO_LANDMARKS) from error

    def merge(self, identities: Sequence[Embedding]) -> Embedding:
        """Return several sources as one, or raise `NoFace` if they have no mean."""
        try:
            return embedding.mean(identities)
        except ValueError as error:
            raise NoFace(_NO_MEAN) from error

    def similarity(self, a: Embedding, b: Embedding) -> float:
        """Return the cosine between two embeddings."""
        return embedding.similarity(a, b)

    def alike(self, similarity: float) -> bool:
        """Return whether that is alike enough to be called the same person."""
        return similarity >= embedding.SAME_MIN

    def swap(
        self, image: Image, face: Face, source: Embedding, options: Options
    ) -> Worn:
        """Return the face wearing the source's identity; nothing is drawn yet."""
        if options.weight is not None and options.weight < 1:
            own = self.identity(image, face)
            source = _weighted(source, own, options.weight)
        swapper = self._swapper
        matrix = _aligned(face.points, swapper.side, swapper.template)
        aligned = crop(image.pixels, matrix, swapper.side)
        worn = swapper(aligned, swapper.latent(source))
        return Worn(worn, matrix, self._mask(options.mask, image, face, matrix))

    def blend(self, image: Image, worn: Worn) -> None:
        """Paste a swapped face into its picture, in place."""
        self._paster.fast(image.pixels, worn.crop, worn.matrix, worn.mask)

    def finish(self, image: Image, faces: Sequence[Face], options: Options) -> Image:
        """Return the picture with its swapped faces restored, and it enlarged."""
        if self._restorer is not None and self.offers.restoring(options):
            for face in faces:
                self._restorer(image.pixels, face.points)
        return self._enlarged(image, options.upscale) if options.upscale else image

    def cover(self, image: Image, face: Face, method: Method) -> None:
        """Cover a face in place, and look again whether one is still found there."""
        anonymize.hide(image.pixels, face, method, self._still)

    def judge(self, image: Image) -> Mapping[str, float] | None:
        """Return how probable each label is; None without a classifier.

        Of a picture that lets light through, wherever it shows most of it.
        """
        if self._classifier is None:
            return None
        told = [self._classifier(pixels) for pixels in image.shown()]
        # NumPy's maximum keeps what is no number.
        return {label: float(np.max([one[label] for one in told])) for label in told[0]}

    def _mask(
        self, kind: Mask, image: Image, face: Face, matrix: Matrix
    ) -> Floats | None:
        """Return where the crop may show, besides its feathered square."""
        side = self._swapper.side
        if kind == "hull":
            return masks.hull(side, _mapped(face.points, matrix))
        if kind == "occlusion" and self._parser is not None:
            # What is in front of the face is in the target, not in what was painted.
            larger = _aligned(face.points, self._parser.side, _PARSED)
            labels = self._parser(crop(image.pixels, larger, self._parser.side))
            there = matrix @ _square(_inverse(larger))
            seen = cv2.warpAffine(face_mask(labels), there, (side, side))
            return masks.occlusion(side, f32(seen))
        return None

    def _enlarged(self, image: Image, factor: int) -> Image:
        size = image.width * factor, image.height * factor
        alpha = image.alpha
        if alpha is not None:
            alpha = u8(cv2.resize(alpha, size, interpolation=cv2.INTER_CUBIC))
        return replace(image, pixels=self._upscalers[factor](image.pixels), alpha=alpha)

    def _still(self, pixels: Bytes, face: Face) -> bool:
        """Return whether a face may still be found where one was covered."""
        x, y = (face.corners[:2] + face.corners[2:]) / 2
        height, width = pixels.shape[:2]
        for reach in _AROUND:
            half = face.size * reach / 2
            x0, y0 = max(0, int(x - half)), max(0, int(y - half))
            x1, y1 = min(width, int(x + half) + 1), min(height, int(y + half) + 1)
            if x0 >= x1 or y0 >= y1:
                return False
            found = self._detector(np.ascontiguousarray(pixels[y0:y1, x0:x1]))
            there = face.corners - f32((x0, y0, x0, y0))
            if len(found) and (boxes.overlap(there, found.boxes) > _SAME).any():
                return True
        return False


class _Restoring:
    """A restorer with its way into the picture and back."""

    def __init__(self, network: Network) -> None:
        self._restorer = Restorer(network)
        self._paster = Paster(self._restorer.side)

    def __call__(self, pixels: Bytes, points: Floats) -> None:
        """Restore the face with these five points in a BGR picture, in place."""
        side = self._restorer.side
        matrix = _aligned(points, side, self._restorer.template)
        restored = self._restorer(crop(pixels, matrix, side))
        self._paster.fast(pixels, restored, matrix)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The networks of a pack, each to be given to the reader of its contract."""

    opened: Opened
    folder: Path

    def of(self, *contracts: Contract) -> list[Network]:
        """Return the networks of these contracts."""
        return [n for n in self.opened.networks if n.model.contract in contracts]

    def one(self, kind: Callable[[Network], T], *contracts: Contract) -> T | None:
        found = self.of(*contracts)
        if len(found) > 1:
            raise _too_many(" or ".join(contracts), found)
        return kind(found[0]) if found else None

    def needed(self, kind: Callable[[Network], T], *contracts: Contract) -> T:
        part = self.one(kind, *contracts)
        if part is None:
            raise Unfit(f"the pack has no network of {' or '.join(contracts)}")
        return part

    def detector(self) -> Detector:
        side = self.opened.pack.detector_side
        kinds: dict[Contract, Callable[[Network], Detector]] = {
            "scrfd": lambda n: Scrfd(n, Passes(side=side, coarse=128)),
            "retinaface": lambda n: RetinaFace(n, Passes(side=side, coarse=128)),
            "yunet": YuNet,
        }
        return self.needed(lambda n: kinds[n.model.contract](n), *kinds)

    def swapper(self) -> Swapper:
        kinds: dict[Contract, Callable[[Network], Swapper]] = {
            "inswapper": self._inswapper,
            "hyperswap": Hyperswap,
            "ghost": lambda n: Ghost(n, self.needed(lambda c: c, "crossface")),
        }
        return self.needed(lambda n: kinds[n.model.contract](n), *kinds)

    def _inswapper(self, network: Network) -> Inswapper:
        if network.model.emap is None:
            raise Unfit(f"{network.model.name}: the manifest names no emap")
        emap = np.load(self.folder / network.model.emap, allow_pickle=False)
        return Inswapper(network, f32(emap))

    def classifier(self) -> Classifier | None:
        """Return all classifiers as one: which there are is for who made the pack."""
        found = self.of("classifier")
        return Classifier(*found) if found else None

    def upscalers(self) -> dict[int, Upscaler]:
        """Return an upscaler for each factor that there is one for."""
        by_factor: dict[int, list[Network]] = {}
        for network in self.of("realesrgan", "swin2sr"):
            by_factor.setdefault(network.model.scale, []).append(network)
        for factor, found in by_factor.items():
            if len(found) > 1:
                raise _too_many(f"realesrgan or swin2sr by {factor}", found)
        return {factor: Upscaler(*found) for factor, found in by_factor.items()}


def _weighted(source: Embedding, own: Embedding, weight: float) -> Embedding:
    try:
        return embedding.weighted(source, own, weight)
    except ValueError as error:
        raise NoFace(_NO_MEAN) from error


def _too_many(wanted: str, found: Sequence[Network]) -> Unfit:
    names = ", ".join(network.model.name for network in found)
    return Unfit(f"the pack has {len(found)} networks of {wanted}: {names}")


def _aligned(points: Floats, side: int, template: Template) -> Matrix:
    try:
        return estimate(points, side, template)
    except Degenerate as error:
        raise NoFace(_NO_LANDMARKS) from error


def _square(matrix: Matrix) -> Matrix:
    return np.vstack((matrix, (0.0, 0.0, 1.0)))


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def _mapped(points: Floats, matrix: Matrix) -> Floats:
    return f32(points @ matrix[:, :2].T + matrix[:, 2])
