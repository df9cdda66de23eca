"""Attacks on the checkpoints and the keys of a bundle, each named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from functions.audit.checking import verify_bundle
from functions.audit.tiles import (
    NoteVerifier,
    origin,
)
from tests.audit.bundles import (
    LOG,
    PUBLIC,
    SIGNER,
    STRANGER,
    Made,
    broken,
    bundle,
    changed,
    check,
    fault_of,
    files,
    started,
    told,
)

if TYPE_CHECKING:
    from pathlib import Path


# --- attacks on checkpoints and keys -----------------------------------------


def test_attack_fork_of_the_head(whole: Path) -> None:
    """Two histories under one key are found where both notes are in the bundle."""
    other = Made([*LOG.leaves[:200], *told(100, first=5_000)])
    changed(whole, {f"checkpoints/{300:020d}": other.note(300).encode()})
    fault = broken(whole, "signed two histories: its checkpoint of 300")
    assert (fault.first, fault.last) == (100, 299)


def test_attack_rollback(whole: Path) -> None:
    """An older checkpoint in place of the newest does not cover what is shown."""
    changed(whole, {"checkpoint": LOG.note(600).encode()})
    broken(whole, "is of 600 entries, where 700 are claimed")


def test_attack_rollback_with_the_manifest(whole: Path) -> None:
    """Nor does it with a manifest that agrees: the rest of the log is still there."""
    changed(whole, {"checkpoint": LOG.note(600).encode(), **said(whole, size=600)})
    broken(whole, "contradicts itself")


def said(path: Path, **changes: Any) -> dict[str, bytes]:
    """Return the manifest of a bundle with other members in its first log."""
    document = json.loads(files(path)["manifest.json"])
    for name, value in changes.items():
        place = document["logs"][0] if name in document["logs"][0] else document
        place[name] = value
    return {"manifest.json": json.dumps(document).encode()}


def test_attack_a_wrong_key(whole: Path) -> None:
    """Whoever was given another key sees a bundle that nobody he knows signed."""
    verifiers = [NoteVerifier(origin("acme"), STRANGER.public_bytes())]
    fault = fault_of(verify_bundle(whole, verifiers))
    assert "not signed by a known key" in fault.text


def test_attack_a_key_of_another_log(whole: Path) -> None:
    """A key is for the log that it is named for."""
    verifiers = [NoteVerifier(origin("other"), PUBLIC)]
    assert (
        "no key of guise.audit/acme" in fault_of(verify_bundle(whole, verifiers)).text
    )


def test_attack_the_keys_in_the_bundle(tmp_path: Path) -> None:
    """A forger who signs all of it and puts the key beside it convinces nobody."""
    path = bundle(tmp_path / "b", Made(LOG.leaves[:5], signer=STRANGER).piece())
    line = NoteVerifier(origin("acme"), STRANGER.public_bytes()).line
    changed(path, {"keys.txt": line.encode()})
    report = check(path)
    assert "not signed by a known key" in fault_of(report).text
    [warning] = report.warnings
    assert "keys.txt, which is not trusted" in warning


@pytest.mark.parametrize("name", ["checkpoint", f"checkpoints/{300:020d}"])
def test_attack_a_forged_signature(whole: Path, name: str) -> None:
    """A checkpoint with one bit of its signature changed is refused."""

    def forge(note: bytes) -> bytes:
        at = len(note) - 20
        return (
            note[:at] + (b"A" if note[at : at + 1] != b"A" else b"B") + note[at + 1 :]
        )

    broken(changed(whole, {name: forge}), "the signature of guise.audit/acme is wrong")


def test_attack_another_tenants_bundle(tmp_path: Path) -> None:
    """One key signs for every tenant, and its line for one vouches for no other."""
    theirs = Made([started(0, "job-0", "other")], tenant="other")
    path = bundle(tmp_path / "b", theirs.piece())
    broken(path, "no key of guise.audit/other")
    verifiers = [NoteVerifier(origin("other"), PUBLIC)]
    assert verify_bundle(path, verifiers).verified


def test_attack_another_tenants_bundle_under_this_name(tmp_path: Path) -> None:
    """A manifest that names another tenant has a checkpoint that does not."""
    theirs = Made([started(0, "job-0", "other")], tenant="other")
    path = bundle(tmp_path / "b", theirs.piece())
    changed(path, said(path, tenant="acme", origin=origin("acme")))
    broken(path, "not signed by a known key")


def test_attack_another_tenants_entry(tmp_path: Path) -> None:
    """Not even the holder of the key can put one tenant's entry in another's log."""
    path = bundle(tmp_path / "b", Made([*told(4), started(4, "j", "other")]).piece())
    assert broken(path, "entry 4 is of another tenant, 'other'").first == 4


def test_a_key_may_change(tmp_path: Path) -> None:
    """Checkpoints before and after a rotation verify with both keys, and only both."""
    before, after = SIGNER, STRANGER
    piece = Made(told(40), signer=after).piece(notes=(10, 30))
    notes = {**piece.notes, 10: Made(told(40), signer=before).note(10)}
    path = bundle(tmp_path / "b", replace(piece, notes=notes))
    keys = [
        NoteVerifier(origin("acme"), each.public_bytes()) for each in (before, after)
    ]
    assert verify_bundle(path, keys).verified
    for alone in keys:
        assert not verify_bundle(path, [alone]).verified


def test_attack_a_range_wider_than_it_need_be(whole: Path) -> None:
    """What is covered is what the wanted range needs, and no more."""
    first, last = "2026-11-21T12:00:00.000Z", "2026-11-21T12:04:15.000Z"
    times = {"first": first, "last": last}
    changed(whole, said(whole, wanted={"start": 0, "stop": 256}, times=times))
    broken(whole, "contradicts itself")
