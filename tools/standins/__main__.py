"""`python -m tools.standins FOLDER [--small] [NAME...]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools import standins


def main() -> None:
    """Write the stand-ins that were asked for, all of them if none was named."""
    parser = argparse.ArgumentParser(prog="python -m tools.standins")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--small", action="store_true", help="few channels, for tests")
    chosen = parser.parse_intermixed_args()
    names = chosen.names or standins.NAMES
    try:
        for name in names:
            standins.file_name(name)
    except KeyError as error:
        parser.error(f"no stand-in for {error}; there are: {', '.join(standins.NAMES)}")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = standins.build(name, chosen.folder, small=chosen.small)
        sys.stdout.write(f"{path} {path.stat().st_size}\n")


main()
