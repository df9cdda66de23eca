"""What the entries of a bundle say, and entries that no honest log has."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions import events
from functions.audit.continued import Earlier, continued
from functions.audit.facts import Facts, read_leaf
from functions.audit.leaf import conflict, leaf_of
from functions.audit.manifest import Manifest, Range
from functions.audit.merkle import VerificationError
from functions.audit.tiles import ProofFile, proof_text
from functions.keys import events_key
from functions.problems import InvalidRequest
from tests.audit.bundles import (
    KEYS,
    Made,
    bundle,
    changed,
    check,
    ended,
    event,
    files,
    started,
    told,
)

if TYPE_CHECKING:
    from pathlib import Path

    from functions.audit.logcheck import Fault


LOG = Made(told(40))


def broken(path: Path, match: str) -> Fault:
    """Check a bundle that must fail, for the reason that is named."""
    fault = check(path).fault
    assert fault is not None
    assert re.search(match, fault.text), fault
    return fault


def holds(path: Path) -> None:
    """Check a bundle that must hold."""
    report = check(path)
    assert report.verified, report.fault


# --- entries -----------------------------------------------------------------


def log_of(tmp_path: Path, *leaves: bytes) -> Path:
    """Return the bundle of a log of these entries, honestly signed."""
    return bundle(tmp_path / "b", Made(leaves).piece())


@pytest.mark.parametrize(
    ("leaf", "match"),
    [
        (b"", "is not JSON"),
        (b"[]", "is not an event"),
        (b"[" * 60_000, "is not JSON"),
        (b'{"b":1,"a":2}', "not in the canonical form"),
        (b'{"a": 1}', "not in the canonical form"),
        (b'{"a":1,"a":1}', "not in the canonical form"),
        (b'{"a":1.0}', "not in the canonical form"),
        (b'{"a":9007199254740993}', "not in the canonical form"),
        (b'{"a":1e400}', "is not JSON"),
        (b'{"a":"\\u00e9"}', "not in the canonical form"),
        (b"{}", "has no source"),
    ],
)
def test_an_entry_that_is_no_event(tmp_path: Path, leaf: bytes, match: str) -> None:
    """Every entry is the canonical form of an event, whoever signed the log."""
    fault = broken(log_of(tmp_path, started(0, "job-0"), leaf), match)
    assert (fault.first, fault.last) == (1, 1)


def test_an_entry_without_data(tmp_path: Path) -> None:
    """An event has data, if only none."""
    document = json.loads(started(0, "job-0")) | {"data": 1}
    broken(log_of(tmp_path, events.canonical(document)), "entry 0 has no data")


def test_an_entry_without_a_time(tmp_path: Path) -> None:
    """When something is said to have happened is a time."""
    document = json.loads(started(0, "job-0")) | {"time": "noon"}
    broken(log_of(tmp_path, events.canonical(document)), "entry 0 states no time")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values, max_size=6))
def test_every_canonical_object_is_taken(document: dict[str, Any]) -> None:
    """The quick way to look at an entry refuses nothing that RFC 8785 writes."""
    try:
        leaf = events.canonical(document)
    except InvalidRequest:
        return  # a lone surrogate, which no event can hold
    assert read_leaf(leaf) == json.loads(leaf)


@given(st.dictionaries(st.text(), json_values, max_size=6), st.booleans())
def test_no_other_form_is_taken(document: dict[str, Any], spaced: bool) -> None:  # noqa: FBT001
    """The quick way takes nothing that RFC 8785 would write differently."""
    separators = (", ", ": ") if spaced else (",", ":")
    try:
        canonical = events.canonical(document)
        text = json.dumps(document, separators=separators, ensure_ascii=False)
        leaf = text.encode()
    except (InvalidRequest, UnicodeEncodeError):
        return
    if leaf == canonical:
        read_leaf(leaf)
    else:
        with pytest.raises(VerificationError):
            read_leaf(leaf)


# --- the order of things -----------------------------------------------------


def test_a_completed_swap_without_its_start(tmp_path: Path) -> None:
    """What the log is there to make impossible is a failure."""
    path = log_of(tmp_path, started(0, "job-0"), ended(1, "job-9", 0))
    fault = broken(path, "entry 1 ends a job that entry 0 did not start")
    assert (fault.first, fault.job) == (1, "job-9")


@pytest.mark.parametrize("start", [1, 2, 99, -1])
def test_a_start_that_is_not_before_its_ending(tmp_path: Path, start: int) -> None:
    """An ending that names itself, what follows, or nothing has no receipt."""
    leaves = [started(0, "j"), ended(1, "j", start), started(2, "j")]
    broken(log_of(tmp_path, *leaves), "entry 1 ends a job that entry")


def test_a_completed_swap_that_names_no_start(tmp_path: Path) -> None:
    """A completed swap says which receipt it had."""
    broken(log_of(tmp_path, ended(0, "job-0", None)), "names no start")


def test_a_refusal_needs_no_start(tmp_path: Path) -> None:
    """What was refused or failed before it began was never started."""
    kinds = (events.SWAP_REFUSED, events.SWAP_FAILED)
    leaves = [ended(at, f"j{at}", None, kind) for at, kind in enumerate(kinds)]
    holds(log_of(tmp_path, *leaves))


def test_two_attempts_are_two_starts(tmp_path: Path) -> None:
    """A job may be started again, and its ending names one of the starts."""
    again = leaf_of(event(1, events.SWAP_STARTED, {"job": "j", "attempt": 2})).data
    holds(log_of(tmp_path, started(0, "j"), again, ended(2, "j", 1)))


def test_a_start_outside_of_the_range_is_not_missed(tmp_path: Path) -> None:
    """Of a part of a log, nobody can tell what is before it; that is said."""
    leaves = [*told(256), ended(256, "job-5", 4)]
    path = bundle(tmp_path / "b", Made(leaves).piece(Range(256, 257)))
    report = check(path)
    assert report.verified, report.fault
    assert report.warnings == [
        (
            "1 endings name a start that is not in this bundle: outside its range, "
            "pruned, or lost in a restore"
        )
    ]


def test_a_single_entry_of_another_job(tmp_path: Path) -> None:
    """A job's bundle has that job's entries."""
    path = bundle(tmp_path / "b", LOG.piece(Range(0, 0), single=(2, 4)), job="job-1")
    assert broken(path, "entry 4 is of another job").first == 4


def test_a_single_ending_of_another_job(tmp_path: Path) -> None:
    """Of entries that stand alone, too, an ending has its own start."""
    leaves = [started(0, "j"), started(1, "k"), ended(2, "k", 0)]
    piece = Made(leaves).piece(Range(0, 0), single=(0, 2))
    broken(bundle(tmp_path / "b", piece), "entry 2 ends a job that entry 0 did not")


def test_attack_a_single_entry_with_anothers_proof(tmp_path: Path) -> None:
    """A proof is of the entry that its file is named for, under this checkpoint."""
    path = bundle(tmp_path / "b", LOG.piece(Range(0, 0), single=(2, 3)), job="job-1")
    other = files(path)["proofs/2.tlog-proof"]
    changed(path, {"proofs/3.tlog-proof": other})
    broken(path, "entry 3 has the proof of something else")


def test_attack_a_single_entry_that_was_changed(tmp_path: Path) -> None:
    """An entry that stands alone is under the signed root, or it is refused."""
    path = bundle(tmp_path / "b", LOG.piece(Range(0, 0), single=(2,)), job="job-1")
    proof = ProofFile.parse(files(path)["proofs/2.tlog-proof"].decode())
    text = proof_text(2, proof.path, proof.checkpoint, started(2, "job-1000"))
    changed(path, {"proofs/2.tlog-proof": text.encode()})
    broken(path, "entry 2 leaf 2 is not under this root")


# --- who signed each event ---------------------------------------------------


def tenant_keys() -> Any:
    """Return the verifiers of the tenant's events."""
    return KEYS.verifiers(events_key("acme"))


