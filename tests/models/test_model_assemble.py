"""A pack made of weights an operator has gives what the weights give, everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from models import catalogue, golden, prepare
from models.errors import (
    UnsupportedNetwork,
)
from models.fp16 import TOLERANCE_MICRO as HALVED_MICRO
from models.golden import TOLERANCE_MICRO
from models.importing import Wish, bring
from models.verify import verify
from tests.models.weights import NAMES, digest, rebuilt, silent
from tools import standins

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LEVELS = (
    "ORT_DISABLE_ALL",
    "ORT_ENABLE_BASIC",
    "ORT_ENABLE_EXTENDED",
    "ORT_ENABLE_ALL",
)


def test_private(pack: Path, accepted: Mapping[str, str]) -> None:
    """A private build is marked as one, under its own digest, and not for commerce."""
    made = verify(pack)
    assert (made.id, made.version, made.tier) == ("insightface", "1.0.0", "standard")
    assert {model.name: model.upstream.sha256 for model in made.models} == accepted
    assert all(model.upstream.private for model in made.models)
    assert not made.commercial
    assert not any(model.commercial for model in made.models)


def test_no_weights_of_others(pack: Path) -> None:
    """A pack is read-only and holds what its manifest lists, and no links."""
    assert pack.stat().st_mode & 0o777 == 0o555
    assert not any(path.is_symlink() for path in pack.iterdir())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_golden_holds(pack: Path, name: str, level: str) -> None:
    """However it is loaded, a network gives its golden outputs within its tolerance."""
    model = verify(pack).model(name)
    assert model.tolerance_micro == TOLERANCE_MICRO
    assert lies(pack, name, level) <= model.tolerance_micro


def lies(pack: Path, name: str, level: str = "ORT_ENABLE_EXTENDED") -> float:
    """Return how far a network of a pack lies from its golden outputs."""
    model = verify(pack).model(name)
    with np.load(pack / "golden.npz") as arrays:
        mine = {
            key.partition("/")[2]: arrays[key]
            for key in arrays
            if key.startswith(f"{name}/")
        }
    session = golden.session(pack / model.file, level)
    given = {each.name: mine[each.name] for each in session.get_inputs()}
    return golden.furthest(golden.computed(session, model, given), mine)


@pytest.mark.parametrize("name", NAMES)
def test_same_as_published(pack: Path, weights: Path, name: str) -> None:
    """A prepared network gives on another input what the published file gives."""
    model = verify(pack).model(name)
    theirs = golden.session(weights / f"{name}.onnx", "ORT_ENABLE_ALL")
    ours = golden.session(pack / model.file, "ORT_ENABLE_EXTENDED")
    given = golden.inputs(model, "another")
    names = [output.name for output in model.outputs]
    for one, other in zip(
        ours.run(names, given), theirs.run(names, given), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


def test_emap(pack: Path, weights: Path) -> None:
    """The map insightface reads from the swapper's last weight lies beside it."""
    published = onnx.load(weights / "inswapper_128.onnx").graph.initializer[-1]
    model = verify(pack).model("inswapper_128")
    assert model.emap == "inswapper_128-emap.npy"
    ours = np.load(pack / model.emap)
    assert (ours.shape, ours.dtype) == ((512, 512), np.float32)
    np.testing.assert_array_equal(ours, numpy_helper.to_array(published))


def test_batches(pack: Path) -> None:
    """Two faces in one run of the swapper are two runs; a detector takes one."""
    made = verify(pack)
    shapes = {model.name: model.input.shape[0] for model in made.models}
    assert shapes == {"det_10g": 1, "inswapper_128": 0, "w600k_r50": 0}
    model = made.model("inswapper_128")
    session = golden.session(pack / model.file, "ORT_ENABLE_EXTENDED")
    first, second = (golden.inputs(model, seed) for seed in ("a", "b"))
    pair = {name: np.concatenate([first[name], second[name]]) for name in first}
    (both,) = session.run(None, pair)
    for at, given in enumerate((first, second)):
        np.testing.assert_allclose(both[at], session.run(None, given)[0][0], atol=1e-5)
    assert np.abs(both[0] - both[1]).max() > 0.01


def test_portable(pack: Path) -> None:
    """A prepared network asks for ONNX's own operators and no others."""
    for path in pack.glob("*.onnx"):
        model = onnx.load(path, load_external_data=False)
        assert [one.domain for one in model.opset_import] == [""]
        assert {node.domain for node in model.graph.node} == {""}


def test_nothing_unused(pack: Path) -> None:
    """Every weight of a prepared network feeds a node: the map lies elsewhere."""
    for path in pack.glob("*.onnx"):
        graph = onnx.load(path, load_external_data=False).graph
        read = {name for node in graph.node for name in node.input}
        assert {tensor.name for tensor in graph.initializer} <= read


# --- halved ------------------------------------------------------------------


