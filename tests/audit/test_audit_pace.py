"""A reader of somebody's log that is told to be slower."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from functions.audit.app import create_app
from functions.audit.merkle import HASH_BYTES
from functions.audit.source import RemoteLog
from functions.problems import Unavailable
from functions.settings import Limits, Settings
from tests.audit.house import TokensByName
from tests.audit.test_audit_source import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.audit.house import House


class Busy:
    """A log that has no time for the first so many requests, and says for how long."""

    def __init__(self, refused: int, seconds: str) -> None:
        self.left = refused
        self._seconds = seconds

    def __call__(
        self, _environ: dict[str, Any], start: Callable[..., Any]
    ) -> Iterable[bytes]:
        self.left -= 1
        if self.left < 0:
            start("200 OK", [])
            return [b"a note\n"]
        start("429 Too Many Requests", [("Retry-After", self._seconds)])
        return []


@pytest.mark.parametrize(
    ("told", "waits"), [("7", 7), ("0", 1), ("soon", 1), ("", 1), ("-5", 1)]
)
def test_a_reader_keeps_to_the_pace_it_is_told(told: str, waits: int) -> None:
    """It waits as long as the log says, a second where that says nothing."""
    waited: list[float] = []
    with (
        serving(Busy(2, told)) as url,
        closing(RemoteLog(url, wait=waited.append)) as log,
    ):
        assert log.checkpoint() == "a note\n"
    assert waited == [waits, waits]


@pytest.mark.parametrize("told", ["11", "999999"])
def test_attack_a_log_that_is_busy_for_ever(told: str) -> None:
    """After half a minute the reader says that the log cannot be read."""
    waited: list[float] = []
    with (
        serving(Busy(99, told)) as url,
        closing(RemoteLog(url, wait=waited.append)) as log,
        pytest.raises(Unavailable, match="answers 429"),
    ):
        log.checkpoint()
    assert sum(waited) <= 30


def test_a_log_over_its_rate_is_read_to_the_end(house: House) -> None:
    """By the real door: the reader is refused, waits, and gets what it asked for."""
    for number in range(4):
        house.log.append(house.event(f"e{number}"))
    app = create_app(
        Settings(limits=Limits(reads_per_second_max=1, reads_burst_max=1)),
        log=house.log,
        keys=house.keys,
        authenticator=TokensByName(),
    )
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        time.sleep(seconds)

    with (
        serving(app) as url,
        closing(RemoteLog(f"{url}/v1/tenants/acme/log", "acme", wait=wait)) as log,
    ):
        while not waited:  # or each takes a second, and nothing is to be seen
            assert len(log.tile(0, 0, 4)) == 4 * HASH_BYTES
