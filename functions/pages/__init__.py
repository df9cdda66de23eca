"""Pages that need nothing but themselves: no script, no font, no picture fetched.

Templates are Jinja2's with every value escaped; the stylesheet is in the page, and
the page's own Content-Security-Policy allows that stylesheet and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FOLDER: Final = Path(__file__).parent
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, formats, private use, surrogates, separators."""


def render(
    template: Path,
    values: Mapping[str, Any],
    filters: Mapping[str, Callable[[Any], str]],
) -> str:
    """Return the page that a template makes of `values`; each is escaped as text.

    The template extends `page.html.j2` beside this module, and may use `filters`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    style = (_FOLDER / "page.css").read_text("utf-8")
    environment = Environment(
        loader=FileSystemLoader([template.parent, _FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"counted": counted, "visible": visible, **filters}
    # Ours, not a value: a stylesheet has no entities that an escape could use.
    environment.globals["style"] = Markup(style)  # noqa: S704  # a file of ours
    environment.globals["policy"] = policy(style)
    return environment.get_template(template.name).render(values)


def policy(style: str) -> str:
    """Return the Content-Security-Policy of a page with that stylesheet in it."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'"


def counted(number: int) -> str:
    """Return a whole number in groups of three: 12,345."""
    return f"{number:,}"


def visible(text: str) -> str:
    """Return text whose invisible characters are named: U+202E would turn it round."""
    return "".join(
        f"⟨U+{ord(each):04X}⟩" if unicodedata.category(each) in _INVISIBLE else each
        for each in text
    )
