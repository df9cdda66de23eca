"""A tenant's ring of keys: made once, rotated, destroyed for good."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from functions.envelopes import Envelopes, KeyMissing, Unguarded, open_envelopes
from functions.envelopes.gcpkms import GcpKms
from functions.envelopes.ring import CACHED_SECONDS, TOMBSTONE
from functions.keys import destroy_file
from functions.problems import Failed, Gone
from functions.settings import SettingsError
from functions.tenant import Tenant
from tests.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ACME, GLOBEX = Tenant("acme"), Tenant("globex")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "envelopes"


@pytest.fixture
def envelopes(folder: Path) -> Envelopes:
    return Envelopes(folder)


class Counting(Unguarded):
    """Counts how often it is asked for a key."""

    def __init__(self) -> None:
        self.asked = 0

    def unwrap(self, tenant: Tenant, name: str, wrapped: bytes) -> bytes:
        self.asked += 1
        return super().unwrap(tenant, name, wrapped)


def test_a_ring_is_made_once_and_is_the_owners_alone(
    envelopes: Envelopes, folder: Path
) -> None:
    """Whoever comes second finds the first one's."""
    envelopes.make(ACME)
    names, key = envelopes.names(ACME), envelopes.key(ACME, 1)
    envelopes.make(ACME)
    assert (envelopes.names(ACME), envelopes.key(ACME, 1)) == (names, key)
    assert (len(names), len(key)) == (64, 32)
    assert envelopes.versions(ACME) == [1]
    for path in (folder / "acme").glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "acme").stat().st_mode) == 0o700


def test_of_many_who_make_a_ring_all_have_the_same(envelopes: Envelopes) -> None:
    """Threads here; processes take the same lock."""
    start = threading.Barrier(8)

    def make(_: int) -> bytes:
        start.wait()
        envelopes.make(ACME)
        return envelopes.names(ACME)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(make, range(8)))) == 1


def test_a_making_that_was_cut_off_is_finished(
    envelopes: Envelopes, folder: Path
) -> None:
    """A ring without a version is none yet; the names' key that is there stays."""
    envelopes.make(ACME)
    names = envelopes.names(ACME)
    (folder / "acme/1.key").unlink()
    assert envelopes.versions(ACME) == []
    envelopes.make(ACME)
    assert envelopes.names(ACME) == names
    assert envelopes.versions(ACME) == [1]


def test_every_tenant_has_a_ring_of_its_own(envelopes: Envelopes) -> None:
    """No key of one is one of another."""
    for tenant in (ACME, GLOBEX):
        envelopes.make(tenant)
    assert envelopes.names(ACME) != envelopes.names(GLOBEX)
    assert envelopes.key(ACME, 1) != envelopes.key(GLOBEX, 1)


def test_where_no_ring_was_made_there_is_no_key(
    envelopes: Envelopes, folder: Path
) -> None:
    """And asking makes none."""
    for ask in (
        lambda: envelopes.names(ACME),
        lambda: envelopes.key(ACME, 1),
        lambda: envelopes.rotate(ACME),
        lambda: envelopes.writing(ACME).__enter__(),
    ):
        with pytest.raises(KeyMissing) as caught:
            ask()
        assert caught.value.slug == "failed"
    assert not folder.exists()


def test_a_rotated_ring_wraps_under_the_newest(envelopes: Envelopes) -> None:
    """And still opens what the older one wrapped."""
    envelopes.make(ACME)
    first = envelopes.key(ACME, 1)
    assert envelopes.rotate(ACME) == 2
    with envelopes.writing(ACME) as kek:
        assert (kek.version, kek.key) == (2, envelopes.key(ACME, 2))
    assert kek.key != first == envelopes.key(ACME, 1)


def test_ten_versions_are_in_the_order_of_their_numbers(envelopes: Envelopes) -> None:
    """Ten comes after nine."""
    envelopes.make(ACME)
    for _ in range(9):
        envelopes.rotate(ACME)
    assert envelopes.versions(ACME) == list(range(1, 11))


def test_a_retired_version_is_gone_and_the_newest_cannot_be(
    envelopes: Envelopes, folder: Path
) -> None:
    """Whoever remembers it opens nothing with it either."""
    envelopes.make(ACME)
    envelopes.rotate(ACME)
    envelopes.key(ACME, 1)
    envelopes.retire(ACME, 1)
    envelopes.retire(ACME, 1)  # what a crash left is done again
    with pytest.raises(KeyMissing):
        envelopes.key(ACME, 1)
    with pytest.raises(ValueError, match="newest"):
        envelopes.retire(ACME, 2)
    assert not (folder / "acme/1.key").exists()


