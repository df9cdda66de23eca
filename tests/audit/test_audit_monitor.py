"""The log held to what it said before: attacks on its history, each named."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from functions.audit.continued import Earlier, continued
from functions.audit.merkle import VerificationError
from functions.audit.monitor import Loss, Verdict, verify_evidence, watch
from functions.audit.notes import find_notes, in_epoch, only_notes, open_kept
from functions.audit.tiles import NoteVerifier, origin
from functions.keys import MemoryKeys
from tests.audit.shown import VERIFIERS, Shown, leaves

if TYPE_CHECKING:
    from functions.audit.monitor import Fault
    from functions.audit.notes import Kept
    from functions.audit.source import LogSource

LOG = Shown(leaves(700))


def watched(kept: list[Kept], *shown: Shown) -> Verdict:
    """Hold what is shown, the newest epoch last, to what was kept."""
    by_epoch = {each.epoch: each for each in shown}

    def logs(epoch: int | None) -> LogSource:
        return shown[-1] if epoch is None else by_epoch.get(epoch, Shown(epoch=epoch))

    return watch(logs, "acme", kept, VERIFIERS)


def only(verdict: Verdict) -> Fault:
    """Return the one thing that is wrong."""
    [fault] = verdict.faults
    return fault


def proven(fault: Fault) -> str:
    """Return what a stranger with the log's key reads from the evidence file."""
    return verify_evidence(json.loads(json.dumps(fault.evidence("acme"))), VERIFIERS)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513, 699, 700])
def test_an_honest_log_is_on_one_history(size: int) -> None:
    """Whatever a reader kept, the log now has grown out of it."""
    verdict = watched([LOG.at(size).kept()], LOG)
    assert (verdict.faults, verdict.losses, verdict.checked) == ([], [], 1)
    assert verdict.now is not None
    assert verdict.now.size == 700


def test_a_large_log_is_checked_over_its_upper_tiles() -> None:
    """Of a log of many tiles only those on the way are read."""
    log = Shown(leaves(66_000))
    assert watched([log.at(65_537).kept()], log).faults == []


def test_nothing_kept_and_nothing_there_is_no_fault() -> None:
    """Who looks for the first time believes what is shown."""
    assert watched([], Shown()) == Verdict("acme")
    assert watched([], LOG).faults == []


def test_attack_a_fork_of_the_head_shown_to_two_readers() -> None:
    """Two notes of one size with two roots are a proof by themselves."""
    one, other = Shown(leaves(9)), Shown([*leaves(8), b"for you alone"])
    kept = [one.kept("reader A"), other.kept("reader B")]
    fault, gone = watched(kept, Shown()).faults
    assert gone.kind == "rollback"
    assert fault.kind == "fork"
    assert "reader A" in fault.text
    assert "reader B" in fault.text
    assert proven(fault).startswith("two histories of one log")


def test_attack_a_fork_against_the_log_now() -> None:
    """The reader's note and the log's are enough, whoever looks at them."""
    fork = Shown([*leaves(699), b"for you alone"])
    fault = only(watched([fork.kept()], LOG))
    assert (fault.kind, fault.proof) == ("fork", None)
    assert proven(fault)


@pytest.mark.parametrize("index", [0, 255, 256, 298])
def test_attack_a_rewritten_entry(index: int) -> None:
    """The log signs its new history; the path to the old size convicts it."""
    rewritten = list(LOG.leaves)
    rewritten[index] = b"it was never so"
    fault = only(watched([LOG.at(299).kept()], replace(LOG, leaves=rewritten)))
    assert fault.kind == "fork"
    assert fault.proof is not None
    assert "at 299" in proven(fault)
    assert "at 700" in proven(fault)


def test_attack_a_rollback_to_an_older_checkpoint() -> None:
    """A log that is shorter than it was has lost what it gave receipts for."""
    fault = only(watched([LOG.kept()], LOG.at(500)))
    assert fault.kind == "rollback"
    assert "at 500" in fault.text
    assert "at 700" in fault.text
    with pytest.raises(VerificationError):
        proven(fault)


def test_attack_a_rollback_and_growth_over_it() -> None:
    """Growing past the old size with other entries is a fork at that size."""
    regrown = Shown([*leaves(500), *leaves(400, "another")])
    fault = only(watched([LOG.kept()], regrown))
    assert fault.kind == "fork"
    assert proven(fault)


def test_attack_the_log_of_another_tenant() -> None:
    """What another log signs says nothing of this one, though the key is the same."""
    fault = only(watched([LOG.kept()], Shown(leaves(700), tenant="other")))
    assert fault.kind == "origin"
    assert "other" in fault.text
    fault = only(watched([], Shown(leaves(1), tenant="NOBODY")))
    assert fault.kind == "origin"


