"""Weights an operator has become a pack; what is not what it says is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import catalogue, importing, licence
from models.errors import (
    DigestMismatch,
    UnknownModel,
    UnsupportedNetwork,
    WeightsRefused,
)
from models.importing import Wish, bring, digests, scan
from models.verify import verify
from tests.models.weights import NAMES, digest, rebuilt, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


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
