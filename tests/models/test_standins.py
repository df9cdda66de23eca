"""Stand-ins have the form of the published files, and behave enough like them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from insightface.model_zoo import get_model
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from insightface.model_zoo.inswapper import INSwapper
from insightface.model_zoo.retinaface import RetinaFace
from insightface.model_zoo.scrfd import SCRFD

from models import catalogue
from models.runtime import load as load_onnxruntime
from tools import standins

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

ROOT = Path(__file__).parents[2]
CPU = ["CPUExecutionProvider"]
DETECTORS = ["det_10g", "det_2_5g", "det_500m"]
EMBEDDERS = ["w600k_r50", "w600k_mbf"]
PORTRAITS = ["collins", "hopper"]

BYTES = {
    "det_10g": 16_923_827,
    "det_2_5g": 3_292_009,
    "det_500m": 2_524_817,
    "w600k_r50": 174_383_860,
    "w600k_mbf": 13_616_099,
    "inswapper_128": 554_253_681,
    "hyperswap_1a_256": 402_742_682,
    "gfpgan_1_4": 340_299_087,
    "restoreformer_plus_plus": 294_264_232,
    "real_esrgan_x4": 67_051_616,
    "bisenet_resnet_18": 53_205_364,
    "bisenet_resnet_34": 93_632_554,
}
"""How large the published files are."""

GMACS = {"det_10g": 10.0, "det_2_5g": 2.5, "det_500m": 0.5}
"""What the names of SCRFD's models promise, for a picture of 640x480."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("standins")
    for name in standins.NAMES:
        standins.build(name, made, small=True)
    return made


def session(path: Path | str) -> onnxruntime.InferenceSession:
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    # As published: outputs declared for 640x640, and an initializer nobody uses.
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(str(path), options, providers=CPU)


def at(folder: Path, name: str) -> str:
    return str(folder / standins.file_name(name))


def portrait(name: str) -> NDArray[np.uint8]:
    picture = cv2.imread(str(ROOT / "examples" / f"{name}.jpg"))
    assert picture is not None
    return picture.astype(np.uint8)


def noise(name: str, folder: Path) -> dict[str, Floats]:
    """Return an input for every input of a network: random levels, a random vector."""
    random, model = np.random.default_rng(7), catalogue.load().model(name)
    open_axes = {0: 1, 2: 64, 3: 64}
    given = {}
    for each in session(at(folder, name)).get_inputs():
        shape = [
            n if isinstance(n, int) else open_axes[i] for i, n in enumerate(each.shape)
        ]
        given[each.name] = random.normal(size=shape).astype(np.float32)
        if each.name == model.input.name and len(shape) == 4:
            mean, std = model.input.mean[0], model.input.std[0]
            levels = 1000 * random.integers(0, 256, shape)
            given[each.name] = ((levels - mean) / std).astype(np.float32)
    return given


# --- the form of the published files -------------------------------------------


@pytest.mark.parametrize("name", BYTES)
def test_size(name: str) -> None:
    """The numbers of a full stand-in weigh what the published file weighs."""
    graph = standins.graph(name, small=False)
    size = (2 if graph.half else 4) * graph.parameters
    assert size == pytest.approx(BYTES[name], rel=0.025)


@pytest.mark.parametrize("name", standins.NAMES)
def test_agrees_with_the_catalogue(name: str) -> None:
    """File, tensors and shapes are the catalogue's, which may leave axes open."""
    model, graph = catalogue.load().model(name), standins.graph(name, small=False)
    assert standins.file_name(name) in model.names
    inputs = (model.input.name, *(each.name for each in model.vectors))
    assert {*inputs} == {name for name, _ in graph.inputs}
    assert [each.name for each in model.outputs] == [name for name, _ in graph.outputs]
    told = {each.name: each.shape for each in (*model.vectors, *model.outputs)}
    told[model.input.name] = model.input.shape
    for tensor, shape in (*graph.inputs, *graph.outputs):
        for mine, theirs in zip(shape, told[tensor], strict=True):
            assert mine == theirs or not theirs or isinstance(mine, str)


