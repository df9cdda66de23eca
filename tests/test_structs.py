"""No process ends because two threads read the same kind of thing first."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import functions

CROWD = """
from __future__ import annotations
import sys, threading
import msgspec
from functions.structs import prepare

sys.setswitchinterval(1e-6)
KINDS = 300
text = "from __future__ import annotations\\nimport msgspec\\n"
for number in range(KINDS):
    for name, kind in ((f"Inner{number}", "int"), (f"Outer{number}", f"Inner{number}")):
        text += f"class {name}(msgspec.Struct):\\n"
        text += "".join(f"    f{n}: {kind} | None = None\\n" for n in range(10))
exec(text)
if "ready" in sys.argv:
    prepare()
together = threading.Barrier(4)

def read():
    for number in range(KINDS):
        together.wait()
        kind = globals()[f"Outer{number}"]
        msgspec.json.decode(b'{"f9":{"f9":1},"f3":{"f1":2}}', type=kind)

threads = [threading.Thread(target=read) for _ in range(4)]
for each in threads:
    each.start()
for each in threads:
    each.join()
"""
SEGMENTATION_FAULT = -11
LATE = (
    "functions.audit.continued",
    "functions.audit.searching",
    "functions.audit.tally",
    "functions.billing.budgets",
    "functions.billing.budgeting",
    "functions.billing.credits",
    "functions.billing.evidence",
    "functions.billing.rates",
    "functions.billing.usage",
)
"""What a function imports only when a request needs it."""
COMMANDS = (
    "functions.audit.backup",
    "functions.audit.export",
    "functions.audit.manifest",
)
"""What only the command line imports, on its one thread."""


def crowd(*arguments: str) -> int:
    command = [sys.executable, "-c", CROWD, *arguments]
    return subprocess.run(command, check=False, timeout=60).returncode


def test_a_crowd_reads_what_was_prepared() -> None:
    """Four threads, three hundred kinds, each read by all of them at once."""
    assert [crowd("ready") for _ in range(3)] == [0, 0, 0]


def test_it_is_still_needed() -> None:
    """Without it the process is gone: once this fails, msgspec has been mended."""
    assert SEGMENTATION_FAULT in [crowd() for _ in range(5)]


@pytest.mark.parametrize("name", LATE)
def test_a_module_that_comes_late_prepares_its_own(name: str) -> None:
    """Its last line, when all that its structs name is there."""
    source = inspect.getsource(importlib.import_module(name))
    assert source.rstrip().endswith("\nprepare()")


def test_every_module_that_comes_late_is_known() -> None:
    """Audit's and billing's structs are there from the start, or prepared later."""
    early = (
        "import sys, functions.audit.app, functions.billing.app;"
        "print(*sorted(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", early], capture_output=True, check=True, text=True
    ).stdout.split()
    rooms = ("functions.audit.", "functions.billing.")
    for found in pkgutil.walk_packages(functions.__path__, "functions."):
        if found.name.startswith(rooms) and found.name not in {
            *printed,
            *LATE,
            *COMMANDS,
        }:
            module = importlib.util.find_spec(found.name)
            assert module is not None
            text = module.loader.get_source(found.name)  # type: ignore[union-attr]
            structs = re.search(r"^class \w+\(.*Struct", text or "", re.MULTILINE)
            assert not structs, found.name
