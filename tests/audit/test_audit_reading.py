"""Reading: what a client that trusts nobody can fetch, and who may."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.audit.app import create_app
from functions.audit.bundle import log_verifiers, verify_entries
from functions.audit.leaf import leaf_of
from functions.audit.merkle import (
    leaf_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from functions.audit.tiles import open_checkpoint, parse_bundle
from functions.auth import AUDIT_READ, TokenAuthenticator, issue_token, jwks_document
from tests.audit.house import BOTH

if TYPE_CHECKING:
    from pathlib import Path

    from tests.audit.house import House

DATABASES = BOTH
SIZE = 70_000


def fill(house: House, number: int, tenant: str = "acme") -> None:
    """Append `number` events, a job for each ten, a second apart."""
    batch = [
        leaf_of(
            events.Event(
                id=f"e{each}",
                source=events.swap_source(tenant),
                type=events.SWAP_STARTED,
                time=events.rfc3339(
                    datetime.fromtimestamp(1_800_000_000 + each, UTC),
                ),
                tenant=tenant,
                data={"job": f"job-{each // 10}"},
            ),
        )
        for each in range(number)
    ]
    for start in range(0, number, 500):
        house.log._commit(batch[start : start + 500])


def whole_log(house: House) -> list[bytes]:
    """Return every entry as a stranger's tool would fetch them: bundle by bundle."""
    verifiers = log_verifiers("acme", house.keys)
    note = house.get("checkpoint").get_data(as_text=True)
    size = open_checkpoint(note, verifiers).size
    found: list[bytes] = []
    for number in range(size // 256):
        found += parse_bundle(house.get(f"tile/entries/{number:03d}").data)
    if size % 256:
        path = f"tile/entries/{size // 256:03d}.p/{size % 256}"
        found += parse_bundle(house.get(path).data)
    return found


def test_a_stranger_can_fetch_and_verify_the_whole_log(house: House) -> None:
    """Checkpoint and entry bundles are enough, over HTTP alone."""
    fill(house, 600)
    answer = house.get("checkpoint")
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    verifiers = log_verifiers("acme", house.keys)
    checkpoint = verify_entries(whole_log(house), answer.text, verifiers)
    assert (checkpoint.origin, checkpoint.size) == ("guise.audit/acme", 600)


def test_tiles_hold_the_hashes_that_the_specification_says(house: House) -> None:
    """Level 0 are the leaf hashes, level 1 the roots of full tiles below."""
    fill(house, 600)
    leaves = [leaf_hash(entry) for entry in whole_log(house)]
    answer = house.get("tile/0/001")
    assert answer.data == b"".join(leaves[256:512])
    assert answer.content_type == "application/octet-stream"
    assert "immutable" in answer.headers["Cache-Control"]
    assert house.get("tile/0/002.p/88").data == b"".join(leaves[512:])
    expected = tree_root(leaves[:256]) + tree_root(leaves[256:512])
    assert house.get("tile/1/000.p/2").data == expected


ABSENT = (
    "tile/0/002",
    "tile/0/002.p/89",
    "tile/1/000",
    "tile/1/000.p/3",
    "tile/2/000.p/1",
    "tile/63/000.p/1",
    "tile/64/000.p/1",
    "tile/entries/002",
    "tile/entries/003.p/1",
    "tile/0/2",
    "proof/600",
    "proof/9999999999999999999",
    "tile/9999999999999999999/000",
)


def test_what_the_log_does_not_have_is_not_found(house: House) -> None:
    """A tile is whole or absent: a short one would pass for another log's."""
    fill(house, 600)
    found = {path: house.get(path).status_code for path in ABSENT}
    assert found == dict.fromkeys(ABSENT, 404)


@pytest.mark.parametrize(
    "path",
    [
        "tile/00/000",
        "tile/-1/000",
        "tile/x/000",
        "proof/x",
        "proof/01",
        "proof/-1",
        "entries?start=x",
        "entries?from=yesterday",
        "entries?to=2026-11-21T12:00:00",
        "entries?job=../x",
    ],
)
def test_what_makes_no_sense_is_invalid(house: House, path: str) -> None:
    """400 with a problem document."""
    answer = house.get(path)
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("path", ["checkpoint", "proof/0", "tile/0/000.p/1"])
def test_an_empty_log_has_nothing_to_show(house: House, path: str) -> None:
    """Nothing is signed for a tenant who never swapped."""
    assert house.get(path).status_code == 404


@pytest.mark.no_cover  # the same lines, 70,000 times
def test_every_entry_of_a_log_of_three_levels_is_proved(house: House) -> None:
    """Proofs are folded from tiles, of which each is read once."""
    fill(house, SIZE)
    verifiers = log_verifiers("acme", house.keys)
    for index in (0, 255, 256, 65_535, 65_536, 69_887, 69_888, SIZE - 1):
        shown = house.get(f"proof/{index}").get_json()
        checkpoint = open_checkpoint(shown["checkpoint"], verifiers)
        verify_inclusion(
            bytes.fromhex(shown["leaf_hash"]),
            shown["index"],
            shown["size"],
            [bytes.fromhex(step) for step in shown["path"]],
            checkpoint.root,
        )
        assert checkpoint.size == shown["size"] == SIZE
    # The example of c2sp.org/tlog-tiles: what a tree of 70,000 is made of.
    for path in ("tile/0/272", "tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17"):
        assert house.get(path).status_code == 200
    assert house.get("tile/2/000.p/1").data == tree_root(
        house.get("tile/1/000").data[each : each + 32] for each in range(0, 8192, 32)
    )


def test_a_proof_is_also_a_file(house: House) -> None:
    """`Accept: text/plain` gets the tlog-proof that other tools read."""
    fill(house, 3)
    shown = house.get("proof/1").get_json()
    text = house.get("proof/1", Accept="text/plain").text
    head, _, checkpoint = text.partition("\n\n")
    steps = [base64.b64encode(bytes.fromhex(each)).decode() for each in shown["path"]]
    assert head.split("\n") == ["c2sp.org/tlog-proof@v1", "index 1", *steps]
    assert checkpoint == shown["checkpoint"]


def test_entries_are_found_by_job_and_by_time(house: House) -> None:
    """An auditor's questions: this job, that hour."""
    fill(house, 50)
    shown = house.get("entries?job=job-3").get_json()
    assert [each["index"] for each in shown["entries"]] == list(range(30, 40))
    moment = datetime.fromtimestamp(1_800_000_045, UTC)
    text = events.rfc3339(moment)
    late = house.get(f"entries?from={text}").get_json()["entries"]
    early = house.get(f"entries?to={text}").get_json()["entries"]
    assert [each["index"] for each in late] == list(range(45, 50))
    assert [each["index"] for each in early] == list(range(45))


def test_a_shown_entry_is_its_leaf(house: House) -> None:
    """The canonical form of what JSON shows has the leaf hash beside it."""
    fill(house, 1)
    (shown,) = house.get("entries").get_json()["entries"]
    assert leaf_hash(events.canonical(shown["leaf"])).hex() == shown["leaf_hash"]


def test_entries_come_in_pages(house: House) -> None:
    """A page says where the next one begins, and the last says nothing."""
    fill(house, 450)
    seen: list[int] = []
    for start, following in ((0, 200), (200, 400), (400, None)):
        page = house.get(f"entries?start={start}").get_json()
        seen += [each["index"] for each in page["entries"]]
        assert page["next"] == following
    assert seen == list(range(450))


def test_growth_can_be_checked_from_tiles_and_an_old_checkpoint(
    house: House,
) -> None:
    """Whoever kept a receipt can show that the log still stands on it."""
    kept = house.log.append(house.event("first")).receipt.checkpoint
    fill(house, 300)
    verifiers = log_verifiers("acme", house.keys)
    before = open_checkpoint(kept, verifiers)
    after = open_checkpoint(house.get("checkpoint").text, verifiers)
    leaves = [leaf_hash(entry) for entry in whole_log(house)]
    path = [leaves[1], tree_root(leaves[2:4])]
    size = 4
    while size < after.size:
        path.append(tree_root(leaves[size : min(2 * size, after.size)]))
        size *= 2
    verify_consistency(1, after.size, path, before.root, after.root)


READS = ("checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1", "proof/0", "entries")


@pytest.mark.parametrize("path", READS)
def test_attack_another_tenants_log(house: House, path: str) -> None:
    """Another tenant's token learns nothing, not even whether there is a log."""
    fill(house, 1)
    assert house.get(path).status_code == 200
    answers = [
        house.get(path, token="other"),  # noqa: S106  # a name, not a secret
        house.get(path, tenant="nowhere"),
    ]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.get_json()["type"] == "urn:guise:problem:not-found"
    assert answers[0].data == answers[1].data


@pytest.mark.parametrize("path", READS)
def test_attack_a_reader_without_the_scope(house: House, path: str) -> None:
    """A token for something else does not read the log; none at all is 401."""
    answer = house.get(path, token="nobody", tenant="nobody")  # noqa: S106  # a name
    assert answer.status_code == 403
    assert house.client.get(f"/v1/tenants/acme/log/{path}").status_code == 401


def test_a_real_token_reads_the_log(house: House, tmp_path: Path) -> None:
    """The door takes JWTs of the configured issuer."""
    fill(house, 1)
    issuer = house.keys.signer("tokens")
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(events.canonical(jwks_document(issuer)))
    claims = {
        "iss": "guise",
        "aud": "guise",
        "sub": "auditor",
        "tenant": "acme",
        "scope": AUDIT_READ,
        "exp": int(time.time()) + 60,
    }
    authenticator = TokenAuthenticator(jwks, issuer="guise", audience="guise")
    app = create_app(log=house.log, keys=house.keys, authenticator=authenticator)
    header = {"Authorization": f"Bearer {issue_token(issuer, claims)}"}
    path = "/v1/tenants/acme/log/checkpoint"
    assert app.test_client().get(path, headers=header).status_code == 200
