"""Keys: made once, kept safe, verified for ever."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from functions.keys import FILES_MAX, FileKeys, MemoryKeys, events_key
from functions.problems import Failed, Gone

if TYPE_CHECKING:
    from pathlib import Path

NAME = events_key("acme")
CREATE = """
import sys
from pathlib import Path
from functions.keys import FileKeys
keys = FileKeys(Path(sys.argv[1]))
sys.stdin.readline()
print(*(keys.create(f"events/t{number}").kid for number in range(20)))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def keys(root: Path) -> FileKeys:
    return FileKeys(root)


def test_a_destroyed_key_signs_no_more_and_is_never_made_anew(
    keys: FileKeys, root: Path
) -> None:
    """What it signed still verifies."""
    signer = keys.create(NAME)
    signature = signer.sign(b"data")
    keys.destroy(NAME)
    keys.destroy(NAME)
    for who in (keys, FileKeys(root)):
        with pytest.raises(Failed):
            who.signer(NAME)
        with pytest.raises(Gone):
            who.create(NAME)
        assert who.verifiers(NAME)[signer.kid].verify(signature, b"data")
    assert not (root / f"{NAME}.key").exists()


def test_a_created_key_signs_and_verifies(keys: FileKeys) -> None:
    """What the one half signs, the other verifies, and nothing else."""
    signer = keys.create(NAME)
    verifier = keys.verifiers(NAME)[signer.kid]
    signature = signer.sign(b"data")
    assert verifier.verify(signature, b"data")
    assert not verifier.verify(signature, b"date")
    assert not verifier.verify(b"", b"data")
    assert not verifier.verify(b"x" * 64, b"data")
    assert len(signature) == 64
    assert len(signer.public_bytes()) == 32


def test_creating_again_is_finding(keys: FileKeys, root: Path) -> None:
    """A restart signs with the same key, and so does another reader."""
    first = keys.create(NAME)
    assert keys.create(NAME).kid == first.kid
    assert FileKeys(root).signer(NAME).kid == first.kid
    assert len(keys.verifiers(NAME)) == 1


def test_each_name_has_its_own_key(keys: FileKeys) -> None:
    """A tenant's signature is not another's."""
    assert keys.create("events/acme").kid != keys.create("events/globex").kid
    assert keys.create("audit").kid not in keys.verifiers("events/acme")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_may_read_a_private_key(
    keys: FileKeys, root: Path, umask: int
) -> None:
    """Whatever the umask; the public half is public, where one may look."""
    before = os.umask(umask)
    try:
        keys.create(NAME)
    finally:
        os.umask(before)
    assert (root / "events/acme.key").stat().st_mode & 0o177 == 0
    assert root.stat().st_mode & 0o077 == 0
    assert (root / "events").stat().st_mode & 0o077 == 0
    assert (root / "events/acme.pub").stat().st_mode & 0o022 == 0


def test_after_a_rotation_old_signatures_still_verify(
    keys: FileKeys, root: Path
) -> None:
    """A verifier keeps every key the name has had, the newest last."""
    old = keys.create(NAME)
    (root / "events/acme.key").unlink()
    new = keys.create(NAME)
    assert new.kid != old.kid
    verifiers = keys.verifiers(NAME)
    assert list(verifiers) == [old.kid, new.kid]
    assert verifiers[old.kid].verify(old.sign(b"x"), b"x")


def test_a_last_line_without_an_end_does_not_spoil_the_next(
    keys: FileKeys, root: Path
) -> None:
    """Somebody has edited the file by hand."""
    old = keys.create(NAME)
    public = root / "events/acme.pub"
    public.write_bytes(public.read_bytes().strip())
    (root / "events/acme.key").unlink()
    assert list(keys.verifiers(NAME)) == [old.kid]
    new = keys.create(NAME)
    assert list(keys.verifiers(NAME)) == [old.kid, new.kid]