def test_every_event_is_signed_by_its_tenant(tmp_path: Path) -> None:
    """With the tenant's keys, each entry's own signature is checked."""
    report = check(log_of(tmp_path, *LOG.leaves), tenant_keys=tenant_keys())
    assert report.verified, report.fault


def test_attack_an_event_that_the_tenant_never_signed(tmp_path: Path) -> None:
    """Whoever keeps the log cannot add a tenant's events to it unnoticed."""
    document = json.loads(started(1, "job-7"))
    forged = events.canonical(document | {"data": {"job": "job-8"}})
    path = log_of(tmp_path, started(0, "job-0"), forged)
    holds(path)
    report = check(path, tenant_keys=tenant_keys())
    assert report.fault is not None
    assert "entry 1 is not signed by its tenant" in report.fault.text


def test_attack_an_event_without_a_signature(tmp_path: Path) -> None:
    """An unsigned event is none of the tenant's, whatever it calls its source."""
    document = json.loads(started(0, "job-0")) | {"sig": "", "sigkid": ""}
    path = log_of(tmp_path, events.canonical(document))
    assert not check(path, tenant_keys=tenant_keys()).verified


def test_what_audit_itself_says_is_signed_by_the_log(tmp_path: Path) -> None:
    """Nobody but the log's key vouches for an entry of audit's own."""
    offered = leaf_of(event(0, events.SWAP_STARTED, {"job": "another"}))
    path = log_of(tmp_path, started(0, "job-0"), conflict(offered, 0).data)
    report = check(path, tenant_keys=tenant_keys())
    assert report.verified, report.fault


