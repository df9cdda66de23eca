"""`guise …`: what an operator and a tenant's developer do by hand.

Every sub-command imports what it needs when it runs.  `--json` prints for
scripts; an error is one readable line with the problem's type, and exit code 1.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from functions.cli.terminal import fail, harmless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.problems import Problem


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status: 0, 1 (an error) or 2 (usage)."""
    from functions.cli.commands import app
    from functions.local.home import HomeTaken
    from functions.local.manifests import ManifestError
    from functions.local.ports import PortTaken
    from functions.problems import Problem
    from functions.settings import SettingsError
    from models.errors import ModelError

    try:
        app(arguments, standalone_mode=True)
    except Problem as problem:
        fail(problem.document()["type"], _why(problem))
    except (ModelError, SettingsError, ManifestError, HomeTaken, PortTaken) as error:
        fail(type(error).__name__, str(error))
    except OSError as error:
        fail("OSError", str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _why(problem: Problem) -> str:
    """Return what a person is told.

    Where a problem says nothing of its cause, as it is right before a stranger, whoever
    types a command here may read the first line of it: a database's own words.
    """
    cause = getattr(problem.__cause__, "orig", None) or problem.__cause__
    if problem.detail or cause is None:
        return problem.detail or problem.title
    line = next(iter(str(cause).splitlines()), "") or type(cause).__name__
    return f"{problem.title}: {harmless(line)}"
