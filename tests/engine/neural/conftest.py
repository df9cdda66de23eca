"""The stand-ins of the published networks, made once for every worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions.swap.engine.neural import NeuralEngine
from tests.engine.neural import packs
from tools import standins as made

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the small stand-in of every model, named as published."""
    folder = tmp_path_factory.mktemp("standins")
    for name in made.NAMES:
        made.build(name, folder, small=True)
    return folder


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pack of every kind of network, of tier quality; for looking at only."""
    root = tmp_path_factory.mktemp("rich")
    return packs.imported(root, "insightface-quality", *packs.ALL[3:])


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pack of detector, embedder and swapper; for looking at only."""
    return packs.imported(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same with the swapper halved, its weights to be mapped."""
    return packs.imported(tmp_path_factory.mktemp("halved"), halved=True)


@pytest.fixture(scope="session")
def neural(rich: Path) -> NeuralEngine:
    """Return the engine of the rich pack, loaded once, on one thread."""
    return NeuralEngine.load(rich, device="cpu", threads=1)
