"""Weights an operator has become a pack; what is not what it says is refused."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import catalogue, golden, importing, licence, prepare
from models.errors import (
    DigestMismatch,
    UnknownModel,
    UnsupportedNetwork,
    WeightsRefused,
)
from models.fp16 import TOLERANCE_MICRO as HALVED_MICRO
from models.golden import TOLERANCE_MICRO
from models.importing import Wish, bring, digests, scan
from models.verify import verify
from tools import standins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

NAMES = ("det_10g", "inswapper_128", "w600k_r50")
LEVELS = (
    "ORT_DISABLE_ALL",
    "ORT_ENABLE_BASIC",
    "ORT_ENABLE_EXTENDED",
    "ORT_ENABLE_ALL",
)


def silent(line: str) -> None:
    """Be told, and say nothing."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give stand-ins under the names of the published files, for looking at only."""
    folder = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        standins.build(name, folder, small=True)
    return folder


@pytest.fixture(scope="session")
def accepted(weights: Path) -> Mapping[str, str]:
    return {name: digest(weights / f"{name}.onnx") for name in NAMES}


@pytest.fixture(scope="session")
def pack(
    weights: Path,
    accepted: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Make a pack of stand-ins, for looking at only."""
    root = tmp_path_factory.mktemp("packs")
    return bring([weights], root, Wish(private=accepted), report=silent)


@pytest.fixture
def mine(weights: Path, tmp_path: Path) -> Path:
    """Give weights to spoil."""
    return shutil.copytree(weights, tmp_path / "mine")


# --- what is refused ---------------------------------------------------------


def test_renamed_impostors(weights: Path, tmp_path: Path) -> None:
    """Files renamed as published ones are refused by digest, with the way to accept."""
    with pytest.raises(WeightsRefused) as caught:
        bring([weights], tmp_path, Wish(), report=silent)
    lines = str(caught.value).split("\n")
    assert [line.partition(":")[0] for line in lines] == [f"{n}.onnx" for n in NAMES]
    offered = catalogue.load()
    for name, line in zip(NAMES, lines, strict=True):
        found = digest(weights / f"{name}.onnx")
        assert f"its SHA-256 is {found}" in line
        assert f"as published has {offered.model(name).sha256};" in line
        assert line.endswith(f"--accept-private {name}={found}")
    assert list(tmp_path.iterdir()) == []


def test_published_without_a_digest(mine: Path, tmp_path: Path) -> None:
    """A model whose bytes nobody has named is taken in by a stated digest alone."""
    (mine / "det_10g.onnx").rename(mine / "nsfw_2.onnx")
    with pytest.raises(WeightsRefused, match="nobody has said which nsfw_marqo"):
        bring([mine], tmp_path / "packs", Wish(pack="insightface"), report=silent)


def test_missing_file(mine: Path, accepted: Mapping[str, str], tmp_path: Path) -> None:
    """Without a model a pack needs there is none, and the message says where it is."""
    (mine / "inswapper_128.onnx").unlink()
    private = {name: accepted[name] for name in ("det_10g", "w600k_r50")}
    with pytest.raises(WeightsRefused) as caught:
        bring([mine], tmp_path / "packs", Wish(private=private), report=silent)
    assert "insightface lacks inswapper_128.onnx (https://" in str(caught.value)
    assert not (tmp_path / "packs").exists()


def test_accepted_and_not_there(
    weights: Path, accepted: Mapping[str, str], tmp_path: Path
) -> None:
    """A digest that is accepted and lies nowhere is refused by name."""
    wish = Wish(private={**accepted, "det_500m": "0" * 64})
    with pytest.raises(WeightsRefused, match=r"^det_500m: no file has .* 0{64}$"):
        bring([weights], tmp_path, wish, report=silent)


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        (Wish(pack="lite"), WeightsRefused, "guise models pull lite"),
        (Wish(private={"det_9g": "0" * 64}), UnknownModel, "no model 'det_9g'"),
        (
            Wish(pack="insightface", private={"det_500m": "0" * 64}),
            WeightsRefused,
            "det_500m: not in insightface",
        ),
    ],
)
def test_wishes(
    weights: Path, tmp_path: Path, wish: Wish, error: type, message: str
) -> None:
    """What cannot be wished for is refused, and nothing made."""
    with pytest.raises(error, match=message):
        bring([weights], tmp_path, wish, report=silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["det_10g", "det_10g=abc", "=", "x=" + "g" * 64])
def test_no_digest(text: str) -> None:
    """What is not NAME=SHA256 is refused and shown."""
    with pytest.raises(WeightsRefused, match=f"'{text}' is not NAME=SHA256"):
        digests([text])


def test_digest_in_capitals() -> None:
    """A digest may be written as some tools write it."""
    assert digests(["a=" + "AB" * 32]) == {"a": "ab" * 32}


@pytest.mark.parametrize("version", ["1", "../2.0.0", "1.0.0-x"])
def test_no_version(
    weights: Path, accepted: Mapping[str, str], tmp_path: Path, version: str
) -> None:
    """A version that is none is refused before it names a folder."""
    wish = Wish(private=accepted, version=version)
    with pytest.raises(WeightsRefused, match="is no version"):
        bring([weights], tmp_path, wish, report=silent)
    assert list(tmp_path.iterdir()) == []


def test_no_folder(weights: Path, tmp_path: Path) -> None:
    """A file where a folder belongs is refused."""
    with pytest.raises(WeightsRefused, match=r"no folder$"):
        scan([weights / "det_10g.onnx"], report=silent)


def test_changed_while_read(
    mine: Path, accepted: Mapping[str, str], tmp_path: Path
) -> None:
    """A file that is written to after it was hashed is refused."""

    def meddle(line: str) -> None:
        if line == "preparing w600k_r50":
            path = mine / "w600k_r50.onnx"
            path.write_bytes(path.read_bytes() + b"\0")

    wish = Wish(private=accepted)
    with pytest.raises((DigestMismatch, UnsupportedNetwork)):
        bring([mine], tmp_path / "packs", wish, report=meddle)
    assert list((tmp_path / "packs" / "insightface").iterdir()) == []


# --- what is made ------------------------------------------------------------


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


def test_repeats(
    weights: Path, accepted: Mapping[str, str], pack: Path, tmp_path: Path
) -> None:
    """Making a pack twice gives the same bytes twice."""
    again = bring([weights], tmp_path, Wish(private=accepted), report=silent)
    assert verify(again).pack_digest == verify(pack).pack_digest


def test_prepare_compares(
    weights: Path, accepted: Mapping[str, str], tmp_path: Path
) -> None:
    """Made anew, a pack that is there stays, and is said to be the same."""
    lines: list[str] = []
    wish = Wish(private=accepted)
    folder = bring([weights], tmp_path, wish, report=silent)
    inode = folder.stat().st_ino
    again = bring([weights], tmp_path, wish, anew=True, report=lines.append)
    assert (again, again.stat().st_ino) == (folder, inode)
    assert lines[-1] == "insightface 1.0.0 is there, the same byte for byte"
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]


def test_another_under_the_same_name(
    weights: Path, accepted: Mapping[str, str], tmp_path: Path
) -> None:
    """A pack made otherwise does not take the name and version of one that is there."""
    wish = Wish(private=accepted)
    folder = bring([weights], tmp_path, wish, report=silent)
    halved = Wish(private=accepted, halved=True)
    for anew in (False, True):
        with pytest.raises(WeightsRefused, match="give this one a --version"):
            bring([weights], tmp_path, halved, anew=anew, report=silent)
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]
    named = Wish(private=accepted, halved=True, version="1.0.1")
    assert verify(bring([weights], tmp_path, named, report=silent)).version == "1.0.1"


def test_broken_pack(
    weights: Path, accepted: Mapping[str, str], tmp_path: Path
) -> None:
    """A pack that no longer verifies is made anew, and the reason reported."""
    wish = Wish(private=accepted)
    folder = bring([weights], tmp_path, wish, report=silent)
    digest_before = verify(folder).pack_digest
    folder.chmod(0o755)
    (folder / "det_10g.onnx").unlink()
    lines: list[str] = []
    bring([weights], tmp_path, wish, report=lines.append)
    assert "making insightface 1.0.0 anew: det_10g.onnx: missing" in lines
    assert verify(folder).pack_digest == digest_before


def test_other_names(mine: Path, accepted: Mapping[str, str], tmp_path: Path) -> None:
    """Files are known by digest, whatever they are called and wherever they lie."""
    (mine / "deep").mkdir()
    (mine / "inswapper_128.onnx").rename(mine / "deep" / "x.onnx")
    (mine / "det_10g.onnx").rename(mine / "w600k_mbf.onnx")
    (mine / "genderage.onnx").write_bytes(b"unknown")
    lines: list[str] = []
    folder = bring([mine], tmp_path / "p", Wish(private=accepted), report=lines.append)
    assert {model.name for model in verify(folder).models} == {*NAMES}
    assert "leaving genderage.onnx: no pack asked for needs it" in lines


# --- networks that are not of their contract ---------------------------------


def rebuilt(path: Path, change: Callable[[onnx.ModelProto], object]) -> str:
    """Change the network at `path`; return its new digest."""
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    return digest(path)


def drop_map(model: onnx.ModelProto) -> None:
    del model.graph.initializer[-1]


def square_map(model: onnx.ModelProto) -> None:
    values = np.zeros((512, 511), np.float32)
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(values, "emap"))


def rename_input(model: onnx.ModelProto) -> None:
    for value in model.graph.input:
        value.name = f"my_{value.name}"
    for node in model.graph.node:
        node.input[:] = [
            f"my_{name}" if name in {"target", "source"} else name
            for name in node.input
        ]


def more_outputs(model: onnx.ModelProto) -> None:
    node = model.graph.node[-1]
    extra = helper.make_node("Identity", [node.output[0]], ["extra"])
    model.graph.node.append(extra)
    model.graph.output[0].name = "another"
    model.graph.node.append(helper.make_node("Identity", [node.output[0]], ["another"]))
    shape = [1, 3, 128, 128]
    model.graph.output.append(
        helper.make_tensor_value_info("extra", TensorProto.FLOAT, shape)
    )


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="outside.bin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_map, "its last weight .* is no map of 512 x 512"),
        (square_map, "its last weight emap is no map of 512 x 512"),
        (rename_input, "its inputs are my_target, my_source, not source, target"),
        (more_outputs, "its outputs are another, extra, not output"),
        (outside, "outside.bin"),
    ],
)
def test_no_inswapper(
    mine: Path,
    accepted: Mapping[str, str],
    tmp_path: Path,
    change: Callable[[onnx.ModelProto], object],
    message: str,
) -> None:
    """A file that is accepted and is no inswapper is refused, and nothing is left."""
    new = rebuilt(mine / "inswapper_128.onnx", change)
    (mine / "outside.bin").write_bytes(bytes(10_000_000))
    wish = Wish(private={**accepted, "inswapper_128": new})
    with pytest.raises(UnsupportedNetwork, match=message):
        bring([mine], tmp_path / "packs", wish, report=silent)
    assert list((tmp_path / "packs" / "insightface").iterdir()) == []


def test_no_onnx(mine: Path, accepted: Mapping[str, str], tmp_path: Path) -> None:
    """A file that is accepted and is no network is refused by name."""
    (mine / "det_10g.onnx").write_bytes(b"hello")
    wish = Wish(private={**accepted, "det_10g": digest(mine / "det_10g.onnx")})
    with pytest.raises(UnsupportedNetwork, match=r"^det_10g\.onnx: "):
        bring([mine], tmp_path / "packs", wish, report=silent)


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


# --- licences that lie beside the files --------------------------------------


def test_licence_is_recorded(
    mine: Path, accepted: Mapping[str, str], tmp_path: Path
) -> None:
    """A MODEL.LICENSE beside the files is judged, and what it said is in the pack."""
    (mine / "MODEL.LICENSE").write_text("{}")
    folder = bring([mine], tmp_path / "p", Wish(private=accepted), report=silent)
    (grant,) = licence.read(folder, verify(folder))
    assert grant.status == "invalid"
    assert grant.models == NAMES
    assert grant.sha256 == digest(mine / "MODEL.LICENSE")


def test_published_as_such(weights: Path, tmp_path: Path) -> None:
    """A file with the digest of the catalogue is the published one, without a word."""
    model = catalogue.load().model("det_10g")
    sha256 = digest(weights / "det_10g.onnx")
    known = msgspec.structs.replace(model, sha256=sha256)
    found = scan([weights], report=silent)
    brought = importing.recognise([known], found, {})
    assert list(brought) == ["det_10g"]
    assert not brought["det_10g"].private
