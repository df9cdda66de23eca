"""Gunicorn's configuration under the activator: it lives and dies with it.

Every process tells the activator through an inherited pipe, one line a fact:
`worker <pid>` when the worker is forked, `ready` when the application is loaded,
`+ <id>` and `- <id>` around each request.  The pipe's end is the end of the last
of them.

Gunicorn imports this module in the arbiter (`-c python:functions.local.gunicorn_conf`)
and calls the hooks by their names.  Nothing here runs in production.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
from contextlib import suppress
from typing import Any, Final, Protocol

PIPE: Final = "ACTIVATOR_PIPE"
"""The variable with the number of the inherited descriptor."""
PARENT: Final = "ACTIVATOR_PID"
"""The variable with the activator's process id."""

_PR_SET_PDEATHSIG: Final = 1

# Gunicorn's settings, by its names for them.  A connection kept alive would keep
# a worker that is told to end waiting in `select`, for as long as its grace
# lasts, and a client could send on it what nobody reads any more.
keepalive = 0
control_socket_disable = True  # stopping it takes the arbiter two seconds


class _Arbiter(Protocol):
    pid: int
    LISTENERS: list[Any]


def on_starting(_server: _Arbiter) -> None:
    """Tie the arbiter's life to the activator's."""
    os.set_inheritable(_pipe(), False)  # noqa: FBT003  # the library's signature
    _die_with(int(os.environ[PARENT]))


def post_fork(server: _Arbiter, _worker: object) -> None:
    """Tie the worker's life to the arbiter's; the tie does not survive a fork."""
    _die_with(server.pid)
    _tell(f"worker {os.getpid()}")


def post_worker_init(_worker: object) -> None:
    """Say that the application is loaded and its socket about to be served."""
    _tell("ready")


def pre_request(_worker: object, request: object) -> None:
    """Say that a request has begun."""
    _tell(f"+ {id(request)}")


def post_request(
    _worker: object,
    request: object,
    _environ: object,
    _response: object,
) -> None:
    """Say that a request has ended, however it did."""
    _tell(f"- {id(request)}")


def child_exit(server: _Arbiter, _worker: object) -> None:
    """End with the worker: to start another one is the activator's business.

    An arbiter that is ending anyway has let go of its listeners.
    """
    from gunicorn.errors import HaltServer  # type: ignore[import-untyped]

    if server.LISTENERS:
        raise HaltServer("the worker ended", 1)


@functools.cache
def _pipe() -> int:
    return int(os.environ[PIPE])


def _tell(line: str) -> None:
    """Write a line to the activator, whole or not at all (it is under PIPE_BUF)."""
    with suppress(OSError):  # nobody listens: then this process is about to end
        os.write(_pipe(), f"{line}\n".encode())


def _die_with(parent: int) -> None:
    """Be killed when `parent` ends, even if it ended before we could say so.

    `PR_SET_PDEATHSIG` of prctl(2): the thread that started us must be one that
    lives as long as its process does.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)