def test_inswapper_counts() -> None:
    """inswapper_128 has its 138.3 million parameters and 174.6 billion products."""
    graph = standins.graph("inswapper_128", small=False)
    assert (graph.parameters - 512 * 512) / 1e6 == pytest.approx(138.3, abs=0.05)
    assert graph.macs / 1e9 == pytest.approx(174.6, abs=0.05)


@pytest.mark.parametrize("name", GMACS)
def test_detector_work(name: str) -> None:
    """A detector does the work that its name promises."""
    macs = standins.graph(name, small=False).macs * 480 / 640
    assert macs / 1e9 == pytest.approx(GMACS[name], rel=0.11)


@pytest.mark.parametrize("name", standins.NAMES)
def test_small_keeps_the_form(name: str) -> None:
    """A small stand-in has the inputs and outputs of the full one, and is small."""
    small, full = (standins.graph(name, small=few) for few in (True, False))
    assert (small.inputs, small.outputs) == (full.inputs, full.outputs)
    assert (small.opset, small.ir_version) == (full.opset, full.ir_version)
    assert 4 * small.parameters < 1.5e6


@pytest.mark.parametrize("name", standins.NAMES)
def test_small_runs(folder: Path, name: str) -> None:
    """Every small stand-in runs, and gives finite numbers that are not all the same."""
    outputs = session(at(folder, name)).run(None, noise(name, folder))
    for output in outputs:
        assert np.isfinite(output).all()
        assert np.ptp(output) > 0


@pytest.mark.parametrize("name", standins.NAMES)
def test_same_bytes(tmp_path: Path, folder: Path, name: str) -> None:
    """Building twice gives the same bytes twice."""
    again = standins.build(name, tmp_path, small=True)
    assert again.read_bytes() == Path(at(folder, name)).read_bytes()


def test_no_other_bytes_elsewhere(folder: Path) -> None:
    """The weights are the ones that were drawn when this was written, anywhere."""
    model = onnx.load(folder / "w600k_r50.onnx")
    weights = b"".join(each.raw_data for each in model.graph.initializer)
    assert hashlib.sha256(weights).hexdigest() == W600K_R50_WEIGHTS


W600K_R50_WEIGHTS = "b3d0cef45fddebf10727515f162a07019df88e8cd0d205500608092337304ce2"


