"""One container by hand: an image of buildah's, its root read-only, /tmp in memory.

For root.  Mounts are in a namespace of our own (`alone`), which ends with us.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions import sink
from functions.problems import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

USER: Final = 65532
INSIDE: Final = Path("/tmp/home")  # noqa: S108  # of the container, which is its own
_WAIT_SECONDS: Final = 60.0
_CLONE_NEWNS: Final = 0x00020000
"""unshare(2), as `linux/sched.h` numbers it."""
_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
"""prctl(2), as `linux/prctl.h` numbers them."""
_CAPABILITIES: Final = 64


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose root is mounted, and its configuration as OCI has it.

    `made` is what made each layer, the lowest first.
    """

    target: str
    root: Path
    config: dict[str, Any]
    made: tuple[str, ...] = ()


def names() -> frozenset[str]:
    """Return the name of every image that buildah has."""
    listed = _call("buildah", "images", "--format", "{{.Name}}:{{.Tag}}")
    return frozenset(each.removeprefix("localhost/") for each in listed.split())


@contextmanager
def mounted(target: str, name: str) -> Iterator[Image]:
    """Yield an image as it is on the disk, while it is asked about."""
    container = _call("buildah", "from", "--pull-never", name)
    try:
        root = Path(_call("buildah", "mount", container))
        about = json.loads(_call("buildah", "inspect", container))["OCIv1"]
        steps = [each for each in about["history"] if not each.get("empty_layer")]
        made = tuple(each.get("created_by", "") for each in steps)
        yield Image(target, root, about["config"], made)
    finally:
        _call("buildah", "rm", container)


def alone() -> None:
    """Let what we mount be ours: nobody else sees it, and it is gone when we are."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    _call("mount", "--make-rprivate", "/")


class Container:
    """A process started from an image, as its configuration says."""

    def __init__(
        self, image: Image, port: int, told: Mapping[str, str], home: Path
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._root = Path(tempfile.mkdtemp(prefix="guise-root-"))
        self._mount(image.root, home)
        environ = dict(each.split("=", 1) for each in image.config["Env"])
        self._environ = {**environ, **told, "PORT": str(port)}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with us
        self._began = time.monotonic()
        how = {"stdout": self._log, "stderr": self._log}
        command = [*image.config.get("Entrypoint", ()), *image.config["Cmd"]]
        self.process = self._run(command, **how)

    def _mount(self, image: Path, home: Path) -> None:
        root = self._root
        _call("mount", "--bind", image, root)
        _call("mount", "-o", "remount,ro,bind", root)
        _call(
            "mount", "-t", "tmpfs", "-o", "size=512m,mode=1777", "tmpfs", root / "tmp"
        )
        _call("mount", "--rbind", "/dev", root / "dev")
        _call("mount", "-t", "proc", "proc", root / "proc")
        (root / INSIDE.relative_to("/")).mkdir()
        _call("mount", "--bind", home, root / INSIDE.relative_to("/"))

    def _run(
        self,
        command: Sequence[str],
        **how: Any,  # noqa: ANN401  # as Popen
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  # the image's own
            [f"/opt/guise/bin/{command[0]}", *command[1:]],
            env=self._environ,
            preexec_fn=partial(_shut_in, self._root),  # noqa: PLW1509  # it takes no lock
            **how,
        )

    @property
    def log(self) -> str:
        """What it has written, the end of it."""
        size = self._log.seek(0, os.SEEK_CUR)  # its own place: it writes to the same
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")[-2000:]

    def say(self, program: str) -> str:
        """Return what a Python program says that runs beside the function."""
        process = self._run(["python", "-c", program], stdout=subprocess.PIPE)
        return process.communicate(timeout=_WAIT_SECONDS)[0].decode().strip()

    def ready(self) -> float | None:
        """Return how many seconds it took until it was ready; None if it never was."""
        while self.process.poll() is None:
            took = time.monotonic() - self._began
            with suppress(Unavailable):
                if self.get("/health/ready") == HTTPStatus.NO_CONTENT:
                    return took
            if took > _WAIT_SECONDS:
                return None
            time.sleep(0.02)
        return None

    def get(self, path: str) -> int:
        """Ask over a connection of its own, as a probe would; return the status."""
        return sink.get(self.url + path, {}, timeout=10).status

    def end(self) -> None:
        """Ask it to end: SIGTERM, as a cluster does."""
        self.process.send_signal(signal.SIGTERM)

    def status(self, *, within: float) -> int | None:
        """Return its exit status, or None if it goes on for so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(within)
        return None

    def close(self) -> None:
        """Leave no process and no mount behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()
        _call("umount", "--recursive", "--lazy", self._root)
        self._root.rmdir()


def _shut_in(root: Path) -> None:
    """Become what a container's process is; called between fork and exec."""
    libc = ctypes.CDLL(None)
    os.chroot(root)
    os.chdir("/")  # the image's WORKDIR
    for each in range(_CAPABILITIES):
        libc.prctl(_PR_CAPBSET_DROP, each)
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # which another user would lose
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _call(*command: str | Path) -> str:
    done = subprocess.run(  # noqa: S603  # ours
        [str(each) for each in command], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()
