"""The stores that the contract holds for.  A new one joins `MAKERS`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import pytest

from functions.envelopes import Envelopes
from functions.storage.encrypted import EncryptedStore
from functions.storage.file import FileStore
from functions.storage.gcs import GcsStore
from functions.storage.gcs_client import client
from functions.storage.memory import MemoryStore
from functions.storage.s3 import S3Store
from functions.tenant import Tenant
from tests.storage import gcs_server
from tests.storage.s3_process import ENVIRON, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.storage import Store


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """Return a server of S3's protocol, started when first asked for."""
    with pytest.MonkeyPatch.context() as patch:
        for name, text in ENVIRON.items():
            patch.setenv(name, text)
        with serving() as server:
            yield server


@pytest.fixture(scope="session")
def gcs_service() -> Iterator[gcs_server.Service]:
    """Return a server of Google's protocol, started when first asked for."""
    with gcs_server.serving() as service:
        yield service
    client(service.endpoint).close()


def file(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Return a maker of stores in a folder each."""
    folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    return lambda: FileStore(folders.mktemp("store") / "acme")


def encrypted(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Return a maker of encrypted stores in a folder each, with keys of their own."""
    folders: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")

    def make() -> Store:
        root = folders.mktemp("encrypted")
        return EncryptedStore(root / "acme", Tenant("acme"), Envelopes(root / "keys"))

    return make


def memory(_: pytest.FixtureRequest) -> Callable[[], Store]:
    """Return a maker of stores in a dictionary each."""
    return MemoryStore


def s3(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Return a maker of stores in a bucket each."""
    server: Server = request.getfixturevalue("s3_server")

    def make() -> Store:
        bucket = server.bucket(f"acme-{secrets.token_hex(8)}")
        return S3Store(bucket, endpoint=server.endpoint)

    return make


def s3_old(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Return a maker of stores in one bucket whose deletions mind no condition."""
    server: Server = request.getfixturevalue("s3_server")
    bucket = server.bucket(f"old-{secrets.token_hex(8)}")

    def make() -> Store:
        prefix = f"tenants of/{secrets.token_hex(8)}/"
        return S3Store(bucket, prefix=prefix, endpoint=server.endpoint)

    return make


def gcs(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Return a maker of stores with a prefix each, in one bucket of Google's."""
    service: gcs_server.Service = request.getfixturevalue("gcs_service")
    bucket = service.bucket(f"acme-{secrets.token_hex(8)}")

    def make() -> Store:
        prefix = f"tenants of/{secrets.token_hex(8)}/"
        return GcsStore(bucket, prefix=prefix, endpoint=service.endpoint)

    return make


MAKERS: Final = {
    "encrypted": encrypted,
    "file": file,
    "gcs": gcs,
    "memory": memory,
    "s3": s3,
    "s3-old": s3_old,
}


@pytest.fixture(scope="session", params=MAKERS)
def new_store(request: pytest.FixtureRequest) -> Callable[[], Store]:
    """Return a maker of empty stores of one kind."""
    return MAKERS[request.param](request)


@pytest.fixture
def store(new_store: Callable[[], Store]) -> Store:
    """Return an empty store."""
    return new_store()
