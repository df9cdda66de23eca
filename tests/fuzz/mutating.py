"""Mutations without a guide, the same for the same seed: what `make test` runs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.targets import Target

NASTY: Final = (
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b'"',
    b"\\ud800",
    b"[[[[[[[[",
    b'{"a":',
    b"null",
    b"../",
    b"%00",
    b"\r\n",
    b"\xe2\x80\xae",
)
_CHANGES_MAX: Final = 6


def inputs(target: Target, count: int, seed: int) -> Iterator[bytes]:
    """Yield the seeds, and then changed ones, `count` in all."""
    chance = random.Random(f"{target.name} {seed}")  # noqa: S311  # it keeps no secret
    yield from target.seeds[:count]
    for _ in range(count - len(target.seeds)):
        data = bytearray(chance.choice(target.seeds))
        for _ in range(chance.randint(1, _CHANGES_MAX)):
            _change(data, target, chance)
        made = bytes(data[: target.bytes_max])
        yield target.mend(made) if chance.random() < 0.5 else made  # half


def _change(data: bytearray, target: Target, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    way = chance.randrange(6)
    if way == 0 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif way == 1:
        data[at:at] = chance.choice(NASTY)
    elif way == 2:  # one of six ways
        del data[at : at + chance.randint(1, 32)]
    elif way == 3:
        data[at : at + 4] = chance.randbytes(4)
    elif way == 4:
        other = chance.choice(target.seeds)
        start = chance.randrange(len(other) + 1)
        data[at:at] = other[start : start + chance.randint(1, 64)]
    else:
        data[at:at] = data[at : at + chance.randint(1, 64)] * chance.randint(1, 8)