def test_twins_are_found_a_part_at_a_time() -> None:
    """Of many entries, a few are compared at once, and no twin is missed."""
    facts = Facts("acme")
    facts.begin(Manifest.parse(manifest_of(1000)).logs[0])
    for index in range(1000):
        facts.see(index, read_leaf(started(index % 990, f"job-{index}")))
    found = sorted(facts.twice(part_max=100))
    assert found == [((1, each), (1, 990 + each)) for each in range(10)]


def manifest_of(size: int) -> bytes:
    """Return the manifest of a log of so many entries."""
    whole = {"start": 0, "stop": size}
    log = {"epoch": 1, "origin": "guise.audit/acme", "folder": "", "size": size}
    log |= {"wanted": whole, "covered": whole, "minimum": 0, "left_out": [0, 0]}
    return json.dumps(
        {"version": 1, "generator": "", "tenant": "acme", "logs": [log]}
    ).encode()


# --- epochs ------------------------------------------------------------------

OLD = Made(told(20))


def following(held: int, note: str, tenant: str = "acme", epoch: int = 2) -> Made:
    """Return the log after a restore that held so many of the entries before."""
    first = continued(tenant, epoch, [Earlier(1, held, note)]).data
    return Made([first, *told(3, first=100)[::2]], epoch=2)


def test_a_log_after_a_restore_verifies(tmp_path: Path) -> None:
    """The earlier log is in a folder of its own; its end is what the new one names."""
    new = following(20, OLD.checkpoint())
    path = bundle(tmp_path / "b", OLD.piece(), new.piece())
    report = check(path)
    assert report.verified, report.fault
    assert [(log.epoch, log.entries) for log in report.logs] == [(1, 20), (2, 3)]
    assert "epochs/1/tile/entries/000.p/20" in files(path)
    assert report.warnings == []


def test_a_restore_that_lost_entries_is_told(tmp_path: Path) -> None:
    """Entries that a checkpoint covers and nobody has any more are lost, not hidden."""
    left = Made(OLD.leaves[:16])
    new = following(16, OLD.checkpoint())
    late = ended(50, "job-9", 18)  # its start was lost with entry 18
    new = Made([*new.leaves, late], epoch=2)
    report = check(bundle(tmp_path / "b", left.piece(), new.piece()))
    assert report.verified, report.fault
    assert report.warnings[0].endswith("a restore lost entries 16 to 19")
    assert "1 endings name a start" in report.warnings[1]


