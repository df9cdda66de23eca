"""`python -m functions.local`: the stack alone, without the command line's weight."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from functions.local import wiring
from functions.local.home import HomeTaken
from functions.local.manifests import ManifestError
from functions.local.ports import PortTaken
from functions.local.stack import Options, Stack
from functions.logs import configure_logging
from functions.problems import UnknownTenant
from functions.settings import SettingsError
from functions.tenant import Tenant


def main() -> int:
    """Run a stack until SIGINT or SIGTERM; return the exit status."""
    asked = _parser().parse_args()
    configure_logging()
    try:
        tenants = [Tenant(each) for each in asked.tenant or ["demo"]]
        told, _ = wiring.chosen(os.environ)
        options = Options(
            idle_seconds=asked.idle, manifests=asked.manifests, settings=told
        )
        Stack(asked.home, port=asked.port, tenants=tenants, options=options).run()
    except (HomeTaken, PortTaken, ManifestError, SettingsError, UnknownTenant) as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400  # known, named
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m functions.local")
    parser.add_argument("--home", type=Path, default=Path(".guise"))
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--idle", type=float, default=5.0, help="seconds")
    parser.add_argument("--tenant", action="append")
    parser.add_argument("--manifests", type=Path, default=None)
    return parser


if __name__ == "__main__":
    sys.exit(main())
