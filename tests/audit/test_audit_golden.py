"""What earlier versions wrote, this one reads and verifies.

`tests/golden/audit/v<n>/` holds the files of each version of logs and bundles.  Once
released they never change: a version that cannot read them cannot be released.  A
new version gets a folder of its own, from `python -m tests.audit.golden v<n>`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from functions.audit.bundle import verify_entries
from functions.audit.checking import verify_bundle, verify_proof
from functions.audit.tiles import NoteVerifier, parse_bundle
from functions.keys import events_key
from tests.audit.bundles import files
from tests.audit.golden import GOLDEN, KEYS, make, verifiers

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = sorted(GOLDEN.glob("v*"))
ROOT = "13c623372d4e8f20ae4cd420fb68e3600d0ceb547ef31939bf523f6893ea88c9"


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def version(request: pytest.FixtureRequest) -> Path:
    """Return the folder of one version."""
    folder: Path = request.param
    return folder


@pytest.fixture
def keys(version: Path) -> list[NoteVerifier]:
    """Return the keys that the version's logs are signed with."""
    lines = (version / "log.keys").read_text().split()
    return [NoteVerifier.parse(each) for each in lines]


def test_there_are_golden_files() -> None:
    """The first version's are there, and so the tests below are of something."""
    assert VERSIONS[0].name == "v1"


@pytest.mark.parametrize(
    ("name", "entries"),
    [("whole", [264]), ("period", [256]), ("job", [3]), ("restored", [264, 2])],
)
def test_bundles_of_every_version_verify(
    version: Path, keys: list[NoteVerifier], name: str, entries: list[int]
) -> None:
    """A whole log, a period, a job, and a log that was restored."""
    tenant_keys = KEYS.verifiers(events_key("acme"))
    path = version / f"{name}.zip"
    report = verify_bundle(path, keys, tenant_keys=tenant_keys)
    assert report.verified, report.fault
    assert [log.entries for log in report.logs] == entries
    assert report.warnings == []


def test_logs_of_every_version_verify(version: Path, keys: list[NoteVerifier]) -> None:
    """The tiles and the checkpoint by themselves, and the same as in the bundle."""
    log = version / "log"
    names = ("000", "001.p/8")
    leaves = [
        leaf
        for name in names
        for leaf in parse_bundle((log / "tile" / "entries" / name).read_bytes())
    ]
    found = verify_entries(leaves, (log / "checkpoint").read_text(), keys)
    assert found.size == 264
    for name, data in files(version / "whole.zip").items():
        assert (log / name).read_bytes() == data


def test_proofs_of_every_version_verify(
    version: Path, keys: list[NoteVerifier]
) -> None:
    """One file and one key."""
    text = (version / "entry.tlog-proof").read_text()
    checkpoint, index, said = verify_proof(text, keys)
    assert (checkpoint.size, index, said["data"]["job"]) == (264, 7, "job-0003")


def test_the_first_version_stays_what_it_is() -> None:
    """Golden files are added, and never changed."""
    digest = hashlib.sha256()
    for path in sorted(each for each in VERSIONS[0].rglob("*") if each.is_file()):
        digest.update(path.relative_to(VERSIONS[0]).as_posix().encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    assert digest.hexdigest() == ROOT


def test_a_new_version_is_made_and_none_overwritten(tmp_path: Path) -> None:
    """The maker works, gives the same entries again, and spares what is there."""
    make(tmp_path / "v2")
    report = verify_bundle(tmp_path / "v2" / "restored.zip", verifiers())
    assert report.verified, report.fault
    made = files(tmp_path / "v2" / "whole.zip")["tile/entries/000"]
    assert made == files(VERSIONS[0] / "whole.zip")["tile/entries/000"]
    with pytest.raises(FileExistsError):
        make(tmp_path / "v2")
