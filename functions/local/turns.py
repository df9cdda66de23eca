"""Work that may wait for somebody outside, a tenant at a time on each of few threads.

Whoever asks again while it waits, or is at work, has asked once.  So a tenant whose
webhooks never answer has one thread at most, and others wait for it only when there
are as many such tenants as there are threads; then it is first come, first served.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from functions.tenant import Tenant

log = logging.getLogger(__name__)

THREADS_MAX: Final = 16


class Turns:
    """Who waits, who is at work, and the threads; these end when nobody waits."""

    def __init__(self, threads_max: int = THREADS_MAX) -> None:
        self._free = threads_max
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Tenant, Callable[[], object]]] = deque()
        self._asked: set[Tenant] = set()

    def ask(self, tenant: Tenant, work: Callable[[], object]) -> None:
        """Have `work` done in the tenant's turn, unless it has one already."""
        with self._lock:
            if tenant in self._asked:
                return
            self._asked.add(tenant)
            self._waiting.append((tenant, work))
            if not self._free:
                return
            self._free -= 1
        # A daemon: a call that hangs must not keep the process.
        threading.Thread(target=self._run, name="turns", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                tenant, work = self._waiting.popleft()
            try:
                work()
            except Exception:
                log.exception("the turn of %s failed", tenant.id)
            finally:
                with self._lock:
                    self._asked.discard(tenant)
