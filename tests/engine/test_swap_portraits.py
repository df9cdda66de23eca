"""The swap of the two portraits, in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.swap.engine import Engine
    from functions.swap.media import Image

PAIRS = [("collins", "hopper"), ("hopper", "collins")]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_outside_the_blend_region_not_a_bit_changes(
    source: str, target: str, engine: Engine, portrait: Callable[[str], Image]
) -> None:
    """Where alpha is 0, the picture is bit-identical to the target."""
    image, before = portrait(target), portrait(target)
    who = engine.identity(portrait(source), engine.detect(portrait(source))[0])
    swapped = engine.swap(image, engine.detect(image)[0], who)
    engine.blend(image, swapped)
    touched = np.zeros(image.pixels.shape[:2], bool)
    height, width = swapped.alpha.shape
    place = (
        slice(swapped.y, swapped.y + height),
        slice(swapped.x, swapped.x + width),
    )
    touched[place] = swapped.alpha > 0
    assert touched.any()
    assert np.array_equal(image.pixels[~touched], before.pixels[~touched])
    assert not np.array_equal(image.pixels[touched], before.pixels[touched])
