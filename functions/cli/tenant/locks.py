"""Who changes what of a tenant at a time: two locks for each tenant, none for all.

| lock | who holds it | for how long |
|---|---|---|
| `spec` | whatever changes the spec | until that is on record and on the disk |
| `work` | `rotate`, `envelop`, `delete`, `shred` | as long as objects and keys take |

What tenants have in common (the log, the ledger, the folder of keys) has locks of its
own, in the database and in `FileKeys`.  So `suspend` waits for no work, and no tenant's
command for another tenant's.

Who needs both has `work` first; who has `spec` already only tries.  The kernel lets go
of a lock when its holder ends, however it does.  The files stay: to remove one that
somebody waits for would give the lock to two.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from functions.cli.terminal import err
from functions.problems import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from functions.tenant import Tenant

LOCKS: Final = ".locks"
"""The folder of locks in the folder of specs."""
_LOCK: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@contextmanager
def held(
    specs: Path, tenant: Tenant, what: Literal["spec", "work"], *, wait: bool = True
) -> Iterator[None]:
    """Hold one of a tenant's locks; who waits for it is told so.

    Raises `Conflict` where another has it and nobody is to `wait`.
    """
    folder = specs / LOCKS
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / f"{tenant.id}.{what}", _LOCK, 0o600)
    try:
        if not _taken(descriptor):
            if not wait:
                raise Conflict(
                    f"another command works on the objects or keys of {tenant.id}: "
                    "try again when it has ended"
                )
            err().print(f"{tenant.id}: waiting for another command", markup=False)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
