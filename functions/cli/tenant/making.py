"""What `guise tenant create`, `apply` and `edit` do."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from functions.cli.tenant import settling as tenant_settling
from functions.cli.terminal import print_json, say
from functions.keys import BILLING, events_key, mounted, put_durably
from functions.problems import (
    Conflict,
    Gone,
    InvalidRequest,
    NoReceipt,
    NotFound,
    UnknownTenant,
)
from functions.roster import Spec, parse, plain, write
from functions.roster.reading import document, of_plain
from functions.settings import DEVELOPMENT_MARK
from functions.tenant import REQUESTS, UPLOADS, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from functions.cli.tenant.place import Place
    from functions.roster.spec import State
    from functions.sink import Receipt

BEGINNINGS: Final[Mapping[str, Mapping[str, int]]] = {
    "trial": {
        "concurrency": 1,
        "requests_per_second": 2,
        "burst": 10,
        "storage_gib": 1,
    },
    "standard": {
        "concurrency": 4,
        "requests_per_second": 20,
        "burst": 50,
        "storage_gib": 100,
    },
    "premium": {
        "concurrency": 16,
        "requests_per_second": 100,
        "burst": 200,
        "storage_gib": 1_000,
    },
}
"""The quotas that a new tenant's spec is written with, where none are said."""
_MARK: Final = b"Keys for this machine alone: production refuses this folder.\n"


def create(
    place: Place, name: str, source: Path | None, fields: Mapping[str, Any]
) -> None:
    """Make a tenant: its keys, its store's folders, and its spec last.

    Raises `Conflict` for an id that was ever used.
    """
    tenant = _named(name)
    text = source.read_bytes() if source else None
    if text is not None and not fields:
        spec = parse(text, tenant=tenant)
    else:
        spec = of_plain(_merged(tenant, text, fields), tenant=tenant)
        text = None
    with place.changing(tenant):
        _create(place, spec, text or write(spec))


def prepare(place: Place, name: str) -> None:
    """Make the key of who is to be a tenant, and say into which Secrets it goes.

    Audit takes nothing of a tenant whose public half it has not.  Raises `Conflict`
    or `Gone` for an id that was ever used.
    """
    tenant, key = _named(name), events_key(name)
    with place.changing(tenant):
        _refuse_taken(place, tenant)
        put_durably(place.making(tenant), b"", mode=0o600)
        make_keys(place, tenant)
    path, own = place.key_folder / key, f"events-key of guise-{name}"
    if place.json:
        print_json({"tenant": name, "public": f"{path}.pub", "private": f"{path}.key"})
        return
    say(f"{path}.pub → audit-keys, billing-keys, as {mounted(key)}.pub")
    say(f"{path}.key, .pub → pool-keys, or {own}, as {mounted(key)}.key, .pub")
    say(f"then: guise tenant create {name}")


def _named(text: str) -> Tenant:
    try:
        return Tenant(text)
    except UnknownTenant as error:
        raise InvalidRequest(
            f"{text[:64]!r} is no tenant's id: 1 to 32 of a-z, 0-9 and '-', "
            "with no '-' at either end"
        ) from error


