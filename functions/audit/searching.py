"""Answering a person who asks which jobs used exactly this image.

The look-up is by exact bytes.  An index of faces would find a photo that was scaled
or saved anew, and would itself be a store of biometric data of everybody in it.

A hit is proven where the salt in the job's sidecar and the image's digest make a
commitment that stands in an entry of the log.  Erased jobs are not found: that is
what erasing is.  Those that expired are: the tenant keeps them no longer, the log does.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from functions import events
from functions.audit import private
from functions.audit.leaf import ERASURES, says_erased
from functions.audit.sidecar import TenantKeys
from functions.commitments import Role, commitment, committed
from functions.problems import InvalidRequest, NotFound
from functions.structs import prepare
from functions.tenant import job_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.audit.private import Line
    from functions.audit.sidecar import Kept
    from functions.audit.store import Store
    from functions.keys import KeyProvider

JOBS_MAX: Final = 200
EXACT: Final = (
    "Looked up by the exact bytes of the file: the same picture scaled, cut or saved"
    " anew is another file. To find a face in any picture takes an index of faces,"
    " which would itself be biometric data of everybody in it; there is none."
)


class Proof(msgspec.Struct, frozen=True):
    """The entry whose commitment opens to the image; hashes are hex."""

    epoch: int
    index: int
    leaf_hash: str
    commitment: str


class Hit(msgspec.Struct, frozen=True, omit_defaults=True):
    """That a job used the image, as what, when, for whom, and how it ended.

    `proof` is missing where the entry's time was over, or where it does not open.
    `expired` is when the tenant's store ceased to keep it.  `erased` says that an
    erasure has begun that is to be asked for again.
    """

    job: str
    role: Role
    started: str = ""
    actor: str = ""
    operation: str = ""
    basis: str = ""
    consent: str = ""
    outcome: str = ""
    ended: str = ""
    expired: str = ""
    erased: bool = False
    proof: Proof | None = None


class Found(msgspec.Struct, frozen=True):
    """A page of hits, in the order of their jobs' ids.

    `following` is what to go on after, "" at the end.
    """

    tenant: str
    sha256: str
    hits: list[Hit]
    following: str
    exact: str = EXACT


def search(
    store: Store,
    keys: KeyProvider,
    tenant: str,
    sha256: str,
    *,
    after: str = "",
    limit: int = JOBS_MAX,
) -> Found:
    """Return which of a tenant's jobs used the image whose SHA-256 (hex) is given.

    At most `limit` jobs, those after `after`.  Raises `Failed` without the secret, and
    `InvalidRequest` where `after` is no job's id; `NotFound` for a tenant that has no
    log, whose name may be mistyped: to say that no job used the image would be wrong.
    """
    tenant_keys = TenantKeys.of(keys, tenant)
    after = job_id(after) if after else ""
    hits: list[Hit] = []
    with store.searching(tenant) as db:
        if not private.has_log(db, tenant):
            raise NotFound(f"there is no log of {tenant}")
        mac = tenant_keys.mac(sha256)
        used = private.users(db, tenant, mac, after, limit)
        jobs = sorted({job for job, _ in used})
        kept = private.kept(db, tenant, jobs)
        for job, of_job in groupby(used, key=itemgetter(0)):
            salt = _salt(job, kept, tenant_keys)
            opened = commitment(salt, sha256) if salt else ""
            # One job after the other: an entry may have 64 KiB.
            said = [_Said(line, opened) for line in private.lines(db, tenant, job)]
            hits += [_hit(job, role, said) for _, role in of_job]
    following = jobs[-1] if len(jobs) == limit else ""
    return Found(tenant, sha256, hits, following)


def every(
    store: Store, keys: KeyProvider, tenant: str, sha256: str, *, limit: int = JOBS_MAX
) -> Found:
    """Return all there are, page after page; `limit` jobs a page."""
    found = search(store, keys, tenant, sha256, limit=limit)
    hits = list(found.hits)
    while found.following:
        after = found.following
        found = search(store, keys, tenant, sha256, after=after, limit=limit)
        hits += found.hits
    return Found(tenant, sha256, hits, "")


class _Said:
    """What an entry says that a hit shows; nothing but its place once it is pruned.

    `opened` is the image's commitment in its job; `roles` are those it has here.
    """

    def __init__(self, line: Line, opened: str) -> None:
        document = line.document()
        data: dict[str, Any] = document.get("data", {})
        admission = data.get("admission")
        consent = admission.get("consent") if isinstance(admission, dict) else None
        self.type = line.type
        self.time: str = document.get("time", "")
        self.actor = _text(data, "actor")
        self.operation = _text(data, "operation")
        self.outcome = _text(data, "outcome")
        self.basis = _text(consent, "basis")
        self.consent = _text(consent, "state")
        self.erases = says_erased(line.type, data)
        self.roles = _roles(data, opened)
        self.place = Proof(line.epoch, line.index, line.leaf_hash.hex(), opened)


def _roles(data: dict[str, Any], opened: str) -> set[Role]:
    try:
        return {role for role, each in committed(data) if each == opened}
    except InvalidRequest:  # what is no commitment proves nothing, and hides nothing
        return set()


def _hit(job: str, role: Role, said: Sequence[_Said]) -> Hit:
    begun = _last(said, events.SWAP_STARTED)
    ended = _last(said, *_ENDINGS)
    gone = [each for each in said if each.type in ERASURES]
    return Hit(
        job=job,
        role=role,
        started=begun.time if begun else "",
        actor=begun.actor if begun else "",
        operation=begun.operation if begun else "",
        basis=begun.basis if begun else "",
        consent=begun.consent if begun else "",
        outcome=ended.outcome if ended else "",
        ended=ended.time if ended else "",
        expired=next((each.time for each in gone if not each.erases), ""),
        erased=any(each.erases for each in gone),
        proof=next((each.place for each in said if role in each.roles), None),
    )


_ENDINGS: Final = (events.SWAP_COMPLETED, events.SWAP_FAILED, events.SWAP_REFUSED)


def _last(said: Sequence[_Said], *kinds: str) -> _Said | None:
    return next((each for each in reversed(said) if each.type in kinds), None)


def _text(document: object, name: str) -> str:
    value = document.get(name, "") if isinstance(document, dict) else ""
    return value if isinstance(value, str) else ""


def _salt(job: str, kept: dict[str, Kept], keys: TenantKeys) -> str:
    """Return what opens a job's commitments; "" where it was erased just now."""
    found = kept.get(job)
    _, begun = found.started(job, keys) if found else (b"", None)
    return begun.salt if begun else ""


prepare()
