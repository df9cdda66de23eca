"""What is kept beside the log: only what opens signed commitments, and encrypted."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from functions import events
from functions.audit import private
from functions.audit.app import create_app
from functions.audit.sidecar import STARTED, Kept, TenantKeys
from functions.commitments import (
    SEALED,
    SIDECAR,
    Sidecar,
    seal_result,
    sidecar_of,
)
from functions.keys import FileKeys, MemoryKeys
from functions.problems import Failed
from functions.settings import Settings, SettingsError
from tests.audit.house import BOTH
from tests.audit.jobs import (
    CROWD,
    PHOTO,
    RESULT,
    Job,
    erase,
    found,
    private_rows,
    rows_of,
    sha256,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.audit.house import House

DATABASES = BOTH


def text_of(salt: str, images: list[Any]) -> str:
    return sidecar_of(salt, images).text()


def test_a_job_is_found_by_each_image_it_used(house: House) -> None:
    """Source, target, reference and result, each as what it was."""
    Job(house, "j-1", references=(b"ref",)).run()
    assert found(house, PHOTO) == [("j-1", "source")]
    assert found(house, CROWD) == [("j-1", "target")]
    assert found(house, b"ref") == [("j-1", "reference")]
    assert found(house, RESULT) == [("j-1", "result")]


def test_one_image_in_two_roles_is_found_in_both(house: House) -> None:
    """The same bytes under two keys are the same image."""
    Job(house, "j-1", target=PHOTO, references=(PHOTO, PHOTO)).run()
    roles = {role for _, role in found(house, PHOTO)}
    assert roles == {"source", "target", "reference"}


def test_eight_sources_and_sixty_four_references_are_taken(house: House) -> None:
    """By the door that `started` goes to, in one event."""
    images = tuple(f"reference {n}".encode() for n in range(72))
    job = Job(house, "j-1", references=images)
    assert job.send(job.started()).status_code == 200
    assert found(house, images[-1]) == [("j-1", "reference")]


def test_a_started_without_a_sidecar_is_recorded(house: House) -> None:
    """It came from an older function; nothing is indexed."""
    job = Job(house, "j-1")
    assert job.send(job.started(extensions={"traceparent": "x"})).status_code == 200
    assert private_rows(house) == []


SALT = "5a" * 32


@pytest.mark.parametrize(
    "text",
    [
        "not a sidecar",
        text_of(SALT, []),
        text_of(SALT, [("source", sha256(PHOTO))]),  # the target is left out
        text_of(SALT, [("source", sha256(PHOTO)), ("target", sha256(PHOTO))]),
        text_of(SALT, [("target", sha256(PHOTO)), ("source", sha256(CROWD))]),
        text_of("00" * 32, [("source", sha256(PHOTO)), ("target", sha256(CROWD))]),
        text_of(
            SALT,
            [
                ("source", sha256(PHOTO)),
                ("target", sha256(CROWD)),
                ("reference", sha256(b"of somebody else")),
            ],
        ),
    ],
)
def test_a_sidecar_that_does_not_open_what_is_signed(house: House, text: str) -> None:
    """400, and nothing is recorded: neither a lie nor half of the truth."""
    job = Job(house, "j-1", salt=SALT)
    answer = job.send(job.started(extensions={SIDECAR: text}))
    assert answer.status_code == 400
    assert SALT.encode() not in answer.data
    assert house.entries() == []
    assert private_rows(house) == []


@pytest.mark.parametrize("data", [{}, {"job": ""}, {"job": 7}])
def test_a_sidecar_of_no_job(house: House, data: dict[str, Any]) -> None:
    """400: nobody could ever erase it."""
    sidecar = {SIDECAR: text_of(SALT, [])}
    answer = house.post(house.event(data=data, extensions=sidecar))
    assert answer.status_code == 400
    assert house.entries() == []


def test_nothing_in_the_tables_shows_salt_or_digest(house: House) -> None:
    """In no form that can be looked for without the secret."""
    job = Job(house, "j-1").run()
    secrets = [job.salt, *(digest for _, digest in job.used), sha256(RESULT)]
    forms = [form for each in secrets for form in (each.encode(), bytes.fromhex(each))]
    forms += [base64.b64encode(form) for form in forms]
    stored = [
        value if isinstance(value, bytes) else str(value).encode()
        for row in private_rows(house)
        for value in row
    ] + house.entries()
    assert len(stored) > 10
    assert not [form for form in forms if any(form in each for each in stored)]


def test_another_secret_opens_and_finds_nothing(house: House) -> None:
    """The database alone is no index of anybody's photos."""
    Job(house, "j-1").run()
    mine = TenantKeys.of(house.keys, "acme")
    others = TenantKeys.of(MemoryKeys(), "acme")
    with house.log.store.searching("acme") as db:
        kept = private.kept(db, "acme", ["j-1"])["j-1"]
        assert private.users(db, "acme", mine.mac(sha256(PHOTO)), "", 9)
        assert not private.users(db, "acme", others.mac(sha256(PHOTO)), "", 9)
    assert kept.started("j-1", mine)[1] is not None
    with pytest.raises(Failed):
        kept.started("j-1", others)


