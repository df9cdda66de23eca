"""Which version of a pack a tenant gets, and why.

A pack has three channels.  A version enters `alpha`; what is in `alpha` is promoted
to `beta`, and what is in `beta` to `stable`.  Who gets what, the first that holds:

1. the tenant is pinned, to a version or to a channel;
2. the tenant's bucket lies below alpha's share: alpha;
3. the bucket lies below beta's share: beta;
4. stable.

The bucket is SHA-256 of (salt, tenant) modulo 10,000, so that a share is whole basis
points.  It depends on nothing else: a tenant stays in its bucket, and a share that
grows takes tenants in and lets none go.

The decisions are pure.  `load` and `change` are the rim: the state is one file,
`channels.json` beside the packs, with every change there ever was in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta, structs

from models.errors import ChannelRefused
from models.manifest import Id, SemVer, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME: Final = "channels.json"
BYTES_MAX: Final = 4 * 1024 * 1024
"""How long the state may be: some 20,000 changes."""
BUCKETS: Final = 10_000

Channel = Literal["alpha", "beta", "stable"]
CHANNELS: Final[tuple[Channel, ...]] = ("alpha", "beta", "stable")
Action = Literal["promote", "rollback", "share", "pin", "unpin"]
Share = Annotated[int, Meta(ge=0, le=BUCKETS)]
"""Basis points: hundredths of a percent."""
Target = Annotated[
    str,
    Meta(pattern=r"^(alpha|beta|stable|(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*))\Z"),
]
"""What a tenant is pinned to: a channel, or a version."""
TenantId = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")]


class Shares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the tenants gets a channel, or one before it.

    With `alpha` 100 and `beta` 500, 1 % get alpha and another 4 % beta.
    """

    alpha: Share = 0
    beta: Share = 0


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The channels of one pack: the versions in each, the current one last.

    A promotion adds a version to a channel and a rollback takes it away again, so
    they always ascend.  `pins` gives tenants a version, or a channel to follow.
    """

    pack: Id
    salt: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    alpha: tuple[SemVer, ...] = ()
    beta: tuple[SemVer, ...] = ()
    stable: tuple[SemVer, ...] = ()
    shares: Shares = Shares()
    pins: dict[TenantId, Target] = {}

    def current(self, channel: str) -> str:
        """Return the version in `channel`, empty when there is none."""
        there = {"alpha": self.alpha, "beta": self.beta, "stable": self.stable}
        return there[channel][-1] if there[channel] else ""


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change: when, who, and what it made of what.

    `of` is the channel, or the tenant whose pin it is; `before` and `after` are its
    version, its share in basis points or its pin, empty where there was none.
    """

    at: Text
    actor: Text
    action: Action
    pack: Id
    of: Text
    before: str
    after: str


class Channels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every pack's line, and the history of all of them, oldest first."""

    lines: dict[Id, Line] = {}
    history: tuple[Change, ...] = ()
    format: Literal[1] = 1

    def line(self, pack: str = "") -> Line:
        """Return the line of `pack`, or the only one there is.

        Raises:
            ChannelRefused: no such line, or several to choose from.
        """
        if pack and pack in self.lines:
            return self.lines[pack]
        known = ", ".join(self.lines) or "none"
        if pack or len(self.lines) != 1:
            raise ChannelRefused(f"which pack? {pack or 'none'} named; there: {known}")
        return next(iter(self.lines.values()))


_CHANNELS: Final = msgspec.json.Decoder(Channels)  # on one thread: see `manifest`


class Resolution(msgspec.Struct, frozen=True):
    """Which version a tenant gets, and why.  `channel` is empty for a version's pin."""

    tenant: str
    pack: str
    version: str
    channel: str
    bucket: int
    reason: str


# --- decisions ---------------------------------------------------------------


def bucket(salt: str, tenant: str) -> int:
    """Return which of the 10,000 buckets `tenant` is in: the same one always."""
    digest = hashlib.sha256(f"{salt}\n{tenant}".encode()).digest()
    return int.from_bytes(digest) % BUCKETS


def resolve(line: Line, tenant: str) -> Resolution:
    """Return which version `tenant` gets.

    Raises:
        ChannelRefused: there is nothing in the channel that it would get.
    """
    own = bucket(line.salt, tenant)
    channel, reason = _choice(line, tenant, own)
    version = line.current(channel) if channel else line.pins[tenant]
    if not version:
        raise ChannelRefused(f"{line.pack}: nothing in {channel} for {tenant}")
    return Resolution(tenant, line.pack, version, channel, own, reason)


def _choice(line: Line, tenant: str, own: int) -> tuple[str, str]:
    pin = line.pins.get(tenant)
    if pin is not None:
        return (pin if pin in CHANNELS else ""), f"{tenant} is pinned to {pin}"
    for channel, share in (("alpha", line.shares.alpha), ("beta", line.shares.beta)):
        if own < share and line.current(channel):
            return channel, f"bucket {own} is below {channel}'s share of {share}"
    return "stable", f"bucket {own} is in no share; stable is for the rest"


