"""The process of a function, in which pictures are, leaves no image of itself."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from tests.attacks.server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

_GET_DUMPABLE: Final = 3
_ABORTS: Final = "import os; os.abort()"
_SEALED: Final = "from functions.server import seal; seal()"
_CORES: Final = (
    "import resource; hard = resource.getrlimit(resource.RLIMIT_CORE)[1];"
    "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))"
)
_ASKS: Final = f"import ctypes; print(ctypes.CDLL(None).prctl({_GET_DUMPABLE}))"


@pytest.fixture(scope="module")
def serves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[psutil.Process]:
    """Return the process of the door's real gunicorn that answers requests."""
    with serving(tmp_path_factory.mktemp("sealed")):
        started = psutil.Process().children()
        [arbiter] = [each for each in started if "gunicorn" in each.cmdline()]
        [worker] = arbiter.children()
        yield worker


def run(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "\n".join(lines)]
    here = {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        command, cwd=folder, env=here, capture_output=True, text=True, check=False
    )


def test_what_serves_writes_no_core(serves: psutil.Process) -> None:
    """Its limit is 0, the hard one too: code in it cannot take that back."""
    assert resource.prlimit(serves.pid, resource.RLIMIT_CORE) == (0, 0)


def test_a_sealed_process_that_crashes_leaves_nothing(tmp_path: Path) -> None:
    """Where one that is not sealed leaves all that it held."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("no process here may write a core")
    run(tmp_path, _CORES, _SEALED, _ABORTS)
    assert list(tmp_path.iterdir()) == []
    if Path("/proc/sys/kernel/core_pattern").read_text().strip() == "core":
        run(tmp_path, _CORES, _ABORTS)
        assert list(tmp_path.iterdir()) != []


def test_attack_reading_the_memory_of_a_sealed_process(tmp_path: Path) -> None:
    """It is not dumpable: the kernel lets no other process of its user attach."""
    assert run(tmp_path, _ASKS).stdout == "1\n"
    assert run(tmp_path, _SEALED, _ASKS).stdout == "0\n"


_FREES: Final = """
import ctypes, resource
malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
free.argtypes = [ctypes.c_void_p]
SIZE = 100 * 2**20
def again():
    where = malloc(SIZE)
    ctypes.memset(where, 0x11, SIZE)
    free(where)
    return where
"""


def test_what_a_picture_was_in_is_written_over(tmp_path: Path) -> None:
    """Memory that was freed and is still the process's holds nothing of a picture."""
    looks = (
        "there = (ctypes.c_ubyte * SIZE).from_address(again())",
        "print({there[each] for each in range(2**20, SIZE, 4099)})",
    )
    assert run(tmp_path, _SEALED, _FREES, *looks).stdout == f"{{{0xA5}}}\n"


def test_the_next_picture_waits_for_no_page(tmp_path: Path) -> None:
    """Pages come under Python's lock, one by one: a picture's stay for the next."""
    counts = (
        "again(); faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt",
        "before = faults(); again(); print(faults() - before)",
    )
    pages = 100 * 2**20 // resource.getpagesize()
    assert int(run(tmp_path, _FREES, *counts).stdout) > pages // 2
    assert int(run(tmp_path, _SEALED, _FREES, *counts).stdout) < pages // 100
