"""What docs/security.md promises, and the tests that it names."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "security.md"


def written(folder: Path = HERE) -> set[str]:
    """Return the names of the tests in and below a folder, but this module's."""
    modules = set(folder.rglob("test_*.py")) - {Path(__file__)}
    texts = [module.read_text() for module in modules]
    return {
        name
        for text in texts
        for name in re.findall(r"^ *def (test_\w+)", text, re.MULTILINE)
    }


def named() -> set[str]:
    """Return the tests that the page names."""
    return set(re.findall(r"`(test_\w+)[`\[]", PAGE.read_text()))


def test_each_promise_names_a_test_that_is_there() -> None:
    """A promise without one is a wish."""
    assert named() <= written(HERE.parent)


def test_each_attack_belongs_to_a_promise() -> None:
    """Whoever adds one says what it proves."""
    assert written() <= named()
