"""Which version a tenant gets is decided by rules, and every change is written down."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import channels
from models.channels import BUCKETS, CHANNELS, Channel, Channels, Line, Shares
from models.errors import ChannelRefused
from models.inventory import inventory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SALT = "00112233445566778899aabbccddeeff"
FULL = Line("paper", SALT, ("1.0.0", "1.2.0"), ("1.0.0", "1.1.0"), ("1.0.0",))
"""alpha 1.2.0, beta 1.1.0, stable 1.0.0."""

tenants = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")
shares = st.integers(0, BUCKETS)


def with_shares(alpha: int, beta: int) -> Line:
    return channels.share(channels.share(FULL, "alpha", alpha), "beta", beta)


# --- buckets -----------------------------------------------------------------


def test_bucket_as_anybody_can_compute_it() -> None:
    """A bucket is SHA-256 of the salt, a newline and the tenant, modulo 10,000."""
    digest = hashlib.sha256(b"00112233445566778899aabbccddeeff\nacme").hexdigest()
    assert channels.bucket(SALT, "acme") == int(digest, 16) % 10_000


@given(tenants, shares, shares)
def test_sticky(tenant: str, alpha: int, beta: int) -> None:
    """A tenant's bucket is its own: shares, versions and other tenants move nothing."""
    line = channels.pin(with_shares(alpha, beta), "someone-else", "1.0.0")
    found = channels.resolve(line, tenant)
    assert found.bucket == channels.bucket(SALT, tenant)
    assert found == channels.resolve(line, tenant)


@given(tenants, st.tuples(shares, shares), st.tuples(shares, shares))
def test_monotone(tenant: str, first: tuple[int, int], more: tuple[int, int]) -> None:
    """A share that grows takes tenants nearer to alpha, and none away from it."""
    (a, b), (more_a, more_b) = first, more
    rank = [str(channel) for channel in CHANNELS].index
    before = channels.resolve(with_shares(a, b), tenant)
    larger = with_shares(min(BUCKETS, a + more_a), min(BUCKETS, b + more_b))
    after = channels.resolve(larger, tenant)
    assert rank(after.channel) <= rank(before.channel)


@given(tenants, shares)
def test_all_and_nobody(tenant: str, beta: int) -> None:
    """The whole share is everybody and no share is nobody, whatever the other is."""
    assert channels.resolve(with_shares(BUCKETS, beta), tenant).channel == "alpha"
    assert channels.resolve(with_shares(0, beta), tenant).channel != "alpha"
    assert channels.resolve(with_shares(0, 0), tenant).channel == "stable"


@pytest.mark.parametrize("salt", [SALT, "f" * 32])
@pytest.mark.parametrize("basis_points", [100, 1_000, 2_500, 5_000])
def test_distribution(salt: str, basis_points: int) -> None:
    """Of 20,000 tenants a share gets its part, to within five standard deviations."""
    count, part = 20_000, basis_points / BUCKETS
    line = channels.share(Line("p", salt, ("1.0.0",), (), ("0.9.0",)), "alpha", 0)
    line = channels.share(line, "alpha", basis_points)
    got = sum(
        channels.resolve(line, f"t{number}").channel == "alpha"
        for number in range(count)
    )
    assert abs(got - count * part) < 5 * (count * part * (1 - part)) ** 0.5


def test_another_salt_takes_others() -> None:
    """Two packs do not try everything new on the same tenants."""
    names = [f"t{number}" for number in range(2_000)]
    first, second = (
        {name for name in names if channels.bucket(salt, name) < 1_000}
        for salt in (SALT, "f" * 32)
    )
    assert len(first & second) < 2 * len(names) * 0.1 * 0.1


# --- the rules ---------------------------------------------------------------


def test_the_reason_is_told() -> None:
    """What decided is said in words, with the numbers that it was decided by."""
    own = channels.bucket(SALT, "acme")
    told = channels.resolve(with_shares(own, own + 1), "acme")
    assert (told.version, told.channel) == ("1.1.0", "beta")
    assert told.reason == f"bucket {own} is below beta's share of {own + 1}"
    told = channels.resolve(FULL, "acme")
    assert (told.version, told.channel) == ("1.0.0", "stable")