def test_halved(
    weights: Path, accepted: Mapping[str, str], pack: Path, tmp_path: Path
) -> None:
    """Halved, the swapper has half the bytes and the same contract; others stay."""
    wish = Wish(private=accepted, halved=True)
    folder = bring([weights], tmp_path, wish, report=silent)
    made, whole = verify(folder), verify(pack)
    assert {m.name: m.precision for m in made.models} == {
        "det_10g": "fp32",
        "inswapper_128": "fp16",
        "w600k_r50": "fp32",
    }
    model = made.model("inswapper_128")
    assert model.weights == "inswapper_128.bin"
    assert model.tolerance_micro == HALVED_MICRO
    assert model.input == whole.model("inswapper_128").input
    half, full = ((p / "inswapper_128.bin") for p in (folder, pack))
    large = full if full.exists() else pack / "inswapper_128.onnx"
    assert 0.4 < half.stat().st_size / large.stat().st_size < 0.6
    assert 0 < lies(folder, "inswapper_128") < HALVED_MICRO


def test_too_large_for_half(
    mine: Path, accepted: Mapping[str, str], tmp_path: Path
) -> None:
    """A weight float16 cannot hold refuses the halving, not the network."""

    def enlarge(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
        values = numpy_helper.to_array(tensor).copy()
        values.flat[0] = 1e5
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    new = rebuilt(mine / "inswapper_128.onnx", enlarge)
    private = {**accepted, "inswapper_128": new}
    wish = Wish(private=private, halved=True)
    with pytest.raises(UnsupportedNetwork, match="too large for float16"):
        bring([mine], tmp_path / "packs", wish, report=silent)
    whole = bring([mine], tmp_path / "packs", Wish(private=private), report=silent)
    assert verify(whole).model("inswapper_128").precision == "fp32"


def brought(name: str, folder: Path) -> prepare.Brought:
    """Bring the small stand-in of a model."""
    path = standins.build(name, folder, small=True)
    return prepare.Brought(
        catalogue.load().model(name),
        path,
        digest(path),
        path.stat().st_size,
        prepare.stamp(path),
        private=True,
    )


def test_halved_as_published(tmp_path: Path) -> None:
    """What is published halved stays so: nothing widens it again for a CPU's sake."""
    made = tmp_path / "made"
    made.mkdir()
    pack = prepare.assemble(
        catalogue.load().pack("insightface"),
        [brought("hyperswap_1a_256", tmp_path)],
        made,
        report=silent,
    )
    (model,) = pack.models
    assert (model.precision, model.tolerance_micro) == ("fp16", HALVED_MICRO)
    published = onnx.load(tmp_path / "hyperswap_1a_256.onnx").graph
    ours = onnx.load(made / model.file).graph
    assert [node.op_type for node in ours.node] == [
        node.op_type for node in published.node
    ]


def test_no_batch(tmp_path: Path) -> None:
    """A network that takes one picture at a time is left as it is, and says so."""
    made = tmp_path / "made"
    made.mkdir()
    pack = prepare.assemble(
        catalogue.load().pack("insightface-quality"),
        [brought("gfpgan_1_4", tmp_path)],
        made,
        report=silent,
    )
    (model,) = pack.models
    assert model.input.shape == (1, 3, 512, 512)
    session = golden.session(made / model.file, "ORT_ENABLE_EXTENDED")
    assert session.get_inputs()[0].shape == [1, 3, 512, 512]


# --- weights to be mapped ----------------------------------------------------


def test_mapped(weights: Path, tmp_path: Path) -> None:
    """Large weights lie in a file of their own, listed, and no others do."""
    model = catalogue.load().model("w600k_r50")
    path = tmp_path / "grown.onnx"
    path.write_bytes((weights / "w600k_r50.onnx").read_bytes())
    grown = rebuilt(path, grow)
    made = tmp_path / "made"
    made.mkdir()
    one = prepare.Brought(
        model, path, grown, path.stat().st_size, prepare.stamp(path), private=True
    )
    insightface = catalogue.load().pack("insightface")
    pack = prepare.assemble(insightface, [one], made, report=silent)
    assert pack.models[0].weights == "w600k_r50.bin"
    assert {file.name for file in pack.files} == {
        "golden.npz",
        "w600k_r50.bin",
        "w600k_r50.onnx",
    }
    assert (made / "w600k_r50.onnx").stat().st_size < 100_000
    assert lies(made, "w600k_r50") <= TOLERANCE_MICRO


def grow(model: onnx.ModelProto) -> None:
    """Put five megabytes into a network, which count for little in what it gives."""
    values = np.zeros((512, 2600), np.float32)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(values, "in"))
    graph.initializer.append(numpy_helper.from_array(values.T.copy(), "out"))
    last = graph.node[-1]
    last.output[0] = "small"
    graph.node.extend(
        [
            helper.make_node("MatMul", ["small", "in"], ["wide"]),
            helper.make_node("MatMul", ["wide", "out"], ["narrow"]),
            helper.make_node("Add", ["small", "narrow"], [graph.output[0].name]),
        ]
    )