def test_emap_is_last(folder: Path) -> None:
    """`emap` is the last initializer of inswapper_128, and feeds no node."""
    graph = onnx.load(folder / "inswapper_128.onnx").graph
    last = graph.initializer[-1]
    assert (last.name, list(last.dims)) == ("emap", [512, 512])
    assert all("emap" not in node.input for node in graph.node)


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_contract(folder: Path, name: str) -> None:
    """Outputs are scores, boxes and points of strides 8, 16 and 32, two anchors a cell.

    Whatever they are declared as: the published files say 640x640 whatever comes in.
    """
    image = np.zeros((1, 3, 96, 64), np.float32)
    outputs = session(at(folder, name)).run(None, {"input.1": image})
    counts = [2 * (96 // stride) * (64 // stride) for stride in (8, 16, 32)]
    expected = [(count, width) for width in (1, 4, 10) for count in counts]
    assert [output.shape for output in outputs] == expected


# --- how they behave ---------------------------------------------------------


@pytest.mark.parametrize("side", [0, 512, 1024])
@pytest.mark.parametrize("who", PORTRAITS)
@pytest.mark.parametrize("name", DETECTORS)
def test_detects_a_few(folder: Path, name: str, who: str, side: int) -> None:
    """A handful of anchors of a portrait pass, with five points well apart in a box."""
    picture = portrait(who)
    if side:
        factor = side / max(picture.shape)
        picture = cv2.resize(picture, None, fx=factor, fy=factor).astype(np.uint8)
    detector = get_model(at(folder, name), providers=CPU)
    assert isinstance(detector, SCRFD)
    found = detector._detect_candidates(picture, (640, 640), 0.5)
    boxes, points = found
    assert 1 <= len(boxes) <= 20
    sizes = boxes[:, 2:4] - boxes[:, :2]
    assert (sizes > 24 * max(picture.shape) / 640).all()
    assert (sizes < 128 * max(picture.shape) / 640).all()
    eyes = np.linalg.norm(points[:, 1] - points[:, 0], axis=1) / sizes[:, 0]
    assert ((eyes > 0.25) & (eyes < 0.6)).all()


@pytest.mark.parametrize("name", EMBEDDERS)
def test_embeddings_differ(folder: Path, name: str) -> None:
    """Two people are farther apart than one person and the same, moved by a pixel."""
    embedder = get_model(at(folder, name), providers=CPU)
    assert isinstance(embedder, ArcFaceONNX)
    first, second = (
        cv2.resize(portrait(who)[:400, 50:450], (112, 112)) for who in PORTRAITS
    )
    moved = np.roll(first, 1, axis=1)
    one, two, near = embedder.get_feat([first, second, moved])
    assert embedder.compute_sim(one, two) < 0.3
    assert embedder.compute_sim(one, near) > embedder.compute_sim(one, two) + 0.2


def test_swapper_hears_both(folder: Path) -> None:
    """What inswapper_128 gives lies in 0..1 and depends on the face and the latent."""
    run = session(folder / "inswapper_128.onnx")
    random = np.random.default_rng(3)
    faces = [
        (cv2.resize(portrait(who), (128, 128)) / 255).transpose(2, 0, 1)[None]
        for who in PORTRAITS
    ]
    latents = random.normal(size=(2, 1, 512))
    latents /= np.linalg.norm(latents, axis=2, keepdims=True)
    base, other_face, other_latent = (
        run.run(None, {"target": face, "source": latent})[0]
        for face, latent in (
            (faces[0].astype(np.float32), latents[0].astype(np.float32)),
            (faces[1].astype(np.float32), latents[0].astype(np.float32)),
            (faces[0].astype(np.float32), latents[1].astype(np.float32)),
        )
    )
    assert 0 <= base.min() < base.max() <= 1
    assert 0.1 < base.std() < 0.4
    for other in (other_face, other_latent):
        assert np.abs(other - base).mean() > 0.05


@pytest.mark.parametrize("name", ["nsfw_marqo", "nsfw_freepik"])
def test_gate_lets_a_portrait_pass(folder: Path, name: str) -> None:
    """The content gate's stand-ins take an ordinary picture for one."""
    model, run = catalogue.load().model(name), session(at(folder, name))
    side = model.input.shape[-1]
    mean, std = (np.array(each) / 1000 for each in (model.input.mean, model.input.std))
    picture = cv2.resize(portrait("collins"), (side, side))[..., ::-1]
    image = ((picture - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    logits = run.run(None, {"input": image})[0][0]
    assert model.labels[logits.argmax()] in {"sfw", "neutral"}


@pytest.mark.parametrize("name", ["bisenet_resnet_18", "bisenet_resnet_34"])
def test_parser_sees_mostly_skin(folder: Path, name: str) -> None:
    """The face parser's stand-ins take most of a face for skin, and not all of it."""
    model = catalogue.load().model(name)
    face = cv2.resize(portrait("hopper")[:400, 50:450], (512, 512))[..., ::-1]
    mean, std = (np.array(each) / 1000 for each in (model.input.mean, model.input.std))
    image = ((face - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    parts = session(at(folder, name)).run(None, {"input": image})[0][0].argmax(0)
    assert 0.5 < (parts == model.labels.index("skin")).mean() < 1


@pytest.mark.parametrize("name", ["hyperswap_1a_256", "ghost_1_256"])
def test_larger_swappers_hear_both(folder: Path, name: str) -> None:
    """What the swappers of 256 pixels give depends on the face and on the source."""
    run, random = session(at(folder, name)), np.random.default_rng(5)
    length = 1 if name.startswith("hyper") else 20
    sources = random.normal(size=(2, 1, 512))
    sources *= length / np.linalg.norm(sources, axis=2, keepdims=True)
    faces = [
        (cv2.resize(portrait(who), (256, 256)) / 127.5 - 1).transpose(2, 0, 1)[None]
        for who in PORTRAITS
    ]
    base, other_face, other_source = (
        run.run(
            ["output"],
            {
                "target": faces[face].astype(np.float32),
                "source": sources[source].astype(np.float32),
            },
        )[0]
        for face, source in ((0, 0), (1, 0), (0, 1))
    )
    assert -1 <= base.min() < base.max() <= 1
    for other in (other_face, other_source):
        assert np.abs(other - base).mean() > 0.05


@pytest.mark.parametrize(
    ("name", "low"),
    [
        ("gfpgan_1_4", -1),
        ("restoreformer_plus_plus", -1),
        ("real_esrgan_x2", 0),
        ("real_esrgan_x4", 0),
        ("swin2_sr_x4", 0),
    ],
)
def test_pictures_stay_pictures(folder: Path, name: str, low: int) -> None:
    """Restorers and upscalers stay in their range and depend on what they are given."""
    model, run = catalogue.load().model(name), session(at(folder, name))
    side = model.input.shape[-1] or 64
    first, second = (
        run.run(
            None,
            {
                "input": (
                    cv2.resize(portrait(who), (side, side)) / 255 * (1 - low) + low
                )
                .transpose(2, 0, 1)[None]
                .astype(np.float32)
            },
        )[0]
        for who in PORTRAITS
    )
    assert first.shape == (1, 3, side * model.scale, side * model.scale)
    assert ((first > low) & (first < 1)).mean() > 0.98
    assert first.std() > 0.03
    assert np.abs(first - second).mean() > 0.02


# --- the oracle takes them for what they stand in for ---------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, SCRFD) for name in DETECTORS),
        *((name, ArcFaceONNX) for name in EMBEDDERS),
        ("inswapper_128", INSwapper),
    ],
)
def test_oracle_routes(folder: Path, name: str, kind: type[Any]) -> None:
    """The oracle takes a stand-in for the kind of model it stands in for."""
    assert isinstance(get_model(at(folder, name), providers=CPU), kind)


def test_oracle_reads_retinaface(folder: Path) -> None:
    """RetinaFace of the oracle reads the nine outputs of a detector."""
    detector = RetinaFace(str(folder / "det_10g.onnx"))
    detector.prepare(-1, input_size=(640, 640))
    boxes, points = detector.detect(portrait("hopper"))
    assert 1 <= len(boxes) == len(points) <= 20


def test_oracle_reads_yunet(folder: Path) -> None:
    """OpenCV's own reader of YuNet finds a few faces, with eyes apart."""
    picture = cv2.resize(portrait("hopper"), (640, 640))
    detector = cv2.FaceDetectorYN.create(at(folder, "yunet"), "", (640, 640), 0.6)
    _, faces = detector.detect(picture)
    assert 1 <= len(faces) <= 20
    apart = np.linalg.norm(faces[:, 6:8] - faces[:, 4:6], axis=1) / faces[:, 2]
    assert ((apart > 0.25) & (apart < 0.6)).all()


# --- the command -------------------------------------------------------------


def test_command(tmp_path: Path, folder: Path) -> None:
    """The command writes what was asked for, by name."""
    command = [sys.executable, "-m", "tools.standins", str(tmp_path), "--small"]
    subprocess.run([*command, "det_500m"], cwd=ROOT, check=True, capture_output=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {"det_500m.onnx": (folder / "det_500m.onnx").read_bytes()}


def test_unknown_name(tmp_path: Path) -> None:
    """The command refuses a name it does not know, and writes nothing."""
    command = [sys.executable, "-m", "tools.standins", str(tmp_path), "det_9000g"]
    ended = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "det_9000g" in ended.stderr
    assert not list(tmp_path.iterdir())