def test_whoever_only_verifies_needs_no_private_key(
    keys: FileKeys, root: Path, tmp_path: Path
) -> None:
    """The `.pub` file alone, somewhere else."""
    signer = keys.create("audit")
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere/audit.pub"
    copy.write_bytes((root / "audit.pub").read_bytes())
    verifier = FileKeys(copy.parent)
    assert verifier.verifiers("audit")[signer.kid].verify(signer.sign(b"x"), b"x")
    with pytest.raises(Failed):
        verifier.signer("audit")


def test_a_name_without_keys_has_no_verifiers(keys: FileKeys, root: Path) -> None:
    """Nothing it signs is believed, and asking makes nothing."""
    assert keys.verifiers("events/nobody") == {}
    with pytest.raises(Failed):
        keys.signer("events/nobody")
    assert not root.exists()


@pytest.mark.parametrize(
    "name",
    ["", "..", "../audit", "a/../b", "a/b/c", "/etc/passwd", "A", "a.key", "a\n", "é"],
)
def test_a_hostile_name_leads_nowhere(keys: FileKeys, name: str) -> None:
    """A name is one or two plain parts of a path."""
    for use in (keys.signer, keys.verifiers, keys.create):
        with pytest.raises(Failed):
            use(name)


def _pem(*, encrypted: bool) -> bytes:
    protection = BestAvailableEncryption(b"x") if encrypted else NoEncryption()
    private = generate_private_key(SECP256R1())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"\xff" * 100,
        _pem(encrypted=False),
        _pem(encrypted=True),
    ],
    ids=["empty", "garbage", "broken", "bytes", "another kind", "encrypted"],
)
def test_a_corrupt_private_key_is_a_failure_of_ours(
    keys: FileKeys, root: Path, content: bytes
) -> None:
    """It is neither used nor silently replaced, and no word of it is shown."""
    keys.create(NAME)
    (root / "events/acme.key").write_bytes(content)
    for use in (keys.signer, keys.create):
        with pytest.raises(Failed) as caught:
            use(NAME)
        assert caught.value.detail == ""
    assert (root / "events/acme.key").read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"garbage\n",
        b"\xff\xfe\n",
        base64.b64encode(b"x" * 31) + b"\n",
        base64.b64encode(b"x" * 32)[:-3] + b"\n",
        b"!" + base64.b64encode(b"x" * 32) + b"\n",
    ],
    ids=["garbage", "bytes", "short", "torn", "noise"],
)
def test_a_corrupt_public_key_is_a_failure_of_ours(
    keys: FileKeys, root: Path, content: bytes
) -> None:
    """Were it skipped, good events would be refused for good."""
    keys.create(NAME)
    with (root / "events/acme.pub").open("ab") as file:
        file.write(content)
    with pytest.raises(Failed):
        keys.verifiers(NAME)


def test_a_public_key_that_cannot_be_read_is_a_failure_of_ours(
    keys: FileKeys, root: Path
) -> None:
    """It is not the same as one that is not there."""
    (root / "audit.pub").mkdir(parents=True)
    with pytest.raises(Failed):
        keys.verifiers("audit")