def test_attack_a_checkpoint_by_a_wrong_key() -> None:
    """The history is right and yet nobody we know has signed it."""
    forged = replace(LOG, signer=MemoryKeys().signer("audit"))
    fault = only(watched([LOG.kept()], forged))
    assert fault.kind == "signature"
    assert fault.notes == (forged.checkpoint(),)


def test_attack_a_deleted_log() -> None:
    """No log where there was one is the shortest log of all."""
    fault = only(watched([LOG.at(3).kept(), LOG.kept()], Shown()))
    assert fault.kind == "rollback"
    assert "gone" in fault.text
    assert "at 700" in fault.text


def test_attack_tiles_that_do_not_lead_to_the_checkpoint() -> None:
    """A log that signs one root and shows another tree proves nothing."""
    lying = replace(LOG, root=bytes(32))
    assert only(watched([LOG.at(9).kept()], lying)).kind == "unproven"


def test_attack_tiles_cut_short() -> None:
    """A log that withholds a tile proves nothing."""

    class Withheld(Shown):
        def tile(self, level: int, number: int, width: int) -> bytes:
            return super().tile(level, number, width)[:-1]

    fault = only(watched([LOG.at(9).kept()], Withheld(LOG.leaves)))
    assert fault.kind == "unproven"
    assert "cut short" in fault.text


HELD = 300
ENDED = LOG.at(400)


def restored(held: int = HELD, last: Shown = ENDED, more: int = 3) -> Shown:
    """Return the second epoch: the log had `last`, and the backup `held` of it."""
    first = continued("acme", 2, [Earlier(1, held, last.checkpoint())])
    return Shown([first.data, *leaves(more, "new")], epoch=2)


def test_a_restore_is_accepted_by_its_first_entry_alone() -> None:
    """An old checkpoint is held to what the backup had, and told what it lacks."""
    kept = [LOG.at(250).kept(), LOG.at(350).kept(), ENDED.kept()]
    verdict = watched(kept, LOG.at(HELD), restored())
    assert verdict.faults == []
    assert verdict.losses == [Loss(1, HELD, 400)]
    assert verdict.now is not None
    assert (verdict.now.epoch, verdict.now.size) == (2, 4)


def test_a_restore_of_everything_loses_nothing() -> None:
    """Where the backup had it all, the end of the earlier log is held to it, too."""
    verdict = watched([LOG.at(9).kept()], ENDED, restored(held=400))
    assert (verdict.faults, verdict.losses) == ([], [])


def test_a_restore_of_nothing_is_told_as_such() -> None:
    """A backup without the log leaves its end, and nothing to compare with."""
    verdict = watched([LOG.at(9).kept()], restored(held=0))
    assert (verdict.faults, verdict.losses) == ([], [Loss(1, 0, 400)])


def test_attack_a_restore_that_forgets_what_was_acknowledged() -> None:
    """A restore from before a kept checkpoint is a rollback with a story."""
    fault = only(watched([LOG.at(500).kept()], LOG.at(HELD), restored()))
    assert fault.kind == "restore"
    assert "before" in fault.text


def test_attack_a_restore_of_a_forged_history() -> None:
    """The held entries are held to the kept checkpoint as in any log."""
    forged = Shown([*leaves(100), *leaves(200, "forged")])
    fault = only(watched([LOG.at(250).kept()], forged, restored()))
    assert fault.kind == "fork"
    assert proven(fault)


def test_attack_a_restore_that_ends_elsewhere() -> None:
    """The last known checkpoint must be the one that was kept at its size."""
    elsewhere = Shown([*leaves(399), b"another end"])
    fault = only(watched([ENDED.kept()], LOG.at(HELD), restored(last=elsewhere)))
    assert fault.kind == "fork"


def test_attack_a_whole_restore_of_another_history() -> None:
    """Where nothing is said to be lost, what is held must lead to its end."""
    other = Shown([*leaves(10), *leaves(390, "forged")])
    fault = only(watched([LOG.at(5).kept()], other, restored(held=400)))
    assert fault.kind == "fork"


OTHERWISE = continued("acme", 2, []).data.replace(b"continued", b"conflict")


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (Shown(leaves(9), epoch=2), "begins with no entry"),
        (restored(held=401), "another's"),
        (replace(restored(), epoch=3), "another log's"),
        (Shown([continued("acme", 2, []).data], epoch=2), "not accounted for"),
        (restored(last=replace(ENDED, epoch=3)), "another's"),
        (restored(held=299), "is not the 299 entries"),
        (Shown([OTHERWISE], epoch=2), "does not say"),
    ],
)
def test_attack_a_new_epoch_that_accounts_for_nothing(shown: Shown, why: str) -> None:
    """Beginning anew is a rollback unless the first entry says from where."""
    fault = only(watched([LOG.at(250).kept()], LOG.at(HELD), shown))
    assert fault.kind == "restore"
    assert why in fault.text


