"""Hostile tenants and strangers: what they send hides nothing and stops nothing."""

from __future__ import annotations

import base64
import json
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from functions.audit import copies
from functions.audit.continued import parse_continued
from functions.audit.facts import read_leaf
from functions.audit.leaf import DEPTH_MAX
from functions.audit.log import Log
from functions.audit.merkle import VerificationError
from functions.audit.notes import open_kept
from functions.audit.private import ENTRIES_MAX
from functions.audit.searching import search
from functions.audit.store import Store
from functions.cli.audit.place import Place
from functions.cli.audit.requests import search_log
from functions.keys import MemoryKeys
from functions.problems import Unavailable
from functions.settings import SettingsError
from functions.storage.memory import MemoryStore
from functions.tenant import Key
from tests.audit import jobs
from tests.audit.house import BOTH
from tests.audit.jobs import PHOTO, Job, sha256
from tests.postgres import APP, SUPERUSER

if TYPE_CHECKING:
    from pathlib import Path

    from tests.audit.house import House
    from tests.postgres import Database

DATABASES = BOTH
LARGE = 64
"""Entries as large as may be: read all at once, they would take seven times as much."""


def hits(house: House) -> list[dict[str, Any]]:
    answer = jobs.search(house, PHOTO)
    assert answer.status_code == 200, answer.text
    return list(json.loads(answer.data)["hits"])


@pytest.mark.parametrize(
    "after", ["\x00", "j\x001", "\U0001f600", "' OR 1=1 --", "%", "..", "j" * 99]
)
def test_attack_a_page_after_what_is_no_job(house: House, after: str) -> None:
    """400 on either database; PostgreSQL has no text with a NUL in it."""
    Job(house, "j-1").run()
    answer = house.client.post(
        "/v1/tenants/acme/log/searches",
        json={"sha256": sha256(PHOTO), "after": after},
        headers={"Authorization": "Bearer acme"},
    )
    assert (answer.status_code, answer.json["title"]) == (400, "Invalid request")  # type: ignore[index]


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/x036/x028/x797/x018/x963/967",
        "tile/62/x999/x999/x999/x999/x999/x999/999.p/255",
        "tile/entries/x999/x999/x999/x999/x999/x999/999",
        "proof/9223372036854775807",
    ],
)
def test_attack_a_tile_beyond_what_a_database_counts(house: House, path: str) -> None:
    """404 as for any other that is not there, and no failure inside."""
    Job(house, "j-1").run()
    assert house.get(path).status_code == 404


@pytest.mark.parametrize(
    "commitments",
    [7, {"sources": [["x"]]}, {"target": {}}, {"result": 7}, {"sources": [None]}],
)
def test_attack_a_malformed_commitment_that_hides_a_job(
    house: House, commitments: Any
) -> None:
    """One more attempt with nonsense in it must not stop the person's search."""
    Job(house, "j-1").run()
    before = hits(house)
    said = {"job": "j-1", "attempt": 2, "commitments": commitments}
    assert house.post(house.event("junk", data=said)).status_code == 200
    assert [hit["proof"] for hit in hits(house)] == [hit["proof"] for hit in before]


def test_attack_a_flood_about_one_job_that_hides_another(house: House) -> None:
    """Contradictions and attempts without end are another job's own affair."""
    for name in ("j-1", "j-2"):
        Job(house, name).run()
    for number in range(ENTRIES_MAX + 10):
        said = {"job": "j-1", "attempt": number}
        house.log.append(house.event(f"more-{number}", data=said))
    found = hits(house)
    assert [(hit["job"], hit["proof"]["index"]) for hit in found] == [
        ("j-1", 0),
        ("j-2", 2),
    ]
    assert found[1]["outcome"] == "completed"
    assert jobs.erase(house, "j-1").status_code == 200


@pytest.mark.no_cover  # it counts bytes; to trace it takes as long again
def test_attack_a_search_that_takes_all_memory(house: House) -> None:
    """Large entries about one job: what is held of them at once is bounded."""
    Job(house, "j-1").run()
    junk: list[list[int]] = [[]] * 20_000  # 1.3 MB, once it is read
    for number in range(ENTRIES_MAX + 20):
        said = {"job": "j-1", "attempt": number, "junk": junk * (number < LARGE)}
        house.log.append(house.event(f"more-{number}", data=said))
    store, keys = house.log.store, house.keys
    tracemalloc.start()
    found = search(store, keys, "acme", sha256(PHOTO))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [hit.job for hit in found.hits] == ["j-1"]
    assert peak < LARGE * 65_535 * 3


