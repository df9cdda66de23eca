"""The first entry of a log that goes on after a restore: what came before it.

A database restored from a backup lacks what was appended since.  Were it to go on
in the same log, it would sign other entries at the same indices, which nobody can
tell from a forgery.  So a restore begins a log of its own, the next epoch, and its
first entry holds the last known checkpoint of each earlier one, signed, and how
many of its entries are still there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from functions import events
from functions.audit.leaf import leaf_of
from functions.audit.merkle import VerificationError
from functions.events import Event
from functions.structs import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.audit.leaf import Leaf

CONTINUED: Final = "dev.guise.audit.continued.v1"


class Earlier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of an earlier log of the same tenant.

    `checkpoint` is the newest signed note that anybody kept, and `held` says how
    many of the entries it covers were in the backup.
    """

    epoch: int
    held: int
    checkpoint: str


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    epoch: int
    earlier: tuple[Earlier, ...]


class _Entry(msgspec.Struct, frozen=True):
    type: str
    source: str
    tenant: str
    data: msgspec.Raw


def continued(tenant: str, epoch: int, earlier: Sequence[Earlier]) -> Leaf:
    """Return the first entry of a tenant's log number `epoch`; `earlier` is in order.

    It is audit's own: nobody but the log's key vouches for it.
    """
    data = msgspec.to_builtins(_Data(epoch, tuple(earlier)))
    return leaf_of(
        Event(
            id=events.derived_id(CONTINUED, tenant, str(epoch)),
            source=_source(tenant),
            type=CONTINUED,
            time=events.now(),
            tenant=tenant,
            data=data,
        ),
    )


def parse_continued(leaf: bytes, tenant: str, epoch: int) -> tuple[Earlier, ...]:
    """Return what the first entry of a tenant's log number `epoch` says of the others.

    Raises `VerificationError` where it is no such entry.
    """
    try:
        entry = msgspec.json.decode(leaf, type=_Entry)
        if entry.type != CONTINUED:
            raise VerificationError(f"epoch {epoch} does not say what it goes on from")
        data = msgspec.json.decode(entry.data, type=_Data)
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"epoch {epoch} begins with no entry") from error
    said = (entry.source, entry.tenant, data.epoch)
    if said != (_source(tenant), tenant, epoch):
        raise VerificationError(f"the first entry of epoch {epoch} is another log's")
    return data.earlier


def _source(tenant: str) -> str:
    return f"/tenants/{tenant}/audit"


prepare()
