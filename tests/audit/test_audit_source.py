"""Reading a log from the database and from an address: the same bytes."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from werkzeug.serving import make_server

from functions.audit.app import create_app
from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.source import KeptLog, RemoteLog
from functions.audit.tiles import parse_bundle
from functions.problems import (
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from tests.audit.house import TokensByName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from functions.audit.source import LogSource
    from tests.audit.house import House

    Answer = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@contextmanager
def serving(application: Any) -> Iterator[str]:
    """Yield the address of a WSGI application that answers until the block ends."""
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def filled(house: House) -> House:
    """Return an audit function with a log of 260 entries."""
    for each in range(260):
        house.log.append(house.event(f"e{each}"))
    return house


@pytest.fixture
def address(filled: House) -> Iterator[str]:
    """Return where that log is read over HTTP."""
    app = create_app(log=filled.log, keys=filled.keys, authenticator=TokensByName())
    with serving(app) as url:
        yield f"{url}/v1/tenants/acme/log/"


def whole(log: LogSource) -> list[bytes]:
    """Return every entry of a log of 260."""
    return parse_bundle(log.entries(0, 256)) + parse_bundle(log.entries(1, 4))


def test_both_read_the_same(filled: House, address: str) -> None:
    """What the database holds is what the door serves, and it verifies."""
    kept = KeptLog(filled.log.store, "acme")
    with closing(RemoteLog(address, "acme")) as remote:
        assert kept.checkpoint() == remote.checkpoint()
        for tile in ((0, 0, 256), (0, 1, 4), (1, 0, 1)):
            assert kept.tile(*tile) == remote.tile(*tile)
        assert whole(kept) == whole(remote)
        verifiers = log_verifiers("acme", filled.keys)
        verify_entries(whole(remote), remote.checkpoint(), verifiers)


@pytest.mark.parametrize(
    "read",
    [
        lambda log: log.tile(0, 2, 1),
        lambda log: log.tile(2, 0, 1),
        lambda log: log.entries(0, 256) and log.entries(2, 1),
    ],
)
def test_what_the_log_has_not(
    filled: House, address: str, read: Callable[[LogSource], object]
) -> None:
    """Beyond its size a log has nothing, wherever it is read."""
    with closing(RemoteLog(address, "acme")) as remote:
        for log in (KeptLog(filled.log.store, "acme"), remote):
            with pytest.raises(NotFound):
                read(log)


def test_a_log_that_is_empty(house: House) -> None:
    """Before its first entry a log has no checkpoint, and another epoch has none."""
    with pytest.raises(NotFound):
        KeptLog(house.log.store, "acme").checkpoint()
    house.log.append(house.event())
    with pytest.raises(NotFound):
        KeptLog(house.log.store, "acme", 2).checkpoint()


@pytest.mark.parametrize(
    ("token", "error"), [("", Unauthenticated), ("nobody", NotFound)]
)
def test_who_may_not_read(address: str, token: str, error: type[Exception]) -> None:
    """The reader is told whether it is unknown; what is another's is not there."""
    with closing(RemoteLog(address, token)) as log, pytest.raises(error):
        log.checkpoint()


def answering(status: str, body: bytes) -> Answer:
    """Return an application that always answers this."""

    def application(
        _environ: dict[str, Any], start: Callable[..., Any]
    ) -> Iterable[bytes]:
        start(status, [("Content-Type", "text/plain")])
        return [body]

    return application


def test_attack_a_log_that_never_ends() -> None:
    """No stranger decides how much memory a reader spends."""
    with (
        serving(answering("200 OK", bytes(8 * 32 + 1))) as url,
        closing(RemoteLog(url)) as log,
        pytest.raises(TooLarge),
    ):
        log.tile(0, 0, 8)


def test_a_log_that_fails() -> None:
    """A failing server, a closed port and a bad address are the same: not now."""
    with (
        serving(answering("500 No", b"")) as url,
        closing(RemoteLog(url)) as log,
        pytest.raises(Unavailable, match="answers 500"),
    ):
        log.checkpoint()
    for bad in (url, "http://[", "nonsense"):
        with closing(RemoteLog(bad)) as log, pytest.raises(Unavailable):
            log.checkpoint()
