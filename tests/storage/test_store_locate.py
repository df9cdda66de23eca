"""From a URL to a store, and from a bucket to its tenant."""

from __future__ import annotations

import subprocess
import sys
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
    "s3://shared/eu/{tenant}",
)


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
        stores.of(stores.locate("nobody", "")[0]).get(Key("requests/j.json"))
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
    assert stores.locate("acme-data", "a") == (ACME, "a")
    with pytest.raises(UnknownTenant):
        stores.of(GLOBEX)
    with pytest.raises(UnknownTenant):
        stores.locate("globex-data", "a")


def test_a_pinned_function_may_have_a_template() -> None:
    """The same setting serves pooled and pinned."""
    stores = Stores("gs://guise-{tenant}", pinned=ACME)
    assert stores.locate("guise-acme", "a") == (ACME, "a")
    with pytest.raises(UnknownTenant):
        stores.locate("guise-globex", "a")


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
    "url",
    [
        "s3://key:secret@acme",
        "s3://acme?endpoint=minio:9000",
        "s3://acme?endpoint=file:///etc",
        "s3://acme?access_key=x",
        "s3:///acme",
        "s3:acme",
        "s3://acme?endpoint",
    ],
)
def test_a_bucket_with_other_options_is_a_fault_of_the_settings(url: str) -> None:
    """An endpoint and a region; credentials come from elsewhere, and are not told."""
    with pytest.raises(SettingsError, match="GUISE_STORE") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_bucket_whose_client_is_not_installed_is_a_fault_of_the_settings() -> None:
    """It says what to install."""
    code = (
        "import sys; sys.modules['botocore'] = None; "
        "from functions.storage import open_store; open_store('s3://acme')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "SettingsError: GUISE_STORE: install guise[s3]" in done.stderr


def test_a_place_among_the_options_parts_nobody() -> None:
    """All tenants would share one bucket, each at an address of their own."""
    with pytest.raises(SettingsError, match="GUISE_TENANT"):
        Stores("s3://shared?endpoint=http://{tenant}:9000")


@pytest.mark.parametrize(
    ("url", "bucket", "before"),
    [
        ("file:///srv/{tenant}", "acme", ""),
        ("file:///srv/guise-{tenant}-eu/", "guise-acme-eu", ""),
        ("file:///srv/my%20{tenant}", "my acme", ""),
        ("gs://guise-{tenant}-eu/some/prefix", "guise-acme-eu", "some/prefix/"),
        ("s3://{tenant}?endpoint=http://minio:9000", "acme", ""),
        ("s3://shared/{tenant}", "shared", "acme/"),
        ("s3://shared/eu/t-{tenant}-x/data/", "shared", "eu/t-acme-x/data/"),
        ("s3://g-{tenant}/of/{tenant}", "g-acme", "of/acme/"),
        ("s3://shared/with%20space/{tenant}", "shared", "with space/acme/"),
    ],
)
def test_an_object_belongs_to_the_tenant_it_lies_with(
    url: str, bucket: str, before: str
) -> None:
    """By the bucket's name, or by what its own begins with, which is cut off."""
    for name in ("requests/j.json", "a", ""):
        assert Stores(url).locate(bucket, before + name) == (ACME, name)
        assert Stores(url, pinned=ACME).locate(bucket, before + name) == (ACME, name)


@given(
    url=st.sampled_from(TEMPLATES),
    bucket=st.one_of(
        st.text(max_size=20),
        st.text("aceguis-m/.{}tn%", max_size=24),
        st.text(max_size=8).map(lambda text: f"guise-{text}-eu"),
    ),
    name=st.one_of(
        st.text("aceguis-m/.{}tn%", max_size=24),
        st.text(max_size=8).map(lambda text: f"some/prefix/{text}"),
        st.text(max_size=8).map(lambda text: f"{text}/requests/j.json"),
    ),
)
def test_no_hostile_name_is_anybodys_but_its_own(
    url: str, bucket: str, name: str
) -> None:
    """Whose it is, their store has it under exactly that name."""
    try:
        tenant, inner = Stores(url).locate(bucket, name)
    except UnknownTenant:
        return
    before = {
        "acme": "",
        f"guise-{tenant.id}-eu": "some/prefix/" if url.startswith("gs:") else "",
        tenant.id: "",
        "shared": f"eu/{tenant.id}/",
    }
    assert name == before[bucket] + inner


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
        Stores("gs://guise-{tenant}-eu").locate(bucket, "requests/j.json")


@pytest.mark.parametrize(
    ("bucket", "name"),
    [
        ("shared", "requests/j.json"),
        ("shared", "eu/acme"),
        ("shared", "eu//requests/j.json"),
        ("shared", "eu/ACME/requests/j.json"),
        ("shared", "eu/{tenant}/requests/j.json"),
        ("shared", "eu/../globex/requests/j.json"),
        ("shared", "/eu/acme/requests/j.json"),
        ("shared", "us/acme/requests/j.json"),
        ("shared", "acme/requests/j.json"),
        ("shared", ""),
        ("acme", "eu/acme/requests/j.json"),
        ("sharedacme", "eu/acme/requests/j.json"),
        ("", "eu/acme/requests/j.json"),
    ],
)
def test_an_object_beside_the_prefixes_is_nobodys(bucket: str, name: str) -> None:
    """In a bucket that all tenants share, the name tells, and near is not enough."""
    with pytest.raises(UnknownTenant):
        Stores("s3://shared/eu/{tenant}").locate(bucket, name)


def test_a_neighbours_object_is_not_a_pinned_functions() -> None:
    """Though it lies in the same bucket, and its name begins alike."""
    stores = Stores("s3://shared/acme", pinned=ACME)
    for name in ("globex/requests/j.json", "acme-2/requests/j.json", "acme"):
        with pytest.raises(UnknownTenant):
            stores.locate("shared", name)


def test_two_places_must_name_the_same_tenant() -> None:
    """A bucket of one with a prefix of another is nobody's."""
    stores = Stores("s3://g-{tenant}/of/{tenant}")
    with pytest.raises(UnknownTenant):
        stores.locate("g-acme", "of/globex/requests/j.json")


def test_a_store_whose_last_folder_all_share_tells_nothing() -> None:
    """A folder's events name no more than it."""
    with pytest.raises(UnknownTenant):
        Stores("file:///srv/{tenant}/data").locate("data", "requests/j.json")