def test_attack_a_first_entry_that_is_not_in_the_log() -> None:
    """What the new epoch says of the old one is signed with everything else."""

    class Saying(Shown):
        """Shows the entry of another log first."""

        def entries(self, number: int, width: int) -> bytes:
            return restored().entries(number, width)

    shown = Saying([b"something else", *leaves(3, "new")], epoch=2)
    fault = only(watched([LOG.at(250).kept()], LOG.at(HELD), shown))
    assert fault.kind == "restore"
    assert "not under this root" in fault.text


def test_attack_an_end_that_nobody_signed() -> None:
    """The last known checkpoint is signed by the log's key, or it is none."""
    stranger = replace(ENDED, signer=MemoryKeys().signer("audit"))
    fault = only(watched([LOG.at(9).kept()], LOG.at(HELD), restored(last=stranger)))
    assert fault.kind == "restore"


def test_attack_a_rollback_to_an_earlier_epoch() -> None:
    """An epoch that was once is not undone."""
    fault = only(watched([restored().kept()], LOG))
    assert fault.kind == "rollback"


def test_evidence_that_proves_nothing_is_refused() -> None:
    """Evidence is checked by its notes, and never by what it says."""
    fork = Shown([*leaves(299), b"other"])
    document = only(watched([fork.kept()], LOG)).evidence("acme")
    assert verify_evidence(document, VERIFIERS)
    honest = {**document, "notes": [LOG.at(9).checkpoint(), LOG.checkpoint()]}
    two = [restored(more=3).checkpoint(), LOG.at(4).checkpoint()]
    others = {**document, "notes": two, "proof": None}
    same = {**document, "notes": [LOG.checkpoint()] * 2, "proof": None}
    broken = copy.deepcopy(document)
    broken["proof"]["root"] = bytes(32).hex()
    for wrong in (honest, others, same, broken, {}, {"notes": [1, 2], "proof": None}):
        with pytest.raises(VerificationError):
            verify_evidence(wrong, VERIFIERS)
    with pytest.raises(VerificationError, match="not signed"):
        verify_evidence(document, [NoteVerifier("guise.audit/acme", bytes(32))])


def test_evidence_of_an_honest_growth_is_no_fork() -> None:
    """The right root at the older size shows one history, however it is told."""
    log, older = LOG, LOG.at(299)
    fault = only(watched([Shown([*leaves(298), b"x"]).kept()], log))
    document = fault.evidence("acme")
    document["notes"] = [older.checkpoint(), log.checkpoint()]
    document["proof"]["root"] = older.kept().checkpoint.root.hex()
    with pytest.raises(VerificationError, match="one history"):
        verify_evidence(document, VERIFIERS)


def test_notes_are_found_in_whatever_holds_them() -> None:
    """A file of notes, a job's record, a list of receipts a line, a tlog-proof."""
    one, two = LOG.at(3).checkpoint(), LOG.checkpoint()
    record = {"receipt": {"index": 2, "checkpoint": one}, "more": [{"c": two}], "n": 1}
    proof = f"c2sp.org/tlog-proof@v1\nindex 5\nAAAA\nBBBB\n\n{two}"
    assert find_notes(one + two + one) == [one, two]
    assert sorted(find_notes(json.dumps(record))) == sorted([one, two])
    assert sorted(find_notes(json.dumps(record, indent=1))) == sorted([one, two])
    lines = "\n".join(json.dumps({"checkpoint": each}) for each in (one, two))
    assert find_notes(lines) == [one, two]
    assert find_notes(proof) == [two]
    assert find_notes("{broken\n[1, 2]\n\n— x AAAA\n") == []
    assert only_notes(one + "\n" + two)
    assert not only_notes(proof)


@pytest.mark.parametrize(
    "name",
    [
        "acme",
        "guise.audit/",
        "guise.audit/ACME",
        "guise.audit/acme/1",
        "guise.audit/acme/02",
    ],
)
def test_a_note_of_no_log_of_ours_is_refused(name: str) -> None:
    """Each log has one name."""
    note = LOG.checkpoint().replace("guise.audit/acme", name)
    with pytest.raises(VerificationError, match="no log of ours"):
        open_kept(note, VERIFIERS)


def test_a_key_named_for_one_epoch_verifies_them_all() -> None:
    """Whoever has the log's key from before a restore need not be given another."""
    later = Shown(leaves(2), epoch=7).checkpoint()
    assert open_kept(later, VERIFIERS).epoch == 7
    assert in_epoch(VERIFIERS, "other", 1) == []
    [named] = in_epoch(VERIFIERS, "acme", 7)
    assert named.name == origin("acme", 7)
