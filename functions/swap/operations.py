"""What a job does to its picture: swap, anonymize or detect, on any engine.

Only these functions and the engine ever see faces; an `Image` is passed on as it
is, and drawn into in place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from functions.problems import InvalidRequest, NoFace, NoSuchFace, TooLarge
from functions.swap.job import One

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.settings import Limits
    from functions.swap.gate import Gate
    from functions.swap.job import Cover, Options, Selector, SwapJob
    from functions.swap.offers import Offers
    from functions.tenant import Key

_SIDE_MAX: Final = 65_500
"""Pixels, as JPEG can hold and as `media` takes."""

Image = Any
Identity = Any
Swapped = Any
Found = Any
"""A `Face` of the engine's own kind, handed back to it."""


class Face(Protocol):
    """One face found: `box` is x0, y0, x1, y1 in pixels, `score` is 0 to 1."""

    @property
    def index(self) -> int:
        """Its place among the faces, largest first."""

    @property
    def box(self) -> Sequence[float]:
        """Where it is."""

    @property
    def score(self) -> float:
        """How sure the detector is."""

    @property
    def landmarks(self) -> Sequence[Sequence[float]]:
        """The eyes, the nose and what the engine tells besides, (x, y) in pixels."""


class Engine(Protocol):
    """What only models can do."""

    @property
    def offers(self) -> Offers:
        """What there is a model for."""

    def judge(self, image: Image) -> Mapping[str, float] | None:
        """Return how probable each label is of the picture; None: nothing judges."""

    def detect(self, image: Image, *, small: bool = True) -> Sequence[Face]:
        """Return the faces, largest first; `small=False`: no search for small ones."""

    def identity(self, image: Image, face: Found) -> Identity:
        """Return what a swap needs of a source's face."""

    def merge(self, identities: Sequence[Identity]) -> Identity:
        """Return one identity of one or more pictures of one person."""

    def similarity(self, a: Identity, b: Identity) -> float:
        """Return how alike two identities are, 1 for the same."""

    def alike(self, similarity: float) -> bool:
        """Return whether that is alike enough to be the same person."""

    def swap(
        self, image: Image, face: Found, source: Identity, options: Options
    ) -> Swapped:
        """Return the face wearing the identity, not yet in the picture.

        Of the options, `weight` and `mask` speak of it.
        """

    def blend(self, image: Image, swapped: Swapped) -> None:
        """Put a swapped face into the picture."""

    def finish(self, image: Image, faces: Sequence[Found], options: Options) -> Image:
        """Return the picture with its swapped faces restored, and enlarged, as asked.

        It may draw into the one it is given, and return that.
        """

    def cover(self, image: Image, face: Found, method: Cover) -> None:
        """Make a face unrecognisable for good."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The pictures of a job, decoded, and the target's faces.

    `like` remembers which of them is like a reference: a request may name one often,
    and each look embeds every face while the device is held.
    """

    images: Mapping[Key, Image]
    faces: Sequence[Face]
    target: Image
    like: dict[str, Face | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """Of the faces `found`, those that were worked on, and how many were `kept`.

    `output` is the picture that results, `scale` times as large as the target.
    """

    found: int
    faces: Sequence[Face]
    output: Image
    kept: int = 0
    scale: int = 1

    @property
    def counts(self) -> dict[str, int]:
        """The numbers alone, for the record and the ending event."""
        return {"found": self.found, "done": len(self.faces), "kept": self.kept}


def permit(
    job: SwapJob, images: Mapping[Key, Image], offers: Offers, limits: Limits
) -> None:
    """Refuse what cannot be done, before the device is held for it.

    Raises `UnsupportedOption` for what there is no model for, `TooLarge` where the
    output would be.
    """
    options, target = job.request.options, images[job.target]
    offers.refuse_others(options)
    width, height = (
        side * (options.upscale or 1) for side in (target.width, target.height)
    )
    if width * height > limits.image_pixels_max or max(width, height) > _SIDE_MAX:
        raise TooLarge(f"the output would have {width:,} x {height:,} pixels")


def let_in(
    job: SwapJob, images: Mapping[Key, Image], engine: Engine, gate: Gate | None
) -> None:
    """Judge what a swap is made of, or raise `ContentRefused`."""
    if gate is None:
        return
    for key in job.sources:
        gate.check("source", f"source {key}", engine.judge(images[key]))
    gate.check("target", "target", engine.judge(images[job.target]))


def let_out(done: Done, engine: Engine, gate: Gate | None) -> None:
    """Judge what a swap has made, or raise `ContentRefused`."""
    if gate is not None:
        gate.check("output", "output", engine.judge(done.output))


def look(
    job: SwapJob, images: Mapping[Key, Image], engine: Engine, limits: Limits
) -> Scene:
    """Return the scene, or raise `NoFace` where a target must have one."""
    target = images[job.target]
    faces = engine.detect(target)
    if len(faces) > limits.faces_max:
        raise InvalidRequest(f"the target shows over {limits.faces_max} faces")
    if not faces and job.operation != "detect":
        raise NoFace("no face is found in the target")
    return Scene(images, faces, target)


def carry_out(job: SwapJob, scene: Scene, engine: Engine) -> Done:
    """Do the job's work on the target in place; return what it was done to."""
    found = len(scene.faces)
    if job.operation == "detect":
        return Done(found, scene.faces, scene.target)
    if job.operation == "anonymize":
        return _anonymize(job, scene, engine)
    return _swap(job, scene, engine)


def _anonymize(job: SwapJob, scene: Scene, engine: Engine) -> Done:
    kept = _kept(job, scene, engine)
    chosen = _choose(job, job.faces, scene, engine)
    covered = [face for face in chosen if face.index not in kept]
    for face in covered:
        engine.cover(scene.target, face, job.request.options.cover)
    return Done(len(scene.faces), covered, scene.target, len(kept))


def _kept(job: SwapJob, scene: Scene, engine: Engine) -> set[int]:
    """Return the indices of the faces to keep; see `Request` on whom that misses.

    They are looked for before any is covered, since a cover may reach over a
    neighbour.
    """
    kept: set[int] = set()
    for one in job.request.keep:
        if one.index is not None:
            kept.add(_at(one.index, scene).index)
        elif one.position is not None:
            face = _there(*one.position, scene)
            if not _holds(face, *one.position):  # the nearest may be a stranger
                raise NoSuchFace(_nowhere(*one.position))
            kept.add(face.index)
        elif (like := _nearest(job, str(one.reference), scene, engine)) is not None:
            kept.add(like.index)
    return kept


def _swap(job: SwapJob, scene: Scene, engine: Engine) -> Done:
    options = job.request.options
    pairs = _pairs(job, scene, engine)
    # All first, then all into the picture: a face is swapped from what the target
    # showed, also where two overlap.
    swapped = [engine.swap(scene.target, face, who, options) for face, who in pairs]
    for each in swapped:
        engine.blend(scene.target, each)
    faces = [face for face, _ in pairs]
    output = engine.finish(scene.target, faces, options)
    return Done(len(scene.faces), faces, output, scale=options.upscale or 1)


def _pairs(job: SwapJob, scene: Scene, engine: Engine) -> list[tuple[Face, Identity]]:
    who = {
        key: _identity(scene.images[key], f"source {key}", engine)
        for key in job.sources
    }
    if not isinstance(job.faces, list):
        identity = engine.merge(list(who.values()))
        return [(face, identity) for face in _choose(job, job.faces, scene, engine)]
    pairs: dict[int, tuple[Face, Identity]] = {}
    for pair in job.faces:
        for face in _choose(job, pair.face, scene, engine):
            pairs[face.index] = (face, who[job.tenant.upload(pair.source)])
    return list(pairs.values())


def _identity(image: Image, name: str, engine: Engine) -> Identity:
    # A source shows somebody large; the search for small faces takes ten times longer.
    faces = engine.detect(image, small=False) or engine.detect(image)
    if not faces:
        raise NoFace(f"no face is found in the {name}")
    return engine.identity(image, faces[0])


def _choose(
    job: SwapJob,
    selector: Selector,
    scene: Scene,
    engine: Engine,
) -> list[Face]:
    if selector == "all":
        return list(scene.faces)
    if selector == "largest":
        return list(scene.faces[:1])
    if not isinstance(selector, One):
        raise InvalidRequest("pairs of faces are for a swap")
    if selector.index is not None:
        return [_at(selector.index, scene)]
    if selector.position is not None:
        return [_there(*selector.position, scene)]
    face = _nearest(job, str(selector.reference), scene, engine)
    if face is None:
        raise NoSuchFace(f"no face in the target is like {selector.reference}")
    return [face]


def _at(index: int, scene: Scene) -> Face:
    if index >= len(scene.faces):
        raise NoSuchFace(f"the target shows {len(scene.faces)} faces")
    return scene.faces[index]


def _there(x: float, y: float, scene: Scene) -> Face:
    """Return the face whose box holds the point in the target, or else the nearest.

    Of several that hold it, and of those that do not, it is the one whose centre is
    nearest, and of equals the larger.  A point beyond the picture was read off
    another one, and raises `NoSuchFace`.
    """
    if x > scene.target.width or y > scene.target.height:
        raise NoSuchFace(_nowhere(x, y))

    def away(face: Face) -> tuple[bool, float]:
        x0, y0, x1, y1 = face.box
        return not _holds(face, x, y), math.hypot((x0 + x1) / 2 - x, (y0 + y1) / 2 - y)

    return min(scene.faces, key=away)


def _holds(face: Face, x: float, y: float) -> bool:
    x0, y0, x1, y1 = face.box
    return x0 <= x <= x1 and y0 <= y <= y1


def _nowhere(x: float, y: float) -> str:
    return f"the target shows no face at {x:g}, {y:g}"


def _nearest(job: SwapJob, reference: str, scene: Scene, engine: Engine) -> Face | None:
    """Return the target's face that is most like the reference's, if one is."""
    if reference not in scene.like:
        scene.like[reference] = _most_like(job, reference, scene, engine)
    return scene.like[reference]


def _most_like(
    job: SwapJob, reference: str, scene: Scene, engine: Engine
) -> Face | None:
    picture = scene.images[job.tenant.upload(reference)]
    wanted = _identity(picture, f"reference {reference}", engine)

    def likeness(face: Face) -> float:
        try:
            return engine.similarity(wanted, engine.identity(scene.target, face))
        except NoFace:  # what was found there is like nobody
            return -1.0

    best = max(scene.faces, key=likeness)
    return best if engine.alike(likeness(best)) else None


def described(face: Face) -> dict[str, Any]:
    """Return a face as plain data, pixels to a tenth."""
    return {
        "index": face.index,
        "box": [round(float(value), 1) for value in face.box],
        "score": round(float(face.score), 4),
        "landmarks": [[round(float(v), 1) for v in point] for point in face.landmarks],
    }