def test_the_edge_of_a_share() -> None:
    """A share of n holds the buckets 0 to n - 1."""
    own = channels.bucket(SALT, "acme")
    assert channels.resolve(with_shares(own, 0), "acme").channel == "stable"
    assert channels.resolve(with_shares(own + 1, 0), "acme").channel == "alpha"


@given(tenants, shares, shares)
def test_a_pin_comes_first(tenant: str, alpha: int, beta: int) -> None:
    """No share moves a tenant that is pinned, to a version or to a channel."""
    line = with_shares(alpha, beta)
    told = channels.resolve(channels.pin(line, tenant, "0.9.0"), tenant)
    assert (told.version, told.channel) == ("0.9.0", "")
    told = channels.resolve(channels.pin(line, tenant, "beta"), tenant)
    assert (told.version, told.channel) == ("1.1.0", "beta")
    line = channels.unpin(channels.pin(line, tenant, "beta"), tenant)
    assert channels.resolve(line, tenant) == channels.resolve(
        with_shares(alpha, beta), tenant
    )


def test_a_share_of_an_empty_channel() -> None:
    """A share of a channel with nothing in it goes to the rest."""
    line = Line("p", SALT, stable=("1.0.0",), shares=Shares(BUCKETS, BUCKETS))
    assert channels.resolve(line, "acme").version == "1.0.0"


@pytest.mark.parametrize("pinned", ["", "beta"])
def test_nothing_to_be_had(pinned: str) -> None:
    """Where a tenant would get nothing, the empty channel is named."""
    line = Line("p", SALT, alpha=("1.0.0",))
    line = channels.pin(line, "acme", pinned) if pinned else line
    with pytest.raises(ChannelRefused, match=f"nothing in {pinned or 'stable'}"):
        channels.resolve(line, "acme")


# --- promotion and rollback --------------------------------------------------


def test_a_version_goes_from_channel_to_channel() -> None:
    """Into alpha by name, on from where it is; and back to what was there before."""
    line = channels.promote(Line("p", SALT), "alpha", "1.0.0")
    line = channels.promote(line, "beta")
    line = channels.promote(line, "stable", "1.0.0")
    line = channels.promote(line, "alpha", "1.10.0")
    line = channels.promote(line, "beta")
    line = channels.promote(line, "stable")
    assert [line.current(each) for each in CHANNELS] == ["1.10.0"] * 3
    line = channels.rollback(line, "stable")
    assert [line.current(each) for each in CHANNELS] == ["1.10.0", "1.10.0", "1.0.0"]
    assert channels.promote(line, "stable").current("stable") == "1.10.0"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda: channels.promote(FULL, "alpha"), "name the version"),
        (lambda: channels.promote(FULL, "alpha", "1.2.0"), "no newer than 1.2.0"),
        (lambda: channels.promote(FULL, "alpha", "1.1.9"), "no newer than 1.2.0"),
        (lambda: channels.promote(FULL, "stable", "1.2.0"), "beta has 1.1.0 to prom"),
        (lambda: channels.promote(Line("p", SALT), "beta"), "alpha has nothing"),
        (lambda: channels.rollback(FULL, "stable"), "no version to go back to"),
        (lambda: channels.rollback(Line("p", SALT), "beta"), "no version to go back"),
        (lambda: channels.share(FULL, "stable", 1), "stable has no share"),
        (lambda: channels.share(FULL, "beta", BUCKETS + 1), "0 to 10000"),
        (lambda: channels.share(FULL, "beta", -1), "0 to 10000"),
        (lambda: channels.pin(FULL, "acme", "newest"), "acme cannot be pinned to new"),
        (lambda: channels.pin(FULL, "../acme", "1.0.0"), "cannot be pinned"),
        (lambda: channels.unpin(FULL, "acme"), "acme is not pinned"),
    ],
)
def test_what_is_not_allowed(step: Callable[[], Line], message: str) -> None:
    """No version skips a channel or enters one backwards; nothing is guessed."""
    with pytest.raises(ChannelRefused, match=message):
        step()