def test_a_shredded_ring_is_never_made_anew(envelopes: Envelopes, folder: Path) -> None:
    """By nobody: a tombstone stays, and it is all that stays."""
    envelopes.make(ACME)
    envelopes.rotate(ACME)
    (folder / "acme/.0123456789abcdef").write_bytes(b"half a write")
    assert envelopes.shred(ACME) == 4
    assert envelopes.is_shredded(ACME)
    left = {path.name for path in (folder / "acme").iterdir()}
    assert left == {TOMBSTONE, ".lock"}
    asks: tuple[Callable[[Envelopes], object], ...] = (
        lambda ring: ring.make(ACME),
        lambda ring: ring.names(ACME),
        lambda ring: ring.key(ACME, 1),
        lambda ring: ring.rotate(ACME),
        lambda ring: ring.writing(ACME).__enter__(),
    )
    for ring in (envelopes, Envelopes(folder)):
        for ask in asks:
            with pytest.raises(Gone):
                ask(ring)
    assert envelopes.shred(ACME) == 0


def test_a_shredding_that_was_cut_off_is_finished(
    envelopes: Envelopes, folder: Path
) -> None:
    """The tombstone came first: from then on nothing is written under the ring."""
    envelopes.make(ACME)
    (folder / "acme" / TOMBSTONE).write_bytes(b"")
    with pytest.raises(Gone):
        envelopes.writing(ACME).__enter__()
    assert envelopes.shred(ACME) == 2


def test_to_shred_one_tenant_leaves_another_alone(envelopes: Envelopes) -> None:
    """And one that never had a ring gets none."""
    envelopes.make(GLOBEX)
    key = envelopes.key(GLOBEX, 1)
    envelopes.shred(ACME)
    assert envelopes.key(GLOBEX, 1) == key
    with pytest.raises(Gone):
        envelopes.make(ACME)


def test_a_destroyed_file_was_written_over(tmp_path: Path) -> None:
    """Whoever holds it open sees noise of the same length."""
    path = tmp_path / "secret"
    path.write_bytes(b"s" * 45)
    with path.open("rb") as held:
        destroy_file(path)
        assert not path.exists()
        found = held.read()
    assert len(found) == 45
    assert b"ss" not in found
    destroy_file(path)


def test_a_key_is_remembered_for_a_bounded_time(folder: Path) -> None:
    """Then its guard is asked again: what was revoked there counts here."""
    now = [0.0]
    guard = Counting()
    envelopes = Envelopes(folder, guard, clock=lambda: now[0])
    envelopes.make(ACME)
    for _ in range(3):
        envelopes.key(ACME, 1)
    assert guard.asked == 1
    now[0] = CACHED_SECONDS + 1
    envelopes.key(ACME, 1)
    assert guard.asked == 2


def test_only_so_many_keys_are_remembered(folder: Path) -> None:
    """A pooled function may serve any number of tenants."""
    envelopes = Envelopes(folder)
    envelopes.make(ACME)
    for number in range(4_100):
        ring = folder / f"t{number}"
        ring.mkdir()
        (ring / "1.key").write_bytes(base64.b64encode(bytes(32)))
        envelopes.key(Tenant(f"t{number}"), 1)
    assert len(envelopes._cached) <= 4_096


@pytest.mark.parametrize("text", [b"", b"AAAA", b"not base64!", b"\xff" * 44])
def test_a_file_that_is_no_key_is_our_failure(
    envelopes: Envelopes, folder: Path, text: bytes
) -> None:
    """And what was in it is not told."""
    envelopes.make(ACME)
    (folder / "acme/1.key").write_bytes(text)
    with pytest.raises(Failed) as caught:
        envelopes.key(ACME, 1)
    assert "AAAA" not in str(caught.value)


def test_a_folder_that_cannot_be_read_is_our_failure(
    envelopes: Envelopes, folder: Path
) -> None:
    """It is not a tenant without keys."""
    folder.mkdir()
    (folder / "acme").write_bytes(b"no folder")
    with pytest.raises(Failed) as caught:
        envelopes.versions(ACME)
    assert not isinstance(caught.value, KeyMissing)


