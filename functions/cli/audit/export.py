"""Writing a bundle from the database, and printing the keys to check it with."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions import events
from functions.audit.bundle import SIGNING_KEY
from functions.audit.export import About, export
from functions.audit.periods import moment, moment_ms
from functions.audit.plan import Wanted, plan
from functions.audit.store import epoch_of
from functions.audit.tiles import NoteVerifier, origin
from functions.cli.terminal import counting, print_json, say
from functions.problems import InvalidRequest, NotFound
from functions.tenant import Tenant, job_id

if TYPE_CHECKING:
    from pathlib import Path

    from functions.audit.manifest import Manifest
    from functions.cli.audit.place import Place
    from functions.keys import KeyProvider


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whose log, and what of it; "" is left open."""

    tenant: str
    since: str = ""
    until: str = ""
    job: str = ""

    def wanted(self) -> Wanted:
        """Return what is wanted; raises `InvalidRequest`, `UnknownTenant`."""
        if self.job and (self.since or self.until):
            raise InvalidRequest("a job or a period, not both")
        job = job_id(self.job) if self.job else ""
        from_ms = moment_ms(self.since) if self.since else None
        to_ms = moment_ms(self.until) if self.until else None
        if from_ms is not None and to_ms is not None and from_ms >= to_ms:
            raise InvalidRequest("a period begins before it ends")
        return Wanted(Tenant(self.tenant).id, from_ms, to_ms, job)


def export_bundle(place: Place, chosen: Chosen, out: Path, *, json: bool) -> None:
    """Write the bundle to `out`, and say what it holds."""
    wanted = chosen.wanted()
    keys = place.key_provider()
    about = About(
        wanted.tenant,
        _public(keys),
        after=_time(wanted.from_ms),
        before=_time(wanted.to_ms),
        job=wanted.job or None,
    )
    with closing(place.store()) as store:
        pieces = plan(store, wanted)
        with counting("entries", quiet=json) as progress:
            manifest = export(out, about, pieces, progress=progress)
    _tell(out, manifest, json=json)


def print_keys(place: Place, tenant: str, *, rotate: bool) -> None:
    """Print a line for each key and each epoch of the tenant's log."""
    import sys

    who = Tenant(tenant).id
    keys = place.key_provider()
    if rotate:
        keys.rotate(SIGNING_KEY)
    public = _public(keys)
    if not public:
        raise NotFound("there is no key that signs the log")
    for epoch in range(1, _epochs(place, who) + 1):
        for each in public:
            sys.stdout.write(NoteVerifier(origin(who, epoch), each).line + "\n")


def _epochs(place: Place, tenant: str) -> int:
    """Return how many logs the tenant has had; 1 where no database is at hand."""
    try:
        place.url()
    except NotFound:
        return 1
    with closing(place.store()) as store, store.reading(tenant) as db:
        return epoch_of(db, tenant)


def _public(keys: KeyProvider) -> list[bytes]:
    found = keys.verifiers(SIGNING_KEY).values()
    return [each.public.public_bytes_raw() for each in found]


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else events.rfc3339(moment(at_ms))


def _tell(out: Path, manifest: Manifest, *, json: bool) -> None:
    held = sum(log.covered.stop - log.covered.start for log in manifest.logs)
    single = sum(len(log.single) for log in manifest.logs)
    current = manifest.logs[-1]
    facts = {
        "bundle": str(out),
        "bytes": out.stat().st_size,
        "tenant": manifest.tenant,
        "job": manifest.job,
        "epochs": len(manifest.logs),
        "size": current.size,
        "entries": held + single,
        "checkpoints": sum(log.checkpoints for log in manifest.logs),
    }
    if json:
        print_json(facts)
        return
    whole = sum(log.size for log in manifest.logs)
    logs = "a log" if len(manifest.logs) == 1 else f"{len(manifest.logs)} logs"
    say(f"{held + single:,} entries of {logs} of {whole:,} written to {out}")
    say(f"check it with: guise audit verify {out} --key KEYS")
    say(f"KEYS is a file: what `guise audit keys --tenant {manifest.tenant}` prints")
