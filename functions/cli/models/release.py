"""`guise models sign | accept | promote | rollback | share | pin | resolve`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

import msgspec

from functions.cli.terminal import busy, print_json, say
from functions.problems import InvalidRequest
from functions.tenant import Tenant
from models import channels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from functions.acceptances import Kind
    from models.channels import Action, Channel, Line
    from models.manifest import Pack
    from models.signature import Role

RECEIPT_SECONDS_MAX: Final = 30.0


# --- who vouches -------------------------------------------------------------


def sign_pack(
    folder: Path, key: Path, role: Role, password_file: Path | None, *, json: bool
) -> None:
    """Sign, and print where the signature is and whose it is."""
    from models.sign import sign

    password = None if password_file is None else password_file.read_bytes().rstrip()
    with busy("hashing and signing", quiet=json):
        path, hint = sign(folder.resolve(), key=key, role=role, password=password)
    if json:
        print_json({"signature": str(path), "role": role, "key": hint})
    else:
        say(f"{path.name}: signed as the {role} with key {hint[:16]}")


# --- who answers -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Office:
    """Where an operator's acceptances are signed, recorded and kept."""

    home: Path
    audit: str
    keys: Path
    to: Path

    @contextmanager
    def url(self, *, quiet: bool) -> Iterator[str]:
        """Yield the audit function's address: the one named, or this machine's."""
        if self.audit:
            yield self.audit.rstrip("/")
            return
        from functions.cli.serve import running

        with running(self.home, None, quiet=quiet) as stack:
            yield stack.audit


def accept_pack(
    folder: Path, kind: Kind, reason: str, actor: str, office: Office, *, json: bool
) -> None:
    """Record an acceptance, keep it, and print where it stands."""
    from functions.acceptances import Statement, accept
    from functions.events import OPERATOR
    from functions.keys import FileKeys, events_key
    from functions.sink import HttpAuditor
    from models.verify import verify

    pack = verify(folder)
    statement = Statement(
        kind=kind,
        pack=pack.id,
        version=pack.version,
        digest=pack.pack_digest,
        reason=reason,
        actor=actor,
        licences=_licences(pack) if kind == "non-commercial-licence" else (),
    )
    keys = FileKeys(office.keys)
    keys.create(events_key(OPERATOR))
    with office.url(quiet=json) as url:
        made, path = accept(
            statement,
            office.to,
            keys=keys,
            auditor=HttpAuditor(url),
            timeout=RECEIPT_SECONDS_MAX,
        )
    if json:
        print_json({"id": made.id, "file": str(path), "receipt": made.receipt})
        return
    say(f"{pack.id} {pack.version}, {kind}: accepted by {actor}, on record")
    say(f"  audit entry {made.receipt.index} of {OPERATOR}, {path}")


def _licences(pack: Pack) -> tuple[str, ...]:
    """Return the licences that there is something to accept of."""
    found = {model.licence for model in pack.models if not model.commercial}
    if not found:
        raise InvalidRequest(f"every model of {pack.id} may be used commercially")
    return tuple(sorted(found))


# --- who gets what -----------------------------------------------------------


class Desk:
    """Where channels are changed, and by whom."""

    def __init__(self, root: Path, actor: str, *, json: bool) -> None:
        from getpass import getuser

        self.root = root
        self._actor = actor or getuser()
        self._json = json

    def change(
        self, pack: str, action: Action, of: str, decide: Callable[[Line], Line]
    ) -> None:
        """Make a change and print what was and what is."""
        channels.change(self.root, pack, action, of, decide, actor=self._actor)
        made = channels.load(self.root).history[-1]
        if self._json:
            print_json(msgspec.to_builtins(made))
        else:
            was, now = made.before or "nothing", made.after or "nothing"
            say(f"{pack}, {action} {of}: {was}, now {now}, by {made.actor}")


def promote_pack(
    desk: Desk, pack: str, to: Channel, version: str, trust: Path | None
) -> None:
    """Promote a version that is there, whole, and signed where that is asked."""
    from models.signature import Trust
    from models.verify import verify_as

    keys = None if trust is None else Trust.load(trust)

    def decide(line: Line) -> Line:
        after = channels.promote(line, to, version)
        goes = after.current(to)
        verify_as(desk.root / pack / goes, pack, goes, trust=keys)
        return after

    desk.change(pack, "promote", to, decide)


def roll_back_pack(desk: Desk, pack: str, channel: Channel) -> None:
    """Take a channel back to the version it had before."""
    desk.change(
        pack, "rollback", channel, lambda line: channels.rollback(line, channel)
    )


def share_channel(desk: Desk, pack: str, channel: Channel, percent: str) -> None:
    """Give a channel to a part of the tenants, in hundredths of a percent."""
    try:
        points = Decimal(percent) * 100
        whole = int(points)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise InvalidRequest(f"{percent!r} is no percentage") from error
    if whole != points:
        raise InvalidRequest("a share has two decimals")
    desk.change(
        pack, "share", channel, lambda line: channels.share(line, channel, whole)
    )


def pin_tenant(desk: Desk, pack: str, tenant: str, target: str) -> None:
    """Pin a tenant to a version or a channel, or unpin it."""
    who = Tenant(tenant).id
    if target == "none":
        desk.change(pack, "unpin", who, lambda line: channels.unpin(line, who))
    else:
        desk.change(pack, "pin", who, lambda line: channels.pin(line, who, target))


def resolve_tenant(root: Path, tenant: str, pack: str, *, json: bool) -> None:
    """Print which version a tenant gets, why, and where it lies."""
    line = channels.load(root).line(pack)
    found = channels.resolve(line, Tenant(tenant).id)
    folder = root / found.pack / found.version
    if json:
        told = {"folder": str(folder), "there": folder.is_dir()}
        print_json(msgspec.to_builtins(found) | told)
        return
    by = f" from {found.channel}" if found.channel else ""
    say(f"{found.tenant} gets {found.pack} {found.version}{by}: {found.reason}")
    if not folder.is_dir():
        say(f"  and {folder} is not there")