def test_a_version_that_is_retired_under_a_writers_hand_is_not_used(
    envelopes: Envelopes, folder: Path
) -> None:
    """Between its look and its lock; it takes the newest then."""
    envelopes.make(ACME)
    held = (folder / "acme/1.key").open("rb")
    envelopes.rotate(ACME)
    envelopes.retire(ACME, 1)
    held.close()
    with envelopes._holding(ACME, 1, 1) as there:
        assert not there
    with envelopes.writing(ACME) as kek:
        assert kek.version == 2


def test_a_version_that_somebody_writes_under_is_not_destroyed(
    envelopes: Envelopes, folder: Path
) -> None:
    """Also where the rotation that would have waited for the writer was cut off."""
    envelopes.make(ACME)
    first, second = folder / "acme/1.key", folder / "acme/2.key"
    with ExitStack() as writer:
        kek = writer.enter_context(envelopes.writing(ACME))
        second.write_bytes(first.read_bytes())  # all that such a rotation did
        with waiting(lambda: Envelopes(folder).retire(ACME, 1), first) as retiring:
            assert retiring.is_alive()
            assert (kek.version, envelopes.key(ACME, 1)) == (1, kek.key)
            writer.close()
    assert not first.exists()


def test_a_writer_that_looked_too_early_looks_again(folder: Path) -> None:
    """Between its look and its lock there came a new version."""

    class Early(Envelopes):
        looks = 0

        def versions(self, tenant: Tenant) -> list[int]:
            self.looks += 1
            found = super().versions(tenant)
            return found[:1] if self.looks == 1 else found

    envelopes = Envelopes(folder)
    envelopes.make(ACME)
    envelopes.rotate(ACME)
    with Early(folder).writing(ACME) as kek:
        assert kek.version == 2


@pytest.mark.parametrize(
    "url",
    [
        "keys",
        "https://kms",
        "gcpkms://projects/p",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k?ring=/r",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/{tenant}",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/{tenant}?ring=r",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/{tenant}?ring=/r&x=y",
    ],
)
def test_a_url_that_names_no_keys_is_a_fault_of_the_settings(url: str) -> None:
    """One key for every tenant among them: to shred one would shred all."""
    with pytest.raises(SettingsError, match="GUISE_ENVELOPES"):
        open_envelopes(url)


def test_a_pinned_function_may_name_its_tenants_key(tmp_path: Path) -> None:
    """It has but one."""
    name = "projects/p/locations/l/keyRings/r/cryptoKeys/customers"
    guarded = open_envelopes(f"gcpkms://{name}?ring={tmp_path}", pinned=ACME)
    assert isinstance(guarded._guard, GcpKms)
    assert isinstance(open_envelopes(str(tmp_path))._guard, Unguarded)


def test_without_googles_client_it_is_said_what_to_install() -> None:
    """Not at the first request."""
    code = (
        "import sys; sys.modules['google.auth'] = None; "
        "from functions.envelopes import open_envelopes; open_envelopes("
        "'gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/{tenant}?ring=/r')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "install guise[gcs]" in done.stderr


def test_keys_cost_a_door_nothing_until_they_are_needed() -> None:
    """Neither cryptography nor tink, nor Google's client."""
    code = (
        "import sys; from functions.envelopes import open_envelopes; "
        "from functions.storage.encrypted import EncryptedStore; "
        "open_envelopes('/tmp/keys'); print(*sys.modules)"
    )
    found = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "functions.storage.encrypted" in found
    assert {"cryptography", "tink", "google", "requests"}.isdisjoint(found)


def test_what_is_held_is_dropped_in_time_by_itself(folder: Path) -> None:
    """Also where nobody asks for it again."""
    envelopes = Envelopes(folder, cached_seconds=0.2)
    envelopes.make(ACME)
    key = envelopes.key(ACME, 1)
    assert envelopes.drop() is not None
    deadline = time.monotonic() + 10
    while envelopes._cached:  # what is in memory is the rule
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert envelopes.key(ACME, 1) == key


def test_a_ring_that_another_process_shredded_is_held_no_more(folder: Path) -> None:
    """Once that is seen, not only once its time is over."""
    envelopes = Envelopes(folder)
    envelopes.make(ACME)
    envelopes.key(ACME, 1)
    envelopes.names(ACME)
    Envelopes(folder).shred(ACME)
    with pytest.raises(Gone):
        envelopes.key(ACME, 1)
    assert not envelopes._cached  # as above