def test_no_row_passes_for_another_jobs_or_tenants(house: House) -> None:
    """Whoever may write the tables cannot pin one person's job on another's."""
    Job(house, "j-1").run()
    keys = TenantKeys.of(house.keys, "acme")
    with house.log.store.searching("acme") as db:
        kept = private.kept(db, "acme", ["j-1"])["j-1"]
    with pytest.raises(Failed):
        kept.started("j-2", keys)
    ended = Kept(kept.wrapped, {STARTED: kept.sidecars["ended"]})
    with pytest.raises(Failed):
        ended.started("j-1", keys)
    with pytest.raises(Failed):
        kept.started("j-1", TenantKeys.of(house.keys, "globex"))


def test_each_job_has_a_key_of_its_own(house: House) -> None:
    """What one erasure destroys opens no other job."""
    for name in ("j-1", "j-2"):
        Job(house, name).run()
    keys = TenantKeys.of(house.keys, "acme")
    with house.log.store.searching("acme") as db:
        kept = private.kept(db, "acme", ["j-1", "j-2"])
    assert kept["j-1"].started("j-1", keys)[0] != kept["j-2"].started("j-2", keys)[0]


def test_a_second_attempt_changes_nothing_that_is_kept(house: House) -> None:
    """The same salt, the same images: the first sidecar stays."""
    job = Job(house, "j-1").run()
    before = private_rows(house)
    assert job.send(job.started(2)).status_code == 200
    assert sorted(private_rows(house), key=repr) == sorted(before, key=repr)


def test_an_event_that_comes_again_writes_nothing(house: House) -> None:
    """Nor does it bring another sidecar in under a name that is taken."""
    job = Job(house, "j-1").run()
    before = private_rows(house)
    assert job.send(job.started()).status_code == 200
    assert job.send(job.completed()).status_code == 204
    assert sorted(private_rows(house), key=repr) == sorted(before, key=repr)
    assert len(house.entries()) == 2


def test_a_conflicting_event_brings_nothing_private(house: House) -> None:
    """What contradicts the record is recorded as that, and indexes nobody."""
    Job(house, "j-1").run()
    before = len(private_rows(house))
    other = Job(house, "j-1", source=b"somebody else", salt="11" * 32)
    assert other.send(other.started()).status_code == 400
    assert len(private_rows(house)) == before
    assert found(house, b"somebody else") == []