def test_an_ending_may_follow_in_the_next_epoch(tmp_path: Path) -> None:
    """A start in the log before the restore is a start."""
    left = Made(OLD.leaves[:19])
    new = following(19, left.checkpoint())
    for job, fails in (("job-9", False), ("job-8", True)):
        log = Made([*new.leaves, ended(50, job, 18)], epoch=2)
        report = check(bundle(tmp_path / "b", left.piece(), log.piece()))
        assert (report.fault is not None) == fails


def test_a_period_of_two_epochs(tmp_path: Path) -> None:
    """Where the range leaves it out, what a log goes on from stands alone."""
    new = following(20, OLD.checkpoint())
    piece = new.piece(Range(0, 0), single=(0,))
    path = bundle(tmp_path / "b", OLD.piece(Range(0, 0)), piece)
    holds(path)
    broken(bundle(path, OLD.piece(Range(0, 0)), new.piece(Range(0, 0))), "entries/000")


def test_a_pruned_beginning_of_an_epoch_is_told(tmp_path: Path) -> None:
    """What a log goes on from may be pruned; then the link is not shown."""
    leaves = [*following(20, OLD.checkpoint()).leaves, *told(300, first=200)]
    new = Made([*leaves[:256], started(900, "j")], epoch=2)
    report = check(bundle(tmp_path / "b", OLD.piece(), new.piece(minimum=256)))
    assert report.verified, report.fault
    assert "what epoch 2 goes on from is pruned" in report.warnings[0]


@pytest.mark.parametrize(
    ("log", "match"),
    [
        (Made(told(3), epoch=2), "does not say what it goes on from"),
        (following(19, OLD.checkpoint()), "epoch 1 is not what a restore found"),
        (following(21, OLD.checkpoint()), "what epoch 2 calls the end of epoch 1"),
        (following(20, Made(told(20, 40)).checkpoint()), "not what a restore found"),
        (following(20, following(1, "").checkpoint()), "calls the end of epoch 1"),
        (following(20, OLD.checkpoint(), "other"), "another log's"),
        (following(20, OLD.checkpoint(), "acme", 3), "another log's"),
        (following(20, "nonsense\n"), "is no log of ours"),
        (
            Made([continued("acme", 2, []).data], epoch=2),
            "epoch 2 does not say what became of epoch 1",
        ),
    ],
)
def test_attack_a_false_link(tmp_path: Path, log: Made, match: str) -> None:
    """A log that does not go on from the one before, as it was, is refused."""
    broken(bundle(tmp_path / "b", OLD.piece(), log.piece()), match)


def test_attack_a_hidden_epoch(tmp_path: Path) -> None:
    """An earlier log of which there are entries is in the bundle."""
    new = following(20, OLD.checkpoint())
    broken(bundle(tmp_path / "b", new.piece()), "epoch 1 is not in the bundle")


def test_an_epoch_that_is_all_lost(tmp_path: Path) -> None:
    """Of a log that a restore lost whole, there is nothing to show."""
    report = check(bundle(tmp_path / "b", following(0, OLD.checkpoint()).piece()))
    assert report.verified, report.fault
    assert "a restore lost entries 0 to 19" in report.warnings[0]


def test_attack_an_epoch_without_its_first_entry(tmp_path: Path) -> None:
    """A bundle of entries that has none has not the one that is looked for."""
    new = following(20, OLD.checkpoint())
    path = bundle(tmp_path / "b", OLD.piece(), new.piece())
    broken(changed(path, {"tile/entries/000.p/3": b""}), "entry 0 is missing")


def test_a_loss_is_told_once(tmp_path: Path) -> None:
    """Every later epoch says what an earlier one lost; whoever reads hears it once."""
    left = Made(OLD.leaves[:16])
    second = following(16, OLD.checkpoint())
    earlier = [Earlier(1, 16, OLD.checkpoint()), Earlier(2, 3, second.checkpoint())]
    third = Made([continued("acme", 3, earlier).data], epoch=3)
    path = bundle(tmp_path / "b", left.piece(), second.piece(), third.piece())
    report = check(path)
    assert report.verified, report.fault
    assert len(report.warnings) == 1
