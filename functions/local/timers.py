"""Work that is done every so often, while the stack runs."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Timer:
    """Calls `work` every `seconds`, counted from the end of the last call.

    A call that fails is logged, and the next is made all the same.
    """

    def __init__(self, name: str, seconds: float, work: Callable[[], object]) -> None:
        self._name = name
        self._seconds = seconds
        self._work = work
        self._stopping = threading.Event()
        # A daemon: a call that hangs must not keep the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call is due after one interval."""
        self._thread.start()

    def stop(self, *, wait_seconds: float = 2.0) -> None:
        """Make no more calls, and wait a moment for the one under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._work()
            except Exception:
                log.exception("the timer %s failed", self._name)