def promote(line: Line, to: Channel, version: str = "") -> Line:
    """Return the line with `version` in the channel `to`.

    Alpha takes any version; the others what is in the channel before, which is
    what `version` must be where it is given.

    Raises:
        ChannelRefused: another version is there to be promoted, or none, or one
            that is no newer than what `to` has.
    """
    if to != "alpha":
        before = CHANNELS[CHANNELS.index(to) - 1]
        there = line.current(before)
        if not there or version not in {"", there}:
            has = there or "nothing"
            raise ChannelRefused(f"{line.pack}: {before} has {has} to promote to {to}")
        version = there
    if not version:
        raise ChannelRefused(f"{line.pack}: name the version for alpha")
    current = line.current(to)
    if current and _order(version) <= _order(current):
        raise ChannelRefused(
            f"{line.pack}: {version} is no newer than {current} in {to}; to go back, "
            "roll back"
        )
    return _with(line, to, (*getattr(line, to), version))


def rollback(line: Line, channel: Channel) -> Line:
    """Return the line with the version in `channel` that was there before this one.

    Raises:
        ChannelRefused: there was none.
    """
    versions = getattr(line, channel)[:-1]
    if not versions:
        raise ChannelRefused(f"{line.pack}: {channel} has no version to go back to")
    return _with(line, channel, versions)


def share(line: Line, channel: Channel, basis_points: int) -> Line:
    """Return the line with another share of tenants in `channel`.

    Raises:
        ChannelRefused: `stable`, which is for the rest, or no share.
    """
    if channel == "stable":
        raise ChannelRefused("stable has no share: it is for the rest")
    if not 0 <= basis_points <= BUCKETS:
        raise ChannelRefused(f"a share is 0 to {BUCKETS} basis points")
    shares = structs.replace(line.shares, **{channel: basis_points})
    return structs.replace(line, shares=shares)


def pin(line: Line, tenant: str, target: str) -> Line:
    """Return the line with `tenant` pinned to a version, or to follow a channel.

    Raises:
        ChannelRefused: `tenant` or `target` cannot be one.
    """
    pinned = line.pins | {tenant: target}
    try:
        msgspec.convert(pinned, dict[TenantId, Target])
    except msgspec.ValidationError as error:
        raise ChannelRefused(f"{tenant} cannot be pinned to {target}") from error
    return structs.replace(line, pins=pinned)


def unpin(line: Line, tenant: str) -> Line:
    """Return the line without a pin of `tenant`.

    Raises:
        ChannelRefused: it has none.
    """
    if tenant not in line.pins:
        raise ChannelRefused(f"{line.pack}: {tenant} is not pinned")
    pins = {name: target for name, target in line.pins.items() if name != tenant}
    return structs.replace(line, pins=pins)


def _with(line: Line, channel: Channel, versions: tuple[str, ...]) -> Line:
    return structs.replace(line, **{channel: versions})


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


# --- the file ----------------------------------------------------------------


def load(root: Path) -> Channels:
    """Return what stands in `channels.json` under `root`; nothing if it is missing.

    Raises:
        ChannelRefused: it is too long, or says what it may not; named.
    """
    try:
        with (root / NAME).open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        return Channels()
    if len(raw) > BYTES_MAX:
        raise ChannelRefused(f"{NAME}: more than {BYTES_MAX} bytes")
    try:
        return _CHANNELS.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ChannelRefused(f"{NAME}: {error}") from error


def change(
    root: Path,
    pack: str,
    action: Action,
    of: str,
    decide: Callable[[Line], Line],
    *,
    actor: str,
) -> Line:
    """Make a change, write it down with its time and `actor`, and return the line.

    `of` is the channel or the tenant that it is about.  Of two at once the second
    sees what the first did.

    Raises:
        ChannelRefused: `decide` does not allow it, or nothing would be changed, or
            the file cannot be read or would grow too long.
        OSError: `root` cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        state = load(root)
        before = state.lines.get(pack) or Line(pack, secrets.token_hex(16))
        after = decide(before)
        made = Change(
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            actor=actor,
            action=action,
            pack=pack,
            of=of,
            before=_said(before, action, of),
            after=_said(after, action, of),
        )
        if made.before == made.after:
            raise ChannelRefused(f"{pack}: {of} is {made.after} already")
        lines = state.lines | {pack: after}
        _write(root, Channels(lines, (*state.history, made)))
    return after


def _said(line: Line, action: Action, of: str) -> str:
    """Return in a word what an action changes."""
    if action in {"pin", "unpin"}:
        return line.pins.get(of, "")
    if action == "share":
        return str(getattr(line.shares, of, ""))
    return line.current(of)


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / f".{NAME}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(root: Path, state: Channels) -> None:
    """Replace the file: all of it or, after a crash, nothing."""
    raw = msgspec.json.format(msgspec.json.encode(state, order="sorted"), indent=1)
    if len(raw) > BYTES_MAX:
        raise ChannelRefused(f"{NAME}: full; keep a copy, and empty its history")
    try:
        _CHANNELS.decode(raw)  # an actor of no letters, say
    except msgspec.ValidationError as error:
        raise ChannelRefused(f"{NAME}: {error}") from error
    fresh = root / f".{NAME}.{secrets.token_hex(8)}"
    try:
        with fresh.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(root / NAME)
    finally:
        fresh.unlink(missing_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
