"""A bundle and the attacks on it, each named.  What is checked has no database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from functions import events
from functions.audit.checking import verify_proof
from functions.audit.manifest import Range
from functions.audit.merkle import leaf_hash
from functions.audit.tiles import (
    bundle_bytes,
    parse_bundle,
)
from tests.audit.bundles import (
    FIRST,
    LOG,
    SECOND,
    SIZE,
    THIRD,
    VERIFIERS,
    Made,
    broken,
    bundle,
    changed,
    check,
    files,
    started,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def entries(change: Callable[[list[bytes]], object]) -> Callable[[bytes], bytes]:
    """Return a change of the entries in a file."""

    def apply(data: bytes) -> bytes:
        leaves = parse_bundle(data)
        change(leaves)
        return bundle_bytes(leaves)

    return apply


def flipped(offset: int) -> Callable[[bytes], bytes]:
    """Return a change of one entry: another operation in it."""

    def flip(leaves: list[bytes]) -> None:
        leaves[offset] = leaves[offset].replace(b"job-", b"jab-")

    return entries(flip)


def rehashed(data: bytes) -> bytes:
    """Return the tile over the entries in a file."""
    return b"".join(map(leaf_hash, parse_bundle(data)))


# --- what holds --------------------------------------------------------------


def test_an_honest_bundle_verifies(whole: Path) -> None:
    """The attacks below fail for what they change, and not for anything else."""
    report = check(whole)
    assert report.verified, report.fault
    assert report.warnings == []
    [log] = report.logs
    assert (log.epoch, log.origin, log.size) == (1, "guise.audit/acme", SIZE)
    assert (log.entries, log.hashes, log.checkpoints) == (SIZE, 0, 4)
    assert log.types == {events.SWAP_STARTED: 350, events.SWAP_COMPLETED: 350}
    assert (log.first, log.last) == (
        "2026-11-21T12:00:00.000Z",
        "2026-11-21T12:11:39.000Z",
    )


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513])
def test_a_log_of_any_size_verifies(size: int, tmp_path: Path) -> None:
    """Tiles that are just full, or just not, are as good as others."""
    path = bundle(tmp_path / "b", Made(LOG.leaves[:size]).piece(notes=(1, size)))
    report = check(path)
    assert report.verified, report.fault
    assert report.logs[0].entries == size


@pytest.mark.parametrize(
    ("start", "stop", "held"),
    [(0, 1, 256), (255, 257, 512), (300, 310, 256), (512, 700, 188), (699, 700, 188)],
)
def test_a_period_verifies(start: int, stop: int, held: int, tmp_path: Path) -> None:
    """A part of a log is proven under the root of all of it, in whole bundles."""
    piece = LOG.piece(Range(start, stop))
    noon = 1_795_262_400
    times = [events.rfc3339_of((noon + each) * 1000) for each in (start, stop)]
    path = bundle(tmp_path / "b", piece, after=times[0], before=times[1])
    report = check(path)
    assert report.verified, report.fault
    assert report.logs[0].entries == held
    names = files(path).keys()
    assert len([name for name in names if "entries" in name]) == -(-held // 256)


def test_a_period_without_entries_verifies(tmp_path: Path) -> None:
    """That nothing happened is shown as a log of which nothing is in the bundle."""
    path = bundle(tmp_path / "b", LOG.piece(Range(0, 0)))
    report = check(path)
    assert report.verified, report.fault
    assert report.logs[0].entries == 0


def test_one_job_verifies(tmp_path: Path) -> None:
    """A job's entries stand alone, each in a file that needs nothing but the key."""
    path = bundle(
        tmp_path / "b", LOG.piece(Range(0, 0), single=(600, 601)), job="job-300"
    )
    report = check(path)
    assert report.verified, report.fault
    assert (report.job, report.logs[0].entries) == ("job-300", 2)
    text = files(path)["proofs/601.tlog-proof"].decode()
    checkpoint, index, said = verify_proof(text, VERIFIERS)
    assert (checkpoint.size, index, said["data"]["job"]) == (SIZE, 601, "job-300")


def test_pruned_entries_are_hashes(tmp_path: Path) -> None:
    """What retention dropped is still in the tree, and is said to be dropped."""
    path = bundle(tmp_path / "b", LOG.piece(minimum=512))
    report = check(path)
    assert report.verified, report.fault
    assert (report.logs[0].hashes, report.logs[0].entries) == (512, 188)
    assert FIRST not in files(path)


