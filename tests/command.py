"""`guise …` in this process: what a person would see of it, without a new Python.

A process takes half a second of CPU to import what it needs, most of the time that a
command takes; that it can is seen by the tests that start one (`tests/cli`).
"""

from __future__ import annotations

import io
import logging
import os
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

import pytest

from functions.cli import main

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Stream(io.TextIOWrapper):
    """A stream that keeps what is written to it, as text or as bytes."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        super().__init__(self._bytes, encoding="utf-8", write_through=True)

    def text(self) -> str:
        return self._bytes.getvalue().decode()


def run(*arguments: object, environ: Mapping[str, str]) -> CompletedProcess[str]:
    """Run a command where the environment is `environ`; what it raises is raised."""
    words = [str(each) for each in arguments]
    out, err = _Stream(), _Stream()
    root = logging.getLogger()
    before: Any = (root.level, root.handlers[:])
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - environ.keys():
            patch.delenv(name)
        for name, text in environ.items():
            patch.setenv(name, text)
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = _exit_status(words)
        finally:
            root.level, root.handlers[:] = before
    return CompletedProcess(words, code, out.text(), err.text())


def _exit_status(words: list[str]) -> int:
    try:
        main(words)
    except SystemExit as ended:
        return (
            ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        )
    return 0
