"""Writing a report: a log is read and verified, and then there is a file."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from functions import events
from functions.audit.archive import MANIFEST, Archive
from functions.audit.bundle import log_verifiers
from functions.audit.manifest import Manifest
from functions.audit.merkle import VerificationError
from functions.audit.notes import in_epoch
from functions.audit.periods import Period, moment, moment_ms, month_so_far
from functions.audit.report import CANCELLED, COMPLETED, FAILED, REFUSED
from functions.audit.reporting import About, Proof, page, survey, survey_bundle
from functions.audit.source import KeptLog
from functions.audit.store import epoch_of
from functions.audit.tally import Tally
from functions.cli.audit.verify import read_verifiers
from functions.cli.terminal import counting, fail, print_json, say
from functions.problems import InvalidRequest, NotFound
from functions.tenant import Tenant

if TYPE_CHECKING:
    from functions.audit.report import Report
    from functions.audit.reporting import Progress
    from functions.audit.tiles import NoteVerifier
    from functions.cli.audit.place import Place


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose report, of what period, with how many jobs listed; "" is left open."""

    tenant: str
    since: str
    until: str
    jobs: int

    def period(self, start_ms: int, stop_ms: int) -> Period:
        """Return the period, between two moments where it is left open.

        Raises `InvalidRequest`.
        """
        return Period(
            moment_ms(self.since) if self.since else start_ms,
            moment_ms(self.until) if self.until else stop_ms,
        )


def report_kept(place: Place, wanted: Wanted, out: Path, *, json: bool) -> None:
    """Write the page of a log in a database, of all its epochs."""
    if not wanted.tenant:
        raise InvalidRequest("name the --tenant, or a bundle and its --key")
    tenant = Tenant(wanted.tenant).id
    month = month_so_far(datetime.now(UTC))
    tally = Tally(wanted.period(month.start_ms, month.stop_ms), jobs_max=wanted.jobs)
    verifiers = log_verifiers(tenant, place.key_provider())
    with counting("entries", quiet=json) as progress:
        try:
            proofs = _survey_kept(place, tenant, verifiers, tally, progress)
        except VerificationError as error:
            fail("VerificationError", f"no report: {error}")
    source = "the database that the audit function writes to"
    _finish(out, tenant, source, tally.report(), proofs, json=json)


def _survey_kept(
    place: Place,
    tenant: str,
    verifiers: list[NoteVerifier],
    tally: Tally,
    progress: Progress,
) -> list[Proof]:
    """Show every log that the tenant has had to `tally`, the oldest first."""
    proofs = []
    with closing(place.store()) as store:
        with store.reading(tenant) as db:
            newest = epoch_of(db, tenant)
        for epoch in range(1, newest + 1):
            log = KeptLog(store, tenant, epoch)
            known = in_epoch(verifiers, tenant, epoch)
            try:
                proof = survey(log, known, tally, epoch=epoch, progress=progress)
            except NotFound:
                if epoch == newest:
                    raise
                continue  # nothing of it was in the backup; its next one says so
            proofs.append(proof)
    return proofs


def report_bundle(
    bundle: Path, key: Path | None, wanted: Wanted, out: Path, *, json: bool
) -> None:
    """Write the page of what a bundle holds, trusting the keys in `key` alone."""
    if key is None:
        raise InvalidRequest("a bundle needs the log's --key, from where you trust it")
    verifiers = read_verifiers(key)
    with counting("entries", quiet=json) as progress:
        try:
            manifest = _manifest(bundle)
            tally = Tally(_held(manifest, wanted), jobs_max=wanted.jobs)
            proofs = survey_bundle(bundle, verifiers, tally, progress=progress)
        except VerificationError as error:
            fail("VerificationError", f"no report: {error}")
    source = f"a bundle, {bundle.name}"
    _finish(out, manifest.tenant, source, tally.report(), proofs, json=json)


def _manifest(bundle: Path) -> Manifest:
    """Return what a bundle says of itself, which is yet to be verified."""
    with Archive(bundle) as archive:
        return Manifest.parse(archive.read(MANIFEST))


def _held(manifest: Manifest, wanted: Wanted) -> Period:
    """Return the period to report on, which the bundle must have all of.

    Raises `InvalidRequest`.
    """
    if manifest.job is not None:
        raise InvalidRequest("the bundle is of one job; a report is of a period")
    if wanted.tenant not in {"", manifest.tenant}:
        raise InvalidRequest(f"the bundle is of {manifest.tenant}")
    after = None if manifest.after is None else moment_ms(manifest.after)
    before = None if manifest.before is None else moment_ms(manifest.before)
    times = [each.times for each in manifest.logs if each.times]
    first = min((moment_ms(each.first) for each in times), default=0)
    last = max((moment_ms(each.last) for each in times), default=first)
    period = wanted.period(
        first if after is None else after, last + 1 if before is None else before
    )
    early = after is not None and period.start_ms < after
    if early or (before is not None and period.stop_ms > before):
        raise InvalidRequest("the bundle does not hold all of this period")
    return period


def _finish(
    out: Path,
    tenant: str,
    source: str,
    found: Report,
    proofs: list[Proof],
    *,
    json: bool,
) -> None:
    since, until = _rfc3339(found.period.start_ms), _rfc3339(found.period.stop_ms)
    about = About(
        tenant,
        source,
        export=f"guise audit export --tenant {tenant} --from {since} --to {until}"
        " -o BUNDLE",
        entries=f"/v1/tenants/{tenant}/log/entries?from={since}&to={until}",
        made_ms=int(datetime.now(UTC).timestamp() * 1000),
    )
    _write(out, page(found, proofs, about))
    _tell(out, found, proofs, json=json)


def _rfc3339(at_ms: int) -> str:
    return events.rfc3339(moment(at_ms)).replace(".000Z", "Z")


def _write(out: Path, text: str) -> None:
    """Write the whole file or none of it."""
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(out)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _tell(out: Path, found: Report, proofs: list[Proof], *, json: bool) -> None:
    count, read = found.outcomes.named, sum(each.read for each in proofs)
    facts = {
        "report": str(out),
        "verified": True,
        "size": proofs[-1].checkpoint.size,
        "root": proofs[-1].checkpoint.root.hex(),
        "read": read,
        "from": _rfc3339(found.period.start_ms),
        "to": _rfc3339(found.period.stop_ms),
        "entries": found.entries,
        **{name: count[name] for name in (COMPLETED, REFUSED, FAILED, CANCELLED)},
        "erasures": found.erasures_total,
        "expired": found.expired_total,
        "conflicts": found.conflicts_total,
    }
    if json:
        print_json(facts)
        return
    say(f"{read:,} entries verified, {found.entries:,} in the period")
    say(f"written to {out}")