def test_progress_is_told(whole: Path) -> None:
    """Whoever waits hears of every bundle of entries."""
    said: list[tuple[int, int]] = []
    check(whole, progress=lambda done, all_: said.append((done, all_)))
    assert said == [(256, SIZE), (512, SIZE), (SIZE, SIZE)]


# --- attacks on entries ------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 255, 256, 511, 512, 699])
def test_attack_flip(whole: Path, index: int) -> None:
    """One character in one entry is found, and the entry is named."""
    name = (FIRST, SECOND, THIRD)[index // 256]
    changed(whole, {name: flipped(index % 256)})
    fault = broken(whole, f"entry {index} is not what the log holds")
    assert (fault.epoch, fault.first, fault.last) == (1, index, index)
    assert fault.job == f"jab-{index // 2}"
    assert fault.type == (events.SWAP_COMPLETED if index % 2 else events.SWAP_STARTED)


def test_attack_flip_names_the_first(whole: Path) -> None:
    """Of several entries that were changed, the first is named."""
    changed(whole, {THIRD: flipped(3), SECOND: flipped(7), FIRST: flipped(200)})
    assert broken(whole, "entry 200 ").first == 200


def test_attack_an_entry_that_is_no_json(whole: Path) -> None:
    """What cannot be read is named by its place."""
    changed(whole, {SECOND: entries(lambda leaves: leaves.__setitem__(4, b"\xff"))})
    fault = broken(whole, "entry 260 is not what the log holds")
    assert (fault.first, fault.job, fault.type) == (260, "", "")


def test_attack_delete(whole: Path) -> None:
    """An entry less moves those after it, and the first of them is named."""
    changed(whole, {FIRST: entries(lambda leaves: leaves.pop(9))})
    assert broken(whole, "entry 9 ").first == 9


def test_attack_delete_at_the_end(whole: Path) -> None:
    """An entry less at the end of a bundle is missing there."""
    changed(whole, {FIRST: entries(lambda leaves: leaves.pop())})
    assert broken(whole, "entry 255 is missing").first == 255


def test_attack_delete_a_whole_bundle(whole: Path) -> None:
    """A file that the manifest needs is missed before anything else is looked at."""
    broken(changed(whole, {SECOND: None}), f"{SECOND} is not in the bundle")


def test_attack_reorder(whole: Path) -> None:
    """The order is part of what is signed."""

    def swap(leaves: list[bytes]) -> None:
        leaves[20], leaves[30] = leaves[30], leaves[20]

    assert broken(changed(whole, {SECOND: entries(swap)}), "entry 276 ").first == 276


def test_attack_reorder_bundles(whole: Path) -> None:
    """Two whole bundles do not change places either."""
    content = files(whole)
    changed(whole, {FIRST: content[SECOND], SECOND: content[FIRST]})
    assert broken(whole, "entry 0 ").first == 0


def test_attack_truncate(whole: Path) -> None:
    """The last entries cannot be left off."""
    changed(
        whole, {THIRD: entries(lambda leaves: leaves.__delitem__(slice(100, None)))}
    )
    assert broken(whole, "entry 612 is missing").first == 612


@pytest.mark.parametrize("kept", [0, 1, 21, 22, 1000, -1, -22])
def test_attack_truncate_the_file(whole: Path, kept: int) -> None:
    """A part of the file is no bundle."""
    whole.write_bytes(whole.read_bytes()[:kept])
    broken(whole, "not a bundle")


def test_attack_truncate_in_the_middle_of_an_entry(whole: Path) -> None:
    """A bundle of entries that ends in the middle of one is refused."""
    broken(changed(whole, {THIRD: lambda data: data[:-1]}), "cut short")


@pytest.mark.parametrize("offset", [0, 100, 255, 256])
def test_attack_insert(whole: Path, offset: int) -> None:
    """An entry more is named, at whatever place."""
    extra = started(9_999, "job-9999")
    changed(whole, {FIRST: entries(lambda leaves: leaves.insert(offset, extra))})
    fault = broken(whole, f"entry {offset} is not what the log holds")
    assert (fault.first, fault.job) == (offset, "job-9999")


def test_attack_replay(whole: Path) -> None:
    """An entry shown again in another's place is named there."""

    def again(leaves: list[bytes]) -> None:
        leaves[50] = leaves[10]

    assert broken(changed(whole, {FIRST: entries(again)}), "entry 50 ").first == 50


def test_attack_replay_by_the_holder_of_the_key(tmp_path: Path) -> None:
    """A log signed with the same entry twice breaks the promise of exactly once."""
    leaves = told(300)
    leaves[281] = leaves[21]
    path = bundle(tmp_path / "b", Made(leaves).piece())
    fault = broken(path, "entry 281 is entry 21 of epoch 1 a second time")
    assert (fault.first, fault.job) == (281, "job-10")


# --- attacks on hashes -------------------------------------------------------


def test_attack_flip_with_its_tile(whole: Path) -> None:
    """Changed with its hash, an entry is not found, but its 256 are."""
    changed(whole, {SECOND: flipped(0)})
    changed(whole, {"tile/0/001": rehashed(files(whole)[SECOND])})
    fault = broken(whole, "not what was signed")
    # The checkpoint at 300 is the first that does not hold any more.
    assert (fault.first, fault.last) == (256, 299)


def test_attack_flip_with_its_tile_past_the_last_checkpoint(whole: Path) -> None:
    """What earlier checkpoints prove is not suspected."""
    changed(whole, {THIRD: flipped(180)})
    changed(whole, {"tile/0/002.p/188": rehashed(files(whole)[THIRD])})
    fault = broken(whole, "not what was signed")
    assert (fault.first, fault.last) == (650, 699)


def test_attack_flip_with_every_tile(tmp_path: Path) -> None:
    """Changed consistently up to the root, it is between two signed checkpoints."""
    path = bundle(tmp_path / "b", LOG.piece(notes=(100, 300, 600, 650)))
    leaves = list(LOG.leaves)
    leaves[400] = leaves[400].replace(b"job-", b"jab-")
    forged = bundle(tmp_path / "f", Made(leaves).piece())
    tiles = {name: each for name, each in files(forged).items() if "tile/" in name}
    changed(path, tiles)
    fault = broken(path, "not what was signed")
    assert (fault.first, fault.last) == (300, 599)


def test_attack_a_changed_tile_under_honest_entries(whole: Path) -> None:
    """Entries that fold to what is signed are the log's, whatever their tile says."""
    changed(whole, {"tile/0/001": lambda row: row[:320] + bytes(32) + row[352:]})
    fault = broken(whole, "tile/0/001 was changed; the entries are the log's")
    assert (fault.first, fault.last) == (266, 266)


def test_attack_a_changed_edge(whole: Path) -> None:
    """Hashes that do not lead to the root prove nothing beyond the checkpoints."""
    changed(whole, {"tile/1/000.p/2": bytes(64)})
    fault = broken(whole, "not what was signed")
    assert (fault.first, fault.last) == (100, 299)


def test_attack_changed_hashes_of_pruned_entries(tmp_path: Path) -> None:
    """What is there as hashes alone is proven as well."""
    path = bundle(tmp_path / "b", LOG.piece(minimum=512))
    changed(path, {"tile/0/001": lambda row: bytes(32) + row[32:]})
    fault = broken(path, "the hashes do not lead to the root")
    assert (fault.first, fault.last) == (256, 699)


def test_attack_changed_tiles_of_which_nothing_is_shown(tmp_path: Path) -> None:
    """Even where no entry is in the bundle, its tiles lead to the root."""
    path = bundle(tmp_path / "b", LOG.piece(Range(0, 0)))
    changed(path, {"tile/1/000.p/2": bytes(64)})
    broken(path, "the tiles do not lead to the signed root")


def test_attack_a_tile_that_is_cut(whole: Path) -> None:
    """A tile has the hashes that its name says."""
    broken(changed(whole, {"tile/0/001": lambda row: row[:-32]}), "has not 256 hashes")


def test_attack_in_a_log_of_many_tiles(tmp_path: Path) -> None:
    """In a log with tiles over tiles, an entry is found, and a tile on the way."""
    blank = b'{"data":{},"id":"%d"}'
    leaves = [blank % each for each in range(70_000)]
    log = Made(leaves)
    path = tmp_path / "b"
    wanted = Range(40_000, 40_001)
    bundle(path, log.piece(wanted))
    names = files(path).keys()
    assert {"tile/0/156", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"} < names
    broken(path, "entry 39936 has no source")  # what they say is looked at last
    changed(path, {"tile/entries/156": entries(lambda e: e.__setitem__(64, b"x"))})
    assert broken(path, "entry 40000 is not what the log holds").first == 40_000
    bundle(path, log.piece(wanted))
    changed(
        path, {"tile/1/000": lambda row: row[: 156 * 32] + bytes(32) + row[157 * 32 :]}
    )
    fault = broken(path, "not what was signed")
    assert (fault.first, fault.last) == (39_936, 65_535)
