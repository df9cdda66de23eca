"""One gunicorn, from its start to its end, and the pipe it speaks through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from functions.local import gunicorn_conf

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

LOG_BYTES_MAX: Final = 1024 * 1024
_PIPE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One service: where it listens, and how its gunicorn is started.

    `args` follow `python -m gunicorn` and end with the application.  `environ` is
    the whole environment, `folder` the working directory.  A service that is not
    `public` still answers the others while all of them are being stopped.  No
    request may take longer than `timeout_seconds`.
    """

    name: str
    listener: socket.socket
    args: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path
    log: Path
    timeout_seconds: float
    public: bool = True


class Gunicorn:
    """A running gunicorn: the arbiter, its worker, and what they have told.

    Start one from a thread that lives as long as the process: when it ends, the
    kernel kills what it started.  Raises `OSError` when it cannot be started.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.ready = False
        self._begun: dict[bytes, float] = {}
        self.answered = 0
        self.worker: int | None = None
        self._rest = b""
        self.pipe, write = os.pipe()
        os.set_blocking(self.pipe, False)
        self._log_from = 0
        try:
            self._process = self._start(write)
        except OSError:
            os.close(self.pipe)
            raise
        finally:
            os.close(write)

    def _start(self, pipe: int) -> subprocess.Popen[bytes]:
        with self.spec.log.open("ab") as log:
            if log.tell() > LOG_BYTES_MAX:
                log.truncate(0)
            self._log_from = log.seek(0, os.SEEK_END)
            return subprocess.Popen(  # noqa: S603  # the manifest's command
                _command(self.spec),
                env=_environ(self.spec, pipe),
                cwd=self.spec.folder,
                pass_fds=(self.spec.listener.fileno(), pipe),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for us: we end our services in order.
                start_new_session=True,
            )

    @property
    def in_flight(self) -> int:
        """How many requests have begun and not ended."""
        return len(self._begun)

    @property
    def busy_until(self) -> float | None:
        """When the oldest request under way must have ended (monotonic)."""
        oldest = min(self._begun.values(), default=None)
        return None if oldest is None else oldest + self.spec.timeout_seconds

    @property
    def pids(self) -> tuple[int, ...]:
        """Every process of this gunicorn."""
        own = (self._process.pid,)
        return own if self.worker is None else (*own, self.worker)

    def listen(self) -> bool:
        """Read what was told; return False when the last process has ended."""
        try:
            told = os.read(self.pipe, _PIPE_BYTES)
        except BlockingIOError:
            return True
        *lines, self._rest = (self._rest + told).split(b"\n")
        for line in lines:
            self._hear(line)
        return bool(told)

    def _hear(self, line: bytes) -> None:
        match line.split():
            case [b"+", request]:
                self._begun[request] = time.monotonic()
            case [b"-", request]:
                self._begun.pop(request, None)
                self.answered += 1
            case [b"ready"]:
                self.ready = True
            case [b"worker", pid]:
                self.worker = int(pid)

    def end(self) -> None:
        """Ask it to end: it answers what it has taken, and takes no more."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, and everything it may have started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Forget it, and return its exit status (negative: minus the signal)."""
        self.kill()  # the pipe is closed: what lives on hides from us
        os.close(self.pipe)
        return self._process.wait()

    def cause(self) -> str:
        """Return the line of its log that says most plainly why it ended."""
        try:
            with self.spec.log.open("rb") as log:
                log.seek(self._log_from)
                text = log.read(LOG_BYTES_MAX).decode(errors="replace")
        except OSError as error:
            return f"its log cannot be read: {error}"
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # Gunicorn's own lines begin with '['; what the application raised does not.
        plain = [line for line in lines if not line.startswith("[")]
        return (plain or lines or ["it left no word"])[-1]


def _command(spec: Spec) -> list[str]:
    conf = f"python:{gunicorn_conf.__name__}"
    bind = f"fd://{spec.listener.fileno()}"
    return [sys.executable, "-m", "gunicorn", "-c", conf, "-b", bind, *spec.args]


def _environ(spec: Spec, pipe: int) -> dict[str, str]:
    ours = {gunicorn_conf.PIPE: str(pipe), gunicorn_conf.PARENT: str(os.getpid())}
    return {**spec.environ, **ours}