def apply(place: Place, source: Path) -> None:
    """Make a tenant's spec what a file says; a tenant that is none yet is made."""
    text = source.read_bytes()
    said = document(text)
    name = said.get("id") if isinstance(said, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest(f"{source} does not say whose spec it is: id")
    spec = parse(text, tenant=_named(name))
    with place.changing(spec.tenant):
        if place.path(spec.tenant).exists():
            _change(place, current(place, spec.tenant), spec, text)
        else:
            _create(place, spec, text)


def edit(place: Place, name: str, fields: Mapping[str, Any]) -> None:
    """Change a tenant's spec: the fields that are said, or what an editor makes."""
    tenant = Tenant(name)
    if not fields:
        _edit(place, tenant)
        return
    with place.changing(tenant):
        before = current(place, tenant)
        spec = of_plain(_set(plain(before), fields), tenant=tenant)
        _change(place, before, spec, write(spec))


def _edit(place: Place, tenant: Tenant) -> None:
    """Change a spec in an editor, during which nobody is kept waiting."""
    current(place, tenant)
    path = place.path(tenant)
    was = path.read_bytes()
    text = _edited(was, tenant)
    with place.changing(tenant):
        if path.read_bytes() != was:
            raise Conflict(f"{path} was changed meanwhile: nothing done")
        _change(place, current(place, tenant), parse(text, tenant=tenant), text)


def current(place: Place, tenant: Tenant) -> Spec:
    """Return a tenant's spec, whatever became of it, or raise `NotFound`.

    Of who has ended its state says so, also if the file does not: it was put back.
    """
    roster = place.roster()
    try:
        spec = roster.read(tenant)
    except UnknownTenant as error:
        raise NotFound(f"{place.specs} has no spec of {tenant.id}") from error
    fate = roster.fate(tenant)
    return in_state(spec, fate) if fate and spec.living else spec


# --- making ------------------------------------------------------------------


def _create(place: Place, spec: Spec, text: bytes) -> None:
    tenant = spec.tenant
    _refuse_taken(place, tenant)
    if spec.state != "active":
        raise InvalidRequest(f"state: a new tenant is active, and not {spec.state}")
    tenant_settling.check(place, spec, None)
    put_durably(place.making(tenant), b"", mode=0o600)
    _prepare(place, spec)
    receipt = _told(place, spec)
    path = place.put(tenant, text)
    undone = tenant_settling.settle(place, spec, None)
    if place.json:
        told = {"tenant": spec.id, "spec": str(path), "level": spec.level}
        print_json({**told, "why": spec.why, "entry": receipt.index, "undone": undone})
        return
    say(f"{spec.id} is a tenant, at level {spec.level}: {spec.why}")
    say(f"its spec: {path}; entry {receipt.index} of its log")
    _say_next(place, spec, undone)


def _refuse_taken(place: Place, tenant: Tenant) -> None:
    """Raise `Conflict` or `Gone` for an id that was ever used."""
    path = place.path(tenant)
    if path.exists():
        raise Conflict(
            f"{path} is there already: an id is one tenant's, for ever; "
            f"`guise tenant show {tenant.id}` says whose"
        )
    if place.roster().fate(tenant):
        raise Gone(f"{tenant.id} was deleted, or shredded: nobody is so called again")
    if not place.making(tenant).exists():  # else it has made what is there
        _refuse_former(place, tenant)


def _told(place: Place, spec: Spec) -> Receipt:
    """Put a tenant's making on record; of another's audit say what it must have."""
    try:
        return place.tell("created", spec)
    except NoReceipt as error:
        if place.is_local:
            raise
        name = events_key(spec.id)
        raise NoReceipt(
            f"{spec.id} is no tenant yet, as audit gave no receipt: {error}; the "
            f"Secret audit-keys must have {place.key_folder / name}.pub, as "
            f"{mounted(name)}.pub: then say the same again"
        ) from error


def _refuse_former(place: Place, tenant: Tenant) -> None:
    """Raise `Conflict` where somebody is or was called so, whose spec is lost.

    Who came next would be given what is there.
    """
    if left := next(_left(place, tenant), None):
        raise Conflict(
            f"{tenant.id} is or was a tenant: {left}; put {place.path(tenant)} back "
            "from a backup, or take another id"
        )


def _left(place: Place, tenant: Tenant) -> Iterator[str]:
    """Yield what there is of a tenant besides a spec, in words."""
    from functions.cli.tenant.log import has_entries
    from functions.storage.locate import folder_of

    if place.key_provider().verifiers(events_key(tenant.id)):
        yield f"there are keys of its events in {place.key_folder}"
    if place.envelopes:
        from functions.envelopes import open_envelopes

        if open_envelopes(place.envelopes, pinned=tenant).versions(tenant):
            yield f"there are keys of its objects in {place.envelopes}"
    folder = folder_of(place.store_of(tenant))
    if folder and any(path.is_file() for path in folder.rglob("*")):
        yield f"there are objects in {folder}"
    if place.is_local and has_entries(place.folder, tenant):
        yield "its log has entries"


def _prepare(place: Place, spec: Spec) -> None:
    """Make the keys and folders that a tenant needs before it is one."""
    make_keys(place, spec.tenant)
    if spec.isolation.data > 0 and place.envelopes:
        from functions.envelopes import open_envelopes

        open_envelopes(place.envelopes).make(spec.tenant)
    elif place.is_local and place.store_url() == place.folder.store_url:
        for inner in ("", REQUESTS, UPLOADS):
            folder = place.folder.tenants / spec.id / inner
            folder.mkdir(exist_ok=True, mode=0o700)


def make_keys(place: Place, tenant: Tenant) -> None:
    """Make the key that signs a tenant's events, and on one machine billing's."""
    keys = place.key_provider()
    if place.is_local:
        home = place.folder
        home.shut()
        for folder in (home.keys, home.tenants):
            folder.mkdir(exist_ok=True, mode=0o700)
        mark = home.keys / DEVELOPMENT_MARK
        if not mark.exists():  # before there is a key
            mark.write_bytes(_MARK)
        keys.create(BILLING)
    keys.create(events_key(tenant.id))


def _say_next(place: Place, spec: Spec, undone: Sequence[str]) -> None:
    home = "" if place.home == Path(".guise") else f" --home {place.home}"
    if not place.is_local:
        say(
            f"next: guise tenant render {spec.id}, and bring what it makes to a cluster"
        )
    elif not spec.isolation.compute:  # else what is left to do says it
        say(f"next: guise tenant token {spec.id}{home}")
        if place.folder.running() is None:
            say(f"      guise up{home}")
    for each in undone:
        say(f"left to do: {each}")


# --- changing ----------------------------------------------------------------


def _change(place: Place, before: Spec, spec: Spec, text: bytes) -> None:
    if not before.living:
        raise Conflict(f"{spec.id} is {before.state}: nothing of it changes any more")
    if spec.state != before.state:
        raise InvalidRequest(
            f"state: it is {before.state}; `guise tenant suspend`, `resume`, `delete` "
            "and `shred` change that"
        )
    same = spec == before
    with ExitStack() as ending:
        if spec.isolation.data != before.isolation.data:
            # How the objects rest, and no command is to be at them meanwhile.
            ending.enter_context(place.working(spec.tenant, wait=False))
        tenant_settling.check(place, spec, before)
        if not same:
            if spec.isolation.data > 0 and not before.isolation.data:
                _prepare(place, spec)
            place.tell("changed", spec, before)  # first: it may take something away
        place.put(spec.tenant, text)
    undone = tenant_settling.settle(place, spec, before)
    if place.json:
        told = {"tenant": spec.id, "changed": not same, "level": spec.level}
        print_json({**told, "why": spec.why, "undone": undone})
        return
    done = "as it was" if same else "changed"
    say(f"{spec.id}: {done}; level {spec.level}: {spec.why}")
    for each in undone:
        say(f"left to do: {each}")


def _edited(text: bytes, tenant: Tenant) -> bytes:
    """Return what a person's editor makes of a spec."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{tenant.id}.yaml"
        path.write_bytes(text)
        command = [*shlex.split(editor), str(path)]
        done = subprocess.run(command, check=False)  # noqa: S603  # the person's own
        if done.returncode:
            raise InvalidRequest(f"{editor} ended with {done.returncode}: nothing done")
        return path.read_bytes()


# --- fields ------------------------------------------------------------------


def parse_fields(texts: Sequence[str]) -> dict[str, Any]:
    """Return what `--set quotas.concurrency=8` says, by the field's path."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not all(name.split(".")):
            raise InvalidRequest(f"--set {text!r}: say FIELD=VALUE")
        found[name] = document(value.encode())
    return found


def _merged(
    tenant: Tenant, text: bytes | None, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the plain spec of a new tenant: a file's, or a tier's beginnings."""
    if text is not None:
        said = document(text)
        if not isinstance(said, dict):
            raise InvalidRequest("a spec is a mapping of fields")
        return _set({"id": tenant.id} | said, fields)
    quotas = dict(BEGINNINGS.get(str(fields.get("tier", "standard")), {}))
    return _set({"id": tenant.id, "quotas": quotas}, fields)


def _set(plain_spec: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    for path, value in fields.items():
        *parts, last = path.split(".")
        here = plain_spec
        for part in parts:
            inner = here.get(part)
            if not isinstance(inner, dict):
                inner = here[part] = {}
            here = inner
        here[last] = value
    return plain_spec


def restated(text: bytes, spec: Spec) -> bytes:
    """Return a spec's own text with another `state`, its comments as they are."""
    lines = text.decode().splitlines()
    said = f"state: {spec.state}"
    places = [n for n, line in enumerate(lines) if line.startswith("state:")]
    if places:
        lines[places[0]] = said
    else:
        lines.append(said)
    fresh = ("\n".join(lines) + "\n").encode()
    try:
        same = parse(fresh, tenant=spec.tenant) == spec
    except InvalidRequest:  # a flow mapping on one line, say
        same = False
    return fresh if same else write(spec)


def in_state(spec: Spec, state: State) -> Spec:
    """Return the spec with another state."""
    return structs.replace(spec, state=state)