def test_attack_an_actor_whom_a_terminal_would_obey(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither markup nor an escape: what was said is shown as it was said."""
    begun = Job(house, "j-1").started()
    said = {**begun.data, "actor": "[red]ann[/red] \x1b]0;owned\x07"}
    event = house.event("e", data=said, extensions=dict(begun.extensions))
    assert Job(house, "j-1").send(event).status_code == 200
    secret = base64.b64encode(house.keys.secret("audit"))
    (tmp_path / "audit.secret").write_bytes(secret)
    search_log(
        *(Place(tmp_path, house.url, tmp_path), "acme", None, sha256(PHOTO)), json=False
    )
    shown = capsys.readouterr().out
    assert "[red]ann[/red] \N{REPLACEMENT CHARACTER}]0;owned" in shown
    assert "\x1b]" not in shown


@pytest.mark.parametrize("depth", [DEPTH_MAX, 400])
def test_attack_an_entry_too_deep_for_any_verifier(house: House, depth: int) -> None:
    """One such event, and the log would never verify again: 400, and no entry."""
    nested: list[Any] = []
    for _ in range(depth - 2):
        nested = [nested]
    said = {"job": "j-1", "flat": [[]] * DEPTH_MAX, "nested": nested}
    assert house.post(house.event("fits", data=said)).status_code == (
        200 if depth == DEPTH_MAX else 400
    )
    said["nested"] = [nested]
    assert house.post(house.event("deep", data=said)).status_code == 400
    for leaf in house.entries():
        assert read_leaf(leaf)["id"] == "fits"


@pytest.mark.parametrize(
    "leaf",
    [
        b"[" * 60_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"type":"dev.guise.audit.continued.v1","source":"/tenants/acme/audit",'
        b'"tenant":"acme","data":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    ],
)
def test_attack_a_first_entry_too_deep(leaf: bytes) -> None:
    """A verifier says so, and does not fall over."""
    with pytest.raises(VerificationError):
        parse_continued(leaf, "acme", 2)


@pytest.mark.parametrize("line", ["é" * 44, "\ud800", "=", "A", "AAAA\u2028"])
def test_attack_a_note_with_a_root_that_is_no_text_of_bytes(line: str) -> None:
    """Whoever serves a log decides what is in it: refused, and not a failure."""
    note = f"guise.audit/acme\n1\n{line}\n\n— guise.audit/acme AAAA\n"
    with pytest.raises(VerificationError):
        open_kept(note, [])


@pytest.mark.parametrize("stranger", [f"{size:020d}x" for size in (1, 15, 31, 32, 49)])
def test_attack_a_strangers_object_that_hides_newer_copies(stranger: str) -> None:
    """Whoever may create in the second store names one between two checkpoints."""
    objects = MemoryStore()
    for size in range(1, 50):
        objects.put(Key(f"checkpoints/acme/1/{size:020d}"), b"x")
    objects.put(Key(f"checkpoints/acme/1/{stranger}"), b"junk")
    assert copies.newest(objects, "acme", 1) == 49
    assert copies.newest(objects, "acme", 1, below=45) == 44


def test_attack_a_function_as_superuser(
    audit_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """No receipts in production; in development a warning, and roles all the same."""
    with pytest.raises(SettingsError, match="superuser or has BYPASSRLS"):
        Store.open(audit_database.url(SUPERUSER), profile="production")
    Store.open(audit_database.url(APP), profile="production").close()
    assert "superuser" not in caplog.text
    url = audit_database.url(SUPERUSER)
    with closing(Store.open(url, profile="development")) as store:
        assert "superuser" in caplog.text
        with pytest.raises(Unavailable), store.reading("acme") as db:
            db.execute(sa.text("DELETE FROM head"))


def test_a_function_as_superuser_gives_no_receipts(audit_database: Database) -> None:
    """Its log says why; whoever asks is told to come again."""
    url = audit_database.url(SUPERUSER)
    log = Log.at(url, MemoryKeys(), profile="production")
    with closing(log), pytest.raises(Unavailable):
        _ = log.store


def test_a_server_that_does_not_sync_is_told(
    audit_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """An ack is true only where a commit is on disk."""
    audit_database.tamper(
        f"ALTER DATABASE {audit_database.name} SET synchronous_commit = off"
    )
    Store.open(audit_database.url(), profile="production").close()
    assert "synchronous_commit is off" in caplog.text
