"""Whatever is asked of the engine, it answers: no picture and no box breaks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.swap.engine import Face
from functions.swap.media import Image
from tools import sheet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from functions.swap.engine import Identity, MeshEngine


@pytest.fixture(scope="session")
def hopper(engine: MeshEngine, portrait: Callable[[str], Image]) -> Identity:
    """Return a good identity to swap with."""
    image = portrait("hopper")
    return engine.identity(image, engine.detect(image)[0])


def picture(kind: str, seed: int, height: int, width: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    if kind == "noise":
        return random.integers(0, 256, (height, width, 3), np.uint8)
    return np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)


@settings(max_examples=40)
@given(
    st.sampled_from(("noise", "plain")),
    st.integers(0, 999),
    st.integers(1, 200),
    st.integers(1, 200),
    st.floats(0.1, 900),
    st.floats(-100, 300),
    st.floats(-100, 300),
)
def test_no_box_and_no_picture_break_the_engine(  # noqa: PLR0913, PLR0917
    engine: MeshEngine,
    hopper: Identity,
    kind: str,
    seed: int,
    height: int,
    width: int,
    size: float,
    x: float,
    y: float,
) -> None:
    """A box anywhere, of any size, on anything, is swapped and covered somehow."""
    image = Image(picture(kind, seed, height, width), "png")
    marks = np.random.default_rng(seed).normal((x, y), size / 2, (6, 2))
    half = size / 2
    face = Face(
        (x - half, y - half, x + half, y + half),
        0.7,
        tuple((float(a), float(b)) for a, b in marks),
        0,
    )
    who = engine.identity(image, face)
    assert 0 <= engine.similarity(who, hopper) <= 1
    for source in (hopper, engine.merge([who, hopper])):
        engine.blend(image, engine.swap(image, face, source))
    engine.cover(image, face, "blur")
    assert image.pixels.shape == (height, width, 3)


def test_the_contact_sheet_is_drawn(folder: Path, tmp_path: Path) -> None:
    """Every case can be drawn, and the pictures fit into the repository."""
    sheet.main(tmp_path)
    drawn = list(tmp_path.glob("*.jpg"))
    assert len(drawn) == 4
    assert max(path.stat().st_size for path in drawn) <= 200_000
