"""From a URL to a store, and from a bucket to its tenant."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.problems import NotFound, UnknownTenant
from functions.settings import Settings, SettingsError
from functions.storage import Stores, open_store
from functions.storage.file import FileStore
from functions.storage.memory import MemoryStore
from functions.tenant import Key, Tenant

if TYPE_CHECKING:
    from pathlib import Path

    from functions.storage import Store

ACME, GLOBEX = Tenant("acme"), Tenant("globex")
A = Key("uploads/a.jpg")
TEMPLATES = (
    "file:///srv/{tenant}",
    "file:///srv/guise-{tenant}-eu/",
    "gs://guise-{tenant}-eu/some/prefix",
    "s3://{tenant}?endpoint=http://minio:9000",
)
BUCKETS = ("acme", "guise-acme-eu", "guise-acme-eu", "acme")


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    """An absolute path, percent-escapes undone."""
    store = open_store(f"file://{tmp_path}/my%20bucket")
    store.put(A, b"one")
    assert isinstance(store, FileStore)
    assert (tmp_path / "my bucket" / A).read_bytes() == b"one"


def test_memory_is_a_store_each_time_anew() -> None:
    """For tests and a laptop."""
    assert isinstance(open_store("memory:"), MemoryStore)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/acme",
        "file:srv/acme",
        "file://host/srv/acme",
        "file:///srv/a%00b",
        "file:///srv/%ff",
        "ftp://acme",
        "http://[",
        "s3://[acme",
    ],
)
def test_another_url_is_a_fault_of_the_settings(url: str) -> None:
    """It is named as such, not met as a crash at the first request."""
    with pytest.raises(SettingsError, match="GUISE_STORE"):
        open_store(url)


def test_each_tenant_of_a_template_has_its_own_store(tmp_path: Path) -> None:
    """What one writes, another cannot name."""
    stores = Stores(f"file://{tmp_path}/{{tenant}}")
    stores.of(ACME).put(A, b"one")
    assert (tmp_path / "acme" / A).read_bytes() == b"one"
    with pytest.raises(NotFound):
        stores.of(GLOBEX).get(A)


def test_a_tenant_nobody_knows_leaves_no_trace(tmp_path: Path) -> None:
    """Whoever forges events makes no folders with them."""
    stores = Stores(f"file://{tmp_path}/{{tenant}}")
    with pytest.raises(NotFound):
        stores.of(stores.owner("nobody")).get(Key("requests/j.json"))
    assert list(tmp_path.iterdir()) == []


def test_a_tenants_store_is_opened_once_however_many_ask() -> None:
    """Two stores in memory would be two truths."""
    start = threading.Barrier(8)
    opened: list[str] = []

    def opener(url: str) -> Store:
        opened.append(url)
        return MemoryStore()

    stores = Stores("memory:{tenant}", opener=opener)

    def ask(_: int) -> Store:
        start.wait()
        return stores.of(ACME)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert opened == ["memory:acme"]
    assert all(each is found[0] for each in found)


def test_a_pinned_function_serves_one_tenant() -> None:
    """Every other is unknown, and so is every other bucket."""
    stores = Stores("memory:acme-data", pinned=ACME)
    assert stores.of(ACME) is stores.of(ACME)
    assert stores.owner("acme-data") == ACME
    with pytest.raises(UnknownTenant):
        stores.of(GLOBEX)
    with pytest.raises(UnknownTenant):
        stores.owner("globex-data")


def test_a_pinned_function_may_have_a_template() -> None:
    """The same setting serves pooled and pinned."""
    stores = Stores("gs://guise-{tenant}", pinned=ACME)
    assert stores.owner("guise-acme") == ACME
    with pytest.raises(UnknownTenant):
        stores.owner("guise-globex")


def test_one_store_for_every_tenant_is_refused() -> None:
    """Without a pin and a place for the tenant, all would share it."""
    with pytest.raises(SettingsError, match="GUISE_TENANT"):
        Stores("file:///srv/all")


def test_the_settings_name_the_stores(tmp_path: Path) -> None:
    """`GUISE_STORE`, pinned by `GUISE_TENANT`."""
    environ = {"GUISE_STORE": f"file://{tmp_path}/acme", "GUISE_TENANT": "acme"}
    stores = Stores.from_settings(Settings.from_env(environ))
    stores.of(ACME).put(A, b"one")
    assert (tmp_path / "acme" / A).exists()
    with pytest.raises(UnknownTenant):
        stores.of(GLOBEX)


def test_no_settings_are_no_store() -> None:
    """The fault is told at the start."""
    with pytest.raises(SettingsError):
        Stores.from_settings(Settings())


@pytest.mark.parametrize(
    ("url", "bucket"),
    list(zip(TEMPLATES, BUCKETS, strict=True)),
)
def test_a_bucket_belongs_to_the_tenant_in_its_name(url: str, bucket: str) -> None:
    """The last folder of a file store, the host of the others."""
    assert Stores(url).owner(bucket) == ACME


def test_a_folder_with_a_space_is_a_bucket_as_it_is_called() -> None:
    """The URL escapes it, an event does not."""
    assert Stores("file:///srv/my%20{tenant}").owner("my acme") == ACME


@given(
    url=st.sampled_from(TEMPLATES),
    bucket=st.one_of(
        st.text(max_size=20),
        st.text("aceguis-m/.{}tn%", max_size=24),
        st.text(max_size=8).map(lambda text: f"guise-{text}-eu"),
    ),
)
def test_no_hostile_bucket_name_is_anybodys_but_its_own(url: str, bucket: str) -> None:
    """Whoever owns a bucket has exactly that bucket when asked the other way round."""
    try:
        tenant = Stores(url).owner(bucket)
    except UnknownTenant:
        return
    assert bucket in (tenant.id, f"guise-{tenant.id}-eu")


@pytest.mark.parametrize(
    "bucket",
    [
        "",
        "guise--eu",
        "guise-acme-eu/",
        "guise-acme-eu\n",
        "guise-acme-eu/../guise-globex-eu",
        "guise-ACME-eu",
        "GUISE-acme-eu",
        "guise-{tenant}-eu",
        "guise-acme",
        "acme-eu",
        "acme",
        "guise-eu",
        "-eu",
        "guise-",
        "xguise-acme-eu",
        "guise-acme-eux",
        "guise-%61cme-eu",
    ],
)
def test_a_bucket_of_another_shape_is_nobodys(bucket: str) -> None:
    """Near is not enough."""
    with pytest.raises(UnknownTenant):
        Stores("gs://guise-{tenant}-eu").owner(bucket)


def test_a_bucket_all_tenants_share_tells_nothing() -> None:
    """A template may lie in a prefix; then an event's bucket names nobody."""
    for bucket in ("shared", "acme", "", "sharedacme"):
        with pytest.raises(UnknownTenant):
            Stores("gs://shared/{tenant}").owner(bucket)
