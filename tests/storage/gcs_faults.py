"""What the tests of Google's store share: a server, a way on which things go wrong."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from functions.problems import Problem
from functions.storage.gcs import GcsStore
from functions.storage.gcs_client import Patience, client
from functions.storage.gcs_stream import CHUNK_BYTES
from functions.tenant import Key
from tests.storage import gcs_server
from tests.storage import proxy as wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.storage.gcs_server import Service
    from tests.storage.proxy import Proxy

A: Final = Key("uploads/a.jpg")
MIB: Final = 1024 * 1024
LARGE: Final = CHUNK_BYTES + 3 * MIB
HURRIED: Final = Patience(connect_seconds=0.5, read_seconds=0.5, tries=2)


@contextmanager
def serving() -> Iterator[Service]:
    """Yield a server with a bucket `acme`, and end who asked it."""
    with gcs_server.serving() as found:
        found.bucket("acme")
        yield found
    client(found.endpoint).close()


@contextmanager
def way(service: Service) -> Iterator[Proxy]:
    """Yield a way to the server on which nothing goes wrong yet."""
    with wrong.to(service.endpoint) as found:
        yield found
    client(found.endpoint).close()


def hurried(proxy: Proxy) -> GcsStore:
    """Return a store behind the proxy, soon out of patience."""
    return GcsStore("acme", endpoint=proxy.endpoint, patience=HURRIED)


def raised(call: Callable[[], object]) -> type[Problem]:
    with pytest.raises(Problem) as caught:
        call()
    assert caught.value.detail == ""  # the cause is for the log alone
    return type(caught.value)
