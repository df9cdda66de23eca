"""A picture of 1080p from JPEG to JPEG, one face swapped, without the networks' time.

Both sides decode, letterbox and read the detector's outputs (two passes), align, make
the swapper's input, read its output, paste back and encode; their networks answer at
once with the same numbers, a face 432 pixels wide.  The peer is insightface's `SCRFD`
and `INSwapper` between OpenCV's own codec calls, with our JPEG settings.  Signing what
came of it is no part of either: see `provenance_1080p`.  OpenCV has one thread.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from insightface.model_zoo.inswapper import INSwapper
from insightface.model_zoo.scrfd import SCRFD

from functions.swap.engine import align
from functions.swap.engine.arrays import f32
from functions.swap.engine.inswapper import Inswapper
from functions.swap.engine.letterbox import Passes
from functions.swap.engine.pasteback import Paster
from functions.swap.engine.placement import cpu
from functions.swap.engine.runtime import Network
from functions.swap.engine.scrfd import Scrfd
from functions.swap.media import decode, encode
from models import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functions.swap.engine.arrays import Bytes, Floats

RUNS, WIDTH, HEIGHT, FACE, SIDE = 15, 1920, 1080, 432, 128
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]
QUALITY += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
STRIDES, LIKELY = (8, 16, 32), 0.9
Tensor = SimpleNamespace


class Detector:
    """Stands for SCRFD's session: finds one face in the middle of the frame."""

    def __init__(self) -> None:
        self.answers = {side: self._answer(side) for side in (128, 640)}

    @staticmethod
    def _answer(side: int) -> list[Floats]:
        scores, boxes, points = [], [], []
        scale = side / WIDTH
        for stride in STRIDES:
            count = (side // stride) ** 2 * 2
            cell = np.arange(count) // 2
            anchors = np.stack((cell % (side // stride), cell // (side // stride)), 1)
            middle = np.array([WIDTH, HEIGHT]) * scale / 2
            marks = (middle + keypoints() * scale) / stride
            half = FACE * scale / 2 / stride
            away = middle / stride - anchors
            score = np.zeros((count, 1), np.float32)
            if stride == STRIDES[-1]:
                score[np.abs(away).sum(axis=1).argmin()] = LIKELY
            scores.append(score)
            boxes.append(f32(np.hstack((half - away, half + away))))
            points.append(f32((marks - anchors[:, np.newaxis]).reshape(count, 10)))
        return [*scores, *boxes, *points]

    def get_inputs(self) -> list[Tensor]:
        """Return what it takes, as ONNX Runtime tells it."""
        return [Tensor(name="input.1", shape=[1, 3, "?", "?"], type="tensor(float)")]

    def get_outputs(self) -> list[Tensor]:
        """Return what it gives, as ONNX Runtime tells it."""
        return [Tensor(name=str(number), shape=["?", 1]) for number in range(9)]

    def run(self, _: Sequence[str], given: Mapping[str, Floats]) -> list[Floats]:
        """Return the same face, whatever is shown."""
        (image,) = given.values()
        return self.answers[image.shape[2]]


class Swapper:
    """Stands for the swapper's session: always paints the same."""

    def __init__(self) -> None:
        self.crop = f32(np.random.default_rng(3).random((1, 3, SIDE, SIDE)))

    def run(self, *_: object) -> list[Floats]:
        """Return the crop, whatever is asked."""
        return [self.crop]


def keypoints() -> Floats:
    """Return five points from the middle of the face, in the frame's pixels."""
    template = align.points_of("arcface_112", 112) - 56
    return f32(template * FACE / 112)


def frame() -> bytes:
    """Return coloured clouds as JPEG."""
    coarse = np.random.default_rng(12).integers(0, 256, (67, 120, 3), np.uint8)
    clouds = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", clouds, QUALITY)[1].tobytes()


def our_job(embedding: Floats) -> Callable[[bytes], bytes]:
    """Return our way from a file to a file."""
    offered = catalogue.load()

    def network(name: str, session: Detector | Swapper) -> Network:
        model = offered.model(name).described("0" * 64, 0)
        return Network(model, cast("Any", session))

    detector = Scrfd(network("det_10g", Detector()), Passes(coarse=128))
    swapper = Inswapper(network("inswapper_128", Swapper()), f32(np.eye(512)))
    paster = Paster(SIDE)
    latent = f32(embedding.reshape(1, -1))

    def job(data: bytes) -> bytes:
        image = decode(data)
        points = detector(image.pixels).faces()[0].points
        matrix = align.estimate(points, SIDE, swapper.template)
        worn = swapper(align.crop(image.pixels, matrix, SIDE), latent)
        paster.fast(image.pixels, worn, matrix)
        return encode(image, "jpeg")

    return job


def peers_job(embedding: Floats) -> Callable[[bytes], bytes]:
    """Return insightface's way from a file to a file."""
    detector = SCRFD(session=Detector(), static_shape_sessions=False)
    detector.prepare(0, input_size=[(128, 128), (640, 640)])
    swapper = INSwapper.__new__(INSwapper)
    swapper.input_mean, swapper.input_std = 0.0, 255.0
    swapper.input_size, swapper.emap = (SIDE, SIDE), np.eye(512, dtype=np.float32)
    swapper.input_names, swapper.output_names = ["target", "source"], ["output"]
    swapper.session = Swapper()
    source = SimpleNamespace(normed_embedding=embedding)

    def job(data: bytes) -> bytes:
        picture: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        face = SimpleNamespace(kps=detector.detect(picture)[1][0])
        swapped: Bytes = swapper.get(picture, face, source, paste_back=True)
        return cv2.imencode(".jpg", swapped, QUALITY)[1].tobytes()

    return job


def milliseconds(job: Callable[[bytes], bytes], data: bytes) -> float:
    """Return how long it took."""
    began = time.perf_counter()
    job(data)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Print the medians as one JSON line."""
    warnings.simplefilter("ignore", FutureWarning)  # of scikit-image, for insightface
    cv2.setNumThreads(1)
    raw = np.random.default_rng(1).normal(size=512)
    embedding = f32(raw / np.linalg.norm(raw))
    jobs, data = (our_job(embedding), peers_job(embedding)), frame()
    taken = [[milliseconds(job, data) for job in jobs] for _ in range(RUNS + 2)]
    ours, peer = (statistics.median(each[2:]) for each in zip(*taken, strict=True))
    line = {
        "name": "image_job_1080p",
        "ours": round(ours, 1),
        "peer": round(peer, 1),
        "ratio": round(peer / ours, 1),
        "unit": "ms",
        "device": f"{cpu().name}, 1 thread",
        "n": RUNS,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
