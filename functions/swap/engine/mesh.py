"""The mesh engine: detect → mesh → identity → swap → blend, on any processor."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2

from functions.swap.engine import anonymize, identity, likeness, paste, runtime, swap
from functions.swap.engine.atlas import atlas
from functions.swap.engine.blazeface import BlazeFace
from functions.swap.engine.detect import Detector
from functions.swap.engine.facemesh import FaceMesh, window_of
from functions.swap.engine.placement import Placement, Unfit, processors
from functions.swap.offers import Offers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from functions.swap.engine.anonymize import Method
    from functions.swap.engine.arrays import Floats
    from functions.swap.engine.face import Face
    from functions.swap.engine.identity import Identity
    from functions.swap.engine.placement import Device
    from functions.swap.engine.runtime import Network
    from functions.swap.engine.swap import Swapped
    from functions.swap.job import Options
    from functions.swap.media import Image
    from functions.warm import Warm
    from models.manifest import Pack

_THREADS_MAX = 4
_DETECTORS = 2


@dataclass(frozen=True, slots=True, eq=False)
class MeshEngine:
    """The models of one pack on one device; safe to call from several threads."""

    pack: Pack
    device: Device
    proof: Warm[None]
    _detector: Detector

    @classmethod
    def load(
        cls, folder: Path, *, device: str = "auto", threads: int = 0, full: bool = True
    ) -> MeshEngine:
        """Verify, open and prove the pack in `folder`.

        `threads` of 0 uses the CPUs this process may run on, at most four: the
        networks are small.  `full=False` leaves the files' digests to others.

        Raises:
            models.errors.PackRefused: the folder is not the pack it claims to be.
            Unfit: a network is wrong here, or there is no such device.

        """
        threads = threads or min(processors(), _THREADS_MAX)
        cv2.setNumThreads(threads)
        placement = Placement.of("cpu" if device == "auto" else device)
        if placement.gpu is not None:
            raise Unfit(f"this pack runs on cpu, not on {device}")
        opened = runtime.load(folder, placement, full=full)
        atlas()  # drawn now, so that the first swap does not wait for it
        detector = _assemble(opened.networks, ThreadPoolExecutor(threads, "look"))
        return cls(opened.pack, placement.device(), opened.proof, detector)

    def detect(self, image: Image, *, small: bool = True) -> list[Face]:
        """Return the faces in a picture, largest first.

        `small=False` is for films: it leaves out faces under an eighth of the shorter
        side.
        """
        return self._detector(image.pixels, small=small)

    def identity(self, image: Image, face: Face) -> Identity:
        """Return what a swap needs of a source face."""
        return identity.take(image.pixels, self._points(image, face))

    def merge(self, identities: Sequence[Identity]) -> Identity:
        """Return several sources as one; see `identity.merge`."""
        return identity.merge(identities)

    def similarity(self, a: Identity, b: Identity) -> float:
        """Return how alike two faces look, 0 to 1; see `likeness`."""
        return likeness.similarity(a, b)

    def alike(self, similarity: float) -> bool:
        """Return whether that is alike enough to be called the same face."""
        return similarity >= likeness.ALIKE_MIN

    @property
    def offers(self) -> Offers:
        """What there is a model for: nothing but finding and swapping."""
        return Offers(self.pack.id)

    def judge(self, _: Image) -> None:
        """Return nothing: there is no classifier."""

    def swap(
        self,
        image: Image,
        face: Face,
        source: Identity,
        options: Options | None = None,  # noqa: ARG002  # for other engines
    ) -> Swapped:
        """Draw the source on the face, beside the picture; nothing is changed yet."""
        return swap.render(image.pixels, self._points(image, face), source)

    def blend(self, image: Image, swapped: Swapped) -> None:
        """Put a swapped face into its picture, in place."""
        paste.blend(image.pixels, swapped)

    def finish(
        self,
        image: Image,
        faces: Sequence[Face],  # noqa: ARG002  # for other engines
        options: Options,  # noqa: ARG002
    ) -> Image:
        """Return the picture as it is."""
        return image

    def cover(self, image: Image, face: Face, method: Method) -> None:
        """Cover a face in place, and look again whether one is still found there."""
        anonymize.hide(image.pixels, face, method, self._detector.still)

    def _points(self, image: Image, face: Face) -> Floats:
        """Return the mesh; look twice where the first says to look elsewhere."""
        window = window_of(face.corners, face.points)
        first = self._detector.mesh(image.pixels, window)
        if first.window.near(window):
            return first.points
        return self._detector.mesh(image.pixels, first.window).points


def _assemble(networks: Sequence[Network], pool: Executor) -> Detector:
    """Give each network to the reader of its contract."""
    detectors = [BlazeFace(n) for n in networks if n.model.contract == "blazeface"]
    meshes = [FaceMesh(n) for n in networks if n.model.contract == "facemesh"]
    if len(detectors) != _DETECTORS or len(meshes) != 1:
        raise Unfit("the pack needs two blazeface networks and one facemesh")
    near, wide = sorted(detectors, key=lambda detector: detector.side)
    return Detector(wide, near, meshes[0], pool)
