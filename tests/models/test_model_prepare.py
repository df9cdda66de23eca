"""A prepared pack is the same everywhere, and knows what it must answer."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models import runtime
from models.golden import GRID
from models.manifest import GOLDEN_TOLERANCE, Model
from models.prepare import prepare
from models.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models import catalogue

HERE = Path(__file__).parents[2]
LEVELS = (
    "ORT_DISABLE_ALL",
    "ORT_ENABLE_BASIC",
    "ORT_ENABLE_EXTENDED",
    "ORT_ENABLE_ALL",
)
NAMES = ("face_detection_full_range", "face_detection_short_range", "face_landmark")


def session(raw: bytes, level: str = "ORT_ENABLE_EXTENDED") -> Any:
    onnxruntime = runtime.load()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, level
    )
    return onnxruntime.InferenceSession(
        raw, options, providers=["CPUExecutionProvider"]
    )


def furthest(folder: Path, model: Model, running: Any) -> float:
    """Return how far the outputs lie from the golden ones, at most."""
    with np.load(folder / "golden.npz") as golden:
        image = golden[f"{model.name}/{model.input.name}"]
        names = [output.name for output in model.outputs]
        given = running.run(names, {model.input.name: image})
        return max(
            float(np.abs(values - golden[f"{model.name}/{name}"]).max())
            for name, values in zip(names, given, strict=True)
        )


def content(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
    }


def test_repeats(
    lite: catalogue.Pack, originals: Mapping[str, bytes], prepared: Path, tmp_path: Path
) -> None:
    """Preparing twice gives the same bytes twice, and reports each network."""
    lines: list[str] = []
    prepare(lite, originals, tmp_path, report=lines.append)
    assert content(tmp_path) == content(prepared)
    assert lines == [f"preparing {name}" for name in NAMES]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 features")
def test_older_cpu(wheel: Path, prepared: Path) -> None:
    """On an older CPU, with other kernels and one thread, the bytes are the same."""
    script = (
        "import sys, tempfile; from pathlib import Path\n"
        "from models import catalogue; from models.prepare import prepare\n"
        "from models.pull import extract\n"
        "lite = catalogue.load().pack('lite')\n"
        "raw = extract(Path(sys.argv[1]), (*lite.models, *lite.notices))\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    made = prepare(lite, raw, Path(folder), report=lambda line: None)\n"
        "print(made.pack_digest)\n"
    )
    older = {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL",
        "OPENBLAS_CORETYPE": "Nehalem",
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, str(wheel)],
        capture_output=True,
        check=True,
        cwd=HERE,
        env={**os.environ, **older},
        text=True,
    )
    assert done.stdout.strip() == verify(prepared).pack_digest


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_golden_holds(prepared: Path, name: str, level: str) -> None:
    """However it is loaded, a network gives its golden outputs."""
    model = verify(prepared).model(name)
    running = session((prepared / model.file).read_bytes(), level)
    assert furthest(prepared, model, running) < GOLDEN_TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_golden_finds_a_fault(prepared: Path, name: str) -> None:
    """One weight changed, in the first layer or the last, misses the golden outputs."""
    model = verify(prepared).model(name)
    for at in (0, -1):
        spoiled = onnx.load(prepared / model.file)
        weights = [t for t in spoiled.graph.initializer if len(t.dims) == 4]
        values = numpy_helper.to_array(weights[at]).copy()
        values.flat[0] += 0.1
        weights[at].CopyFrom(numpy_helper.from_array(values, weights[at].name))
        running = session(spoiled.SerializeToString())
        assert furthest(prepared, model, running) > GOLDEN_TOLERANCE


def test_golden_is_rounded(prepared: Path) -> None:
    """Golden outputs lie on the grid that makes them the same on every CPU."""
    with np.load(prepared / "golden.npz") as golden:
        outputs = [name for name in golden if not name.endswith("/image")]
        for name in outputs:
            steps = golden[name].astype(np.float64) * GRID
            np.testing.assert_array_equal(steps, np.rint(steps))
    assert len(outputs) == 6


@pytest.mark.parametrize("name", NAMES)
def test_portable(prepared: Path, name: str) -> None:
    """A network asks for ONNX's own operators and no others."""
    model = onnx.load(prepared / f"{name}.onnx")
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}


@pytest.mark.parametrize("name", NAMES)
def test_contract(prepared: Path, name: str) -> None:
    """Inputs and outputs have the names, the order and the static shapes promised."""
    model = verify(prepared).model(name)
    running = session((prepared / model.file).read_bytes())
    (image,) = running.get_inputs()
    assert (image.name, tuple(image.shape)) == (model.input.name, model.input.shape)
    assert [(out.name, tuple(out.shape)) for out in running.get_outputs()] == [
        (out.name, out.shape) for out in model.outputs
    ]
    assert {each.type for each in (image, *running.get_outputs())} == {"tensor(float)"}


@pytest.mark.parametrize("name", NAMES)
def test_anchors(prepared: Path, name: str) -> None:
    """A detector has one box for each anchor of its grids; a mesh has no grids."""
    model = verify(prepared).model(name)
    anchors = sum(grid.side**2 * grid.per_cell for grid in model.grids)
    boxes = [out.shape[1] for out in model.outputs if out.name in {"boxes", "scores"}]
    assert boxes == ([anchors, anchors] if model.contract == "blazeface" else [])


def test_origin(lite: catalogue.Pack, prepared: Path) -> None:
    """The manifest says which published file each network was made from."""
    assert lite.source is not None
    made = verify(prepared)
    package = f"{lite.source.package} {lite.source.version}"
    assert [(m.upstream.source, m.upstream.sha256) for m in made.models] == [
        (f"{package}: {m.member}", m.sha256) for m in lite.models
    ]
