"""What earlier versions encrypted, this one opens.

`tests/golden/envelopes/v<n>/` holds a tenant's folder and ring of each format.  Once
released they never change, as a digest over them says: a version that cannot open them
cannot be released.  A new format gets a folder of its own, from
`python -m tests.storage.test_encrypted_golden v<n>`.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

from functions.envelopes import Envelopes
from functions.storage.encrypted import EncryptedStore
from functions.storage.envelope import FORMAT
from functions.tenant import Key, Tenant

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "envelopes"
ACME: Final = Tenant("acme")
DIGESTS: Final = {
    "v1": "bf3444390ec81c688ced8d47cf75ff3834fe5d3f44ff6079c378ab7c4f1fb0e5",
}
OBJECTS: Final[dict[str, bytes]] = {
    "consents/Zoë ☂.json": b'{"state": "given"}',
    "jobs/" + "k" * 64 + "/claim.json": b"",
    "uploads/" + "n" * 240: b"a long name",
    "uploads/a.jpg": bytes(range(256)) * 8,
}
"""The last is under the newest version of the key, the others under the first."""


def make(folder: Path) -> None:
    """Write the golden files of this version."""
    envelopes = Envelopes(folder / "keys")
    store = EncryptedStore(folder / "store", ACME, envelopes)
    *first, last = OBJECTS.items()
    for key, data in first:
        store.put(Key(key), data)
    envelopes.rotate(ACME)
    store.put(Key(last[0]), last[1])
    for path in (folder / "store/.locks", folder / "store/.tmp"):
        shutil.rmtree(path)
    (folder / "keys/acme/.lock").unlink()


def digest(folder: Path) -> str:
    """Return a SHA-256 over every file's name and bytes."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder)).encode()
        for part in (name, path.read_bytes()):
            total.update(hashlib.sha256(part).digest())
    return total.hexdigest()


@pytest.mark.parametrize("version", DIGESTS)
def test_the_golden_files_are_as_they_were_released(version: str) -> None:
    """Byte for byte."""
    assert digest(GOLDEN / version) == DIGESTS[version]


def test_every_format_has_golden_files() -> None:
    """The one that is written now is among them."""
    assert {path.name for path in GOLDEN.iterdir()} == set(DIGESTS)
    assert f"v{FORMAT}" in DIGESTS


@pytest.mark.parametrize("version", DIGESTS)
def test_what_every_version_encrypted_opens(version: str, tmp_path: Path) -> None:
    """Every object, and the listing; and its key is wrapped anew."""
    shutil.copytree(GOLDEN / version, tmp_path / "v")
    envelopes = Envelopes(tmp_path / "v/keys")
    store = EncryptedStore(tmp_path / "v/store", ACME, envelopes)
    listed = {str(info.key): info.size for info in store.list(Key("")).objects}
    assert listed == {key: len(data) for key, data in OBJECTS.items()}
    assert {key: store.get(Key(key)).data for key in OBJECTS} == OBJECTS
    newest = envelopes.rotate(ACME)
    assert store.rewrap().done == len(OBJECTS)
    store.retire(newest)
    assert {key: store.get(Key(key)).data for key in OBJECTS} == OBJECTS


if __name__ == "__main__":
    make(GOLDEN / sys.argv[1])