def test_versions_are_ordered_as_numbers() -> None:
    """1.10.0 is newer than 1.9.0."""
    line = channels.promote(Line("p", SALT), "alpha", "1.9.0")
    assert channels.promote(line, "alpha", "1.10.0").current("alpha") == "1.10.0"


@given(st.lists(st.tuples(st.sampled_from(CHANNELS), st.booleans()), max_size=40))
def test_channels_always_ascend(steps: list[tuple[Channel, bool]]) -> None:
    """Whatever is promoted and rolled back, no channel is ahead of the one before.

    That is, of all that the one before has ever had.
    """
    line, had = Line("p", SALT), {channel: {""} for channel in CHANNELS}
    for number, (channel, forwards) in enumerate(steps):
        try:
            if forwards:
                line = channels.promote(
                    line, channel, f"1.{number}.0" if channel == "alpha" else ""
                )
            else:
                line = channels.rollback(line, channel)
        except ChannelRefused:
            continue
        had[channel].add(line.current(channel))
        versions = [int(each.split(".")[1]) for each in getattr(line, channel)]
        assert versions == sorted(set(versions))
    assert had["stable"] <= had["beta"] <= had["alpha"]


# --- the file ----------------------------------------------------------------


def enter(root: Path, version: str, actor: str = "ada") -> Line:
    """Promote a version to alpha."""
    return channels.change(
        root,
        "paper",
        "promote",
        "alpha",
        lambda line: channels.promote(line, "alpha", version),
        actor=actor,
    )


def test_every_change_is_in_the_history(tmp_path: Path) -> None:
    """When, who, what it was before and what it is now; and it is read back."""
    enter(tmp_path, "1.0.0")
    enter(tmp_path, "1.1.0", actor="grace")
    channels.change(
        tmp_path,
        "paper",
        "share",
        "beta",
        lambda line: channels.share(line, "beta", 500),
        actor="ada",
    )
    for target in ("alpha", "1.0.0"):
        channels.change(
            tmp_path,
            "paper",
            "pin",
            "acme",
            lambda line, target=target: channels.pin(line, "acme", target),  # type: ignore[misc]
            actor="ada",
        )
    channels.change(
        tmp_path,
        "paper",
        "unpin",
        "acme",
        lambda line: channels.unpin(line, "acme"),
        actor="ada",
    )
    channels.change(
        tmp_path,
        "paper",
        "rollback",
        "alpha",
        lambda line: channels.rollback(line, "alpha"),
        actor="ada",
    )
    state = channels.load(tmp_path)
    told = [
        (each.actor, each.action, each.of, each.before, each.after)
        for each in state.history
    ]
    assert told == [
        ("ada", "promote", "alpha", "", "1.0.0"),
        ("grace", "promote", "alpha", "1.0.0", "1.1.0"),
        ("ada", "share", "beta", "0", "500"),
        ("ada", "pin", "acme", "", "alpha"),
        ("ada", "pin", "acme", "alpha", "1.0.0"),
        ("ada", "unpin", "acme", "1.0.0", ""),
        ("ada", "rollback", "alpha", "1.1.0", "1.0.0"),
    ]
    assert [each.at for each in state.history] == sorted(
        each.at for each in state.history
    )
    assert state.line().alpha == ("1.0.0",)


def test_the_salt_is_drawn_once(tmp_path: Path) -> None:
    """Each pack has a salt of its own, and keeps it."""
    first = enter(tmp_path, "1.0.0").salt
    assert enter(tmp_path, "1.1.0").salt == first
    assert enter(tmp_path / "other", "1.0.0").salt != first


def test_what_is_refused_leaves_no_trace(tmp_path: Path) -> None:
    """A change that is not allowed, or changes nothing, is not in the file."""
    enter(tmp_path, "1.0.0")
    before = (tmp_path / channels.NAME).read_bytes()
    with pytest.raises(ChannelRefused, match="no newer"):
        enter(tmp_path, "1.0.0")
    with pytest.raises(ChannelRefused, match="beta is 0 already"):
        channels.change(
            tmp_path,
            "paper",
            "share",
            "beta",
            lambda line: channels.share(line, "beta", 0),
            actor="ada",
        )
    with pytest.raises(ChannelRefused, match="actor"):
        enter(tmp_path, "1.1.0", actor="")
    assert (tmp_path / channels.NAME).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".channels.json.lock",
        "channels.json",
    ]


