"""Pictures that an encoder other than ours has written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow


@pytest.fixture
def picture() -> Pillow.Image:
    """Return a small smooth picture, not square, no two corners alike."""
    y, x = np.mgrid[0:48, 0:64]
    return Pillow.fromarray(
        np.dstack((x * 4, y * 5, 255 - x * 2 - y)).astype(np.uint8), "RGB"
    )


@pytest.fixture
def examples() -> Path:
    """Return the folder of the sample portraits."""
    return Path(__file__).parents[2] / "examples"