@pytest.mark.parametrize(
    "sealed",
    [
        "",
        "not sealed",
        seal_result("00" * 32, "j-1", sha256(RESULT)),
        seal_result(SALT, "j-2", sha256(RESULT)),
        seal_result(SALT, "j-1", sha256(b"another result")),
    ],
    ids=["none", "garbage", "another salt", "another job", "another result"],
)
def test_an_ending_is_recorded_whatever_comes_with_it(
    house: House, sealed: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It has happened; what does not open is not indexed, and the operator told."""
    job = Job(house, "j-1", salt=SALT)
    job.send(job.started())
    before = private_rows(house)
    with caplog.at_level(logging.WARNING):
        answer = job.send(job.completed(extensions={SEALED: sealed}))
    assert answer.status_code == 204
    assert len(house.entries()) == 2
    assert private_rows(house) == before
    assert ("is not indexed" in caplog.text) == bool(sealed)
    assert SALT not in caplog.text


def test_an_ending_of_a_job_without_a_sidecar_is_recorded(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing opens what is sealed, so nothing is indexed."""
    job = Job(house, "j-1")
    job.send(job.started(extensions={"traceparent": "x"}))
    assert job.send(job.completed()).status_code == 204
    assert private_rows(house) == []
    assert "no sidecar" in caplog.text


def test_an_ending_whose_sidecar_is_lost_is_recorded(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """A record key without a sidecar opens nothing."""
    job = Job(house, "j-1")
    job.send(job.started())
    house.tamper("DELETE FROM sidecar")
    assert job.send(job.completed()).status_code == 204
    assert "holds no salt" in caplog.text


def test_what_comes_after_the_erasure_is_not_kept(house: House) -> None:
    """A late ending, a worker's second attempt: entries, and nothing private."""
    job = Job(house, "j-1")
    job.send(job.started())
    late = job.completed()
    assert erase(house, "j-1").status_code == 200
    assert job.send(late).status_code == 204
    assert job.send(job.started(2)).status_code == 200
    assert rows_of(house, "j-1") == []
    assert found(house, PHOTO) == found(house, RESULT) == []
    assert len(house.entries()) == 4


def test_a_sidecar_is_no_part_of_the_leaf(house: House) -> None:
    """Whoever holds the signed event can compute the leaf, sidecar or not."""
    job = Job(house, "j-1")
    event = job.started()
    job.send(event)
    (leaf,) = house.entries()
    assert SIDECAR not in msgspec.json.decode(leaf)
    assert event.extensions[SIDECAR].encode() not in leaf


def test_a_sidecar_in_a_header_is_taken_too(house: House) -> None:
    """A broker may have turned structured mode into binary mode."""
    job = Job(house, "j-1")
    assert house.post(job.started()).status_code == 200
    assert found(house, PHOTO) == [("j-1", "source")]


def test_without_the_secret_nothing_is_served(tmp_path: Path) -> None:
    """It would refuse every job; the setting is named, and where to read on."""
    keys = FileKeys(tmp_path / "keys")
    keys.create("audit")
    (tmp_path / "keys/audit.secret").unlink()
    settings = Settings(
        database=f"sqlite:///{tmp_path}/audit.db",
        keys=tmp_path / "keys",
        jwks=tmp_path / "jwks.json",
        issuer="guise",
    )
    with pytest.raises(SettingsError, match=r"GUISE_KEYS: .*secret.*docs/audit\.md"):
        create_app(settings)


def test_the_sidecar_that_is_kept_is_the_one_that_came(house: House) -> None:
    """Salt and images, as the tenant's function told them."""
    job = Job(house, "j-1").run()
    keys = TenantKeys.of(house.keys, "acme")
    with house.log.store.searching("acme") as db:
        kept = private.kept(db, "acme", ["j-1"])["j-1"]
    key, begun = kept.started("j-1", keys)
    assert begun == Sidecar.parse(job.started().extensions[SIDECAR])
    ended = keys.opened("j-1", "ended", key, kept.sidecars["ended"])
    assert [(each.role, each.sha256) for each in ended.images] == [
        ("result", sha256(RESULT))
    ]
    assert json.loads(msgspec.json.encode(ended))["salt"] == job.salt


def test_only_started_and_completed_bring_something_private(house: House) -> None:
    """An extension of that name with any other event is passed over."""
    job = Job(house, "j-1")
    both = {SIDECAR: "whatever", SEALED: "whatever"}
    event = house.event(type=events.SWAP_FAILED, data={"job": "j-1"}, extensions=both)
    assert job.send(event).status_code == 204
    assert private_rows(house) == []