def test_a_full_file(tmp_path: Path) -> None:
    """A history that leaves no room stops the change, and says what to do."""
    enter(tmp_path, "1.0.0")
    path = tmp_path / channels.NAME
    state = json.loads(path.read_bytes())
    state["history"] *= 25_000
    path.write_text(json.dumps(state, separators=(",", ":")))
    before = path.read_bytes()
    with pytest.raises(ChannelRefused, match="full; keep a copy"):
        enter(tmp_path, "1.1.0")
    assert path.read_bytes() == before


def test_two_at_once(tmp_path: Path) -> None:
    """Of many changes at the same time none is lost."""

    def pin(number: int) -> None:
        channels.change(
            tmp_path,
            "paper",
            "pin",
            f"t{number}",
            lambda line: channels.pin(line, f"t{number}", "stable"),
            actor="ada",
        )

    threads = [threading.Thread(target=pin, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = channels.load(tmp_path)
    assert len(state.history) == len(state.line("paper").pins) == 12


def test_no_file_is_no_channels(tmp_path: Path) -> None:
    """Before the first change there is nothing, and it is said what was asked for."""
    assert channels.load(tmp_path) == Channels()
    with pytest.raises(ChannelRefused, match="paper named; there: none"):
        channels.load(tmp_path).line("paper")


def test_several_packs(tmp_path: Path) -> None:
    """With two packs the one that is meant must be named."""
    enter(tmp_path, "1.0.0")
    assert channels.load(tmp_path).line().pack == "paper"
    channels.change(
        tmp_path,
        "glass",
        "promote",
        "alpha",
        lambda line: channels.promote(line, "alpha", "1.0.0"),
        actor="ada",
    )
    assert channels.load(tmp_path).line("glass").pack == "glass"
    with pytest.raises(ChannelRefused, match="none named; there: "):
        channels.load(tmp_path).line()


def test_the_file_is_no_pack(tmp_path: Path) -> None:
    """It lies beside the packs, and is not taken for one."""
    enter(tmp_path, "1.0.0")
    assert {entry.state for entry in inventory(tmp_path)} == {"absent"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.update(motto="x"), "unknown field `motto`"),
        (lambda s: s.update(format=2), "Invalid enum value 2"),
        (lambda s: s["lines"]["paper"].update(gamma=[]), "unknown field `gamma`"),
        (lambda s: s["lines"]["paper"].update(alpha=["1.0"]), "matching regex"),
        (lambda s: s["lines"]["paper"].update(salt="x"), "matching regex"),
        (lambda s: s["lines"]["paper"].update(pins={"a": "x"}), "matching regex"),
        (lambda s: s["lines"]["paper"]["shares"].update(beta=10_001), "<= 10000"),
        (lambda s: s["history"][0].pop("actor"), "missing required field `actor`"),
    ],
)
def test_the_file_is_strict(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    """What the file may not say is refused by name, and nothing is resolved from it."""
    enter(tmp_path, "1.0.0")
    path = tmp_path / channels.NAME
    state = json.loads(path.read_bytes())
    spoil(state)
    path.write_text(json.dumps(state))
    with pytest.raises(ChannelRefused, match=rf"^channels\.json: .*{message}"):
        channels.load(tmp_path)


def test_a_file_cut_short(tmp_path: Path) -> None:
    """Half a file is none, and one without end is not read to its end."""
    enter(tmp_path, "1.0.0")
    path = tmp_path / channels.NAME
    raw = path.read_bytes()
    path.write_bytes(raw[:-2])
    with pytest.raises(ChannelRefused, match="truncated"):
        channels.load(tmp_path)
    path.write_bytes(raw + b" " * channels.BYTES_MAX)
    with pytest.raises(ChannelRefused, match="more than"):
        channels.load(tmp_path)
