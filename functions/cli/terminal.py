"""What the commands print: for people with Rich, for scripts as JSON lines."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console


TEXT_CHARACTERS_MAX: Final = 200


def out() -> Console:
    """Return a console on standard output that leaves text as it is."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, emoji=False)


def err() -> Console:
    """Return a console on standard error, where progress and errors go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def print_json(value: object) -> None:
    """Print `value` as one line of JSON."""
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Print one line for a person."""
    out().print(text, markup=False)


def counted(number: int, noun: str) -> str:
    """Return how many there are of something, such as `1 face` and `2 faces`."""
    return f"{number} {noun if number == 1 else noun + 's'}"


def fail(kind: str, text: str) -> NoReturn:
    """Print one line that names the error, and exit with 1."""
    err().print(f"error: {text} ({kind})", markup=False, style="red")
    sys.exit(1)


@contextmanager
def busy(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show that something goes on that may take over a second."""
    console = err()
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


@contextmanager
def counting(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told how many of how many are done; a terminal shows a bar."""
    console = err()
    if quiet or not console.is_terminal:
        yield lambda _done, _all: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


def harmless(text: str, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """Return a stranger's text so that no terminal obeys it."""
    return "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for each in text[:characters_max]
    )
