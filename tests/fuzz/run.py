"""`make fuzz`: many inputs for each parser, and what came of them, a JSON line each.

Guided by coverage (atheris) where that is installed, otherwise by chance alone.
Each target is a process of its own.  A finding's input is left in a folder, and a
second run with the same seed comes to it again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from tests.fuzz.mutating import NASTY
from tests.fuzz.mutating import inputs as mutated_inputs

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

INPUTS: Final = 1_000_000
SHARES: Final = {"bundle": 0.02, "envelope": 0.02, "tenant": 0.04}
"""Of the inputs: the slowest get less; what is left is shared alike."""
GROWTH_BYTES_MAX: Final = 64 * 1024 * 1024
"""How much a process may grow once a tenth of the inputs have been through."""
WORDS_MAX: Final = 200
_WORD: Final = re.compile(rb"[A-Za-z_][A-Za-z0-9_.:/-]{2,40}")
INSTRUMENTED: Final = ["functions", "jwt", "cloudevents", "yaml", "zipfile"]


class Count:
    """Counts inputs, and looks at the process's memory after a tenth and at the end."""

    def __init__(self, target: Target, inputs: int, report: Path) -> None:
        self._target = target
        self._inputs = inputs
        self._report = report
        self._done = 0
        self._warm = 0
        self._began = time.monotonic()

    def __call__(self, data: bytes) -> None:
        """Run the target once; the last of the inputs writes the report."""
        self._target.run(data)
        self._done += 1
        if self._done == max(1, self._inputs // 10):
            self._warm = _resident()
        if self._done == self._inputs:
            self._report.write_text(json.dumps(self.told()))

    def told(self) -> dict[str, Any]:
        """Return what there is to report."""
        took = time.monotonic() - self._began
        return {
            "target": self._target.name,
            "inputs": self._done,
            "seconds": round(took, 1),
            "executions_per_second": round(self._done / took),
            "resident_bytes": _resident(),
            "growth_bytes": _resident() - self._warm,
        }


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def fuzz_one(name: str, inputs: int, seed: int, folder: Path) -> None:
    """Give a target its inputs in this process, and do not return."""
    report = folder / f"{name}.json"
    try:
        import atheris
    except ImportError:
        by_chance(_target(name), inputs, seed, report)
        return
    with atheris.instrument_imports(include=INSTRUMENTED):
        for each in INSTRUMENTED[1:]:
            importlib.import_module(each)  # some are else imported when first needed
        target = _target(name)
    corpus = folder / f"{name}-corpus"
    corpus.mkdir()
    for number, data in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    words = folder / f"{name}.words"
    words.write_text("".join(f'"{each}"\n' for each in _words(target)))
    options = {
        "runs": inputs + len(target.seeds) + 2,
        "seed": seed,
        "max_len": target.bytes_max,
        "timeout": 10,
        "rss_limit_mb": 2048,
        "verbosity": 0,
        "artifact_prefix": f"{folder}/{name}-found-",
        "dict": str(words),
    }
    told = [f"-{each}={value}" for each, value in options.items()]
    count = Count(target, inputs, report)

    def mutated(data: bytes, size: int, number: int) -> bytes:
        made: bytes = atheris.Mutate(data, size)
        return target.mend(made)[:size] if number % 2 else made

    atheris.Setup([sys.argv[0], *told, str(corpus)], count, custom_mutator=mutated)
    atheris.Fuzz()


def _words(target: Target) -> list[str]:
    """Return what the guide may put into inputs, as libFuzzer writes bytes."""
    found = {each for data in target.seeds for each in _WORD.findall(data)}
    plain = sorted(found)[:WORDS_MAX] + list(NASTY)
    return ["".join(f"\\x{byte:02x}" for byte in each) for each in plain]


def _target(name: str) -> Target:
    from tests.fuzz.targets import targets

    return targets()[name]


def by_chance(target: Target, inputs: int, seed: int, report: Path) -> None:
    """Give a target mutations that nothing guides; leave what it falls over."""
    count = Count(target, inputs, report)
    for data in mutated_inputs(target, inputs, seed):
        try:
            count(data)
        except BaseException:
            (report.parent / f"{target.name}-found-{time.time_ns()}").write_bytes(data)
            raise


def shares(names: list[str], inputs: int) -> dict[str, int]:
    """Return how many inputs each target gets, rounded up."""
    slow = sum(SHARES.get(name, 0) for name in names)
    alike = (1 - slow) / (sum(name not in SHARES for name in names) or 1)
    if len(names) == 1:
        return {names[0]: inputs}
    return {name: round(inputs * SHARES.get(name, alike) + 0.5) for name in names}


def fuzz(names: list[str], inputs: int, seed: int, folder: Path) -> bool:
    """Run each target in a process of its own; return whether nothing was found."""
    fine, told = True, []
    for name, share in shares(names, inputs).items():
        command = [sys.executable, "-m", "tests.fuzz.run", "--one", name]
        command += ["--inputs", str(share), "--seed", str(seed), "--out", str(folder)]
        log = folder / f"{name}.log"
        with log.open("wb") as file:
            status = subprocess.run(command, stdout=file, stderr=file, check=False)
        left = [str(each) for each in folder.glob(f"{name}-found-*")]
        report: dict[str, Any] = {"target": name, "inputs": 0}
        with contextlib.suppress(FileNotFoundError):
            report = json.loads((folder / f"{name}.json").read_text())
        report |= {"status": status.returncode, "findings": left, "log": str(log)}
        good = status.returncode == 0 and not left and report["inputs"] >= share
        fine &= good and report["growth_bytes"] <= GROWTH_BYTES_MAX
        told.append(report)
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()
    whole = {
        "inputs": sum(each["inputs"] for each in told),
        "findings": sum(len(each["findings"]) for each in told),
        "growth_bytes_max": max(each.get("growth_bytes", 0) for each in told),
        "fine": fine,
    }
    sys.stdout.write(json.dumps(whole) + "\n")
    return fine


def main(told: list[str] | None = None) -> int:
    """Fuzz as the command line says; 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="a target; all of them unless")
    parser.add_argument("--one", help="this target, in this process")
    parser.add_argument("--out", type=Path, help="where logs and findings are left")
    said = parser.parse_args(told)
    folder = said.out or Path(tempfile.mkdtemp(prefix="guise-fuzz-"))
    if said.one:
        fuzz_one(said.one, said.inputs, said.seed, folder)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from tests.fuzz.targets import targets

    return (
        0 if fuzz(said.only or list(targets()), said.inputs, said.seed, folder) else 1
    )


if __name__ == "__main__":
    sys.exit(main())
