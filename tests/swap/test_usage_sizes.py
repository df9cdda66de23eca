"""What usage says of the size of pictures, through a whole swap function."""

from __future__ import annotations

import pytest

from functions.events import USAGE_RECORDED
from functions.swap.lease import coarse_bytes
from tests.swap.house import SWAP, House, PaperEngine, picture


def sizes(padding: int) -> tuple[int, int, int]:
    """Return what usage says came in and went out, and what really came in."""
    house = House(engine=PaperEngine())
    source, target = picture(1) + bytes(padding), picture(2)
    house.put("a.png", source)
    house.put("b.png", target)
    house.upload("j1", SWAP)
    [usage] = [e for e in house.sink.taken if e.type == USAGE_RECORDED]
    size = house.get("/v1/swaps/j1").get_json()["output"]["size"]
    assert usage.data["output_bytes"] == coarse_bytes(size) > size
    real = len(source) + len(target)
    return usage.data["input_bytes"], usage.data["output_bytes"], real


def test_attack_telling_a_photo_by_its_size() -> None:
    """Photos of other sizes leave the same usage; only the order of it is there."""
    one, other = sizes(1000), sizes(1400)
    assert one[2] != other[2]
    assert one[0] == other[0] == 2048
    assert sizes(3000)[0] == 4096


@pytest.mark.parametrize(
    ("exact", "told"),
    [(0, 0), (1, 1), (2, 2), (3, 4), (1024, 1024), (1025, 2048), (25 << 20, 32 << 20)],
)
def test_sizes_are_rounded_up_to_a_power_of_two(exact: int, told: int) -> None:
    """Nothing stays nothing, and nothing is told as less than it was."""
    assert coarse_bytes(exact) == told
