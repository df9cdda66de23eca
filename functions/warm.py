"""Start making something at once, beside everything else; hand it over when asked."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from functions.problems import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Warm(Generic[T]):
    """A value being made on a thread of its own.

    Threads do not survive a fork, and neither do ONNX Runtime sessions or SQLite
    connections: make one of these in the worker, never in a preloading master.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._made: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(make,), daemon=True)
        self._thread.start()

    def _run(self, make: Callable[[], T]) -> None:
        try:
            self._made.append(make())
        except BaseException as error:  # noqa: BLE001  # handed to whoever asks
            self._error = error

    @property
    def ready(self) -> bool:
        """Whether `get` would return a value, and at once."""
        return bool(self._made)

    @property
    def error(self) -> BaseException | None:
        """What making it raised, if it has."""
        return self._error

    def get(self, *, timeout: float | None = None) -> T:
        """Return the value, waiting for it; raise what making it raised.

        `timeout` is in seconds; past it, `Unavailable` is raised.
        """
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        if not self._made:
            raise Unavailable(internal="still warming, or made before a fork")
        return self._made[0]


class Opening(Generic[T]):
    """A value made on a thread, and made anew by the next who asks if that failed.

    For what may come back while the process lives, such as a database; a model
    pack that does not load once will not load twice, and is a plain `Warm`.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._warm = Warm(make)

    @property
    def ready(self) -> bool:
        """Whether `get` would return a value, and at once."""
        return self._warm.ready

    def get(self, *, timeout: float) -> T:
        """Return the value within `timeout` seconds, or raise `Unavailable`."""
        with self._lock:
            if self._warm.error is not None:
                self._warm = Warm(self._make)
            warm = self._warm
        try:
            return warm.get(timeout=timeout)
        except Exception as error:
            raise Unavailable(internal=f"cannot open: {error!r}") from error
