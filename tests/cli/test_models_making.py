"""Importing and preparing packs, as an operator would."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from functions.cli.commands import app
from models.errors import WeightsRefused
from models.verify import verify
from tools import standins

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

NAMES = ("det_500m", "inswapper_128", "w600k_r50")


def guise(*arguments: object) -> Result:
    """Run a command in this process; what it raises is what `main` would print."""
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give stand-ins under the names of the published files."""
    folder = tmp_path_factory.mktemp("weights")
    for name in NAMES:
        standins.build(name, folder, small=True)
    return folder


@pytest.fixture(scope="module")
def acceptances(weights: Path) -> list[str]:
    digests = {
        name: hashlib.sha256((weights / f"{name}.onnx").read_bytes()).hexdigest()
        for name in NAMES
    }
    return [f"--accept-private={name}={digest}" for name, digest in digests.items()]


def test_import(weights: Path, acceptances: list[str], tmp_path: Path) -> None:
    """Stand-ins renamed as published are refused; accepted by digest they make a pack.

    Word for word what the refusal offers is what is accepted.
    """
    refused = guise("import", weights, "--into", tmp_path)
    assert isinstance(refused.exception, WeightsRefused)
    for each in acceptances:
        assert each.replace("=", " ", 1) in str(refused.exception)
    done = guise("import", weights, "--into", tmp_path, *acceptances, "--json")
    assert done.exit_code == 0, done.output or done.exception
    told = json.loads(done.stdout)
    assert (told["id"], told["commercial"]) == ("insightface-fast", False)
    pack = verify(tmp_path / "insightface-fast" / "1.0.0")
    assert (told["digest"], pack.detector_side) == (pack.pack_digest, 320)


def test_prepare(weights: Path, acceptances: list[str], tmp_path: Path) -> None:
    """Prepared once more, a pack is said to be the same, byte for byte."""
    for _ in range(2):
        done = guise("prepare", weights, "--into", tmp_path, *acceptances)
        assert done.exit_code == 0, done.output or done.exception
    assert "insightface-fast 1.0.0 is there, the same byte for byte" in done.stderr


def test_version(weights: Path, acceptances: list[str], tmp_path: Path) -> None:
    """A pack of halved networks is another, and has a version of its own."""
    place = ("--into", tmp_path, "--fp16", "--version", "1.1.0")
    done = guise("import", weights, *place, *acceptances)
    assert done.exit_code == 0, done.output or done.exception
    pack = verify(tmp_path / "insightface-fast" / "1.1.0")
    assert pack.model("inswapper_128").precision == "fp16"


@pytest.mark.parametrize("text", ["det_500m", "det_500m=1234"])
def test_no_digest(weights: Path, tmp_path: Path, text: str) -> None:
    """What is accepted must be a name and a whole digest."""
    refused = guise("import", weights, "--into", tmp_path, "--accept-private", text)
    assert isinstance(refused.exception, WeightsRefused)
    assert list(tmp_path.iterdir()) == []
