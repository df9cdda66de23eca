"""A few inputs for each parser; `make fuzz` gives them a million."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from functions import events
from functions.audit.archive import Archive
from functions.audit.merkle import VerificationError
from functions.problems import InvalidRequest, Unreadable
from functions.swap.job import SwapJob
from functions.swap.media import decode
from tests.fuzz import run
from tests.fuzz.mutating import inputs
from tests.fuzz.seeds import KEEP, pictures
from tests.fuzz.targets import ACME, LIMITS, Target, mended_png, targets

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = 250
SEED = 1


@pytest.mark.parametrize("name", targets())
def test_fuzz_parser(name: str) -> None:
    """Whatever comes, it is read or refused: no other error, no broken promise."""
    target = targets()[name]
    for data in inputs(target, INPUTS, SEED):
        target.run(data)


@pytest.mark.parametrize("name", targets())
def test_every_seed_is_worth_its_mutations(name: str) -> None:
    """A target's seeds are within its size, and the same seed gives the same inputs."""
    target = targets()[name]
    assert all(len(each) <= target.bytes_max for each in target.seeds)
    assert [*inputs(target, 30, SEED)] == [*inputs(target, 30, SEED)]


def test_a_mended_png_is_read_again() -> None:
    """Its checksums are made good, and nothing else: mutations get to the pixels."""
    good = next(each for each in pictures() if each.startswith(b"\x89PNG"))
    assert mended_png(good) == good
    broken = good[:-1] + bytes((good[-1] ^ 1,))
    with pytest.raises(Unreadable):
        decode(broken)
    decode(mended_png(broken))


def falls(data: bytes) -> None:
    """Fall over whatever is not a seed."""
    if data != b"seed":
        raise RuntimeError("a finding")


def test_a_finding_is_told_and_kept(tmp_path: Path) -> None:
    """By chance alone, too: the input that did it lies beside the report."""
    with pytest.raises(RuntimeError, match="a finding"):
        run.by_chance(Target("falls", falls, [b"seed"]), 5, SEED, tmp_path / "r.json")
    [kept] = tmp_path.glob("falls-found-*")
    assert kept.read_bytes() != b"seed"
    assert not (tmp_path / "r.json").exists()


def test_a_run_reports_each_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real run, in a process of its own: inputs, speed, growth, findings."""
    asked = ["--only", "job", "--inputs", "200", "--out", str(tmp_path)]
    assert run.main(asked) == 0
    job, whole = map(json.loads, capsys.readouterr().out.splitlines())
    assert (job["target"], job["inputs"], job["findings"]) == ("job", 200, [])
    assert job["executions_per_second"] > 0
    assert whole["fine"]


def test_a_target_that_dies_is_no_fine_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that ends without its report is a finding, not a run of none."""
    assert run.main(["--only", "nobody", "--inputs", "5", "--out", str(tmp_path)]) == 1
    assert not json.loads(capsys.readouterr().out.splitlines()[-1])["fine"]


def test_the_shares_add_up_to_what_was_asked() -> None:
    """The slow ones get less, the others the same, and all of it is given."""
    names = list(targets())
    shared = run.shares(names, 1_000_000)
    assert 1_000_000 <= sum(shared.values()) <= 1_000_000 + len(names)
    assert shared["bundle"] < shared["tenant"] < shared["job"]


def test_attack_a_bundle_whose_files_lie_before_it(tmp_path: Path) -> None:
    """An end record that moves every offset below zero is no bundle, and no error."""
    good = next(each[1:] for each in targets()["bundle"].seeds if each[:1] == b"\xff")
    end = good.rindex(b"PK\x05\x06")
    offset = int.from_bytes(good[end + 16 : end + 20], "little") + 900
    path = tmp_path / "b.zip"
    path.write_bytes(good[: end + 16] + offset.to_bytes(4, "little") + good[end + 20 :])
    with pytest.raises(VerificationError, match="before its beginning"):
        Archive(path)


def test_attack_a_bundle_whose_second_names_are_no_text(tmp_path: Path) -> None:
    """A name stands twice in a zip: the one before a file may be no UTF-8."""
    good = next(each[1:] for each in targets()["bundle"].seeds if each[:1] == b"\xff")
    bent, name = bytearray(good), b"tile/0/001.p/8"
    at = good.index(name)
    bent[at : at + len(name)] = b"\xfa" * len(name)
    bent[at - 30 + 7] |= 8  # the flag that says it is
    path = tmp_path / "b.zip"
    path.write_bytes(bent)
    with Archive(path) as archive, pytest.raises(VerificationError, match="0xfa"):
        archive.read(name.decode())


def test_an_extension_that_says_nothing_is_none() -> None:
    """It is left out when an event is sent on or kept, so nobody has it before."""
    document = {"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}
    found = events.from_dict({**document, "empty": "", "said": "x"})
    assert found.extensions == {"said": "x"}
    assert events.from_dict(events.as_dict(found)) == found


def test_an_index_beyond_any_face_is_refused() -> None:
    """A number that has no canonical form would leave a job without a digest."""
    ask = {**KEEP, "keep": [{"index": 2**53}]}
    with pytest.raises(InvalidRequest, match="index"):
        SwapJob.parse(
            msgspec.json.encode(ask), job="j", tenant=ACME, actor="a", limits=LIMITS
        )