def test_two_processes_that_create_at_once_get_the_same_keys(
    keys: FileKeys, root: Path
) -> None:
    """And each key has one public half, not one of somebody who lost."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    told = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert told[0] == told[1] == told[2]
    for number, kid in enumerate(told[0]):
        assert list(keys.verifiers(f"events/t{number}")) == [kid]


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_threads_that_ask_at_once_get_the_same_key(kind: str, root: Path) -> None:
    """What one of them signs, all of them verify."""
    file, memory = FileKeys(root), MemoryKeys()
    start = threading.Barrier(8)

    def ask(_: int) -> str:
        start.wait()
        return (file.create(NAME) if kind == "file" else memory.signer(NAME)).kid

    with ThreadPoolExecutor(8) as threads:
        kids = set(threads.map(ask, range(8)))
    verifiers = file.verifiers(NAME) if kind == "file" else memory.verifiers(NAME)
    assert kids == set(verifiers)
    assert len(kids) == 1


def test_a_crash_between_the_halves_leaves_a_verifier_too_many(
    keys: FileKeys, root: Path
) -> None:
    """Never a signer whose signatures nobody can verify."""
    lost = keys.create(NAME)
    (root / "events/acme.key").unlink()  # as if it had never been written
    signer = FileKeys(root).create(NAME)
    assert set(keys.verifiers(NAME)) == {lost.kid, signer.kid}


def test_nothing_but_keys_is_left_in_the_folder(keys: FileKeys, root: Path) -> None:
    """No half-written file, whose name somebody might take for a key's."""
    keys.create("audit")
    names = sorted(path.name for path in root.iterdir())
    assert names == [".lock", "audit.key", "audit.pub", "audit.secret"]


def test_a_secret_is_made_once_and_stays(keys: FileKeys, root: Path) -> None:
    """What is derived from it finds and opens what is years old."""
    keys.create("audit")
    secret = keys.secret("audit")
    assert len(secret) == 32
    keys.create("audit")
    (root / "audit.key").unlink()
    FileKeys(root).create("audit")  # the pair is another one now
    assert FileKeys(root).secret("audit") == secret
    assert (root / "audit.secret").stat().st_mode & 0o777 == 0o600


def test_keys_from_before_there_were_secrets_get_one(
    keys: FileKeys, root: Path
) -> None:
    """The pair stays what it is."""
    signer = keys.create("audit")
    (root / "audit.secret").unlink()
    assert keys.create("audit").kid == signer.kid
    assert len(keys.secret("audit")) == 32


def test_only_what_needs_a_secret_has_one(keys: FileKeys) -> None:
    """A tenant's key signs, and nothing is derived from it."""
    keys.create(NAME)
    with pytest.raises(Failed):
        keys.secret(NAME)


@pytest.mark.parametrize("data", [b"", b"not base64", b"c2hvcnQ=", b"\xff\xfe", None])
def test_a_broken_secret_is_named_and_not_shown(
    keys: FileKeys, root: Path, data: bytes | None
) -> None:
    """The log of the function may go anywhere."""
    keys.create("audit")
    path = root / "audit.secret"
    path.unlink() if data is None else path.write_bytes(data)
    with pytest.raises(Failed, match="audit") as fault:
        keys.secret("audit")
    assert not data or repr(data)[2:-1] not in str(fault.value)


def test_memory_keys_keep_each_name_its_secret() -> None:
    """The same for the same name, another for another."""
    keys = MemoryKeys()
    assert keys.secret("audit") == keys.secret("audit") != keys.secret("other")
    assert len(keys.secret("audit")) == 32


def test_a_file_is_read_again_only_when_it_has_changed(
    keys: FileKeys, root: Path
) -> None:
    """A rotation by another process counts at once, and costs nothing otherwise."""
    keys.create(NAME)
    first, known = keys.signer(NAME), keys.verifiers(NAME)
    assert keys.signer(NAME) is first
    assert keys.verifiers(NAME) is known
    rotated = FileKeys(root).rotate(NAME)
    assert keys.signer(NAME).kid == rotated.kid
    assert set(keys.verifiers(NAME)) == {first.kid, rotated.kid}
    (root / f"{NAME}.pub").unlink()
    assert keys.verifiers(NAME) == {}


def test_no_more_files_are_remembered_than_the_limit(
    keys: FileKeys, root: Path
) -> None:
    """Tenants come and go; memory does not grow with them."""
    keys.create(NAME)
    data = (root / f"{NAME}.pub").read_bytes()
    for number in range(FILES_MAX + 2):
        path = root / "events" / f"t{number}.pub"
        path.write_bytes(data)
        assert len(keys.verifiers(f"events/t{number}")) == 1
    assert len(keys._read) <= FILES_MAX
